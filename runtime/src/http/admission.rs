//! Admission: decides whether a request may go on by asking its policies, all in one store call.

#![allow(clippy::result_large_err)] // boxed, each denial would cost an allocation

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::response::Response;
use http::request::Parts;
use smallvec::SmallVec;

use super::entries::Entries;
use super::faults::{internal_error, no_layer, no_peer, sent_from_within};
use super::ledger::Ledger;
use super::{ResponseSettings, denied, identity, policy_functions};
use crate::ask::{Ask, Asks};
use crate::decision::Decision;
use crate::error::StoreError;
use crate::in_force::Effective;
use crate::inline_string::InlineString;
use crate::key::NoPeer;
use crate::policy::Policy;
use crate::store::remote::{Begun, Concluded};
use crate::store::{BoxFuture, ChargeTime, Outcome, Ticket};

/// Whether a request may go on.
pub(super) enum Admission<'a> {
    /// It is decided already.
    Now(Option<Result<(), Response>>),
    /// The store has been asked; its answer is awaited in place.
    Asked(Undecided<'a>, Ticket),
    /// A boxed future asks the store.
    Boxed(BoxFuture<'a, Result<(), Response>>),
}

impl Admission<'_> {
    fn refused(response: Response) -> Self {
        Self::Now(Some(Err(response)))
    }
}

impl Future for Admission<'_> {
    type Output = Result<(), Response>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            // A finished admission must not be polled again; if it is, it lets nothing through.
            Self::Now(result) => result.take().map_or(Poll::Pending, Poll::Ready),
            Self::Asked(undecided, ticket) => {
                ready!(ticket.poll(context));
                let concluded = undecided.conclude(ticket);
                *self = Self::Now(None);
                Poll::Ready(concluded)
            }
            Self::Boxed(future) => future.as_mut().poll(context),
        }
    }
}

/// A request that waits for a decision. Dropping it strikes out the entries that are still undecided, under the
/// ledger's lock. So it must not be dropped where the ledger is locked, and is made only when it leaves the lock.
pub(super) struct Undecided<'a> {
    ledger: &'a Ledger,
    parts: &'a Parts,
    admission: u32,
    /// When the store was asked, by the limiter's clock.
    asked: u64,
    policies: &'static [&'static Policy],
}

impl<'a> Undecided<'a> {
    /// Settles the entries by the store's answer. The error is the response to the request.
    fn conclude(&self, ticket: &Ticket) -> Result<(), Response> {
        let limiter = self.ledger.limiter();
        self.settle(|entries| {
            let asks = entries.asked(self.admission).iter().map(|entry| &entry.ask);
            limiter.conclude(asks, ticket)
        })
    }

    /// Asks the store in a boxed future.
    #[inline(never)] // it is long, and counting in memory does not need it
    fn ask(self, asks: Asks) -> BoxFuture<'a, Result<(), Response>> {
        Box::pin(async move {
            // Moves all of `self` into the future. Dropped at the end of `ask`, where the ledger is locked, it would
            // wait for that lock for ever.
            let undecided = &self;
            let concluded = undecided.ledger.limiter().ask_store(&asks).await;
            undecided.settle(|_| concluded)
        })
    }

    /// Settles the entries by what `conclude` returns. The error is the response to the request.
    fn settle(&self, conclude: impl FnOnce(&mut Entries) -> Concluded) -> Result<(), Response> {
        let settled = self.ledger.with_entries(|entries| {
            let Concluded { outcome, late } = conclude(entries);
            if let Some(late) = late {
                entries.note_late(self.admission, &Arc::new(late));
            }
            let time = ChargeTime { asked: self.asked, answered: self.ledger.limiter().clock.now_micros() };
            settle(entries, self.admission, outcome, self.policies, time)
        });
        settled.map_err(|refusal| refusal.answer(self.parts, self.ledger.response_settings()))
    }
}

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        self.ledger.with_entries(|entries| entries.withdraw(self.admission));
    }
}

impl Ledger {
    /// Asks those of `policies` that have not been asked in this request yet, in one store call.
    ///
    /// The error is the response to the request.
    pub(super) fn admit<'a>(parts: &'a Parts, policies: &'static [&'static Policy]) -> Admission<'a> {
        let Some(ledger) = Self::around(parts) else { return Admission::refused(no_layer(policies)) };
        if policy_functions::are_running() && ledger.is_locked() {
            return Admission::refused(sent_from_within(policies));
        }
        let asked = ledger.with_entries(|entries| ledger.ask(entries, parts, policies));
        asked.unwrap_or_else(|refusal| Admission::refused(refusal.answer(parts, ledger.response_settings())))
    }

    fn ask<'a>(
        &'a self,
        entries: &mut Entries,
        parts: &'a Parts,
        policies: &'static [&'static Policy],
    ) -> Result<Admission<'a>, Refusal> {
        // A denial stands, even if the same request is sent through a router again.
        if entries.has_denial() {
            check_denials(entries, policies)?;
            entries.strike_out_spared(policies);
        }
        let admission = entries.begin();
        if let Err(refusal) = self.enter(entries, admission, parts, policies) {
            entries.withdraw(admission);
            return Err(refusal);
        }
        let asks = entries.asked(admission).iter().map(|entry| &entry.ask);
        let begun = self.limiter().begin(asks);
        let undecided = || {
            let asked = self.limiter().clock.now_micros();
            Undecided { ledger: self, parts, admission, asked, policies }
        };
        Ok(match begun {
            // Most are decided on the spot, without a future that would have to be moved around.
            Begun::Decided(outcome) => {
                let time = ChargeTime::at(self.limiter().clock.now_micros());
                settle(entries, admission, outcome, policies, time)?;
                Admission::Now(Some(Ok(())))
            }
            Begun::Asked(ticket) => Admission::Asked(undecided(), ticket),
            Begun::Unasked => {
                let asks = entries.asked(admission).iter().map(|entry| entry.ask.clone()).collect();
                Admission::Boxed(undecided().ask(asks))
            }
        })
    }

    /// Enters what is to be asked: those of `policies` that have not been asked and do not skip the request.
    fn enter(
        &self,
        entries: &mut Entries,
        admission: u32,
        parts: &Parts,
        policies: &'static [&'static Policy],
    ) -> Result<(), Refusal> {
        let limiter = self.limiter();
        let _running = policy_functions::Running::begin();
        for &policy in policies {
            // A request is charged once per policy, even if the policy stands on one item twice.
            if entries.has_asked(policy, admission) {
                continue;
            }
            let Some(ask) = self.ask_without_key(parts, policy) else { continue };
            let Ask { policy, key, .. } = &mut entries.enter(admission, ask).ask;
            let written = identity::write_key(parts, policy, limiter, key);
            written.map_err(|NoPeer| Refusal::NoPeer(policy.name()))?;
        }
        Ok(())
    }

    /// Returns what to ask `policy` about this request, but for the key; `None` if the policy skips the request.
    #[inline] // so that nothing is moved around
    pub(super) fn ask_without_key<'p>(&self, parts: &Parts, policy: &'p Policy) -> Option<Ask<'p>> {
        let declared = policy;
        let policy = self.limiter().policies.effective(declared);
        if policy.skips(parts) {
            return None;
        }
        if policy.give_back_function().is_some() {
            self.depend_on_answer();
        }
        let individual_quotas =
            declared.individual_quotas().or_else(|| policy.quotas_of(parts)).map(Box::new);
        let cost = policy.cost_of(parts);
        Some(Ask { policy, individual_quotas, key: InlineString::default(), cost, charge_lasts: None })
    }
}

/// Why a request may not go on. The response is made after the ledger is unlocked, since the user's code may make
/// it and look at the ledger.
pub(super) enum Refusal {
    /// All decisions that deny, each with its policy.
    Denied(SmallVec<[(Decision, Effective<'static>); 1]>),
    /// The store failed.
    Store(StoreError),
    /// This policy needs the client's address, and the request has none.
    NoPeer(&'static str),
}

impl Refusal {
    /// Returns the response to the request.
    #[cold] // most requests pass
    fn answer(self, parts: &Parts, settings: &ResponseSettings) -> Response {
        match self {
            Self::Denied(denying) => {
                longest_wait(&denying).map_or_else(internal_error, |(longest, policy)| {
                    let deny = denying.iter().map(|(decision, _)| decision);
                    denied::by_quota(parts, longest, policy, deny, settings)
                })
            }
            Self::Store(error) => denied::by_store(parts, error, settings),
            Self::NoPeer(policy) => no_peer(policy),
        }
    }
}

/// Returns the decision with the longest wait, with its policy.
pub(super) fn longest_wait<'d, 'p>(
    denying: &'d [(Decision, Effective<'p>)],
) -> Option<&'d (Decision, Effective<'p>)> {
    denying.iter().max_by_key(|(decision, _)| (decision.is_too_costly(), decision.retry_after()))
}

/// Records the outcome for all entries of `admission`. The error is why the request may not go on.
fn settle(
    entries: &mut Entries,
    admission: u32,
    outcome: Result<Outcome, StoreError>,
    policies: &[&'static Policy],
    time: ChargeTime,
) -> Result<(), Refusal> {
    match outcome {
        Ok(outcome) => {
            entries.settle(admission, outcome, time);
            if entries.has_denial() { check_denials(entries, policies) } else { Ok(()) }
        }
        Err(error) => Err(refuse(entries, admission, error)),
    }
}

/// Strikes out the entries of `admission`, since the store has failed, and returns the refusal.
#[cold]
fn refuse(entries: &mut Entries, admission: u32, error: StoreError) -> Refusal {
    let asked = entries.asked(admission);
    for entry in asked {
        entry.ask.report_refused();
    }
    // The first stands for all that were asked together.
    let policy = asked.first().map(|entry| entry.ask.policy.name());
    tracing::debug!(policy, %error, "denied without a store");
    entries.withdraw(admission);
    Refusal::Store(error)
}

/// Returns an error if one of `policies` has denied the request.
#[cold] // most requests pass
fn check_denials(entries: &Entries, policies: &[&'static Policy]) -> Result<(), Refusal> {
    let denying = entries.admitted(policies).filter(|entry| entry.is_denied());
    let denying: SmallVec<[_; 1]> =
        denying.filter_map(|entry| Some((entry.decision()?, entry.ask.policy.clone()))).collect();
    if denying.is_empty() { Ok(()) } else { Err(Refusal::Denied(denying)) }
}
