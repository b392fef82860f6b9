//! The name of a counter in Redis.

use super::connection::Requests;
use crate::algorithm::Algorithm;
use crate::store::Counter;

/// The key of a [`Counter`], the window in milliseconds, and, unless it counts a fixed window, a letter
/// for the algorithm: `rl:{hardwork::192.0.2.7::GET:/hardwork/}60000`.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredKey<'a> {
    pub(super) key: &'a str,
    pub(super) window_millis: u64,
    pub(super) algorithm: Algorithm,
}

impl<'a> From<&Counter<'a>> for StoredKey<'a> {
    fn from(counter: &Counter<'a>) -> Self {
        let (key, algorithm) = (counter.key, counter.algorithm);
        Self { key, window_millis: counter.quota.window_millis(), algorithm }
    }
}

impl StoredKey<'_> {
    /// Adds the key to a command.
    pub(super) fn write(&self, requests: &mut Requests) {
        let letter = match self.algorithm {
            Algorithm::FixedWindow => "",
            Algorithm::SlidingWindow => "s",
            Algorithm::SlidingLog => "l",
            Algorithm::TokenBucket { .. } => "t",
        };
        let mut window = itoa::Buffer::new();
        let window = window.format(self.window_millis);
        requests.pieces(&[self.key.as_bytes(), window.as_bytes(), letter.as_bytes()]);
    }
}
