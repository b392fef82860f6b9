//! The extractor that tells a handler what has been decided for its request.

use std::ops::Deref;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;

use super::faults::no_layer_for_argument;
use super::ledger::Ledger;
use super::policy_functions;
use crate::decision::Decision;

/// An extractor that tells what the policies before this handler have decided, in the order in which they were asked:
/// those of attributes, then those that a [`RequestLimiter`](crate::RequestLimiter) has checked. A later
/// [`Charge`](crate::Charge) does not change it.
///
/// ```
/// use axum_rate_limit::{Decisions, rate_limit};
///
/// #[rate_limit(name = "look-ups", per_minute = 30)]
/// async fn look_up(decisions: Decisions) -> String {
///     let left = decisions.get("look-ups").map_or(0, |decision| decision.remaining());
///     format!("{left} left")
/// }
/// ```
///
/// Middleware between the limiter and the handler can read them afterwards, for an access log, say, or for response
/// fields of its own:
///
/// ```
/// use axum::extract::{FromRequestParts as _, Request};
/// use axum::middleware::Next;
/// use axum::response::Response;
/// use axum_rate_limit::Decisions;
///
/// async fn log_decisions(request: Request, next: Next) -> Response {
///     let (mut parts, body) = request.into_parts();
///     let response = next.run(Request::from_parts(parts.clone(), body)).await;
///     if let Ok(decisions) = Decisions::from_request_parts(&mut parts, &()).await {
///         for decision in &decisions {
///             println!("{}: {} left", decision.policy(), decision.remaining());
///         }
///     }
///     response
/// }
/// # let _: axum::Router = axum::Router::new().layer(axum::middleware::from_fn(log_decisions));
/// ```
#[derive(Clone, Debug)]
pub struct Decisions(Vec<Decision>);

impl Decisions {
    /// Returns what the policy of that name has decided, if it was asked. If a handler has checked it under several
    /// keys, this is the decision that binds first, as in the response fields.
    pub fn get(&self, policy: &str) -> Option<&Decision> {
        let of_policy = self.0.iter().filter(|decision| decision.policy() == policy);
        of_policy.reduce(|first, other| if other.binds_before(first) { other } else { first })
    }
}

impl Ledger {
    /// Returns what has been decided so far; nothing in a function of a policy, which runs before anything is decided.
    pub(super) fn decisions(&self) -> Decisions {
        if policy_functions::are_running() {
            return Decisions(Vec::new());
        }
        Decisions(self.with_entries(|entries| entries.decisions().collect()))
    }
}

impl Deref for Decisions {
    type Target = [Decision];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl IntoIterator for Decisions {
    type Item = Decision;
    type IntoIter = std::vec::IntoIter<Decision>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Decisions {
    type Item = &'a Decision;
    type IntoIter = std::slice::Iter<'a, Decision>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<S: Sync> FromRequestParts<S> for Decisions {
    type Rejection = NoLayer;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Ledger::of(parts)?.decisions())
    }
}

/// The rejection of [`Decisions`], [`Charge`](crate::Charge) and [`RequestLimiter`](crate::RequestLimiter) if no
/// [`RateLimiter`](crate::RateLimiter) is among the layers of the router: 500. A policy's function that runs these
/// extractors gets it, too, since nothing is decided yet.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("there is no rate limiter: add `.layer(limiter)` to the router, after its routes")]
#[non_exhaustive]
pub struct NoLayer;

impl IntoResponse for NoLayer {
    fn into_response(self) -> Response {
        no_layer_for_argument(self)
    }
}
