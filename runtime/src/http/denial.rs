//! A denial as the error of a check that a handler makes by itself.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

use super::denied::{self, Reason};
use super::ledger::Ledger;
use crate::decision::Decision;
use crate::in_force::Effective;

/// A denial by [`RequestLimiter::check`](crate::RequestLimiter::check). It is an error, and the response of the
/// limiter, as it would be to a request that an attribute denies.
///
/// For another body in all places, use [`Builder::on_denied`](crate::Builder::on_denied); for one of this handler,
/// replace that of the response, so that its fields stay.
///
/// A handler that may fail in other ways, too, can return [`axum::response::Result`], which takes any error that is a
/// response. An error type that takes it over has to answer with it. (`anyhow::Error` and `Box<dyn Error>` forget
/// that it is a response, and handlers usually answer these with 500: `error.downcast::<Denial>()` finds it again.)
///
/// ```
/// use axum::response::{IntoResponse, Response};
/// use axum_rate_limit::Denial;
///
/// /// The error of a handler that may fail in other ways, too.
/// enum Failure {
///     TooMany(Denial),
///     NotFound,
/// }
///
/// impl From<Denial> for Failure {
///     fn from(denial: Denial) -> Self {
///         Self::TooMany(denial)
///     }
/// }
///
/// impl IntoResponse for Failure {
///     fn into_response(self) -> Response {
///         match self {
///             Self::TooMany(denial) => denial.into_response(),
///             Self::NotFound => axum::http::StatusCode::NOT_FOUND.into_response(),
///         }
///     }
/// }
/// ```
#[must_use = "a denial denies nothing unless it is the response"]
pub struct Denial(Box<Denying>);

/// What makes up the denial.
pub(super) struct Denying {
    pub(super) ledger: Ledger,
    pub(super) request: Arc<Parts>,
    /// The policy with the longest wait.
    pub(super) policy: Effective<'static>,
    pub(super) reason: Reason,
    /// All decisions that deny.
    pub(super) deny: Vec<Decision>,
}

impl Denial {
    pub(super) fn new(denying: Denying) -> Self {
        denying.ledger.open_denial();
        Self(Box::new(denying))
    }

    /// Returns why the request is denied: the decision, or how the store failed.
    pub fn reason(&self) -> &Reason {
        &self.0.reason
    }

    /// Returns the status of the response: see [`Denied::status`](crate::Denied::status).
    pub fn status(&self) -> StatusCode {
        match self.reason() {
            Reason::Quota(_) => denied::status(&self.0.policy, self.0.ledger.response_settings()),
            Reason::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the text of the denial: see [`Denied::message`](crate::Denied::message).
    pub fn message(&self) -> Cow<'static, str> {
        match self.reason() {
            Reason::Quota(decision) => denied::message(decision, &self.0.policy),
            Reason::Store(_) => denied::STORE_AWAY.into(),
        }
    }

    /// Returns how long to wait before the next try, in whole seconds: see
    /// [`Denied::retry_after`](crate::Denied::retry_after).
    pub fn retry_after(&self) -> Option<Duration> {
        self.reason().retry_after()
    }
}

impl IntoResponse for Denial {
    fn into_response(self) -> Response {
        let Denying { ledger, request, policy, reason, deny } = *self.0;
        ledger.close_denial();
        match reason {
            Reason::Quota(longest) => {
                denied::by_quota(&request, &longest, &policy, deny.iter(), ledger.response_settings())
            }
            Reason::Store(error) => denied::by_store(&request, error, ledger.response_settings()),
        }
    }
}

impl std::error::Error for Denial {}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = self.0.policy.name();
        match self.reason() {
            Reason::Quota(_) => write!(f, "over the rate limit `{policy}`"),
            Reason::Store(error) => write!(f, "the rate limit `{policy}` can't be checked: {error}"),
        }
    }
}

impl fmt::Debug for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Denial")
            .field("policy", &self.0.policy.name())
            .field("reason", self.reason())
            .finish()
    }
}
