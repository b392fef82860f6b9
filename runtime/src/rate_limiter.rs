//! The handle that a program holds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::amendment::Amendment;
use crate::builder::Builder;
use crate::decision::Decision;
use crate::error::{BuildError, Error};
use crate::http::Answers;
use crate::key::Key;
use crate::limiter::{Ask, Limiter};
use crate::policy::Policy;
use crate::store::Operation;

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
/// when it is called. [`layer`](Self::layer) puts the limiter around the whole router instead, at less cost.
#[derive(Clone)]
#[must_use = "a limiter does nothing until it is a layer of a router, or asked with `check`"]
pub struct RateLimiter(pub(crate) Arc<Shared>);

/// Timers are not finer.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// What all clones of a limiter are.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) limiter: Limiter,
    pub(crate) answers: Answers,
}

impl RateLimiter {
    /// A limiter that counts in this process.
    ///
    /// # Panics
    ///
    /// If two policies of the program share a name but differ, or one bears the name of another's quota;
    /// `RateLimiter::builder().build()` is the same with an error instead.
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

    /// A limiter that takes its store and amendments from the environment: see [`Builder::from_env`].
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    pub async fn from_env() -> Result<Self, BuildError> {
        Self::builder().from_env().build().await
    }

    /// Begins a limiter with settings of its own.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Asks `policy` about `key`, and charges it if it allows.
    ///
    /// For jobs, sockets and whatever is no handler. What a policy reads off a request is not asked
    /// here: the key is the one that is given (with [`Key::resource`] for a policy that is
    /// [`by_resource`](Policy::by_resource)), the cost the declared one, or 1 if a function tells it,
    /// and the quotas those declared, or those of [`with_quotas`](Policy::with_quotas).
    ///
    /// # Errors
    ///
    /// If the store fails and the limiter is built to [deny](crate::OnStoreError::Deny) then.
    pub async fn check(&self, policy: &Policy, key: impl Into<Key>) -> Result<Decision, Error> {
        self.decide(Operation::Take, self.0.limiter.ask(policy, key)).await
    }

    /// Asks as [`check`](Self::check) does, and waits where that denies, until it allows or `patience` is over: for jobs
    /// that are not to fail, but to slow down. The decision is a denial if the wait would be longer than what is left of
    /// `patience`, and then it is told at once, not waited for.
    ///
    /// Those who wait for one key ask when it can be admitted, and not in the order in which they came. A wait is not
    /// charged, and is no denial in log and metrics. Nobody should wait so in a handler: a client that is denied knows by itself how long to wait.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum_rate_limit::{Error, Policy, RateLimiter};
    ///
    /// const MAILS: Policy = Policy::new("mails-sent").per_second(20);
    ///
    /// async fn send(limiter: &RateLimiter, mails: Vec<String>) -> Result<(), Error> {
    ///     for mail in mails {
    ///         if limiter.check_within(&MAILS, "all", Duration::from_secs(60)).await?.is_allowed() {
    ///             println!("sent: {mail}");
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub async fn check_within(
        &self,
        policy: &Policy,
        key: impl Into<Key>,
        patience: Duration,
    ) -> Result<Decision, Error> {
        let (key, start) = (key.into(), Instant::now());
        loop {
            // As it is in force then.
            let asks = [self.0.limiter.ask(policy, key.clone())];
            let outcome = self.0.limiter.decide(Operation::Take, &asks).await?;
            let [ask] = &asks;
            let decision = ask.decision(&outcome);
            let wait = decision.retry_after().map(|wait| wait.max(SHORTEST_WAIT));
            let Some(wait) = wait.filter(|wait| start.elapsed().saturating_add(*wait) <= patience) else {
                // Who waits is not denied.
                ask.report(&outcome);
                return Ok(decision);
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks `policy` about `key` as [`check`](Self::check) does, and charges nothing.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub async fn peek(&self, policy: &Policy, key: impl Into<Key>) -> Result<Decision, Error> {
        self.decide(Operation::Peek, self.0.limiter.ask(policy, key)).await
    }

    /// Charges `cost` to `key`, whether `policy` allows it or not: what work turned out to cost. The decision says
    /// whether so much had room before, and what is left now; what the next request will be told, [`peek`](Self::peek)
    /// does.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub async fn add(&self, policy: &Policy, key: impl Into<Key>, cost: u32) -> Result<Decision, Error> {
        self.decide(Operation::Add, Ask { cost, ..self.0.limiter.ask(policy, key) }).await
    }

    /// Gives `cost` back to `key`, or as much as it has used of `policy`. The decision, which always allows, says what is
    /// left now.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub async fn give_back(
        &self,
        policy: &Policy,
        key: impl Into<Key>,
        cost: u32,
    ) -> Result<Decision, Error> {
        self.decide(Operation::GiveBack, Ask { cost, ..self.0.limiter.ask(policy, key) }).await
    }

    /// Forgets what `key` has used of `policy`: of the quotas that it has, and of no others (see
    /// [`with_quotas`](Policy::with_quotas)). It can't tell whether there was anything to forget, so `key` has to be
    /// what the policy keeps them by: an address as an [`IpAddr`](std::net::IpAddr) and not as text, a part for each of
    /// its [key](Policy::key), and the [resource](Key::resource) if it has some.
    ///
    /// # Errors
    ///
    /// If the store can't be told, whatever the limiter does with requests then.
    pub async fn reset(&self, policy: &Policy, key: impl Into<Key>) -> Result<(), Error> {
        Ok(self.0.limiter.reset(&[self.0.limiter.ask(policy, key)]).await?)
    }

    async fn decide(&self, operation: Operation, ask: Ask<'_>) -> Result<Decision, Error> {
        let asks = [ask];
        let mut outcome = self.0.limiter.decide(operation, &asks).await?;
        let [ask] = &asks;
        if operation == Operation::GiveBack {
            outcome = outcome.with_room();
        }
        if operation == Operation::Take {
            ask.report(&outcome);
        }
        Ok(ask.decision(&outcome))
    }

    /// The policies as they are in force, by name: those that attributes declare, and those of
    /// [`Builder::declare`](Builder::declare), as [amended](Self::amend).
    ///
    /// Those of a name are one policy: what [`peek`](Self::peek) or [`reset`](Self::reset) does with one of these, it
    /// does with the one that is declared.
    pub fn policies(&self) -> Vec<Policy> {
        self.0.limiter.policies.all()
    }

    /// Changes a policy while requests are served, from the next one on: what
    /// [`Builder::amend`](Builder::amend) does, without a restart. For the policies that attributes declare, and those of
    /// [`Builder::declare`](Builder::declare).
    ///
    /// `change` is given the policy that the limiter was built with, whatever it has been amended to since: so
    /// `|policy| policy` brings that back. What has been counted so far stays. All clones of this limiter follow, other
    /// instances do not: have each amend its own, when it is told to or sees a file change.
    ///
    /// ```
    /// use axum_rate_limit::{Policy, RateLimiter};
    ///
    /// const LETTERS: Policy = Policy::new("letters").per_hour(1);
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let limiter = RateLimiter::builder().declare([LETTERS]).build().await?;
    /// assert!(limiter.check(&LETTERS, "client-7").await?.is_allowed());
    /// assert!(!limiter.check(&LETTERS, "client-7").await?.is_allowed());
    /// limiter.amend("letters", |policy| policy.per_hour(10))?;
    /// assert!(limiter.check(&LETTERS, "client-7").await?.is_allowed());
    /// # Ok::<(), axum_rate_limit::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Builder::build`] of such an amendment, and then the policy stays as it is.
    pub fn amend(&self, policy: &str, change: impl FnOnce(Amendment) -> Amendment) -> Result<(), BuildError> {
        self.0.limiter.policies.amend(policy, change)
    }

    /// Whether the store, or a node of a cluster, is known to be away now, so that decisions are made without it: for a
    /// page that tells how the service is. It is no reason to take an instance out of service, which does without. A
    /// store that is there, and refuses what it is asked, is not away. Always false where this process is the store.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # use axum_rate_limit::RateLimiter;
    /// assert!(!RateLimiter::memory().is_degraded());
    /// let limiter = RateLimiter::redis("redis://127.0.0.1:1").await?; // nobody listens there
    /// assert!(limiter.is_degraded());
    /// # Ok::<(), axum_rate_limit::BuildError>(())
    /// # }).unwrap();
    /// ```
    pub fn is_degraded(&self) -> bool {
        self.0.limiter.store.is_away()
    }

    /// Releases the connection, once no more requests come: after `axum::serve` has returned.
    ///
    /// Requests that come all the same are decided as if the store were away. A limiter that counts in this process has
    /// nothing to release, and goes on.
    pub async fn close(&self) {
        self.0.limiter.store.close().await;
    }
}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { limiter, answers } = &*self.0;
        f.debug_struct("RateLimiter").field("limiter", limiter).field("answers", answers).finish()
    }
}
