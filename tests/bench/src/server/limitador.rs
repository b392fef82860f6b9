//! limitador, the crate, called by an extractor: in memory, on Redis, and on Redis with its cache in between.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::routing::get;
use http::StatusCode;
use http::request::Parts;
use limitador::errors::LimitadorError;
use limitador::limit::{Context, Limit, Namespace};
use limitador::{AsyncRateLimiter, CheckResult, RateLimiter};

use super::Result;
use super::client::client;
use crate::Column;

const NAMESPACE: &str = "bench";
/// How many counters the memory storage holds: more than there are clients.
const COUNTERS: u64 = 100_000;

#[derive(Clone)]
struct Limits {
    column: Column,
    namespace: Namespace,
    limiter: Limiter,
}

#[derive(Clone)]
enum Limiter {
    Memory(Arc<RateLimiter>),
    #[cfg_attr(not(feature = "limitador-redis"), expect(dead_code, reason = "it comes with the feature"))]
    Async(Arc<AsyncRateLimiter>),
}

pub(crate) fn memory(column: Column) -> Result<Router> {
    let limiter = RateLimiter::new(COUNTERS);
    limiter.add_limit(limit(column)?);
    Ok(app(column, Limiter::Memory(Arc::new(limiter))))
}

#[cfg(feature = "limitador-redis")]
pub(crate) async fn redis(column: Column, url: &str) -> Result<Router> {
    let storage = limitador::storage::redis::AsyncRedisStorage::new(url).await?;
    let limiter = AsyncRateLimiter::new_with_storage(Box::new(storage));
    limiter.add_limit(limit(column)?);
    Ok(app(column, Limiter::Async(Arc::new(limiter))))
}

/// By default, the cache is flushed once a second.
#[cfg(feature = "limitador-redis")]
pub(crate) async fn cached(column: Column, url: &str) -> Result<Router> {
    let storage = limitador::storage::redis::CachedRedisStorage::new(url).await?;
    let limiter = AsyncRateLimiter::new_with_storage(Box::new(storage));
    limiter.add_limit(limit(column)?);
    Ok(app(column, Limiter::Async(Arc::new(limiter))))
}

fn limit(column: Column) -> Result<Limit> {
    Ok(Limit::new(NAMESPACE, column.limit().into(), 3600, [], ["client".try_into()?]))
}

fn app(column: Column, limiter: Limiter) -> Router {
    let limits = Limits { column, namespace: NAMESPACE.into(), limiter };
    Router::new().route("/", get(limited)).with_state(limits)
}

async fn limited(_: Allowed) -> &'static str {
    "ok"
}

/// An extractor that lets a request pass if it is within the limit.
struct Allowed;

impl FromRequestParts<Limits> for Allowed {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, limits: &Limits) -> Result<Self, StatusCode> {
        let client = client(limits.column, parts).await?;
        match limits.is_limited(client).await {
            Ok(false) => Ok(Self),
            Ok(true) => Err(StatusCode::TOO_MANY_REQUESTS),
            Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

impl Limits {
    async fn is_limited(&self, client: String) -> Result<bool, LimitadorError> {
        let context = Context::from(HashMap::from([("client".to_owned(), client)]));
        let CheckResult { limited, .. } = match &self.limiter {
            Limiter::Memory(limiter) => {
                limiter.check_rate_limited_and_update(&self.namespace, &context, 1)?
            }
            Limiter::Async(limiter) => {
                limiter.check_rate_limited_and_update(&self.namespace, &context, 1).await?
            }
        };
        Ok(limited)
    }
}
