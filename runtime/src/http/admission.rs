//! Whether a request may go on: its policies are asked, all in one call.

#![allow(clippy::result_large_err)] // in a box, each denial would be an allocation more

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::response::Response;
use http::request::Parts;
use smallvec::SmallVec;

use super::Answers;
use super::denial::Denied;
use super::entries::{Entries, Entry};
use super::faults::{internal_error, no_layer, no_peer};
use super::identity::{self, NoPeer};
use super::ledger::Ledger;
use crate::decision::Decision;
use crate::error::StoreError;
use crate::in_force::Effective;
use crate::limiter::Ask;
use crate::policy::Policy;
use crate::store::remote::{Asked, Begun};
use crate::store::{Boxed, Operation, Outcome};
use crate::text::Text;

/// Whether a request may go on.
pub(super) enum Admission<'a> {
    /// It is known.
    Now(Option<Result<(), Response>>),
    /// The store has been asked: its answer is waited for here.
    Asked(Waiting<'a>, Asked),
    /// The store is asked by a future of its own.
    Later(Boxed<'a, Result<(), Response>>),
}

impl Admission<'_> {
    fn denied(answer: Response) -> Self {
        Self::Now(Some(Err(answer)))
    }
}

impl Future for Admission<'_> {
    type Output = Result<(), Response>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            // It is not to be polled again; if it is, it lets nothing through.
            Self::Now(result) => result.take().map_or(Poll::Pending, Poll::Ready),
            Self::Asked(waiting, asked) => {
                ready!(asked.poll(context));
                Poll::Ready(waiting.conclude(asked))
            }
            Self::Later(future) => future.as_mut().poll(context),
        }
    }
}

/// A request that waits for a decision. When it does so no longer, what has not been decided is struck out.
pub(super) struct Waiting<'a> {
    ledger: &'a Ledger,
    parts: &'a Parts,
    admission: u32,
    policies: &'static [&'static Policy],
}

impl<'a> Waiting<'a> {
    /// What the store has answered; the error is the answer to the request.
    fn conclude(&self, asked: &Asked) -> Result<(), Response> {
        self.settle(|entries| {
            let asks = entries.asked(self.admission).iter().map(|entry| &entry.ask);
            self.ledger.limiter().0.limiter.conclude(Operation::Take, asks, asked)
        })
    }

    /// Asks the store by a future of its own.
    #[inline(never)] // it is long, and not for those who count in memory
    fn ask(self, asks: SmallVec<[Ask<'static>; 1]>) -> Boxed<'a, Result<(), Response>> {
        Box::pin(async move {
            // All of it moves in here: dropped before, it would strike out what is asked.
            let waiting = &self;
            let limiter = &waiting.ledger.limiter().0.limiter;
            let outcome = limiter.answer_later(Operation::Take, &asks).await;
            waiting.settle(|_| outcome)
        })
    }

    /// Notes what the store has answered; the error is the answer to the request.
    fn settle(&self, outcome: impl FnOnce(&Entries) -> Result<Outcome, StoreError>) -> Result<(), Response> {
        let settled = self.ledger.with_entries(|entries| {
            let outcome = outcome(entries);
            settle(entries, self.admission, outcome, self.policies)
        });
        settled.map_err(|refusal| refusal.answer(self.parts, &self.ledger.limiter().0.answers))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.ledger.with_entries(|entries| entries.withdraw(self.admission));
    }
}

impl Ledger {
    /// Asks all of `policies` that have not been asked in this request yet, in one call.
    ///
    /// The error is the answer to the request.
    pub(super) fn admit<'a>(parts: &'a Parts, policies: &'static [&'static Policy]) -> Admission<'a> {
        match Self::around(parts) {
            Some(ledger) => {
                let asked = ledger.with_entries(|entries| ledger.ask(entries, parts, policies));
                asked.unwrap_or_else(|refusal| {
                    Admission::denied(refusal.answer(parts, &ledger.limiter().0.answers))
                })
            }
            None => Admission::denied(no_layer(policies)),
        }
    }

    fn ask<'a>(
        &'a self,
        entries: &mut Entries,
        parts: &'a Parts,
        policies: &'static [&'static Policy],
    ) -> Result<Admission<'a>, Refusal> {
        let limiter = &self.limiter().0.limiter;
        // A denial stands, whoever sends the same request through a router again.
        if entries.has_denial() {
            denied(entries, policies)?;
        }
        let admission = entries.begin();
        if self.enter(entries, admission, parts, policies).is_err() {
            entries.withdraw(admission);
            return Err(Refusal::NoPeer);
        }
        let begun = limiter.begin(Operation::Take, entries.asked(admission).iter().map(|entry| &entry.ask));
        let waiting = || Waiting { ledger: self, parts, admission, policies };
        Ok(match begun {
            // Most are decided where they stand, without a future that would have to be moved from place to place.
            Begun::Decided(outcome) => {
                settle(entries, admission, outcome, policies)?;
                Admission::Now(Some(Ok(())))
            }
            Begun::Asked(asked) => Admission::Asked(waiting(), asked),
            Begun::Later => {
                let asks = entries.asked(admission).iter().map(|entry| entry.ask.clone()).collect();
                Admission::Later(waiting().ask(asks))
            }
        })
    }

    /// Enters what is to be asked: all of `policies` that have not been.
    fn enter(
        &self,
        entries: &mut Entries,
        admission: u32,
        parts: &Parts,
        policies: &'static [&'static Policy],
    ) -> Result<(), NoPeer> {
        let limiter = &self.limiter().0.limiter;
        let _asking = Asking::begin();
        for &policy in policies {
            // One request is charged once, also by a policy that stands twice on one item.
            let is_policy = |entry: &Entry| entry.ask.policy.name() == policy.name();
            if entries.decided().chain(entries.asked(admission)).any(is_policy) {
                continue;
            }
            let policy = limiter.policies.effective(policy);
            if policy.skips(parts) {
                continue;
            }
            if policy.given_back().is_some() {
                self.depend_on_answer();
            }
            let (own_quotas, cost) = (policy.quotas_of(parts).map(Box::new), policy.cost_of(parts));
            let Ask { policy, key, .. } =
                &mut entries.enter(admission, Ask { policy, own_quotas, key: Text::default(), cost }).ask;
            identity::write_key(parts, policy, limiter, key)?;
        }
        Ok(())
    }
}

thread_local! {
    static IS_ASKING: Cell<bool> = const { Cell::new(false) };
}

/// Whether a function of a policy asks, here and now.
pub(super) fn is_asking() -> bool {
    IS_ASKING.get()
}

/// While the functions of policies tell what is to be asked. Nothing is decided yet that they could look at, and
/// whoever waited for that would wait for ever.
struct Asking {
    /// Whether it is one of those functions that asks.
    was_asking: bool,
}

impl Asking {
    fn begin() -> Self {
        Self { was_asking: IS_ASKING.replace(true) }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        IS_ASKING.set(self.was_asking);
    }
}

/// Why a request may not go on. It is answered when the record is free again, since what answers it may be the user's,
/// and look at that.
pub(super) enum Refusal {
    /// All that deny.
    Denied(SmallVec<[(Decision, Effective<'static>); 1]>),
    /// The store has failed when the policy was asked, with others.
    Store(StoreError, Option<Effective<'static>>),
    NoPeer,
}

impl Refusal {
    /// The answer to the request.
    #[cold] // most requests pass
    fn answer(self, parts: &Parts, answers: &Answers) -> Response {
        match self {
            Self::Denied(denying) => {
                let wait = |(decision, _): &&(Decision, Effective<'_>)| {
                    (decision.is_too_costly(), decision.retry_after())
                };
                denying.iter().max_by_key(wait).map_or_else(internal_error, |(longest, policy)| {
                    let deny = denying.iter().map(|(decision, _)| decision);
                    Denied::by_quota(parts, longest, policy, deny, answers)
                })
            }
            Self::Store(error, Some(policy)) => {
                Denied::by_store(parts, error, &policy).into_response(answers)
            }
            Self::Store(_, None) => internal_error(),
            Self::NoPeer => no_peer(),
        }
    }
}

/// Notes the outcome for all that were asked together; the error is why the request may not go on.
fn settle(
    entries: &mut Entries,
    admission: u32,
    outcome: Result<Outcome, StoreError>,
    policies: &[&'static Policy],
) -> Result<(), Refusal> {
    match outcome {
        Ok(outcome) => {
            entries.settle(admission, outcome);
            if entries.has_denial() { denied(entries, policies) } else { Ok(()) }
        }
        Err(error) => refused(entries, admission, error),
    }
}

/// Strikes out those that were asked together, since the store has failed.
#[cold]
fn refused(entries: &mut Entries, admission: u32, error: StoreError) -> Result<(), Refusal> {
    let asked = entries.asked(admission);
    for entry in asked {
        entry.ask.report_refused();
    }
    let first = asked.first().map(|entry| entry.ask.policy.clone());
    entries.withdraw(admission);
    Err(Refusal::Store(error, first))
}

/// Whether one of `policies` has denied the request.
#[cold] // most requests pass
fn denied(entries: &Entries, policies: &[&'static Policy]) -> Result<(), Refusal> {
    let is_asked = |entry: &&Entry| policies.iter().any(|policy| policy.name() == entry.ask.policy.name());
    let denying = entries.decided().filter(|entry| entry.is_denied()).filter(is_asked);
    let denying: SmallVec<[_; 1]> =
        denying.filter_map(|entry| Some((entry.decision()?, entry.ask.policy.clone()))).collect();
    if denying.is_empty() { Ok(()) } else { Err(Refusal::Denied(denying)) }
}
