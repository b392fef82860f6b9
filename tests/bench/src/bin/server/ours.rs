//! This project.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use axum_rate_limit::{Builder, Headers, OnStoreError, RateLimiter, rate_limit};
use bench::{Column, DENIED_LIMIT, NO_LIMIT};

use crate::Result;

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

pub(crate) async fn memory(column: Column, headers: Headers) -> Result<Router> {
    app(column, RateLimiter::builder().memory().headers(headers)).await
}

/// All as by default, but for a store that fails: the run has to show that, not go on in memory.
pub(crate) async fn redis(column: Column, headers: Headers, url: &str) -> Result<Router> {
    let builder = RateLimiter::builder()
        .redis(url)
        .headers(headers)
        .require_store()
        .timeout(Duration::from_secs(2))
        .on_store_error(OnStoreError::Deny);
    app(column, builder).await
}

async fn app(column: Column, builder: Builder) -> Result<Router> {
    let handler = match column {
        Column::Hot => get(hot),
        Column::Keys => get(keys),
        Column::Denied => get(denied),
    };
    Ok(Router::new().route("/", handler).layer(builder.build().await?))
}
