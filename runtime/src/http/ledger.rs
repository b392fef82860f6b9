//! What has been decided in one request so far: one policy, one charge.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use axum::response::Response;
use http::StatusCode;
use http::request::Parts;
use http::response;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::Answers;
use super::decisions::NoLayer;
use super::denial::{self, Denied};
use super::entries::{Entries, Entry};
use super::identity::{self, NoPeer};
use crate::decision::Decision;
use crate::error::StoreError;
use crate::limiter::Ask;
use crate::policy::Policy;
use crate::rate_limiter::{RateLimiter, Shared};
use crate::store::remote::{Asked, Begun};
use crate::store::{Boxed, Operation, Outcome};
use crate::text::Text;

/// The record of one request, shared by the layer, the permits and the guards that it meets.
#[derive(Clone, Debug)]
pub(crate) struct Ledger(Arc<Record>);

#[derive(Debug)]
struct Record {
    limiter: RateLimiter,
    entries: Mutex<Entries>,
    depends_on_answer: AtomicBool,
}

type Asks = SmallVec<[Ask<'static>; 1]>;

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
                Poll::Ready(waiting.conclude(asked).map_or(Ok(()), Err))
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
    /// The answer to the request, if the store has answered that it is denied.
    fn conclude(&self, asked: &Asked) -> Option<Response> {
        let Shared { limiter, .. } = &*self.ledger.limiter().0;
        self.ledger.with_entries(|entries| {
            let asks = entries.asked(self.admission).iter().map(|entry| &entry.ask);
            let outcome = limiter.conclude(Operation::Take, asks, asked);
            self.settle(entries, outcome)
        })
    }

    /// Asks the store by a future of its own.
    #[inline(never)] // it is long, and not for those who count in memory
    fn ask(self, asks: SmallVec<[Ask<'static>; 1]>) -> Boxed<'a, Result<(), Response>> {
        Box::pin(async move {
            let Shared { limiter, .. } = &*self.ledger.limiter().0;
            let outcome = limiter.answer_later(Operation::Take, &asks).await;
            self.ledger.with_entries(|entries| self.settle(entries, outcome)).map_or(Ok(()), Err)
        })
    }

    fn settle(&self, entries: &mut Entries, outcome: Result<Outcome, StoreError>) -> Option<Response> {
        settle(entries, self.admission, outcome, self.parts, self.policies, &self.ledger.limiter().0.answers)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.ledger.with_entries(|entries| entries.withdraw(self.admission));
    }
}

impl Ledger {
    pub(super) fn new(limiter: RateLimiter) -> Self {
        let (entries, depends_on_answer) = (Mutex::default(), AtomicBool::new(false));
        Self(Arc::new(Record { limiter, entries, depends_on_answer }))
    }

    /// The record of a request.
    pub(super) fn around(parts: &Parts) -> Option<&Self> {
        parts.extensions.get()
    }

    /// The record of a request, for its handler; there is none for a function that tells what is to be asked.
    pub(super) fn of(parts: &Parts) -> Result<&Self, NoLayer> {
        let ledger = Self::around(parts).filter(|_| !IS_ASKING.get());
        ledger.ok_or(NoLayer)
    }

    pub(super) fn limiter(&self) -> &RateLimiter {
        &self.0.limiter
    }

    /// Has `work` look at what has been asked so far, or change it, under a lock.
    pub(super) fn with_entries<T>(&self, work: impl FnOnce(&mut Entries) -> T) -> T {
        work(&mut self.0.entries.lock())
    }

    /// Asks all of `policies` that have not been asked in this request yet, in one call.
    ///
    /// The error is the answer to the request.
    pub(super) fn admit<'a>(parts: &'a Parts, policies: &'static [&'static Policy]) -> Admission<'a> {
        match Self::around(parts) {
            Some(ledger) => ledger.with_entries(|entries| ledger.ask(entries, parts, policies)),
            None => Admission::denied(no_layer(policies)),
        }
    }

    fn ask<'a>(
        &'a self,
        entries: &mut Entries,
        parts: &'a Parts,
        policies: &'static [&'static Policy],
    ) -> Admission<'a> {
        let Shared { limiter, answers } = &*self.limiter().0;
        // A denial stands, whoever sends the same request through a router again.
        if entries.has_denial()
            && let Some(denial) = denial(entries, parts, policies, answers)
        {
            return Admission::denied(denial);
        }
        let admission = entries.begin();
        if self.enter(entries, admission, parts, policies).is_err() {
            entries.withdraw(admission);
            return Admission::denied(no_peer());
        }
        let begun = limiter.begin(Operation::Take, entries.asked(admission).iter().map(|entry| &entry.ask));
        let waiting = || Waiting { ledger: self, parts, admission, policies };
        match begun {
            // Most are decided where they stand, without a future that would have to be moved from place to place.
            Begun::Decided(outcome) => {
                let denial = settle(entries, admission, outcome, parts, policies, answers);
                Admission::Now(Some(denial.map_or(Ok(()), Err)))
            }
            Begun::Asked(asked) => Admission::Asked(waiting(), asked),
            Begun::Later => {
                let asks = entries.asked(admission).iter().map(|entry| entry.ask.clone()).collect();
                Admission::Later(waiting().ask(asks))
            }
        }
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
                self.0.depends_on_answer.store(true, Ordering::Relaxed);
            }
            let (own_quotas, cost) = (policy.quotas_of(parts).map(Box::new), policy.cost_of(parts));
            let Ask { policy, key, .. } =
                &mut entries.enter(admission, Ask { policy, own_quotas, key: Text::default(), cost }).ask;
            identity::write_key(parts, policy, limiter, key)?;
        }
        Ok(())
    }

    /// Adds `cost` to what this request has been charged by `policy`, or by all if there is none.
    pub(super) async fn add(&self, policy: Option<&str>, cost: u32) -> Result<(), StoreError> {
        let asks = self.asks(|entry| if entry.is_of(policy) { cost } else { 0 });
        let outcome = self.limiter().0.limiter.decide(Operation::Add, &asks).await?;
        self.note(Operation::Add, &asks, outcome);
        Ok(())
    }

    /// Gives `cost` back of what this request has been charged, or all of it.
    pub(super) async fn give_back(&self, policy: Option<&str>, cost: u32) -> Result<(), StoreError> {
        self.give(self.returned(|entry| if entry.is_of(policy) { cost } else { 0 })).await
    }

    /// Whether it depends on the answer if all that was asked stays charged.
    pub(super) fn depends_on_answer(&self) -> bool {
        self.0.depends_on_answer.load(Ordering::Relaxed)
    }

    /// Gives back all that this request has been charged by those policies that ask for it, as it is answered so.
    pub(super) fn give_back_for(self, answer: &response::Parts) -> impl Future<Output = ()> + Send + use<> {
        let returned = self.returned(|entry| {
            let is_returned = entry.charged > 0 && entry.ask.policy.given_back().is_some_and(|is| is(answer));
            if is_returned { u32::MAX } else { 0 }
        });
        async move {
            // It is answered all the same; why the store has failed is in the log.
            let _ = self.give(returned).await;
        }
    }

    /// What is asked of the policies that have been asked, of which `cost` tells how much.
    fn asks(&self, cost: impl Fn(&mut Entry) -> u32) -> Asks {
        let ask = |entry: &mut Entry| {
            let cost = cost(entry);
            (cost > 0).then(|| Ask { cost, ..entry.ask.clone() })
        };
        self.with_entries(|entries| entries.decided_mut().filter_map(ask).collect())
    }

    /// What is returned of what was charged, of which `cost` tells how much: to the store, and to this process.
    fn returned(&self, cost: impl Fn(&Entry) -> u32) -> [Asks; 2] {
        [false, true].map(|is_degraded| {
            self.asks(|entry| {
                let of = if entry.is_degraded() == is_degraded { cost(entry) } else { 0 };
                let cost = of.min(entry.charged);
                // At once, so that nobody else gives it back meanwhile.
                entry.charged -= cost;
                cost
            })
        })
    }

    /// Gives back to where it was taken, whether the store has gone since, or has come back.
    async fn give(&self, [to_store, to_process]: [Asks; 2]) -> Result<(), StoreError> {
        let limiter = &self.limiter().0.limiter;
        if !to_process.is_empty() {
            self.note(Operation::GiveBack, &to_process, limiter.give_back_here(&to_process)?);
        }
        let outcome = limiter.give_back(&to_store).await?;
        self.note(Operation::GiveBack, &to_store, outcome);
        Ok(())
    }

    /// Notes what has come of asking.
    fn note(&self, operation: Operation, asks: &Asks, mut outcome: Outcome) {
        self.with_entries(|entries| {
            for ask in asks {
                let part = ask.part_of(&mut outcome);
                let of = |entry: &&mut Entry| entry.ask.policy.name() == ask.policy.name();
                if let Some(entry) = entries.decided_mut().find(of) {
                    if operation == Operation::Add && !part.readings().is_empty() {
                        entry.charged = entry.charged.saturating_add(ask.cost);
                    }
                    entry.update(&part);
                }
            }
        });
    }
}

thread_local! {
    static IS_ASKING: Cell<bool> = const { Cell::new(false) };
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

/// Notes the outcome for all that were asked together, and tells the answer to the request if it is denied.
fn settle(
    entries: &mut Entries,
    admission: u32,
    outcome: Result<Outcome, StoreError>,
    parts: &Parts,
    policies: &[&'static Policy],
    answers: &Answers,
) -> Option<Response> {
    match outcome {
        Ok(outcome) => {
            entries.settle(admission, outcome);
            if entries.has_denial() { denial(entries, parts, policies, answers) } else { None }
        }
        Err(error) => Some(refuse(entries, admission, error, parts, answers)),
    }
}

/// Strikes out those that were asked together, since the store has failed, and tells the answer.
#[cold]
fn refuse(
    entries: &mut Entries,
    admission: u32,
    error: StoreError,
    parts: &Parts,
    answers: &Answers,
) -> Response {
    entries.asked(admission).iter().for_each(|entry| entry.ask.report_refused());
    let denial = entries.asked(admission).first().map_or_else(internal_error, |entry| {
        Denied::by_store(parts, error, &entry.ask.policy).into_response(answers)
    });
    entries.withdraw(admission);
    denial
}

/// The answer to a request, if one of `policies` has denied it.
#[cold] // most requests pass
fn denial(
    entries: &Entries,
    parts: &Parts,
    policies: &[&'static Policy],
    answers: &Answers,
) -> Option<Response> {
    let is_asked = |entry: &&Entry| policies.iter().any(|policy| policy.name() == entry.ask.policy.name());
    let denying = entries.decided().filter(|entry| entry.is_denied()).filter(is_asked);
    let denying: SmallVec<[(Decision, &Policy); 1]> =
        denying.filter_map(|entry| Some((entry.decision()?, &*entry.ask.policy))).collect();
    let wait = |(decision, _): &&(Decision, &Policy)| (decision.is_too_costly(), decision.retry_after());
    let (longest, policy) = denying.iter().max_by_key(wait)?;
    Some(Denied::by_quota(parts, longest, policy, denying.iter().map(|(decision, _)| decision), answers))
}

/// Writes a line once, however many requests meet it.
pub(super) fn once(logged: &AtomicBool, log: impl FnOnce()) {
    if !logged.swap(true, Ordering::Relaxed) {
        log();
    }
}

#[cold]
fn no_layer(policies: &[&'static Policy]) -> Response {
    /// The policies of which it has been told.
    static TOLD: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    if let Some(policy) = policies.first().map(|policy| policy.name())
        && TOLD.lock().insert(policy)
    {
        tracing::error!(
            policy,
            "a rate-limited route has no limiter, so its requests are answered with 500: \
             add `.layer(limiter)` to the router, after its routes and outside of limited router functions and modules"
        );
    }
    internal_error()
}

#[cold]
fn no_peer() -> Response {
    static LOGGED: AtomicBool = AtomicBool::new(false);
    once(&LOGGED, || {
        tracing::error!(
            "a rate-limited request has no peer address, so it is answered with 500: serve the router with \
             `app.into_make_service_with_connect_info::<SocketAddr>()`, or in a test add \
             `.layer(MockConnectInfo(SocketAddr::from(([127, 0, 0, 1], 0))))`"
        );
    });
    internal_error()
}

/// What the log says is not the client's business.
pub(super) fn internal_error() -> Response {
    denial::detail(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
}
