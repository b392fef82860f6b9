//! Opens streams of bytes to servers.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use redis::aio::AsyncStream;
use redis::{ConnectionAddr, ErrorKind, RedisError, RedisResult};
#[cfg(feature = "redis-tls")]
use rustls::pki_types::ServerName;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// A stream of bytes to a server: over TCP, with or without TLS, or through a Unix socket.
pub(super) type Socket = Pin<Box<dyn AsyncStream + Send + Sync>>;

#[cfg(feature = "redis-tls")]
pub(super) type Tls = tokio_rustls::TlsConnector;
/// TLS is not compiled in, so this type has no values.
#[cfg(not(feature = "redis-tls"))]
#[derive(Clone)]
pub(super) enum Tls {}

/// After how long without a connection the next address of a host is tried as well, as in RFC 8305, section 5.
const DELAY: Duration = Duration::from_millis(250);

/// How long before the deadline a server is said not to answer.
#[cfg(feature = "redis-tls")]
const LAST_WORDS: Duration = Duration::from_millis(100);

#[cfg(feature = "redis-tls")]
const NO_TLS: &str = "the server is there, but has no TLS: write `redis://`";
#[cfg(feature = "redis-tls")]
const SILENT: &str = "the server is there, but has not answered to TLS yet: it is busy, or has none, and then write `redis://`";

/// Opens a stream to the server at `address`, and returns what `greet` makes of it before the deadline.
pub(super) async fn open<T, F>(
    address: &ConnectionAddr,
    tls: Option<&Tls>,
    deadline: Instant,
    greet: impl Fn(Socket) -> F + Clone + Send + 'static,
) -> RedisResult<T>
where
    T: Send + 'static,
    F: Future<Output = RedisResult<T>> + Send,
{
    let (host, port, tls) = match (address, tls) {
        (ConnectionAddr::Tcp(host, port), _) => (host, *port, None),
        (ConnectionAddr::TcpTls { host, port, .. }, Some(tls)) => (host, *port, Some(tls)),
        #[cfg(unix)]
        (ConnectionAddr::Unix(path), _) => {
            let greeted = async { greet(Box::pin(UnixStream::connect(path).await?)).await };
            return timeout_at(deadline, greeted).await.unwrap_or_else(|_| Err(late()));
        }
        _ => return Err((ErrorKind::InvalidClientConfig, "there is no way to such an address").into()),
    };
    let found = timeout_at(deadline, lookup_host((host.as_str(), port))).await;
    first(found.map_err(|_| late())??.collect(), deadline, |address| {
        let (host, tls, greet) = (host.clone(), tls.cloned(), greet.clone());
        async move {
            let socket = reach(address, host, tls, deadline).await?;
            greet(socket).await
        }
    })
    .await
}

/// Connects to one address of a host after the other, and returns the first connection: one of them may be silent. Once
/// the deadline has passed, the error is that of an address which has refused, if one has.
async fn first<T: Send + 'static, F>(
    addresses: Vec<SocketAddr>,
    deadline: Instant,
    connect: impl Fn(SocketAddr) -> F,
) -> RedisResult<T>
where
    F: Future<Output = RedisResult<T>> + Send + 'static,
{
    let mut connecting: JoinSet<RedisResult<T>> = JoinSet::new();
    let mut failure: Option<RedisError> = None;
    let mut addresses = addresses.into_iter();
    loop {
        // However many there are, each has its turn before the deadline.
        let left = deadline - Instant::now();
        let delay = DELAY.min(left / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1));
        let next = addresses.next().map(&connect);
        let until = if next.is_some() { Instant::now() + delay } else { deadline };
        next.map(|next| connecting.spawn(next));
        match timeout_at(until, connecting.join_next()).await {
            Ok(Some(Ok(Ok(connection)))) => return Ok(connection),
            // A server that refuses tells more than an address that can't be reached.
            Ok(Some(Ok(Err(error)))) => {
                if failure.as_ref().is_none_or(RedisError::is_io_error) {
                    failure = Some(error);
                }
            }
            Ok(None) => {
                let nowhere = || io::Error::new(io::ErrorKind::NotFound, "the host has no address").into();
                return Err(failure.unwrap_or_else(nowhere));
            }
            Err(_) if Instant::now() >= deadline => return Err(failure.unwrap_or_else(late)),
            // The next address has its turn, since this one panicked or takes its time.
            Ok(Some(Err(_))) | Err(_) => {}
        }
    }
}

fn late() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

/// Connects to `address`, and speaks TLS with `host` there if `tls` is given.
async fn reach(address: SocketAddr, host: String, tls: Option<Tls>, deadline: Instant) -> io::Result<Socket> {
    let stream = TcpStream::connect(address).await?;
    // A small call must not wait until the call before it is acknowledged.
    stream.set_nodelay(true)?;
    match tls {
        None => Ok(Box::pin(stream)),
        Some(tls) => over_tls(stream, host, tls, deadline).await,
    }
}

#[cfg(feature = "redis-tls")]
async fn over_tls(stream: TcpStream, host: String, tls: Tls, deadline: Instant) -> io::Result<Socket> {
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    // A server without TLS may take the greeting for the start of a command, and wait for the rest. So that this is
    // told, the handshake ends before the deadline does.
    match timeout_at(deadline - LAST_WORDS, tls.connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(Box::pin(stream)),
        Ok(Err(error)) if is_no_tls(&error) => Err(io::Error::new(io::ErrorKind::InvalidData, NO_TLS)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::new(io::ErrorKind::InvalidData, SILENT)),
    }
}

#[cfg(not(feature = "redis-tls"))]
async fn over_tls(_: TcpStream, _: String, tls: Tls, _: Instant) -> io::Result<Socket> {
    match tls {}
}

/// Whether the answer to the greeting was not TLS.
#[cfg(feature = "redis-tls")]
fn is_no_tls(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(error, Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Returns what comes of connecting to three addresses: the first is silent, if it is there at all, the second is
    /// not, and the third says `said`.
    async fn connected(silent: bool, said: u8, patience: Duration) -> RedisResult<u8> {
        in_order(silent, said, patience, |addresses| addresses.to_vec()).await
    }

    async fn in_order(
        silent: bool,
        said: u8,
        patience: Duration,
        order: impl Fn([SocketAddr; 3]) -> Vec<SocketAddr>,
    ) -> RedisResult<u8> {
        let listen = async || TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (first_one, closed, last) = (listen().await, listen().await, listen().await);
        let addresses =
            [&first_one, &closed, &last].map(|listener| listener.local_addr().expect("it is bound"));
        drop(closed);
        let _silent = silent.then_some(first_one);
        let saying = tokio::spawn(async move {
            let (mut stream, _) = last.accept().await.expect("a connection");
            stream.write_all(&[said]).await.expect("it is read");
        });
        let connected = first(order(addresses), Instant::now() + patience, |address| async move {
            let deadline = Instant::now() + patience;
            match reach(address, String::new(), None, deadline).await?.read_u8().await? {
                b'-' => Err((ErrorKind::AuthenticationFailed, "refused").into()),
                said => Ok(said),
            }
        })
        .await;
        saying.abort();
        connected
    }

    /// As where `localhost` has two addresses, and something else listens at one of them.
    #[tokio::test]
    async fn a_silent_address_does_not_keep_from_the_others() {
        let patience = Duration::from_secs(30);
        assert_eq!(connected(true, b'+', patience).await, Ok(b'+'));
        assert_eq!(connected(false, b'+', patience).await, Ok(b'+'));
        let refused = connected(false, b'-', patience).await.expect_err("it refuses");
        assert_eq!(refused.kind(), ErrorKind::AuthenticationFailed);
        let reversed = |addresses: [SocketAddr; 3]| addresses.into_iter().rev().collect();
        let refused = in_order(false, b'-', patience, reversed).await.expect_err("it refuses");
        assert_eq!(
            refused.kind(),
            ErrorKind::AuthenticationFailed,
            "it tells more than those that are not there"
        );
    }

    #[tokio::test]
    async fn a_refusal_is_told_though_another_address_is_silent() {
        let refused = connected(true, b'-', Duration::from_secs(4)).await.expect_err("it refuses");
        assert_eq!(refused.kind(), ErrorKind::AuthenticationFailed);
    }
}
