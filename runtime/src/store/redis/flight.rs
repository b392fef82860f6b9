//! A call in flight, and what its answer is awaited for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::batch::Batch;
use super::call::Call;
use super::failure::Failure;
use super::question::Question;

/// A call in flight.
pub(super) struct Flight {
    pub(super) batch: Batch,
    pub(super) question: Question,
    pub(super) call: Waited,
    pub(super) sent: Instant,
    /// The same, in microseconds of the clock that denials and windows go by.
    pub(super) sent_at: u64,
    /// Until when its answer is awaited.
    pub(super) deadline: Instant,
    pub(super) state: State,
}

/// What a call in flight is awaited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Checks wait for the answer.
    Waited,
    /// The checks have their answer, so all that is left is to correct what was charged.
    Answered,
    /// The checks were told that it is late, so all that is left is to give back what they renounce.
    Late,
}

/// A call with waiters. It fails if it is dropped without an answer.
pub(super) struct Waited(pub(super) Arc<Call>);

impl Drop for Waited {
    fn drop(&mut self) {
        let _ = self.0.finish(Err(Failure::NoConnection));
    }
}

/// Returns when to act though no answer has come: at the first deadline of a call that checks wait for, or when the
/// first call in flight has been listened for long enough.
pub(super) fn next_deadline(flights: &VecDeque<Flight>) -> Instant {
    let (first, others) = (flights.iter().take(1), flights.iter().skip(1));
    let awaited = others.filter(|flight| flight.state == State::Waited);
    first.chain(awaited).map(|flight| flight.deadline).min().unwrap_or_else(Instant::now)
}
