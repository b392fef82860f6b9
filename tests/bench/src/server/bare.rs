//! Services without a limiter, with which all others are compared.

use axum::routing::get;
use axum::{Extension, Router};
use http::{HeaderName, StatusCode};

use super::ok;

pub(crate) fn plain() -> Router {
    Router::new().route("/", get(ok))
}

/// A service that writes two fields as long as those of a limiter, but always the same.
pub(crate) fn with_fields() -> Router {
    let handler = async || {
        let policy = (HeaderName::from_static("ratelimit-policy"), r#""hot";q=1000000000;w=3600"#);
        let quota = (HeaderName::from_static("ratelimit"), r#""hot";r=999999999;t=3600"#);
        ([policy, quota], "ok")
    };
    Router::new().route("/", get(handler))
}

/// A service with a layer that passes a value to the handler, which takes it as an argument and ignores it. Our
/// layer and our attribute are made of the same parts.
pub(crate) fn with_layer() -> Router {
    let handler = async |_: Extension<()>| "ok";
    Router::new().route("/", get(handler)).layer(Extension(()))
}

/// A service that answers every request like a denied one, without deciding anything.
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
