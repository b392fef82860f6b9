//! Keeps track of whether a store is away, and of what the log and the metrics are told about that.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::StoreError;
use crate::telemetry;

/// How long it takes until the log is told again that a store is away.
const SILENCE: Duration = Duration::from_secs(60);
/// How many different reasons of one outage are told as soon as they come up.
const MAX_REASONS: usize = 8;

/// Whether a store is away, and since when.
#[derive(Debug, Default)]
pub(crate) struct Outage(Mutex<Option<Told>>);

#[derive(Debug)]
struct Told {
    since: Instant,
    /// When the log was told last.
    last: Instant,
    /// The reasons that have been told.
    reasons: Vec<String>,
}

/// What to tell about a store that is away.
#[derive(Debug, PartialEq)]
pub(crate) enum News {
    /// It was not away before.
    Begins,
    /// It has been away for so long, and the reason is a new one, or nothing has been told for [`SILENCE`].
    GoesOn(Duration),
    Nothing,
}

impl Outage {
    /// Notes that the store is away, which the caller logs now, whether it was away before or not.
    pub(crate) fn begin(&self, why: &StoreError) {
        telemetry::store(false);
        let now = Instant::now();
        let mut told = self.0.lock();
        let told = told.get_or_insert_with(|| Told { since: now, last: now, reasons: Vec::new() });
        told.last = now;
        told.note(why.to_string());
    }

    /// Notes that the store is away, or still is, and returns what to tell.
    pub(crate) fn note(&self, why: &StoreError) -> News {
        if let Some(told) = &mut *self.0.lock() {
            let is_due = told.last.elapsed() >= SILENCE;
            if !(told.note(why.to_string()) || is_due) {
                return News::Nothing;
            }
            told.last = Instant::now();
            return News::GoesOn(told.since.elapsed());
        }
        self.begin(why);
        News::Begins
    }

    /// Whether the store is away.
    pub(crate) fn is_on(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Notes that the store is there, and returns for how long it was away, if it was.
    pub(crate) fn end(&self) -> Option<Duration> {
        telemetry::store(true);
        self.0.lock().take().map(|told| told.since.elapsed())
    }
}

impl Told {
    /// Notes a reason, and returns whether it is a new one, of the first [`MAX_REASONS`].
    fn note(&mut self, reason: String) -> bool {
        let is_new = self.reasons.len() < MAX_REASONS && !self.reasons.contains(&reason);
        if is_new {
            self.reasons.push(reason);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(why: &str) -> StoreError {
        StoreError::Unreachable(why.into())
    }

    #[tokio::test(start_paused = true)]
    async fn each_reason_is_told_once_and_what_lasts_again() {
        let outage = Outage::default();
        assert_eq!(outage.end(), None);
        assert_eq!(outage.note(&error("closed")), News::Begins);
        let second = Duration::from_secs(1);
        tokio::time::advance(second).await;
        for (why, news) in [
            ("closed", News::Nothing),
            ("NOAUTH", News::GoesOn(second)),
            ("closed", News::Nothing),
            ("NOAUTH", News::Nothing),
        ] {
            assert_eq!(outage.note(&error(why)), news, "{why}");
        }
        for number in 0..10 {
            let news = outage.note(&error(&number.to_string()));
            assert_eq!(news != News::Nothing, number < MAX_REASONS - 2, "{number}");
        }
        tokio::time::advance(SILENCE).await;
        assert_eq!(outage.note(&error("closed")), News::GoesOn(SILENCE + second));
        assert_eq!(outage.note(&error("closed")), News::Nothing);
        tokio::time::advance(SILENCE).await;
        outage.begin(&error("closed"));
        assert_eq!(outage.note(&error("closed")), News::Nothing, "it has just been told");
        assert_eq!(outage.end(), Some(2 * SILENCE + second));
        assert_eq!(outage.end(), None);
        assert_eq!(outage.note(&error("closed")), News::Begins, "it is another one");
    }
}
