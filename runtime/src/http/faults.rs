//! Responses for limited routes that lack a limiter or a peer address: 500, and a log line that says what to add.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::response::Response;
use http::StatusCode;
use parking_lot::Mutex;

use super::denial::detail;
use crate::policy::Policy;

/// Logs once, however many requests run into it.
pub(super) fn once(logged: &AtomicBool, log: impl FnOnce()) {
    if !logged.swap(true, Ordering::Relaxed) {
        log();
    }
}

#[cold]
pub(super) fn no_layer(policies: &[&'static Policy]) -> Response {
    /// The policies that have been logged.
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
pub(super) fn no_peer() -> Response {
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

/// Answers 500 without the reason, which is in the log and is not the client's business.
pub(super) fn internal_error() -> Response {
    detail(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
}
