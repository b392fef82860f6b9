//! Greets a server: the version of the protocol, who asks, and which database is meant.

use std::future::poll_fn;
use std::task::Poll;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, RedisResult};
use tokio::io::{copy_bidirectional, duplex};

use super::socket::Socket;
use super::wire::{CHUNK, Wire, closed};

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
        let mut carried = Box::pin(copy_bidirectional(&mut far, &mut socket));
        poll_fn(|context| {
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
        .await?;
        drop(carried);
        Ok(Self::over(socket, address))
    }
}
