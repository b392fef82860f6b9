//! The deadline of a check that waits in another Tokio runtime than the courier's.
//!
//! The courier keeps the deadlines of its calls, with one timer for all of them. It can do so only while its own
//! runtime runs. If nobody drives that runtime, or its only thread is blocked, the checks of other runtimes would wait
//! for ever. So a check that is made in another runtime has a timer of its own. If several of these go off before the
//! courier does anything, another runtime takes over with a connection of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, Id};
use tokio::time::{Sleep, sleep};

use super::lane::Lane;

/// How many calls, one after the other, may pass their deadline before the courier counts as stalled.
const MAX_STALLED: u32 = 3;

/// The deadline of a check that was made in another runtime than the courier's.
pub(super) struct OwnDeadline {
    pub(super) lane: Arc<Lane>,
    /// The generation of the connection that the check was made on.
    pub(super) generation: u64,
    pub(super) made: Instant,
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
}

impl OwnDeadline {
    /// Starts the deadline of a check that is made now. Returns `None` if the current runtime is the courier's
    /// `runtime`, or there is no current runtime.
    pub(super) fn unless_served_here(
        runtime: Option<Id>,
        lane: &Arc<Lane>,
        generation: u64,
        timeout: Duration,
    ) -> Option<Self> {
        let here = Handle::try_current().ok()?.id();
        (runtime != Some(here)).then(|| Self {
            lane: Arc::clone(lane),
            generation,
            made: Instant::now(),
            timeout,
            timer: Box::pin(sleep(timeout)),
        })
    }

    /// Polls whether the deadline has passed.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(context));
            let left = self.timeout.saturating_sub(self.made.elapsed());
            if left.is_zero() {
                return Poll::Ready(());
            }
            // A test may have moved the runtime's clock, but not the courier's.
            self.timer.as_mut().reset(tokio::time::Instant::now() + left);
        }
    }
}

/// Counts the calls that have passed their deadline since the courier last did anything.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    calls: u32,
    last: Option<Instant>,
}

impl Stalls {
    /// Records that a call with a check that was `made` then has passed its deadline. Calls that were in flight
    /// together count once.
    pub(super) fn record(&mut self, made: Instant, now: Instant) {
        if self.last.is_none_or(|last| made >= last) {
            (self.calls, self.last) = (self.calls + 1, Some(now));
        }
    }

    /// Records that the courier does something.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether the courier has stalled. If so, the count begins anew, so that it is told once.
    pub(super) fn take(&mut self) -> bool {
        let has_stalled = self.calls >= MAX_STALLED;
        if has_stalled {
            self.clear();
        }
        has_stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_one_after_the_other_show_that_the_courier_has_stalled() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut stalls = Stalls::default();
        for made in [0, 1, 2, 3] {
            stalls.record(at(made), at(100 + made));
        }
        assert!(!stalls.take(), "they were in flight together");
        stalls.record(at(150), at(250));
        assert!(!stalls.take());
        stalls.record(at(250), at(350));
        assert!(stalls.take());
        assert!(!stalls.take(), "it is told once");
        for made in [400, 500] {
            stalls.record(at(made), at(made + 100));
        }
        stalls.clear();
        stalls.record(at(600), at(700));
        assert!(!stalls.take(), "it has done something meanwhile");
    }
}
