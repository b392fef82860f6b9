//! A way for bytes to a server and back.

use std::io;
use std::pin::Pin;

use redis::aio::AsyncStream;
use redis::{ConnectionAddr, ErrorKind, RedisResult};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;

/// A stream of bytes to a server: over TCP, with or without TLS, or through a Unix socket.
pub(super) type Socket = Pin<Box<dyn AsyncStream + Send + Sync>>;

#[cfg(feature = "redis-tls")]
pub(super) type Tls = tokio_rustls::TlsConnector;
/// There is none.
#[cfg(not(feature = "redis-tls"))]
#[derive(Clone)]
pub(super) enum Tls {}

/// Opens a way to the server at `address`.
pub(super) async fn open(address: &ConnectionAddr, tls: Option<&Tls>) -> RedisResult<Socket> {
    match (address, tls) {
        (ConnectionAddr::Tcp(host, port), _) => Ok(Box::pin(tcp(host, *port).await?)),
        #[cfg(unix)]
        (ConnectionAddr::Unix(path), _) => Ok(Box::pin(tokio::net::UnixStream::connect(path).await?)),
        #[cfg(feature = "redis-tls")]
        (ConnectionAddr::TcpTls { host, port, .. }, Some(tls)) => {
            let name = rustls::pki_types::ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            Ok(Box::pin(tls.connect(name, tcp(host, *port).await?).await?))
        }
        _ => Err((ErrorKind::InvalidClientConfig, "there is no way to such an address").into()),
    }
}

/// Connects to that of the host's addresses which is the first to answer.
async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut connecting = JoinSet::new();
    for address in lookup_host((host, port)).await? {
        connecting.spawn(TcpStream::connect(address));
    }
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    while let Some(connected) = connecting.join_next().await {
        match connected {
            Ok(Ok(stream)) => {
                // A small call must not wait for the acknowledgement of the one before it.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => failure = error,
            Err(_) => {}
        }
    }
    Err(failure)
}
