//! Where counters live: the trait, and the model that every store obeys.
//!
//! # The model: fixed window
//!
//! A counter is `(used, ends)`. It does not exist before its first request and after `ends`. One
//! call of a store looks at all counters it is given, at one instant `now`, and then:
//!
//! ```text
//! used(c)   = 0 if c does not exist, else c.used
//! allowed   = for all c: used(c) + cost(c) <= limit(c)
//! if allowed, for all c with cost(c) > 0:
//!     if c does not exist: c = (cost(c), now + window(c))      the first request opens the window
//!     else:                c.used = c.used + cost(c)           the window's end stays
//! ```
//!
//! So what is denied takes nothing and extends nothing, and either all counters are charged or none.
//! It is the article's `INCR` and `EXPIRE`, made atomic. In any time as long as a window at most
//! `2 × limit` requests pass, half of them just before its end and half just after.

pub(crate) mod guarded;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;

use std::pin::Pin;
use std::time::Duration;

use smallvec::SmallVec;

use crate::error::StoreError;
use crate::quota::Quota;

/// Where counters live.
///
/// A store of your own goes into [`Builder::store`](crate::Builder::store). It has one method, which
/// must be atomic: see the [model](self#the-model-fixed-window).
///
/// ```
/// use axum_rate_limit::store::{Counter, Operation, Outcome, Reading, Store};
/// use axum_rate_limit::StoreError;
///
/// /// Has never seen anyone before.
/// struct Oblivious;
///
/// impl Store for Oblivious {
///     async fn apply(&self, _: Operation, counters: &[Counter<'_>]) -> Result<Outcome, StoreError> {
///         let fresh = counters.iter().map(|counter| Reading {
///             used: counter.cost.into(),
///             reset: counter.quota.window(),
///         });
///         Ok(Outcome::new(true, fresh))
///     }
/// }
/// ```
pub trait Store: Send + Sync + 'static {
    /// Applies `operation` to all of `counters` at one instant.
    ///
    /// Without counters it changes nothing, and tells whether the store is ready to serve; a store
    /// that has lost its connection restores it then, and only then.
    fn apply(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send;

    /// Gives up connections and the like; [`apply`](Self::apply) is not called afterwards.
    fn close(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// What a store is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Charge all counters, if all of them allow.
    Take,
    /// Tell where the counters stand, and change nothing.
    Peek,
    /// Forget the counters.
    Reset,
}

/// One counter: a quota, whose it is, and how much of it is asked for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Counter<'a> {
    /// Who shares the quota, with the limiter's prefix: printable ASCII, with a Redis hash tag. The
    /// counters of one policy have the same key and differ in the window of their quotas; a counter
    /// is told by both. The limit is no part of it: a changed one keeps what has been counted.
    pub key: &'a str,
    /// The quota.
    pub quota: Quota,
    /// How much of the quota is asked for.
    pub cost: u32,
}

impl<'a> Counter<'a> {
    pub(crate) fn new(key: &'a str, quota: Quota, cost: u32) -> Self {
        Self { key, quota, cost }
    }
}

/// What a store answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    taken: bool,
    readings: SmallVec<[Reading; 2]>,
}

impl Outcome {
    /// Whether the counters were charged, and where each of them stands afterwards, in the order in
    /// which they were asked for.
    pub fn new(taken: bool, readings: impl IntoIterator<Item = Reading>) -> Self {
        Self { taken, readings: readings.into_iter().collect() }
    }

    /// Whether the counters were charged.
    pub fn taken(&self) -> bool {
        self.taken
    }

    /// Where each counter stands.
    pub fn readings(&self) -> &[Reading] {
        &self.readings
    }
}

/// Where a counter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// How much is taken.
    pub used: u64,
    /// After how long nothing of it will be; zero if nothing is taken now.
    pub reset: Duration,
}

/// A [`Store`] of any kind.
pub(crate) trait AnyStore: Send + Sync + 'static {
    fn apply<'a>(
        &'a self,
        operation: Operation,
        counters: &'a [Counter<'a>],
    ) -> Boxed<'a, Result<Outcome, StoreError>>;

    fn close(&self) -> Boxed<'_, ()>;
}

pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl<S: Store> AnyStore for S {
    fn apply<'a>(
        &'a self,
        operation: Operation,
        counters: &'a [Counter<'a>],
    ) -> Boxed<'a, Result<Outcome, StoreError>> {
        Box::pin(Store::apply(self, operation, counters))
    }

    fn close(&self) -> Boxed<'_, ()> {
        Box::pin(Store::close(self))
    }
}
