//! A call in flight, and what its answer is awaited for.

use std::time::Instant;

use super::batch::Batch;
use super::call::AwaitedCall;
use super::question::Question;

/// A call in flight.
pub(super) struct Flight {
    pub(super) batch: Batch,
    pub(super) question: Question,
    pub(super) call: AwaitedCall,
    pub(super) sent: Instant,
    /// The same, in microseconds of the clock that denials and windows go by.
    pub(super) sent_micros: u64,
    /// Until when its answer is awaited.
    pub(super) deadline: Instant,
    pub(super) stage: Stage,
}

impl Flight {
    /// Whether checks wait for the answer, and it is too late for them.
    pub(super) fn is_past(&self, now: Instant) -> bool {
        self.stage == Stage::Awaited && self.deadline <= now
    }
}

/// What a call in flight is awaited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Checks wait for the answer.
    Awaited,
    /// The checks have their answer, so all that is left is to correct what was charged.
    Answered,
    /// The checks were told that it is late, so all that is left is to give back what they renounce.
    Late,
}
