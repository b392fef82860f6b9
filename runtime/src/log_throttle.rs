//! Throttles log lines about events that may occur with each request.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long an event is not logged again.
const SILENCE: Duration = Duration::from_secs(10);

/// Says when to log an event that occurs often, and counts its occurrences.
#[derive(Debug)]
pub(crate) struct LogThrottle(Mutex<Occurrences>);

#[derive(Debug)]
struct Occurrences {
    /// When the event was last logged.
    last: Option<Instant>,
    /// How often the event has occurred since.
    since: u64,
}

impl LogThrottle {
    /// Creates a throttle for an event that has not occurred yet.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Occurrences { last: None, since: 0 }))
    }

    /// Counts an occurrence. If the event is to be logged now, returns how often it has occurred since it was
    /// last logged.
    pub(crate) fn occurs(&self) -> Option<u64> {
        let mut came = self.0.lock();
        came.since += 1;
        if came.last.is_some_and(|last| last.elapsed() < SILENCE) {
            return None;
        }
        came.last = Some(Instant::now());
        Some(std::mem::take(&mut came.since))
    }
}

/// Says when to log what is to be logged once for each policy.
#[derive(Debug)]
pub(crate) struct OncePerPolicy(Mutex<BTreeSet<&'static str>>);

impl OncePerPolicy {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(BTreeSet::new()))
    }

    /// Whether this is the first time for `policy`.
    pub(crate) fn is_first(&self, policy: &'static str) -> bool {
        self.0.lock().insert(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_often_is_told_once_in_a_while_and_all_of_it_is_counted() {
        let throttle = LogThrottle::new();
        assert_eq!(throttle.occurs(), Some(1));
        for _ in 0..1_000 {
            assert_eq!(throttle.occurs(), None);
        }
        tokio::time::advance(SILENCE).await;
        assert_eq!(throttle.occurs(), Some(1_001));
        assert_eq!(throttle.occurs(), None);
    }
}
