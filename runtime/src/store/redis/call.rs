//! A call that checks wait for: its answer, and their places in it.

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker, ready};

use parking_lot::Mutex;

use super::answers::Answers;
use super::batch::Place;
use super::failure::Failure;
use super::lane::Lane;
use super::late::{LateCharges, LateCheck};
use super::own_deadline::OwnDeadline;
use super::renounced::Renounced;
use crate::error::StoreError;
use crate::store::{ChargeTime, Counter, Operation, Outcome};

/// What all who wait for a call share.
#[derive(Default)]
pub(super) struct Call {
    answer: OnceLock<Result<Answers, Failure>>,
    waiting: Mutex<Vec<Waker>>,
    /// What comes of the charges that nobody waits for any more.
    late_charges: LateCharges,
}

/// A check's place in a call.
pub(crate) struct Ticket {
    call: Arc<Call>,
    place: Place,
    /// The index of its waker among those of the call, once it waits.
    number: Option<usize>,
    /// Its own deadline, if it was made in another runtime than the courier's.
    own_deadline: Option<OwnDeadline>,
}

impl Ticket {
    /// Creates the ticket of a check that is at `place` in `call`.
    pub(super) fn new(call: Arc<Call>, place: Place, own_deadline: Option<OwnDeadline>) -> Self {
        Self { call, place, number: None, own_deadline }
    }

    /// Polls whether there is an answer.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.call.poll(&mut self.number, context).is_ready() {
            // Another check's deadline may have finished the call.
            if let (Some(own_deadline), Some(Ok(_))) = (&self.own_deadline, self.call.answer.get()) {
                own_deadline.kept();
            }
            return Poll::Ready(());
        }
        let Some(own_deadline) = &mut self.own_deadline else { return Poll::Pending };
        ready!(own_deadline.poll(context));
        // First, so that no check joins the call any more, which would not be sent.
        let _withdrawn = own_deadline.lane.withdraw(&self.call);
        let _ = self.call.finish(Err(own_deadline.lane.common.late()));
        own_deadline.missed();
        Poll::Ready(())
    }

    /// Returns what is left of a check that was late; `lane` is the one that it was made in.
    pub(super) fn late(&self, lane: &Arc<Lane>) -> Option<LateCheck> {
        let is_late = match self.call.answer.get()? {
            Ok(answers) => matches!(answers.passed(self.place.group), Err(Failure::Timeout(_))),
            Err(failure) => matches!(failure, Failure::Timeout(_)),
        };
        is_late.then(|| self.left_of(lane))
    }

    /// Returns what is left of a check that nobody waits for any more; `lane` is the one that it was made in.
    pub(super) fn left_of(&self, lane: &Arc<Lane>) -> LateCheck {
        LateCheck { lane: Arc::clone(lane), call: Arc::clone(&self.call), place: self.place }
    }

    /// Returns the answer; `operation` and `counters` are those of the check that got the ticket.
    pub(super) fn answer(&self, operation: Operation, counters: &[Counter<'_>]) -> Result<Outcome, Failure> {
        match self.call.answer.get() {
            Some(Ok(answers)) => answers.outcome(operation, counters, self.place),
            Some(Err(failure)) => Err(failure.clone()),
            None => Err(Failure::NoConnection),
        }
    }

    /// Returns the answer as callers see it.
    pub(crate) fn outcome(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
    ) -> Result<Outcome, StoreError> {
        Ok(self.answer(operation, counters)?)
    }
}

impl Call {
    /// Polls whether there is an answer. If not, keeps the waker, in place of an earlier one at `number`.
    fn poll(&self, number: &mut Option<usize>, context: &Context<'_>) -> Poll<()> {
        if self.answer.get().is_some() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.lock();
        // The answer may have come before the lock was taken, and then nobody would wake this one.
        if self.answer.get().is_some() {
            return Poll::Ready(());
        }
        if let Some(waker) = number.and_then(|number| waiting.get_mut(number)) {
            waker.clone_from(context.waker());
        } else {
            *number = Some(waiting.len());
            waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Gives the answer to all that wait. The error is the answer itself, if they have been given one before.
    pub(super) fn finish(&self, answer: Result<Answers, Failure>) -> Result<(), Result<Answers, Failure>> {
        self.answer.set(answer)?;
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Records charges that are renounced `now`. Returns them if they are known to be made.
    pub(super) fn renounce(&self, renounced: Renounced, now: u64) -> Option<Renounced> {
        self.late_charges.renounce(renounced, self.in_time(), now)
    }

    /// Records when the call was made that has been answered, and what was answered `late`, if it was. Returns what is
    /// to be given back.
    pub(super) fn take_renounced(&self, late: Option<Answers>, made: ChargeTime) -> Vec<Renounced> {
        self.late_charges.answer(self.in_time(), late, made)
    }

    fn in_time(&self) -> Option<&Answers> {
        self.answer.get()?.as_ref().ok()
    }
}

/// A call on its way to an answer. It fails if it is dropped without one, so that nobody waits for ever.
#[derive(Default)]
pub(super) struct AwaitedCall(pub(super) Arc<Call>);

impl Drop for AwaitedCall {
    fn drop(&mut self) {
        let _ = self.0.finish(Err(Failure::NoConnection));
    }
}
