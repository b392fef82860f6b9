//! Opens streams of bytes to servers.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use redis::aio::AsyncStream;
use redis::{ConnectionAddr, ErrorKind, RedisResult};
#[cfg(feature = "redis-tls")]
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;

/// A stream of bytes to a server: over TCP, with or without TLS, or through a Unix socket.
pub(super) type Socket = Pin<Box<dyn AsyncStream + Send + Sync>>;

#[cfg(feature = "redis-tls")]
pub(super) type Tls = tokio_rustls::TlsConnector;
/// TLS is not compiled in, so this type has no values.
#[cfg(not(feature = "redis-tls"))]
#[derive(Clone)]
pub(super) enum Tls {}

/// Opens a stream to the server at `address`, and returns what `greet` makes of it.
pub(super) async fn open<T, F>(
    address: &ConnectionAddr,
    tls: Option<&Tls>,
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
            return greet(Box::pin(tokio::net::UnixStream::connect(path).await?)).await;
        }
        _ => return Err((ErrorKind::InvalidClientConfig, "there is no way to such an address").into()),
    };
    first(lookup_host((host.as_str(), port)).await?, |address| {
        let (host, tls, greet) = (host.clone(), tls.cloned(), greet.clone());
        async move {
            let socket = reach(address, host, tls).await?;
            greet(socket).await
        }
    })
    .await
}

/// Connects to all addresses of a host at once, and returns the first connection: one of them may be silent.
async fn first<T: Send + 'static, F>(
    addresses: impl Iterator<Item = SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> RedisResult<T>
where
    F: Future<Output = RedisResult<T>> + Send + 'static,
{
    let mut connecting: JoinSet<RedisResult<T>> = addresses.map(connect).collect();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address").into();
    while let Some(connected) = connecting.join_next().await {
        match connected {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => failure = error,
            Err(_) => {}
        }
    }
    Err(failure)
}

/// Connects to `address`, and speaks TLS with `host` there if `tls` is given.
async fn reach(address: SocketAddr, host: String, tls: Option<Tls>) -> io::Result<Socket> {
    let stream = TcpStream::connect(address).await?;
    // A small call must not wait until the call before it is acknowledged.
    stream.set_nodelay(true)?;
    match tls {
        None => Ok(Box::pin(stream)),
        Some(tls) => over_tls(stream, host, tls).await,
    }
}

#[cfg(feature = "redis-tls")]
async fn over_tls(stream: TcpStream, host: String, tls: Tls) -> io::Result<Socket> {
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    Ok(Box::pin(tls.connect(name, stream).await?))
}

#[cfg(not(feature = "redis-tls"))]
async fn over_tls(_: TcpStream, _: String, tls: Tls) -> io::Result<Socket> {
    match tls {}
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// As where `localhost` has two addresses, and something else listens at one of them.
    #[tokio::test]
    async fn a_silent_address_does_not_keep_from_the_others() {
        let listen = async || TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (silent, closed, serving) = (listen().await, listen().await, listen().await);
        let addresses =
            [&silent, &closed, &serving].map(|listener| listener.local_addr().expect("it is bound"));
        drop(closed);
        let serves = tokio::spawn(async move {
            // After all have connected.
            let (_silent, _) = silent.accept().await.expect("a connection");
            let (mut stream, _) = serving.accept().await.expect("a connection");
            stream.write_all(b"+").await.expect("it is read");
            stream
        });
        let connected: RedisResult<u8> = first(addresses.into_iter(), |address| async move {
            Ok(reach(address, String::new(), None).await?.read_u8().await?)
        })
        .await;
        assert_eq!(connected, Ok(b'+'));
        serves.await.expect("it serves");
    }
}
