//! A store that is away, as the log and the metrics are told of it.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::StoreError;
use crate::telemetry;

/// How long it is not said again that a store is away.
const SILENCE: Duration = Duration::from_secs(60);
/// How many reasons are told of one outage at once.
const MAX_REASONS: usize = 8;

/// Whether a store is away, and since when.
#[derive(Debug, Default)]
pub(crate) struct Outage(Mutex<Option<Told>>);

#[derive(Debug)]
struct Told {
    since: Instant,
    /// When it was told last.
    last: Instant,
    /// Why it is away, as has been told.
    reasons: Vec<String>,
}

/// What is to be told of a store that is away.
#[derive(Debug, PartialEq)]
pub(crate) enum News {
    /// It was not before.
    Begins,
    /// For how long it has been; the reason is a new one, or nothing has been said of it for long.
    GoesOn(Duration),
    Nothing,
}

impl Outage {
    /// It is away, which is told now, whether it was before or not.
    pub(crate) fn begin(&self, why: &StoreError) {
        telemetry::store(false);
        let now = Instant::now();
        let mut told = self.0.lock();
        let told = told.get_or_insert_with(|| Told { since: now, last: now, reasons: Vec::new() });
        told.last = now;
        told.note(why.to_string());
    }

    /// It is away, or still is.
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

    /// Whether it is away.
    pub(crate) fn is_on(&self) -> bool {
        self.0.lock().is_some()
    }

    /// It is there. If it was away, this tells for how long.
    pub(crate) fn end(&self) -> Option<Duration> {
        telemetry::store(true);
        self.0.lock().take().map(|told| told.since.elapsed())
    }
}

impl Told {
    /// Notes a reason, and tells whether it is a new one.
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
