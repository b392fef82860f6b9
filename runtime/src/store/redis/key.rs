//! The name of a counter in Redis.

use super::connection::Requests;
use crate::algorithm::Algorithm;
use crate::store::Counter;

/// Adds the name of `counter` to a command: its key, the window in milliseconds, and, unless it counts a fixed
/// window, a letter for the algorithm: `rl:{hardwork::192.0.2.7::GET:/hardwork/}60000`.
pub(super) fn write(counter: &Counter<'_>, requests: &mut Requests) {
    let letter = match counter.algorithm {
        Algorithm::FixedWindow => "",
        Algorithm::SlidingWindow => "s",
        Algorithm::SlidingLog => "l",
        Algorithm::TokenBucket { .. } => "t",
    };
    let mut window = itoa::Buffer::new();
    let window = window.format(counter.quota.window_millis());
    requests.pieces(&[counter.key.as_bytes(), window.as_bytes(), letter.as_bytes()]);
}
