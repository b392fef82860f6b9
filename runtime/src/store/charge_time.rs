//! Until when a charge counts, as far as the one who asked for it can know.

use std::time::Duration;

use crate::algorithm::Algorithm;
use crate::clock::micros;

/// When a charge was asked for, and when the answer came, by the limiter's clock. It was made at some time in between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChargeTime {
    pub(crate) asked: u64,
    pub(crate) answered: u64,
}

impl ChargeTime {
    /// The time of a charge that was made in this process.
    pub(crate) fn at(now: u64) -> Self {
        Self { asked: now, answered: now }
    }

    /// Returns until when a charge counts, if the store has answered that all is whole again after `reset`.
    ///
    /// Windows are told apart with a tolerance, so it is the earliest time there: then what is given back never finds
    /// the next window. Units of a log and of a bucket are told apart by the time alone, so it is the latest.
    pub(crate) fn until(self, algorithm: Algorithm, reset: Duration) -> u64 {
        let since = match algorithm {
            Algorithm::FixedWindow | Algorithm::SlidingWindow => self.asked,
            Algorithm::SlidingLog | Algorithm::TokenBucket { .. } => self.answered,
        };
        since.saturating_add(micros(reset))
    }

    /// Returns for how long after `now` the charge counts; zero if it may not count any longer.
    #[cfg(feature = "redis")]
    pub(crate) fn lasts(self, algorithm: Algorithm, reset: Duration, now: u64) -> Duration {
        if self.asked.saturating_add(micros(reset)) <= now {
            return Duration::ZERO;
        }
        Duration::from_micros(self.until(algorithm, reset).saturating_sub(now))
    }
}
