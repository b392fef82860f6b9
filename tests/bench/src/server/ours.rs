//! This project.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use axum_rate_limit::{Builder, Headers, OnStoreError, RateLimiter, rate_limit};

use super::Result;
use crate::{Column, DENIED_LIMIT, NO_LIMIT};

#[rate_limit(name = "hot", per_hour = NO_LIMIT)]
async fn hot() -> &'static str {
    "ok"
}

#[rate_limit(name = "keys", per_hour = NO_LIMIT, key = header("x-key"))]
async fn keys() -> &'static str {
    "ok"
}

#[rate_limit(name = "denied", per_hour = DENIED_LIMIT)]
async fn denied() -> &'static str {
    "ok"
}

/// A router, and the limiter for it.
pub(crate) type Limited = (Router, RateLimiter);

pub(crate) async fn memory(column: Column, headers: Headers) -> Result<Limited> {
    app(column, RateLimiter::builder().memory().headers(headers)).await
}

/// All as by default, but for a store that fails: the run has to show that, not go on in memory.
pub(crate) async fn redis(column: Column, headers: Headers, url: &str) -> Result<Limited> {
    let builder = RateLimiter::builder()
        .redis(url)
        .headers(headers)
        .require_store()
        .timeout(Duration::from_secs(2))
        .on_store_error(OnStoreError::Deny);
    app(column, builder).await
}

/// With the limiter as a layer of the router, and so around each of its routes.
pub(crate) fn inside((router, limiter): Limited) -> Router {
    router.layer(limiter)
}

async fn app(column: Column, builder: Builder) -> Result<Limited> {
    let handler = match column {
        Column::Hot => get(hot),
        Column::Keys => get(keys),
        Column::Denied => get(denied),
    };
    Ok((Router::new().route("/", handler), builder.build().await?))
}
