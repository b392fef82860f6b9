//! What time it is, for the memory store.

use std::time::Instant;

/// Tells how much time has passed since some start. Never goes back.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    /// The operating system's monotonic clock, from its reading at the start.
    System(Instant),
    #[cfg(feature = "test-util")]
    Manual(ManualClock),
}

impl Default for Clock {
    fn default() -> Self {
        Self::System(Instant::now())
    }
}

impl Clock {
    /// In microseconds.
    pub(crate) fn now_micros(&self) -> u64 {
        let since_start = match self {
            Self::System(start) => start.elapsed(),
            #[cfg(feature = "test-util")]
            Self::Manual(clock) => clock.now(),
        };
        u64::try_from(since_start.as_micros()).unwrap_or(u64::MAX)
    }

    /// The time for stores that have a clock of their own, if a test drives it.
    #[cfg(feature = "redis")]
    pub(crate) fn injected_micros(&self) -> Option<u64> {
        match self {
            Self::System(_) => None,
            #[cfg(feature = "test-util")]
            Self::Manual(_) => Some(self.now_micros()),
        }
    }
}

#[cfg(feature = "test-util")]
pub use manual::ManualClock;

#[cfg(feature = "test-util")]
mod manual {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

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
        /// If the clock would pass 584 years.
        pub fn advance(&self, by: Duration) {
            let nanos = u64::try_from(by.as_nanos()).expect("less than 584 years");
            self.0.fetch_add(nanos, Ordering::SeqCst);
        }

        pub(crate) fn now(&self) -> Duration {
            Duration::from_nanos(self.0.load(Ordering::SeqCst))
        }
    }
}
