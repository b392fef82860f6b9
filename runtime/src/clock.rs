//! The clock of everything that this process remembers.

use std::time::Duration;

/// A clock that tells how much time has passed since some start. It never goes back.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    /// The processor's time-stamp counter if it is steady, else the operating system's monotonic clock. `start`
    /// is the reading at the start.
    System { clock: quanta::Clock, start: u64 },
    #[cfg(feature = "test-util")]
    Manual(ManualClock),
}

impl Default for Clock {
    fn default() -> Self {
        let clock = quanta::Clock::new();
        Self::System { start: clock.raw(), clock }
    }
}

impl Clock {
    /// Returns the time in microseconds.
    pub(crate) fn now_micros(&self) -> u64 {
        match self {
            Self::System { clock, start } => clock.delta_as_nanos(*start, clock.raw()) / 1_000,
            #[cfg(feature = "test-util")]
            Self::Manual(clock) => clock.now_nanos() / 1_000,
        }
    }

    /// Returns the time for stores that have a clock of their own, if a test controls this one.
    #[cfg(feature = "redis")]
    pub(crate) fn injected_micros(&self) -> Option<u64> {
        match self {
            Self::System { .. } => None,
            #[cfg(feature = "test-util")]
            Self::Manual(_) => Some(self.now_micros()),
        }
    }
}

/// Returns `duration` in microseconds, or the largest number if there are too many.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(feature = "test-util")]
pub use manual::ManualClock;

#[cfg(feature = "test-util")]
mod manual {
    use std::sync::Arc;
    #[cfg(not(all(test, interleavings)))]
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    #[cfg(all(test, interleavings))]
    use loom::sync::atomic::AtomicU64;

    /// A clock that stands still until a test moves it (feature `test-util`).
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use axum_rate_limit::{ManualClock, Policy, RateLimiter};
    ///
    /// const MAILS: Policy = Policy::new("mails").per_minute(1);
    ///
    /// let clock = ManualClock::default();
    /// let limiter = RateLimiter::builder().clock(&clock).build().await?;
    /// assert!(limiter.check(&MAILS, "me").await?.is_allowed());
    /// assert!(!limiter.check(&MAILS, "me").await?.is_allowed());
    /// clock.advance(Duration::from_secs(60));
    /// assert!(limiter.check(&MAILS, "me").await?.is_allowed());
    /// # Ok::<(), axum_rate_limit::Error>(())
    /// # }).unwrap();
    /// ```
    #[derive(Clone, Debug, Default)]
    pub struct ManualClock(Arc<AtomicU64>);

    impl ManualClock {
        /// Moves the clock, and all its clones, forward.
        ///
        /// # Panics
        ///
        /// Panics if the clock would exceed 584 years.
        pub fn advance(&self, by: Duration) {
            let advanced = |now: u64| now.checked_add(u64::try_from(by.as_nanos()).ok()?);
            let advanced = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, advanced);
            advanced.expect("less than 584 years");
        }

        pub(crate) fn now_nanos(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }
    }
}

#[cfg(all(test, feature = "test-util", not(interleavings)))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[should_panic(expected = "less than 584 years")]
    fn a_clock_that_is_advanced_twice_has_an_end_too() {
        let (clock, five_centuries) = (ManualClock::default(), Duration::from_secs(500 * 365 * 86_400));
        clock.advance(five_centuries);
        clock.advance(five_centuries);
    }
}
