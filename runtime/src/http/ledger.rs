//! What has been decided in one request so far: one policy, one charge.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::request::Parts;
use smallvec::SmallVec;

use super::denial::{self, Denied, Reason};
use super::identity;
use crate::decision::Decision;
use crate::limiter::Ask;
use crate::policy::Policy;
use crate::rate_limiter::RateLimiter;

/// The record of one request, shared by the layer, the permits and the guards that it meets.
#[derive(Clone, Debug)]
pub(crate) struct Ledger(Arc<Record>);

#[derive(Debug)]
struct Record {
    limiter: RateLimiter,
    decisions: Mutex<SmallVec<[Decision; 1]>>,
}

impl Ledger {
    pub(super) fn new(limiter: RateLimiter) -> Self {
        Self(Arc::new(Record { limiter, decisions: Mutex::default() }))
    }

    pub(super) fn limiter(&self) -> &RateLimiter {
        &self.0.limiter
    }

    /// What has been decided so far.
    pub(super) fn decisions(&self) -> MutexGuard<'_, SmallVec<[Decision; 1]>> {
        self.0.decisions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks all of `policies` that have not been asked in this request yet, in one call.
    ///
    /// The error is the answer to the request.
    pub(super) async fn admit(parts: &Parts, policies: &[&'static Policy]) -> Result<(), Response> {
        let Some(ledger) = parts.extensions.get::<Self>() else { return Err(no_layer(policies)) };
        let mut asks: SmallVec<[Ask<'_>; 1]> = SmallVec::new();
        for policy in policies {
            let asked = ledger.decisions().iter().any(|decision| decision.policy().name() == policy.name());
            if asked || asks.iter().any(|(other, _)| other.name() == policy.name()) {
                continue;
            }
            match identity::key(parts, policy, &ledger.limiter().limiter.proxies) {
                Ok(key) => asks.push((policy, key)),
                Err(identity::NoPeer) => return Err(no_peer()),
            }
        }
        if asks.is_empty() {
            return Ok(());
        }
        let decided = ledger.limiter().limiter.take(&asks).await;
        let denied = match decided {
            Ok(decisions) => {
                let denying = decisions.iter().filter(|decision| !decision.is_allowed());
                let denied = denying
                    .max_by_key(|decision| decision.retry_after())
                    .cloned()
                    .map(Box::new)
                    .map(Reason::Quota);
                ledger.decisions().extend(decisions);
                denied
            }
            Err(error) => Some(Reason::Store(error)),
        };
        match denied {
            None => Ok(()),
            Some(reason) => {
                let answers = &ledger.limiter().answers;
                let (policy, _) = &asks[0];
                Err(Denied::new(reason, policy, answers).into_response(answers))
            }
        }
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
