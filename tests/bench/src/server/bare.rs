//! No limiter at all: what all others are compared with.

use axum::routing::get;
use axum::{Extension, Router};
use http::{HeaderName, StatusCode};

use super::ok;

pub(crate) fn plain() -> Router {
    Router::new().route("/", get(ok))
}

/// Two fields as long as those of a limiter, but always the same.
pub(crate) fn with_fields() -> Router {
    let handler = async || {
        let policy = (HeaderName::from_static("ratelimit-policy"), r#""hot";q=1000000000;w=3600"#);
        let quota = (HeaderName::from_static("ratelimit"), r#""hot";r=999999999;t=3600"#);
        ([policy, quota], "ok")
    };
    Router::new().route("/", get(handler))
}

/// A layer that hands something to a handler, which has it as an argument, and does nothing with it: what our
/// layer and our attribute are made of.
pub(crate) fn with_layer() -> Router {
    let handler = async |_: Extension<()>| "ok";
    Router::new().route("/", get(handler)).layer(Extension(()))
}

/// The answer that a denied request gets, without asking anybody.
pub(crate) fn denying() -> Router {
    let handler = async || {
        let fields = [
            (HeaderName::from_static("content-type"), "application/json"),
            (HeaderName::from_static("retry-after"), "3600"),
            (HeaderName::from_static("cache-control"), "no-store"),
        ];
        (StatusCode::SERVICE_UNAVAILABLE, fields, r#"{"detail":"Rate limit exceeded."}"#)
    };
    Router::new().route("/", get(handler))
}
