//! Where counters live: the [`Store`] trait, and the model that every store obeys.
//!
//! # The model
//!
//! One call of a store looks, at one instant, at all counters that it is given, each by its
//! [algorithm](crate::Algorithm), and then charges all of them or none:
//!
//! ```text
//! fits(p)    = for all counters c of policy p: c.cost = 0, or c has that much left
//! passes     = for all policies p that are not in shadow: fits(p)
//! charged(p) = passes, and fits(p)
//! ```
//!
//! So a denied request takes nothing and extends nothing. A policy in shadow is charged as if it were enforced,
//! but never denies. A counter exists only once something has been taken from it, and ceases to exist by itself
//! when nothing that was taken counts any longer; a fixed window lasts its length even if everything has been
//! given back.

pub(crate) mod backend;
mod breaker;
mod charge_time;
pub(crate) mod fallback;
mod memory;
#[cfg(not(feature = "redis"))]
mod no_redis;
mod outage;
mod recovery;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod remote;
mod turn;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

pub(crate) use self::charge_time::ChargeTime;
pub use self::memory::MemoryStore;
#[cfg(not(feature = "redis"))]
pub(crate) use self::no_redis::{LateCheck, Ticket};
#[cfg(feature = "redis")]
pub(crate) use self::redis::{LateCheck, Ticket};
pub use crate::algorithm::Reading;

use crate::algorithm::Algorithm;
use crate::clock::Clock;
use crate::error::StoreError;
use crate::quota::Quota;

/// A place where counters live.
///
/// A store of your own goes into [`Builder::store`](crate::Builder::store). Its
/// [`apply`](Store::apply) must be atomic: see the [model](self#the-model).
///
/// ```
/// use std::time::Duration;
/// use axum_rate_limit::store::{Counter, Operation, Outcome, Reading, Store};
/// use axum_rate_limit::StoreError;
///
/// /// Has never seen anyone before.
/// struct Oblivious;
///
/// impl Store for Oblivious {
///     async fn apply(&self, operation: Operation, counters: &[Counter<'_>]) -> Result<Outcome, StoreError> {
///         let fits = |counter: &Counter<'_>| counter.cost <= counter.quota.limit();
///         let policy_fits = |policy| counters.iter().all(|counter| counter.policy != policy || fits(counter));
///         let taken = match operation {
///             Operation::Take => counters.iter().all(|counter| fits(counter) || counter.shadow),
///             Operation::Add | Operation::GiveBack => true,
///             _ => false,
///         };
///         let fresh = counters.iter().map(|counter| {
///             let (limit, window) = (counter.quota.limit(), counter.quota.window());
///             let charged = match operation {
///                 // A policy in shadow lets pass what it is not charged.
///                 Operation::Take => taken && policy_fits(counter.policy),
///                 operation => operation == Operation::Add,
///             };
///             let used = if charged { counter.cost } else { 0 };
///             let reset = if used > 0 { window } else { Duration::ZERO };
///             // Nothing that fits has to wait, and what costs more than the quota waits in vain.
///             let wait = fits(counter).then_some(Duration::ZERO);
///             Reading::new(fits(counter), limit.saturating_sub(used), reset, wait)
///         });
///         Ok(Outcome::new(taken, fresh))
///     }
/// }
/// ```
pub trait Store: Send + Sync + 'static {
    /// Applies `operation` to all of `counters` at one instant.
    ///
    /// If there are no counters, this changes nothing and tells whether the store is ready to serve. A store
    /// that has lost its connection restores it then, and only then.
    fn apply(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send;

    /// Releases connections and the like. [`apply`](Self::apply) is not called afterwards.
    fn close(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// What a store is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Charge the counters, if all policies that are not in shadow allow. A policy in shadow is charged if it fits.
    Take,
    /// Tell where the counters stand, and change nothing.
    Peek,
    /// Charge all counters, whether they allow or not.
    Add,
    /// Give the cost back to all counters, to each at most what has been taken from it, and what still
    /// [counts](Counter::charge_lasts).
    GiveBack,
    /// Forget the counters.
    Reset,
}

/// One counter: a quota, who shares it, and how much of it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counter<'a> {
    /// Who shares the quota, with the limiter's prefix: printable ASCII, with a Redis hash tag. The counters of
    /// one policy have the same key and differ in the window of their quotas. A counter is identified by its
    /// key, window and kind of algorithm, but not by its limit: if that changes, what has been counted is kept (of a
    /// token bucket, the time until it is full).
    pub key: &'a str,
    /// The quota.
    pub quota: Quota,
    /// How the quota is counted.
    pub algorithm: Algorithm,
    /// How much of the quota is asked for.
    pub cost: u32,
    /// The number of its policy among those that are asked together.
    pub policy: usize,
    /// Whether that policy is in shadow: charged, but never denying.
    pub shadow: bool,
    /// For a [`GiveBack`](Operation::GiveBack): how long what is given back still counts, at most. What counts longer
    /// was charged later, to another window say, and must not be given back in its place. `Duration::MAX` if that is
    /// not known.
    pub charge_lasts: Duration,
    /// Whether other requests may ask for it with another limit.
    pub(crate) varies: bool,
}

impl<'a> Counter<'a> {
    /// Creates a counter of a fixed window, of which one unit is asked for, and not in shadow.
    pub fn new(key: &'a str, quota: Quota) -> Self {
        let algorithm = Algorithm::FixedWindow;
        let charge_lasts = Duration::MAX;
        Self { key, quota, algorithm, cost: 1, policy: 0, shadow: false, charge_lasts, varies: false }
    }

    /// Sets how the quota is counted.
    #[must_use]
    pub fn algorithm(self, algorithm: Algorithm) -> Self {
        Self { algorithm, ..self }
    }

    /// Sets how much of the quota is asked for.
    #[must_use]
    pub fn cost(self, cost: u32) -> Self {
        Self { cost, ..self }
    }

    /// Sets how long what is given back still counts.
    #[must_use]
    pub fn charge_lasts(self, charge_lasts: Duration) -> Self {
        Self { charge_lasts, ..self }
    }
}

/// What a store answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    taken: bool,
    /// Whether it was decided without the store: by this process's memory, or by nobody, in which case there are
    /// no readings.
    degraded: bool,
    readings: SmallVec<[Reading; 2]>,
}

impl Outcome {
    /// Creates an outcome from whether the counters were charged, and where each stands afterwards: one reading
    /// per counter, in the order in which they were asked for. The readings say whether a request passes.
    pub fn new(taken: bool, readings: impl IntoIterator<Item = Reading>) -> Self {
        Self { taken, degraded: false, readings: readings.into_iter().collect() }
    }

    /// Creates the outcome of one counter.
    pub(crate) fn of_one(taken: bool, reading: Reading) -> Self {
        let mut readings = SmallVec::new();
        readings.push(reading);
        Self { taken, degraded: false, readings }
    }

    pub(crate) fn degraded(self) -> Self {
        Self { degraded: true, ..self }
    }

    pub(crate) fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// Whether a counter had too little left.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.readings.iter().any(|reading| !reading.fits)
    }

    /// Whether the request was denied, as far as the counters say.
    pub(crate) fn is_denial(&self) -> bool {
        !self.taken && self.is_exceeded()
    }

    /// Removes the first `count` readings, or as many as there are, and returns them.
    pub(crate) fn split_off(&mut self, count: usize) -> Self {
        if count >= self.readings.len() {
            return Self { readings: std::mem::take(&mut self.readings), ..*self };
        }
        Self { readings: self.readings.drain(..count).collect(), ..*self }
    }

    /// Whether all counters are known to have been charged.
    pub(crate) fn is_charged(&self) -> bool {
        self.taken
            && !self.readings.is_empty()
            && self.readings.iter().all(|reading| reading.fits && reading.known)
    }

    /// Returns the same outcome, of counters that have room.
    pub(crate) fn with_room(mut self) -> Self {
        for reading in &mut self.readings {
            (reading.fits, reading.retry_after) = (true, Some(Duration::ZERO));
        }
        self
    }

    /// Updates where the counters stand, from a `later` outcome of the same counters.
    pub(crate) fn update(&mut self, later: &Self) {
        for (reading, later) in self.readings.iter_mut().zip(&later.readings) {
            (reading.remaining, reading.reset) = (later.remaining, later.reset);
        }
    }

    /// Whether the counters were charged, except those of a policy in shadow that does not fit.
    pub fn taken(&self) -> bool {
        self.taken
    }

    /// Returns where each counter stands.
    pub fn readings(&self) -> &[Reading] {
        &self.readings
    }
}

/// The settings of a store on a server.
#[cfg_attr(not(feature = "redis"), allow(dead_code))] // there is no such store then
pub(crate) struct Settings {
    /// The deadline of a decision.
    pub(crate) timeout: Duration,
    /// What all keys begin with.
    pub(crate) key_prefix: Arc<str>,
    pub(crate) deny_memory: bool,
    pub(crate) clock: Clock,
}

#[cfg(all(test, feature = "redis"))]
impl Settings {
    pub(crate) fn of_a_test() -> Self {
        let timeout = Duration::from_secs(1);
        Self { timeout, key_prefix: "rl:".into(), deny_memory: true, clock: Clock::default() }
    }
}

/// A [`Store`] of any type, for trait objects.
pub(crate) trait AnyStore: Send + Sync + 'static {
    fn apply<'a>(
        &'a self,
        operation: Operation,
        counters: &'a [Counter<'a>],
    ) -> BoxFuture<'a, Result<Outcome, StoreError>>;

    fn close(&self) -> BoxFuture<'_, ()>;
}

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl<S: Store> AnyStore for S {
    fn apply<'a>(
        &'a self,
        operation: Operation,
        counters: &'a [Counter<'a>],
    ) -> BoxFuture<'a, Result<Outcome, StoreError>> {
        Box::pin(Store::apply(self, operation, counters))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(Store::close(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_knows_is_no_charge_of_its_policy() {
        let reading = Reading::new(true, 1, Duration::ZERO, Some(Duration::ZERO));
        let unknown = Reading { known: false, ..reading };
        let mut outcome = Outcome::new(true, [reading, reading, unknown, reading, reading]);
        let parts = [1, 2, 2].map(|count| outcome.split_off(count));
        assert_eq!(parts.each_ref().map(|part| part.readings().len()), [1, 2, 2]);
        assert_eq!(parts.map(|part| part.is_charged()), [true, false, true]);
    }
}
