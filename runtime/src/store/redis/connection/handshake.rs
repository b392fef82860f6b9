//! Greets a server: the version of the protocol, who asks, and which database is meant.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, RedisResult};
use tokio::io::{copy_bidirectional, duplex};
use tokio_util::io::InspectReader;

use super::endpoint::io_error;
use super::socket::Socket;
use super::wire::{CHUNK, Wire, closed};

/// How much is remembered of what a server says while it is greeted.
const REMEMBERED: usize = 1024;

impl Wire {
    /// Performs the handshake with the server behind `socket`.
    pub(super) async fn greet(
        mut socket: Socket,
        greeting: RedisConnectionInfo,
        address: String,
    ) -> RedisResult<Self> {
        // The `redis` crate knows the handshake, but does not hand the connection out afterwards. So it gets one
        // end of an in-memory stream, and the bytes are carried between the other end and the server. When the
        // crate is ready, everything that it asked has been answered, so nothing is left in between.
        let (near, mut far) = duplex(CHUNK);
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let mut greeted = Box::pin(MultiplexedConnection::new_with_config(&greeting, near, config));
        let mut said = Vec::new();
        let mut overheard = InspectReader::new(&mut socket, |bytes: &[u8]| {
            said.extend_from_slice(bytes);
            said.drain(..said.len().saturating_sub(REMEMBERED));
        });
        let mut carried = Box::pin(copy_bidirectional(&mut far, &mut overheard));
        let outcome = poll_fn(|context| {
            if let Poll::Ready(greeted) = greeted.as_mut().poll(context) {
                return Poll::Ready(greeted.map(|_| ()));
            }
            let Poll::Ready(ended) = carried.as_mut().poll(context) else { return Poll::Pending };
            // The last bytes that were carried may say why.
            match greeted.as_mut().poll(context) {
                Poll::Ready(greeted) => Poll::Ready(greeted.map(|_| ())),
                Poll::Pending => Poll::Ready(Err(ended.map_or_else(RedisError::from, |_| closed()))),
            }
        })
        .await;
        drop(carried);
        outcome.map_err(|error| reason(error, &said))?;
        Ok(Self::over(socket, address))
    }
}

/// Returns why a server has closed the connection, if that is what the `error` means: what it has `said` last, such as
/// that it has too many clients. The `redis` crate drops a refusal that no command waits for, and calls every end of a
/// connection a broken pipe.
fn reason(error: RedisError, said: &[u8]) -> RedisError {
    let Some(lost) = io_error(&error).filter(|_| error.is_connection_dropped()) else { return error };
    let final_line = said.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    match final_line.strip_prefix(b"-") {
        Some(refusal) => {
            let why = format!("the server has closed the connection: {}", String::from_utf8_lossy(refusal));
            io::Error::new(io::ErrorKind::ConnectionAborted, why).into()
        }
        // The system's own errors say more.
        None if lost.raw_os_error().is_none() => closed(),
        None => error,
    }
}
