//! Where counters live: the trait, and the model that every store obeys.
//!
//! # The model
//!
//! One call of a store looks at all counters it is given, at one instant, by the
//! [algorithm](crate::Algorithm) of each, and then charges all of them or none:
//!
//! ```text
//! fits(p)    = for all counters c of policy p: c.cost = 0, or c has that much left
//! passes     = for all policies p that are not in shadow: fits(p)
//! charged(p) = passes, and fits(p)
//! ```
//!
//! So what is denied takes nothing and extends nothing, and a policy in shadow is charged as if it
//! were asked, but holds nobody up. A counter that nothing is taken from does not exist, and one that
//! exists ceases to by itself, when nothing that was taken counts any longer; a fixed window that all has been given
//! back to lasts its length.

pub(crate) mod guarded;
mod memory;
mod outage;
mod recovery;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod remote;

use std::pin::Pin;
use std::time::Duration;

use smallvec::SmallVec;

pub use self::memory::MemoryStore;
pub use crate::algorithm::Reading;

use crate::algorithm::Algorithm;
use crate::clock::Clock;
use crate::error::StoreError;
use crate::quota::Quota;

/// Where counters live.
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
    /// Charge all counters, whether they allow or not.
    Add,
    /// Take back from all counters, from each at most what has been taken.
    GiveBack,
    /// Forget the counters.
    Reset,
}

/// One counter: a quota, whose it is, and how much of it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counter<'a> {
    /// Who shares the quota, with the limiter's prefix: printable ASCII, with a Redis hash tag. The
    /// counters of one policy have the same key and differ in the window of their quotas; a counter
    /// is told by key, window and kind of algorithm. The limit is no part of it: a changed one keeps
    /// what has been counted.
    pub key: &'a str,
    /// The quota.
    pub quota: Quota,
    /// How the quota is counted.
    pub algorithm: Algorithm,
    /// How much of the quota is asked for.
    pub cost: u32,
    /// Which of the policies that are asked together it belongs to.
    pub policy: usize,
    /// Whether that policy is in shadow: charged, but holding nobody up.
    pub shadow: bool,
    /// Whether others who ask for it may have another limit.
    pub(crate) varies: bool,
}

impl<'a> Counter<'a> {
    /// A counter of which one unit is asked for, by a fixed window and not in shadow.
    pub fn new(key: &'a str, quota: Quota) -> Self {
        let algorithm = Algorithm::FixedWindow;
        Self { key, quota, algorithm, cost: 1, policy: 0, shadow: false, varies: false }
    }

    /// The same, counted by `algorithm`.
    #[must_use]
    pub fn algorithm(self, algorithm: Algorithm) -> Self {
        Self { algorithm, ..self }
    }

    /// The same, of which `cost` is asked for.
    #[must_use]
    pub fn cost(self, cost: u32) -> Self {
        Self { cost, ..self }
    }
}

/// What a store answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    taken: bool,
    /// Whether it is not the store that has decided: this process's memory has, or nobody, and then there are
    /// no readings.
    degraded: bool,
    readings: SmallVec<[Reading; 2]>,
}

impl Outcome {
    /// Whether the counters were charged, and where each of them stands afterwards: a reading for each,
    /// in the order in which they were asked for. Whether a request passes is what the readings say.
    pub fn new(taken: bool, readings: impl IntoIterator<Item = Reading>) -> Self {
        Self { taken, degraded: false, readings: readings.into_iter().collect() }
    }

    /// The same for one counter.
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

    /// Takes the first `count` readings out of it, or as many as there are.
    pub(crate) fn split_off(&mut self, count: usize) -> Self {
        if count >= self.readings.len() {
            return Self { readings: std::mem::take(&mut self.readings), ..*self };
        }
        Self { readings: self.readings.drain(..count).collect(), ..*self }
    }

    /// Whether all counters were charged, as far as anybody knows.
    pub(crate) fn is_charged(&self) -> bool {
        self.taken
            && !self.readings.is_empty()
            && self.readings.iter().all(|reading| reading.fits && reading.known)
    }

    /// The same, of counters that deny nothing.
    pub(crate) fn with_room(mut self) -> Self {
        for reading in &mut self.readings {
            (reading.fits, reading.retry_after) = (true, Some(Duration::ZERO));
        }
        self
    }

    /// Where the same counters stand after they have been changed.
    pub(crate) fn update(&mut self, later: &Self) {
        for (reading, later) in self.readings.iter_mut().zip(&later.readings) {
            (reading.remaining, reading.reset) = (later.remaining, later.reset);
        }
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

/// What a store on a server is built with.
#[cfg_attr(not(feature = "redis"), allow(dead_code))] // there is no such store then
pub(crate) struct Settings {
    /// The deadline of a decision.
    pub(crate) timeout: Duration,
    pub(crate) deny_memory: bool,
    pub(crate) clock: Clock,
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
