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

/// Opens a stream to the server at `address`.
pub(super) async fn open(address: &ConnectionAddr, tls: Option<&Tls>) -> RedisResult<Socket> {
    let (host, port, tls) = match (address, tls) {
        (ConnectionAddr::Tcp(host, port), _) => (host, *port, None),
        (ConnectionAddr::TcpTls { host, port, .. }, Some(tls)) => (host, *port, Some(tls)),
        #[cfg(unix)]
        (ConnectionAddr::Unix(path), _) => return Ok(Box::pin(tokio::net::UnixStream::connect(path).await?)),
        _ => return Err((ErrorKind::InvalidClientConfig, "there is no way to such an address").into()),
    };
    let mut opening = JoinSet::new();
    for address in lookup_host((host.as_str(), port)).await? {
        opening.spawn(reach(address, host.clone(), tls.cloned()));
    }
    // All addresses of the host are tried at once, and the first to connect is used.
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    while let Some(opened) = opening.join_next().await {
        match opened {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => failure = error,
            Err(_) => {}
        }
    }
    Err(failure.into())
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
