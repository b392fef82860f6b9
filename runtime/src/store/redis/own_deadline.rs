//! The deadline of a check that waits in another Tokio runtime than the courier's.
//!
//! The courier keeps the deadlines of its calls, with one timer for all of them. It can do so only while its own
//! runtime runs. If nobody drives that runtime, or its only thread is blocked, the checks of other runtimes would wait
//! for ever. So a check that is made in another runtime has a timer of its own. If several in a row expire, the
//! connection is given up, and the next one is made where checks are made.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::runtime::{Handle, Id};
use tokio::time::{Sleep, sleep};

use super::lane::Lane;

/// The deadline of a check that was made in another runtime than the courier's.
pub(super) struct OwnDeadline {
    pub(super) lane: Arc<Lane>,
    /// The connection that was in use.
    generation: u64,
    made: Instant,
    timer: Pin<Box<Sleep>>,
}

impl OwnDeadline {
    /// Starts the deadline of a check that is made now. Returns `None` if the current runtime is the courier's
    /// `runtime`, or there is no current runtime. `generation` is that of the connection.
    pub(super) fn unless_served_here(runtime: Id, generation: u64, lane: &Arc<Lane>) -> Option<Self> {
        let here = Handle::try_current().ok()?.id();
        (runtime != here).then(|| Self {
            lane: Arc::clone(lane),
            generation,
            made: Instant::now(),
            timer: Box::pin(sleep(lane.common.timeout)),
        })
    }

    /// Notes that the check was answered in time.
    pub(super) fn kept(&self) {
        self.lane.absence().lock().end();
    }

    /// Notes that the deadline has passed.
    pub(super) fn missed(&self) {
        // Bound first, so that the lock is not held any more.
        let too_many = self.lane.absence().lock().missed(self.made, Instant::now());
        if too_many {
            self.lane.abandon(self.generation);
        }
    }

    /// Polls whether the deadline has passed.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(context));
            let left = self.lane.common.timeout.saturating_sub(self.made.elapsed());
            if left.is_zero() {
                return Poll::Ready(());
            }
            // A test may have moved the runtime's clock, but not the courier's.
            self.timer.as_mut().reset(tokio::time::Instant::now() + left);
        }
    }
}
