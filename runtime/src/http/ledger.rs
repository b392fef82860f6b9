//! What has been decided in one request so far: one policy, one charge.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::request::Parts;
use smallvec::SmallVec;

use super::denial::{self, Denied, Reason};
use super::identity::{self, NoPeer};
use crate::decision::Decision;
use crate::error::StoreError;
use crate::limiter::Ask;
use crate::policy::Policy;
use crate::rate_limiter::RateLimiter;
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

/// One policy, and what it said.
#[derive(Debug)]
pub(super) struct Entry {
    ask: Ask,
    pub(super) decision: Decision,
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
    pub(super) async fn admit(parts: &Parts, policies: &[&'static Policy]) -> Result<(), Response> {
        let Some(ledger) = parts.extensions.get::<Self>() else { return Err(no_layer(policies)) };
        let asks = match ledger.asks(parts, policies) {
            Ok(asks) => asks,
            Err(NoPeer) => return Err(no_peer()),
        };
        if asks.is_empty() {
            return Ok(());
        }
        let answers = &ledger.limiter().answers;
        match ledger.limiter().limiter.decide(Operation::Take, &asks).await {
            Ok(decisions) => {
                let denying = decisions.iter().zip(&asks).filter(|(decision, _)| !decision.is_allowed());
                let longest =
                    denying.max_by_key(|(decision, _)| (decision.is_too_costly(), decision.retry_after()));
                let denied = longest.map(|(decision, ask)| {
                    Denied::new(Reason::Quota(Box::new(decision.clone())), &ask.policy, answers)
                });
                let entries = asks.into_iter().zip(decisions);
                ledger.entries().extend(entries.map(|(ask, decision)| Entry { ask, decision }));
                match denied {
                    Some(denied) => Err(denied.into_response(answers)),
                    None => Ok(()),
                }
            }
            Err(error) => {
                Err(Denied::new(Reason::Store(error), &asks[0].policy, answers).into_response(answers))
            }
        }
    }

    fn asks(&self, parts: &Parts, policies: &[&'static Policy]) -> Result<SmallVec<[Ask; 1]>, NoPeer> {
        let limiter = &self.limiter().limiter;
        let mut asks: SmallVec<[Ask; 1]> = SmallVec::new();
        for policy in policies {
            let is_asked = |ask: &Ask| ask.policy.name() == policy.name();
            if self.entries().iter().any(|entry| is_asked(&entry.ask)) || asks.iter().any(is_asked) {
                continue;
            }
            let policy = limiter.effective(policy);
            if policy.skips(parts) {
                continue;
            }
            let key = identity::key(parts, &policy, &limiter.proxies)?;
            asks.push(Ask { policy, quotas: policy.quotas_of(parts), key, cost: policy.cost_of(parts) });
        }
        Ok(asks)
    }

    /// Adds `cost` to what this request has been charged by `policy`, or by all if there is none; or
    /// gives it back.
    pub(super) async fn charge(
        &self,
        operation: Operation,
        policy: Option<&str>,
        cost: u32,
    ) -> Result<(), StoreError> {
        let concerned = |entry: &&Entry| policy.is_none_or(|policy| policy == entry.ask.policy.name());
        let asks: SmallVec<[Ask; 1]> =
            self.entries().iter().filter(concerned).map(|entry| Ask { cost, ..entry.ask.clone() }).collect();
        let decisions = self.limiter().limiter.decide(operation, &asks).await?;
        for decision in decisions {
            let mut entries = self.entries();
            if let Some(entry) = entries.iter_mut().find(|entry| entry.ask.policy.name() == decision.policy())
            {
                entry.decision.update(&decision);
            }
        }
        Ok(())
    }
}

/// Writes a line once, however many requests meet it.
fn once(logged: &AtomicBool, log: impl FnOnce()) {
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
    (StatusCode::INTERNAL_SERVER_ERROR, denial::detail("Internal Server Error")).into_response()
}
