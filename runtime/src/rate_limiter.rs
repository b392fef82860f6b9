//! The [`RateLimiter`], the handle through which a program uses a limiter.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::amendment::Amendment;
use crate::ask::Ask;
use crate::builder::Builder;
use crate::decision::Decision;
use crate::error::{BuildError, Error};
use crate::http::ResponseSettings;
use crate::key::Key;
use crate::limiter::Limiter;
use crate::policy::Policy;
use crate::store::Operation;

/// A rate limiter: it counts requests, and is the [`tower::Layer`](tower_layer::Layer) that enforces every
/// attribute below it.
///
/// It is cheap to clone. All clones share the store, its connection and its counters.
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
/// Add the layer after the routes: axum's [`Router::layer`](axum::Router::layer) wraps only the routes that exist
/// when it is called. [`layer`](Self::layer) wraps the whole router instead, at less cost.
#[derive(Clone)]
#[must_use = "a limiter does nothing until it is a layer of a router, or asked with `check`"]
pub struct RateLimiter(pub(crate) Arc<Shared>);

/// The shortest wait of [`check_within`](RateLimiter::check_within), since timers are not finer.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// The state that all clones of a limiter share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) limiter: Limiter,
    pub(crate) answers: ResponseSettings,
}

impl RateLimiter {
    /// Creates a limiter that counts in this process's memory.
    ///
    /// # Panics
    ///
    /// Panics if two policies of the program have the same name but differ, or if one has the name that response
    /// fields give to a quota of another. `RateLimiter::builder().build()` returns an error instead.
    #[allow(clippy::panic)] // a program that contradicts itself must not start
    pub fn memory() -> Self {
        Builder::default().assemble().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Creates a limiter that counts in the Redis server at `url`: `redis://`, `rediss://` or `redis+unix://`.
    ///
    /// If the server is unavailable, the limiter starts all the same, counts in this process, and switches to the
    /// server once it is available. With [`Builder::require_store`] that is an error instead.
    ///
    /// # Errors
    ///
    /// Returns an error if `url` is invalid, or as [`Builder::build`] does.
    #[cfg(feature = "redis")]
    pub async fn redis(url: impl AsRef<str>) -> Result<Self, BuildError> {
        Self::builder().redis(url).build().await
    }

    /// Creates a limiter that takes its store, amendments and some settings from the environment: see
    /// [`Builder::from_env`].
    ///
    /// # Errors
    ///
    /// Returns an error as [`Builder::build`] does.
    pub async fn from_env() -> Result<Self, BuildError> {
        Self::builder().from_env().build().await
    }

    /// Returns a builder for a limiter with custom settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Checks `policy` for `key`, and charges the cost if the policy allows it.
    ///
    /// Use this for jobs, sockets and anything else that is not a handler, and
    /// [`RequestLimiter`](crate::RequestLimiter) in a handler. There is no request, so the policy's functions are not
    /// called. The key is `key` itself (with [`Key::resource`] for a policy that is
    /// [`by_resource`](Policy::by_resource), or [`Key::route`] for one that is [`by_route`](Policy::by_route)). The
    /// cost is the declared one, or 1 if a function determines it. The quotas are the declared ones, or those of
    /// [`with_quotas`](Policy::with_quotas).
    ///
    /// Policies of one name share their counters. One that is declared neither by an attribute nor by
    /// [`Builder::declare`](Builder::declare) is compared with the declared one of its name here, and the log tells,
    /// once, if they differ. Two that are not declared are not compared.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails and the policy or the limiter is set to
    /// [deny](crate::OnStoreError::Deny) in that case. Also returns an error if this process's memory is
    /// [full](crate::StoreError::Full), unless they are set to [allow](crate::OnStoreError::Allow). An error counts as
    /// a denial: if Redis turns out to have charged the check too late, the charge is given back.
    pub async fn check(&self, policy: &Policy, key: impl Into<Key>) -> Result<Decision, Error> {
        self.decide(Operation::Take, self.0.limiter.ask(policy, key)).await
    }

    /// Checks as [`check`](Self::check) does, for a `cost` that is known only now, whatever the policy's
    /// [cost](Policy::cost) is.
    ///
    /// A cost that no quota ever allows is denied, and [`is_too_costly`](Decision::is_too_costly).
    ///
    /// ```
    /// use axum_rate_limit::{Error, Policy, RateLimiter};
    ///
    /// const ROWS: Policy = Policy::new("rows-exported").per_day(1_000_000);
    ///
    /// async fn may_export(limiter: &RateLimiter, customer: &str, rows: u32) -> Result<bool, Error> {
    ///     Ok(limiter.check_with_cost(&ROWS, customer, rows).await?.is_allowed())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error as [`check`](Self::check) does.
    pub async fn check_with_cost(
        &self,
        policy: &Policy,
        key: impl Into<Key>,
        cost: u32,
    ) -> Result<Decision, Error> {
        self.decide(Operation::Take, Ask { cost, ..self.0.limiter.ask(policy, key) }).await
    }

    /// Checks several policies in one call of the store (on a cluster, one for each policy: see the README): all must
    /// allow, and a denial by one takes nothing from any.
    ///
    /// Returns a decision for each, in their order. Check each policy and key once, since neither of two such checks
    /// would see the other's charge.
    ///
    /// ```
    /// use axum_rate_limit::{Decision, Error, Policy, RateLimiter};
    ///
    /// const SENDERS: Policy = Policy::new("senders").per_hour(20);
    /// const RECIPIENTS: Policy = Policy::new("recipients").per_hour(5);
    ///
    /// async fn may_send(limiter: &RateLimiter, sender: &str, recipient: &str) -> Result<bool, Error> {
    ///     let decisions = limiter.check_all([(&SENDERS, sender), (&RECIPIENTS, recipient)]).await?;
    ///     Ok(decisions.iter().all(Decision::is_allowed))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error as [`check`](Self::check) does, if one of the policies or the limiter is set to deny.
    pub async fn check_all<'p, K: Into<Key>>(
        &self,
        checks: impl IntoIterator<Item = (&'p Policy, K)>,
    ) -> Result<Vec<Decision>, Error> {
        let limiter = &self.0.limiter;
        let checks = checks.into_iter();
        let asks: Vec<Ask<'p>> = checks.map(|(policy, key)| limiter.ask(policy, key)).collect();
        let decided = limiter.decide(Operation::Take, &asks).await.outcome;
        let mut outcome = decided.inspect_err(|_| asks.iter().for_each(Ask::report_refused))?;
        let decide = |ask: &Ask<'_>| {
            let part = ask.split_part_off(&mut outcome);
            ask.report(&part);
            ask.decision(&part)
        };
        Ok(asks.iter().map(decide).collect())
    }

    /// Checks as [`check`](Self::check) does, but waits until the policy allows the request or `patience` runs
    /// out.
    ///
    /// Use this for jobs that should slow down rather than fail. If the wait would take longer than what is left
    /// of `patience`, the denial is returned at once.
    ///
    /// Those who wait for the same key try again when it can next be admitted, not in the order in which they
    /// came. A wait is not charged, and does not count as a denial in the log and the metrics. Don't wait like
    /// this in a handler: a denied client is told how long to wait.
    ///
    /// It sleeps by Tokio's clock. A test that gives the limiter a clock of its own has to move both.
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
    /// Returns an error as [`check`](Self::check) does.
    pub async fn check_within(
        &self,
        policy: &Policy,
        key: impl Into<Key>,
        patience: Duration,
    ) -> Result<Decision, Error> {
        let (key, start) = (key.into(), Instant::now());
        loop {
            // Looked up in each round, since an amendment may have changed the policy.
            let asks = [self.0.limiter.ask(policy, key.clone())];
            let decided = self.0.limiter.decide(Operation::Take, &asks).await.outcome;
            let [ask] = &asks;
            let outcome = decided.inspect_err(|_| ask.report_refused())?;
            let decision = ask.decision(&outcome);
            let wait = decision.retry_after().map(|wait| wait.max(SHORTEST_WAIT));
            let Some(wait) = wait.filter(|wait| start.elapsed().saturating_add(*wait) <= patience) else {
                // Only the final outcome is reported, since a wait is not a denial.
                ask.report(&outcome);
                return Ok(decision);
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Checks `policy` for `key` as [`check`](Self::check) does, but charges nothing.
    ///
    /// For a client with a [tier](Policy::quotas_by), pass `policy.with_quotas(tier)`, or the declared quotas are
    /// looked at.
    ///
    /// # Errors
    ///
    /// Returns an error as [`check`](Self::check) does.
    pub async fn peek(&self, policy: &Policy, key: impl Into<Key>) -> Result<Decision, Error> {
        self.decide(Operation::Peek, self.0.limiter.ask(policy, key)).await
    }

    /// Charges `cost` to `key` whether `policy` allows it or not, for work whose cost is known only afterwards.
    ///
    /// The decision says whether there was room for `cost` before, and what is left now. To learn what the next
    /// request will be told, use [`peek`](Self::peek).
    ///
    /// ```
    /// use axum_rate_limit::{Error, Policy, RateLimiter};
    ///
    /// const TOKENS: Policy = Policy::new("tokens-used").per_hour(100_000);
    ///
    /// async fn complete(limiter: &RateLimiter, customer: &str) -> Result<Option<String>, Error> {
    ///     // What the answer costs is not known yet, but whoever has nothing left gets none.
    ///     if !limiter.check(&TOKENS, customer).await?.is_allowed() {
    ///         return Ok(None);
    ///     }
    ///     let (text, tokens) = ("…".to_owned(), 42);
    ///     limiter.add(&TOKENS, customer, tokens - 1).await?; // one is charged already
    ///     Ok(Some(text))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error as [`check`](Self::check) does.
    pub async fn add(&self, policy: &Policy, key: impl Into<Key>, cost: u32) -> Result<Decision, Error> {
        self.decide(Operation::Add, Ask { cost, ..self.0.limiter.ask(policy, key) }).await
    }

    /// Gives `cost` back to `key`, or as much as it has used of `policy`, whenever that was charged: if a window has
    /// ended since, the next one gets it. (What a request gives back, by [`Charge`](crate::Charge) or
    /// [`give_back_if`](Policy::give_back_if), is known to be of a certain charge.)
    ///
    /// The decision always allows, and says what is left now.
    ///
    /// # Errors
    ///
    /// Returns an error as [`check`](Self::check) does.
    pub async fn give_back(
        &self,
        policy: &Policy,
        key: impl Into<Key>,
        cost: u32,
    ) -> Result<Decision, Error> {
        self.decide(Operation::GiveBack, Ask { cost, ..self.0.limiter.ask(policy, key) }).await
    }

    /// Forgets what `key` has used of the quotas of `policy`.
    ///
    /// Quotas that the policy does not have are left alone: of a client with a [tier](Policy::quotas_by), reset
    /// `policy.with_quotas(tier)` (see [`with_quotas`](Policy::with_quotas)). A reset can't tell whether there was
    /// anything to forget, so `key` must be exactly what the policy keeps its counters by: an address as an
    /// [`IpAddr`](std::net::IpAddr) rather than as text, one part for each part of the policy's [key](Policy::key), and
    /// the [resource](Key::resource) or the [route](Key::route) if the policy has a quota for each. The log warns of a
    /// key that has too few of these, or others.
    ///
    /// ```
    /// use std::net::IpAddr;
    /// use axum::http::Method;
    /// use axum_rate_limit::{Error, Key, RateLimiter, rate_limit};
    ///
    /// #[rate_limit(name = "statistics", per_hour = 5, by_resource)]
    /// async fn statistics() {}
    ///
    /// async fn forgive(limiter: &RateLimiter, client: IpAddr) -> Result<(), Error> {
    ///     let statistics = limiter.policy("statistics")?;
    ///     limiter.reset(&statistics, Key::from(client).resource(&Method::GET, "/statistics/2026")).await
    /// }
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # forgive(&RateLimiter::memory(), IpAddr::from([192, 0, 2, 7])).await
    /// # }).unwrap();
    /// ```
    ///
    /// What requests were charged before, and give back only afterwards, may lower what has been charged since.
    ///
    /// # Errors
    ///
    /// Returns an error if the store fails, whatever the limiter does with requests in that case.
    pub async fn reset(&self, policy: &Policy, key: impl Into<Key>) -> Result<(), Error> {
        Ok(self.0.limiter.reset(&[self.0.limiter.ask(policy, key)]).await?)
    }

    async fn decide(&self, operation: Operation, ask: Ask<'_>) -> Result<Decision, Error> {
        let asks = [ask];
        let decided = self.0.limiter.decide(operation, &asks).await.outcome;
        let [ask] = &asks;
        if operation == Operation::Take {
            match &decided {
                Ok(outcome) => ask.report(outcome),
                Err(_) => ask.report_refused(),
            }
        }
        let outcome = decided?;
        Ok(ask.decision(&if operation == Operation::GiveBack { outcome.with_room() } else { outcome }))
    }

    /// Returns the policy of that name as it is in force, for an admin route, say: one that attributes or
    /// [`Builder::declare`](Builder::declare) declare, as [amended](Self::amend).
    ///
    /// # Errors
    ///
    /// If there is none. The error says which name may be meant.
    pub fn policy(&self, name: &str) -> Result<Policy, BuildError> {
        self.0.limiter.policies.get("RateLimiter::policy", name)
    }

    /// Returns the policies in force, sorted by name: those that attributes or
    /// [`Builder::declare`](Builder::declare) declare, as [amended](Self::amend).
    ///
    /// Policies of the same name share their counters, so [`peek`](Self::peek) or [`reset`](Self::reset) with one
    /// of these acts on the counters of the declared policy.
    pub fn policies(&self) -> Vec<Policy> {
        self.0.limiter.policies.all()
    }

    /// Amends a policy while requests are served, from the next request on.
    ///
    /// This does what [`Builder::amend`](Builder::amend) does, without a restart. It applies to policies that
    /// attributes or [`Builder::declare`](Builder::declare) declare.
    ///
    /// `change` gets the policy that the limiter was built with, whatever it has been amended to since: of two
    /// amendments, only the later one counts, and `|policy| policy` restores that policy. What becomes of what has
    /// been counted so far: see [`Amendment`]. All clones of this limiter follow, but other instances do not: have
    /// each of them amend its own policy when it is told to, or when it sees a file change.
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
    /// Returns an error as [`Builder::build`] does for such an amendment, in which case the policy stays as it
    /// is.
    pub fn amend(&self, policy: &str, change: impl FnOnce(Amendment) -> Amendment) -> Result<(), BuildError> {
        self.0.limiter.policies.amend(policy, change)
    }

    /// Whether the store, or a node of a cluster, is known to be unavailable, so that decisions are made without
    /// it.
    ///
    /// Use this for a status page. It is no reason to take an instance out of service, since the instance works
    /// without the store. A store that refuses single checks is not unavailable. Also true once the limiter is
    /// [closed](Self::close). Always false if this process is the store.
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

    /// Releases the connections to the store. Call this once no more requests come, after `axum::serve` has
    /// returned.
    ///
    /// Requests that come later are decided as if the store were unavailable. A limiter that counts in this
    /// process has nothing to release, and keeps working.
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
