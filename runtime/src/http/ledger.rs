//! What has been decided in one request so far: one policy, one charge.

use std::sync::atomic::{AtomicBool, Ordering};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::response::Response;
use http::StatusCode;
use http::request::Parts;
use smallvec::SmallVec;

use super::Answers;
use super::denial::{self, Denied};
use super::identity::{self, NoPeer};
use crate::decision::Decision;
use crate::error::StoreError;
use crate::key::Text;
use crate::limiter::{self, Ask};
use crate::policy::Policy;
use crate::rate_limiter::{RateLimiter, Shared};
use crate::store::Operation;

/// The record of one request, shared by the layer, the permits and the guards that it meets.
#[derive(Clone, Debug)]
pub(crate) struct Ledger(Arc<Record>);

#[derive(Debug)]
struct Record {
    limiter: RateLimiter,
    entries: Mutex<Entries>,
}

type Entries = SmallVec<[Entry; 1]>;
type Asks = SmallVec<[Ask<'static>; 1]>;

/// Whether a request may go on: known at once, or when the store has answered.
pub(super) enum Admission {
    Now(Option<Result<(), Response>>),
    Later(Pin<Box<dyn Future<Output = Result<(), Response>> + Send>>),
}

impl Future for Admission {
    type Output = Result<(), Response>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            // It is not to be polled again; if it is, it lets nothing through.
            Self::Now(result) => result.take().map_or(Poll::Pending, Poll::Ready),
            Self::Later(future) => future.as_mut().poll(context),
        }
    }
}

/// One policy, and what it said.
#[derive(Debug)]
pub(super) struct Entry {
    ask: Ask<'static>,
    pub(super) decision: Decision,
    /// How much of its quotas this request holds.
    charged: u32,
}

impl Ledger {
    pub(super) fn new(limiter: RateLimiter) -> Self {
        Self(Arc::new(Record { limiter, entries: Mutex::default() }))
    }

    pub(super) fn limiter(&self) -> &RateLimiter {
        &self.0.limiter
    }

    /// What has been decided so far.
    pub(super) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks all of `policies` that have not been asked in this request yet, in one call.
    ///
    /// The error is the answer to the request.
    pub(super) fn admit(parts: &Parts, policies: &'static [&'static Policy]) -> Admission {
        Self::admit_now(parts, policies).unwrap_or_else(|denial| Admission::Now(Some(Err(denial))))
    }

    fn admit_now(parts: &Parts, policies: &'static [&'static Policy]) -> Result<Admission, Response> {
        let Some(ledger) = parts.extensions.get::<Self>() else { return Err(no_layer(policies)) };
        let asks = ledger.asks(parts, policies)?;
        if asks.is_empty() {
            return Ok(Admission::Now(Some(Ok(()))));
        }
        // Without a future of its own, which would have to be moved from place to place.
        if let Some(decisions) = ledger.limiter().0.limiter.decide_now(Operation::Take, &asks) {
            ledger.enter(asks, decisions, policies)?;
            return Ok(Admission::Now(Some(Ok(()))));
        }
        let ledger = ledger.clone();
        Ok(Admission::Later(Box::pin(async move {
            let Shared { limiter, answers } = &*ledger.limiter().0;
            match limiter.decide_later(Operation::Take, &asks).await {
                Ok(decisions) => ledger.enter(asks, decisions, policies),
                Err(error) => Err(Denied::by_store(error, &asks[0].policy).into_response(answers)),
            }
        })))
    }

    /// Notes what has been decided; the error is the answer to a request that is denied.
    fn enter(&self, asks: Asks, decisions: limiter::Answers, policies: &[&'static Policy]) -> Result<(), Response> {
        let is_denied = decisions.iter().any(|decision| !decision.is_allowed());
        let mut entries = self.entries();
        for (ask, decision) in asks.into_iter().zip(decisions) {
            entries.push(Entry::new(ask, decision));
        }
        if is_denied
            && let Some(denial) = denial(&entries, policies, &self.limiter().0.answers)
        {
            return Err(denial);
        }
        Ok(())
    }

    /// What is to be asked: all of `policies` that have not been.
    ///
    /// A denial stands, whoever sends the same request through a router again.
    fn asks(&self, parts: &Parts, policies: &[&'static Policy]) -> Result<Asks, Response> {
        let Shared { limiter, answers } = &*self.limiter().0;
        let entries = self.entries();
        if let Some(denial) = denial(&entries, policies, answers) {
            return Err(denial);
        }
        let mut asks = Asks::new();
        for &policy in policies {
            let is_asked = |ask: &Ask<'_>| ask.policy.name() == policy.name();
            if entries.iter().any(|entry| is_asked(&entry.ask)) || asks.iter().any(is_asked) {
                continue;
            }
            let policy = limiter.effective(policy);
            if policy.skips(parts) {
                continue;
            }
            let own_quotas = policy.quotas_of(parts).map(Box::new);
            asks.push(Ask { own_quotas, key: Text::default(), cost: policy.cost_of(parts), policy });
            // Written in its place, since it is the most of what would have to be moved there.
            if let Some(Ask { policy, key, .. }) = asks.last_mut() {
                identity::write_key(parts, policy, limiter, key).map_err(|NoPeer| no_peer())?;
            }
        }
        Ok(asks)
    }

    /// Adds `cost` to what this request has been charged by `policy`, or by all if there is none.
    pub(super) async fn add(&self, policy: Option<&str>, cost: u32) -> Result<(), StoreError> {
        self.charge(Operation::Add, policy, |_| cost).await
    }

    /// Gives `cost` back of what this request has been charged, or all of it.
    pub(super) async fn give_back(&self, policy: Option<&str>, cost: u32) -> Result<(), StoreError> {
        self.charge(Operation::GiveBack, policy, |charged| cost.min(charged)).await
    }

    /// `cost` tells how much, from what a policy has charged so far.
    async fn charge(
        &self,
        operation: Operation,
        policy: Option<&str>,
        cost: impl Fn(u32) -> u32,
    ) -> Result<(), StoreError> {
        let concerned = |entry: &&Entry| policy.is_none_or(|policy| policy == entry.ask.policy.name());
        let ask = |entry: &Entry| Ask { cost: cost(entry.charged), ..entry.ask.clone() };
        let asks: SmallVec<[Ask<'static>; 1]> =
            self.entries().iter().filter(concerned).map(ask).filter(|ask| ask.cost > 0).collect();
        let decisions = self.limiter().0.limiter.decide(operation, &asks).await?;
        let mut entries = self.entries();
        for (ask, decision) in asks.iter().zip(&decisions) {
            let of = |entry: &&mut Entry| entry.ask.policy.name() == ask.policy.name();
            if let Some(entry) = entries.iter_mut().find(of) {
                entry.charged = match operation {
                    Operation::Add => entry.charged.saturating_add(ask.cost),
                    _ => entry.charged.saturating_sub(ask.cost),
                };
                entry.decision.update(decision);
            }
        }
        Ok(())
    }
}

/// The answer to a request, if one of `policies` has denied it.
fn denial(entries: &[Entry], policies: &[&'static Policy], answers: &Answers) -> Option<Response> {
    let is_asked = |entry: &&Entry| policies.iter().any(|policy| policy.name() == entry.ask.policy.name());
    let denying: SmallVec<[&Entry; 1]> =
        entries.iter().filter(is_asked).filter(|entry| !entry.decision.is_allowed()).collect();
    let wait = |entry: &&&Entry| (entry.decision.is_too_costly(), entry.decision.retry_after());
    let longest = denying.iter().max_by_key(wait)?;
    let decisions = denying.iter().map(|entry| &entry.decision);
    Some(Denied::by_quota(&longest.decision, &longest.ask.policy, decisions, answers))
}

impl Entry {
    fn new(ask: Ask<'static>, decision: Decision) -> Self {
        let is_charged = !decision.is_exceeded() && !decision.quotas().is_empty();
        Self { charged: if is_charged { ask.cost } else { 0 }, ask, decision }
    }
}

/// Writes a line once, however many requests meet it.
pub(super) fn once(logged: &AtomicBool, log: impl FnOnce()) {
    if !logged.swap(true, Ordering::Relaxed) {
        log();
    }
}

fn no_layer(policies: &[&'static Policy]) -> Response {
    static LOGGED: AtomicBool = AtomicBool::new(false);
    once(&LOGGED, || {
        let policy = policies.first().map(|policy| policy.name());
        tracing::error!(
            policy,
            "a rate-limited route has no limiter, so its requests are answered with 500: \
             add `.layer(limiter)` to the router, after its routes"
        );
    });
    internal_error()
}

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
