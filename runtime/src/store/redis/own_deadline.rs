//! The deadline of a check that waits in another Tokio runtime than the courier's.
//!
//! The courier keeps the deadlines of its calls, with one timer for all of them. It can do so only while its own
//! runtime runs. If nobody drives that runtime, or its only thread is blocked, the checks of other runtimes would wait
//! for ever. So a check that is made in another runtime has a timer of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use redis::{ErrorKind, RedisError};
use tokio::runtime::{Handle, Id};
use tokio::time::{Sleep, sleep};

use super::failure::Failure;
use super::lane::Lane;

/// How many calls in a row may pass their deadline unnoticed by the courier, before its connection is given up and the
/// current runtime opens another one.
pub(super) const MAX_STALLED: u32 = 3;

/// The deadline of a check that was made in another runtime than the courier's.
pub(super) struct OwnDeadline {
    pub(super) lane: Arc<Lane>,
    /// The generation of the connection that the check was made on.
    pub(super) generation: u64,
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
            timer: Box::pin(sleep(timeout)),
        })
    }

    /// Polls whether the deadline has passed.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().poll(context)
    }

    /// Returns the reason for which the connection is given up.
    pub(super) fn failure() -> Failure {
        RedisError::from((ErrorKind::Io, "the runtime that serves the connection does not run")).into()
    }
}
