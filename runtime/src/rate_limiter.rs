//! The handle that a program holds.

use std::fmt;
use std::sync::Arc;

use crate::builder::Builder;
use crate::decision::Decision;
use crate::error::{BuildError, Error};
use crate::http::Answers;
use crate::key::Key;
use crate::limiter::Limiter;
use crate::policy::Policy;

/// Counts requests, and serves every attribute below it as a [`tower::Layer`](tower_layer::Layer).
///
/// Cheap to clone; all clones share the store, its connection and its counters.
///
/// ```
/// use axum::{Router, routing::get};
/// use axum_rate_limit::{RateLimiter, rate_limit};
///
/// #[rate_limit(name = "hardwork", per_minute = 5, by_resource)]
/// async fn calculate() -> &'static str {
///     "42"
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let limiter = RateLimiter::from_env().await?; // REDIS_URL, else in-process memory
/// let app: Router = Router::new().route("/hardwork/", get(calculate)).layer(limiter);
/// # Ok::<(), axum_rate_limit::Error>(())
/// # }).unwrap();
/// ```
///
/// Add the layer after the routes: axum's [`Router::layer`](axum::Router::layer) wraps what is there
/// when it is called.
#[derive(Clone)]
#[must_use = "a limiter does nothing until it is a layer of a router, or asked with `check`"]
pub struct RateLimiter {
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) answers: Arc<Answers>,
}

impl RateLimiter {
    /// A limiter that counts in this process.
    ///
    /// # Panics
    ///
    /// If two policies of the program share a name but differ; `RateLimiter::builder().build()` is
    /// the same with an error instead.
    #[allow(clippy::panic)] // a program that contradicts itself must not start
    pub fn memory() -> Self {
        Builder::default().build_memory().unwrap_or_else(|error| panic!("{error}"))
    }

    /// A limiter that counts in the Redis server at `url`: `redis://`, `rediss://` or
    /// `redis+unix://`.
    ///
    /// When the server is away, the limiter starts all the same, counts in this process, and moves
    /// to the server when it comes; see [`Builder::require_store`] for the other taste.
    ///
    /// # Errors
    ///
    /// If `url` is none, or as [`Builder::build`].
    #[cfg(feature = "redis")]
    pub async fn redis(url: impl AsRef<str>) -> Result<Self, BuildError> {
        Self::builder().redis(url).build().await
    }

    /// A limiter that counts in the Redis server at the environment variable `REDIS_URL` if that is
    /// set and not empty, else in this process; the log says which.
    ///
    /// # Errors
    ///
    /// As [`redis`](Self::redis). Without the feature `redis`, if `REDIS_URL` is set.
    pub async fn from_env() -> Result<Self, BuildError> {
        Self::builder().store_from_env()?.build().await
    }

    /// Begins a limiter with settings of its own.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Asks `policy` about `key`, and charges it if it allows.
    ///
    /// For jobs, sockets and whatever is no handler.
    ///
    /// # Errors
    ///
    /// If the store fails and the limiter is built to [deny](crate::OnStoreError::Deny) then.
    pub async fn check(&self, policy: &Policy, key: impl Into<Key>) -> Result<Decision, Error> {
        let mut decisions = self.limiter.take(&[(policy, key.into())]).await?;
        Ok(decisions.remove(0))
    }

    /// Asks `policy` about `key` as [`check`](Self::check) does, and charges nothing.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub async fn peek(&self, policy: &Policy, key: impl Into<Key>) -> Result<Decision, Error> {
        let mut decisions = self.limiter.peek(&[(policy, key.into())]).await?;
        Ok(decisions.remove(0))
    }

    /// Forgets what `key` has used of `policy`.
    ///
    /// # Errors
    ///
    /// If the store can't be told, whatever the limiter does with requests then.
    pub async fn reset(&self, policy: &Policy, key: impl Into<Key>) -> Result<(), Error> {
        Ok(self.limiter.reset(&[(policy, key.into())]).await?)
    }

    /// Releases the connection, once no more requests come: after `axum::serve` has returned.
    ///
    /// Requests that come all the same are decided as if the store were away.
    pub async fn close(&self) {
        self.limiter.store.close().await;
    }
}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiter").field("limiter", &self.limiter).field("answers", &self.answers).finish()
    }
}
