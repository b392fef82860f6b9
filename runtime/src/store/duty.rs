//! Sees to it that one background task at a time looks after a store that is away.
//!
//! The task runs in the Tokio runtime of whoever noticed the outage. Should that runtime stop running, without being
//! dropped, the task would be the only one for ever and never do anything. So its duty lapses once it has not been
//! heard of for a while.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a task may be silent. A probe and the pause after it take half of that at most.
const LAPSES: Duration = Duration::from_secs(10);

/// The duty to look after a store. A task that has it knows the number of its shift.
#[derive(Debug, Default)]
pub(crate) struct Duty(Mutex<Shift>);

#[derive(Debug, Default)]
struct Shift {
    number: u64,
    /// When the task was last heard of; `None` if nobody is on duty.
    heard: Option<Instant>,
}

impl Duty {
    /// Begins a shift, unless a task is on duty that has been heard of lately.
    pub(crate) fn begin(&self) -> Option<u64> {
        self.begin_at(Instant::now())
    }

    fn begin_at(&self, now: Instant) -> Option<u64> {
        let mut shift = self.0.lock();
        if shift.heard.is_some_and(|heard| now.saturating_duration_since(heard) < LAPSES) {
            return None;
        }
        *shift = Shift { number: shift.number + 1, heard: Some(now) };
        Some(shift.number)
    }

    /// Whether the task with this shift is still on duty, and does something.
    pub(crate) fn goes_on(&self, number: u64) -> bool {
        self.goes_on_at(number, Instant::now())
    }

    fn goes_on_at(&self, number: u64, now: Instant) -> bool {
        let mut shift = self.0.lock();
        let goes_on = shift.number == number && shift.heard.is_some();
        if goes_on {
            shift.heard = Some(now);
        }
        goes_on
    }

    /// Ends a shift. Returns whether it was still on.
    pub(crate) fn end(&self, number: u64) -> bool {
        let mut shift = self.0.lock();
        shift.number == number && shift.heard.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_task_is_on_duty_until_it_ends_or_is_silent() {
        let (duty, start) = (Duty::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let first = duty.begin_at(at(0)).expect("nobody is on duty");
        assert_eq!(duty.begin_at(at(9)), None);
        assert!(duty.goes_on_at(first, at(9)));
        assert_eq!(duty.begin_at(at(18)), None);
        let second = duty.begin_at(at(19)).expect("the first is silent");
        assert!(!duty.goes_on_at(first, at(19)));
        assert!(!duty.end(first), "it is another's");
        assert_eq!(duty.begin_at(at(20)), None);
        assert!(duty.end(second));
        assert!(!duty.end(second));
        assert!(!duty.goes_on_at(second, at(20)));
        assert!(duty.begin_at(at(20)).is_some());
    }
}
