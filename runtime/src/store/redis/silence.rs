//! Counts the calls that have no answer.

use std::time::Instant;

/// After how many calls without an answer in a row the connection is given up.
const MAX_MISSED: u32 = 3;

/// For how many calls there has been silence. Those that were in flight together count once.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// How many calls in a row had no answer.
    missed: u32,
    /// When the last one that counts was given up.
    last: Option<Instant>,
}

impl Silence {
    /// Notes that a call was answered.
    pub(super) fn end(&mut self) {
        self.missed = 0;
    }

    /// Whether the last call was answered, or is the first.
    pub(super) fn is_over(&self) -> bool {
        self.missed == 0
    }

    /// Notes at `now` that a call that was `sent` then had no answer. Returns whether there were too many in a row.
    pub(super) fn missed(&mut self, sent: Instant, now: Instant) -> bool {
        if self.last.is_some_and(|last| sent < last) {
            return false;
        }
        self.last = Some(now);
        self.missed += 1;
        self.missed >= MAX_MISSED
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn calls_that_were_in_flight_together_count_once_and_an_answer_ends_it() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut silence = Silence::default();
        for (sent, given_up) in [(0, 10), (1, 11), (9, 19), (20, 30)] {
            assert!(!silence.missed(after(sent), after(given_up)));
        }
        assert!(!silence.is_over());
        silence.end();
        assert!(silence.is_over() && !silence.missed(after(40), after(50)));
        assert!(!silence.missed(after(50), after(60)));
        assert!(silence.missed(after(60), after(70)));
    }
}
