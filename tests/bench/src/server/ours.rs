//! axum-rate-limit, the limiter of this project.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use axum_rate_limit::{Builder, Headers, OnStoreError, RateLimiter, rate_limit};

use super::Result;
use crate::{Column, DENIED_LIMIT, KEY_HEADER, NO_LIMIT};

#[rate_limit(name = "hot", per_hour = NO_LIMIT)]
async fn hot() -> &'static str {
    "ok"
}

#[rate_limit(name = "keys", per_hour = NO_LIMIT, key = header(KEY_HEADER))]
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

/// Builds a limiter with defaults, except that a failing store must show in the results: the limiter waits
/// longer for the store, and then denies instead of counting in memory.
pub(crate) async fn redis(column: Column, headers: Headers, url: &str) -> Result<Limited> {
    let builder = RateLimiter::builder()
        .redis(url)
        .headers(headers)
        .require_store()
        .timeout(Duration::from_secs(2))
        .on_store_error(OnStoreError::Deny);
    app(column, builder).await
}

/// Makes the limiter a layer of the router, which puts it around each route.
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
