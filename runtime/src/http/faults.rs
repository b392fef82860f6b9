//! Responses where no limiter's settings apply: to faults of the program, 500 and a log line that says what to
//! mend; and to an error that a handler returns.

use std::fmt;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use smallvec::SmallVec;
use tracing::Dispatch;
use tracing::subscriber::NoSubscriber;

use super::checks::Checks;
use super::decisions::NoLayer;
use super::denied::{detail, store_away};
use super::ledger::Ledger;
use crate::error::Error;
use crate::log_throttle::{LogThrottle, OncePerPolicy};
use crate::policy::Policy;

#[cold]
pub(super) fn no_layer(policies: &[&'static Policy]) -> Response {
    /// The policies that have been logged.
    static TOLD: OncePerPolicy = OncePerPolicy::new();
    static REQUESTS: LogThrottle = LogThrottle::new();
    let requests = REQUESTS.occurs();
    if let Some(policy) = policies.first().map(|policy| policy.name())
        && (TOLD.is_first(policy) || requests.is_some())
    {
        tell(
            Some(policy),
            requests,
            format_args!(
                "a rate-limited route has no limiter, so its requests are answered with 500: add `.layer(limiter)` to \
                 the router, after its routes and outside of limited router functions, modules and middleware \
                 (logged at most once in ten seconds, and once for each policy)"
            ),
        );
    }
    internal_error()
}

#[cold]
pub(super) fn sent_from_within(policies: &[&'static Policy]) -> Response {
    static REQUESTS: LogThrottle = LogThrottle::new();
    if let Some(requests) = REQUESTS.occurs() {
        tell(
            policies.first().map(|policy| policy.name()),
            Some(requests),
            format_args!(
                "a function of a policy sends the request that it is called for through a rate-limited route, which is \
                 answered with 500, since nothing is decided for that request yet (logged at most once in ten seconds)"
            ),
        );
    }
    internal_error()
}

/// Logs that a handler's check was denied, and that the response, a 500, is not that denial.
#[cold]
pub(super) fn denial_in_vain(ledger: &Ledger) {
    static TOLD: OncePerPolicy = OncePerPolicy::new();
    if !ledger.has_open_denial() {
        return;
    }
    let denying: SmallVec<[&'static str; 1]> = ledger.with_entries(|entries| {
        let denied = entries.checks().into_iter().flat_map(Checks::latest).filter(|entry| entry.is_denied());
        denied.map(|entry| entry.ask.policy.name()).collect()
    });
    for policy in denying.into_iter().filter(|policy| TOLD.is_first(policy)) {
        tracing::warn!(
            policy,
            "a handler's check was denied, and the request is answered with 500: an error that the `Denial` becomes has \
             to answer with the `Denial` (logged once for each policy)"
        );
    }
}

#[cold]
pub(super) fn no_peer(policy: &'static str) -> Response {
    static REQUESTS: LogThrottle = LogThrottle::new();
    tell_no_peer(&REQUESTS, policy, "it is answered with 500");
    internal_error()
}

/// Logs that a handler checks an empty key where clients can't be told apart.
#[cold]
pub(super) fn shared_without_peer(policy: &'static str) {
    static REQUESTS: LogThrottle = LogThrottle::new();
    tell_no_peer(&REQUESTS, policy, "all such requests share one quota");
}

fn tell_no_peer(requests: &LogThrottle, policy: &'static str, so: &str) {
    if let Some(requests) = requests.occurs() {
        tell(
            Some(policy),
            Some(requests),
            format_args!(
                "a rate-limited request has no peer address, so {so}: serve the router with \
                 `app.into_make_service_with_connect_info::<SocketAddr>()`; in a test or on a Unix socket, add \
                 `.layer(MockConnectInfo(SocketAddr::from(([127, 0, 0, 1], 0))))` outside of the limiter (logged at \
                 most once in ten seconds)"
            ),
        );
    }
}

/// A handler has an argument that needs a limiter around it, as `lacks` says.
#[cold]
pub(super) fn no_layer_for_argument(lacks: NoLayer) -> Response {
    static REQUESTS: LogThrottle = LogThrottle::new();
    if let Some(requests) = REQUESTS.occurs() {
        tell(
            None,
            Some(requests),
            format_args!(
                "a handler asks for `Decisions`, `Charge` or `RequestLimiter`: {lacks} (logged at most once in ten \
                 seconds)"
            ),
        );
    }
    internal_error()
}

/// Logs a fault of the program. In a debug build without a log, such as most tests, it goes to the standard error.
fn tell(policy: Option<&str>, requests: Option<u64>, fault: fmt::Arguments<'_>) {
    tracing::error!(policy, requests, "{fault}");
    if cfg!(debug_assertions) && tracing::dispatcher::get_default(Dispatch::is::<NoSubscriber>) {
        eprintln!("axum-rate-limit: {fault}");
    }
}

/// The response when a handler returns the error of [`check`](crate::RateLimiter::check) or
/// [`Charge`](crate::Charge): 503 if the store failed, 500 if the program is at fault. The limiter's settings for
/// denials do not apply.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        match self {
            Self::Store(error) => {
                tracing::debug!(%error, "answered without a store");
                store_away()
            }
            Self::Build(error) => {
                // A fault of the program shows in every request, and clients may send any number of them.
                static FAULTS: LogThrottle = LogThrottle::new();
                if let Some(requests) = FAULTS.occurs() {
                    tracing::error!(
                        %error,
                        requests,
                        "answered with 500, since the program is at fault (logged at most once in ten seconds)"
                    );
                }
                internal_error()
            }
        }
    }
}

/// Answers 500 without the reason, which is in the log and is not the client's business.
pub(super) fn internal_error() -> Response {
    detail(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
}
