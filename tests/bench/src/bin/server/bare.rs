//! No limiter at all: what all others are compared with.

use axum::Router;
use axum::routing::get;
use http::HeaderName;

use crate::ok;

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
