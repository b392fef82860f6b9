//! Denials: the response to a request that is not let through.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::problem::Problem;
use super::{ResponseSettings, fields};
use crate::decision::Decision;
use crate::error::StoreError;
use crate::policy::Policy;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The body of a denial with the default text, which most have.
const DEFAULT_DETAIL: &str = r#"{"detail":"Rate limit exceeded."}"#;

pub(super) const STORE_AWAY: &str = "The rate limit can't be checked at the moment.";

/// How a denial is answered.
#[derive(Clone, Default)]
pub(crate) enum OnDenied {
    /// `{"detail": …}`
    #[default]
    Detail,
    /// An RFC 9457 problem document.
    Problem,
    Custom(Arc<dyn Fn(&Denied<'_>) -> Response + Send + Sync>),
}

impl fmt::Debug for OnDenied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Detail => "Detail",
            Self::Problem => "Problem",
            Self::Custom(_) => "Custom",
        })
    }
}

/// A request that is not let through, for [`on_denied`](crate::Builder::on_denied) to answer.
///
/// ```
/// use axum::http::header::ACCEPT;
/// use axum::response::{Html, IntoResponse};
/// use axum_rate_limit::RateLimiter;
///
/// let builder = RateLimiter::builder().on_denied(|denied| {
///     let accept = denied.request().headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
///     if accept.is_none_or(|accept| !accept.contains("text/html")) {
///         return (denied.status(), denied.message().to_owned()).into_response();
///     }
///     let seconds = denied.retry_after().map_or(0, |wait| wait.as_secs());
///     (denied.status(), Html(format!("<p>Come back in {seconds} s."))).into_response()
/// });
/// # let _ = builder;
/// ```
#[derive(Debug)]
pub struct Denied<'r> {
    request: &'r Parts,
    reason: Reason,
    status: StatusCode,
    message: Cow<'static, str>,
    /// The exceeded quotas, by the names that clients know.
    violated: Vec<String>,
}

/// Why a request is not let through.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason {
    /// A quota has too little left. If several policies deny, this is the decision with the longest wait.
    Quota(Box<Decision>),
    /// The store failed, and the policy or the limiter [denies](crate::OnStoreError::Deny) in that case, or this
    /// process's memory is [full](StoreError::Full).
    Store(StoreError),
}

/// Returns the response to a denial by `decision` of `policy`, which has the longest wait of all that `deny`.
pub(super) fn by_quota<'a>(
    request: &Parts,
    decision: &Decision,
    policy: &Policy,
    deny: impl Iterator<Item = &'a Decision>,
    settings: &ResponseSettings,
) -> Response {
    let (status, message) = (status(policy, settings), message(decision, policy));
    if let OnDenied::Detail = settings.on_denied {
        // Under a flood of requests, nothing is spent on a `Denied` that nobody reads.
        return finished(detail(status, &message), decision.retry_after().map(whole_seconds));
    }
    let exceeded = deny.flat_map(fields::items).filter(|(_, state)| state.exceeded);
    let denied = Denied {
        request,
        violated: exceeded.map(|(name, _)| name.to_string()).collect(),
        reason: Reason::Quota(Box::new(decision.clone())),
        status,
        message,
    };
    denied.into_response(settings)
}

/// Returns the status of a denial by `policy`.
pub(super) fn status(policy: &Policy, settings: &ResponseSettings) -> StatusCode {
    policy.denial_status().unwrap_or(settings.status)
}

/// Returns the text of a denial by `decision` of `policy`.
pub(super) fn message(decision: &Decision, policy: &Policy) -> Cow<'static, str> {
    if decision.is_too_costly() && policy.message.is_none() {
        let cost = decision.cost();
        return format!("This request costs {cost}, which is more than the limit ever allows.").into();
    }
    policy.denial_message().into()
}

/// Returns the response to a denial because the store failed.
pub(super) fn by_store(request: &Parts, error: StoreError, settings: &ResponseSettings) -> Response {
    let denied = Denied {
        request,
        violated: Vec::new(),
        reason: Reason::Store(error),
        status: StatusCode::SERVICE_UNAVAILABLE,
        message: STORE_AWAY.into(),
    };
    denied.into_response(settings)
}

/// Returns the response where the store failed and no limiter's settings apply.
pub(super) fn store_away() -> Response {
    let response = detail(StatusCode::SERVICE_UNAVAILABLE, STORE_AWAY);
    finished(response, Some(whole_seconds(Duration::ZERO)))
}

impl Reason {
    /// Returns how long to wait before the next try, in whole seconds and at least one, unless waiting is in vain.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let wait = match self {
            Self::Quota(decision) => decision.retry_after()?,
            Self::Store(_) => Duration::ZERO,
        };
        Some(whole_seconds(wait))
    }
}

impl<'r> Denied<'r> {
    /// Returns the request, without its body. It tells which page or language the client wants.
    pub fn request(&self) -> &'r Parts {
        self.request
    }

    /// Returns why the request is not let through.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// Returns the status that the policy or the limiter declares, or 503 if the store failed.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the policy's text or a default; if the store failed, a text that says so.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns how long to wait before the next try, in whole seconds and at least one. `None` means that waiting
    /// is in vain, since the request costs more than the quota.
    pub fn retry_after(&self) -> Option<Duration> {
        self.reason.retry_after()
    }

    /// Returns the exceeded quotas by their names in response fields: `hardwork`, `hardwork.2`; none if the store
    /// failed.
    pub fn violated(&self) -> impl Iterator<Item = &str> {
        self.violated.iter().map(String::as_str)
    }

    fn into_response(self, settings: &ResponseSettings) -> Response {
        let response = match &settings.on_denied {
            OnDenied::Detail => detail(self.status, &self.message),
            OnDenied::Problem => self.problem(),
            OnDenied::Custom(response) => response(&self),
        };
        finished(response, self.retry_after())
    }

    fn problem(&self) -> Response {
        let body = Problem::of(self.status.as_u16()).body(&self.message, &self.violated);
        (self.status, [(CONTENT_TYPE, PROBLEM_JSON)], body.to_string()).into_response()
    }
}

/// Adds `retry-after` and `cache-control` to a response that lacks them.
fn finished(mut response: Response, retry_after: Option<Duration>) -> Response {
    let headers = response.headers_mut();
    if let Some(wait) = retry_after {
        headers.entry(RETRY_AFTER).or_insert_with(|| fields::number(wait.as_secs()));
    }
    headers.entry(CACHE_CONTROL).or_insert(NO_STORE);
    response
}

/// Makes a response with the body `{"detail": text}`.
pub(super) fn detail(status: StatusCode, text: &str) -> Response {
    let body = if text == Policy::MESSAGE {
        Body::from(DEFAULT_DETAIL)
    } else {
        Body::from(json!({ "detail": text }).to_string())
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// Rounds a wait as clients are told it: up to whole seconds, and to at least one.
fn whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs(fields::ceil_seconds(wait).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_most_is_written_down() {
        assert_eq!(DEFAULT_DETAIL, json!({ "detail": Policy::MESSAGE }).to_string());
    }
}
