//! Whose turn it is to bring a store back: one task at a time, unless its Tokio runtime does not run.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// After how long without a sign of life a task has lost its turn: longer than any of its tries and pauses.
const GONE: Duration = Duration::from_secs(6);

/// The turn of one task among those that could look after a store.
#[derive(Debug, Default)]
pub(crate) struct Turn(Mutex<Latest>);

/// The latest turn.
#[derive(Debug, Default)]
struct Latest {
    number: u64,
    /// When the task whose turn it is has last been seen; `None` if it is nobody's turn.
    seen: Option<Instant>,
}

impl Turn {
    /// Begins a turn, and returns its number, if there `is` something to do and it is not another's turn who has been
    /// seen of late. What ends with a [turn](Self::end_with) has ended by then.
    pub(crate) fn take_if(&self, is: impl FnOnce() -> bool) -> Option<u64> {
        let mut latest = self.0.lock();
        if latest.seen.is_some_and(|seen| seen.elapsed() < GONE) || !is() {
            return None;
        }
        latest.number += 1;
        latest.seen = Some(Instant::now());
        Some(latest.number)
    }

    /// Gives a sign of life, and returns whether it is still that turn.
    pub(crate) fn keep(&self, number: u64) -> bool {
        let mut latest = self.0.lock();
        let is_on = latest.number == number && latest.seen.is_some();
        if is_on {
            latest.seen = Some(Instant::now());
        }
        is_on
    }

    /// Ends the turn, and what `end` ends with it, if it is still on.
    pub(crate) fn end_with(&self, number: u64, end: impl FnOnce()) {
        let mut latest = self.0.lock();
        if latest.number == number && latest.seen.take().is_some() {
            end();
        }
    }

    /// Whether it is somebody's turn.
    #[cfg(all(test, feature = "redis-cluster"))]
    pub(crate) fn is_taken(&self) -> bool {
        self.0.lock().seen.is_some()
    }

    /// Ends whosever turn it is.
    #[cfg(all(test, feature = "redis-cluster"))]
    pub(crate) fn free(&self) {
        self.0.lock().seen = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_turn_of_one_until_that_ends_or_is_gone() {
        let turn = Turn::default();
        let first = turn.take_if(|| true).expect("it is nobody's");
        assert!(turn.take_if(|| true).is_none() && turn.keep(first));
        turn.0.lock().seen = Instant::now().checked_sub(GONE);
        let second = turn.take_if(|| true).expect("the first is gone");
        let ends = |number| {
            let mut ends = false;
            turn.end_with(number, || ends = true);
            ends
        };
        assert!(!turn.keep(first) && !ends(first), "it comes too late");
        assert!(turn.keep(second) && ends(second) && !ends(second));
        assert!(turn.take_if(|| false).is_none() && turn.take_if(|| true).is_some());
    }
}
