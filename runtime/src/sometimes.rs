//! Lines of the log that are not to be written for each request.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long it is not spoken of again.
const SILENCE: Duration = Duration::from_secs(10);

/// Speaks once in a while of what comes often.
#[derive(Debug)]
pub(crate) struct Sometimes(Mutex<Came>);

#[derive(Debug)]
struct Came {
    /// When it was spoken of last.
    last: Option<Instant>,
    /// How often it has come since.
    since: u64,
}

impl Sometimes {
    /// Nothing has come yet.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Came { last: None, since: 0 }))
    }

    /// It has come again. Tells how often it has since it was spoken of, if that is to be done now.
    pub(crate) fn now(&self) -> Option<u64> {
        let mut came = self.0.lock();
        came.since += 1;
        if came.last.is_some_and(|last| last.elapsed() < SILENCE) {
            return None;
        }
        came.last = Some(Instant::now());
        Some(std::mem::take(&mut came.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_often_is_told_once_in_a_while_and_all_of_it_is_counted() {
        let sometimes = Sometimes::new();
        assert_eq!(sometimes.now(), Some(1));
        for _ in 0..1_000 {
            assert_eq!(sometimes.now(), None);
        }
        tokio::time::advance(SILENCE).await;
        assert_eq!(sometimes.now(), Some(1_001));
        assert_eq!(sometimes.now(), None);
    }
}
