//! Policy × key → decision.

use std::borrow::Cow;
use std::fmt;

use smallvec::SmallVec;

use crate::decision::Decision;
use crate::error::StoreError;
use crate::key::{Key, Prefixes, Proxies};
use crate::policy::Policy;
use crate::store::guarded::{Answer, Guarded, OnStoreError};
use crate::store::{Counter, Operation};

/// What one request costs, until a policy says otherwise.
const COST: u32 = 1;

/// Decides; knows nothing of HTTP.
pub(crate) struct Limiter {
    pub(crate) store: Guarded,
    pub(crate) key_prefix: Cow<'static, str>,
    pub(crate) prefixes: Prefixes,
    pub(crate) proxies: Proxies,
    pub(crate) on_store_error: OnStoreError,
}

/// One policy asked about one key.
pub(crate) type Ask<'a> = (&'a Policy, Key);
/// The answers, in the order of the questions.
pub(crate) type Decisions = SmallVec<[Decision; 1]>;

impl Limiter {
    /// Decides all of `asks` in one call of the store: all are charged, or none.
    pub(crate) async fn take(&self, asks: &[Ask<'_>]) -> Result<Decisions, StoreError> {
        self.decide(Operation::Take, asks).await
    }

    /// Tells how [`take`](Self::take) would decide, and charges nothing.
    pub(crate) async fn peek(&self, asks: &[Ask<'_>]) -> Result<Decisions, StoreError> {
        self.decide(Operation::Peek, asks).await
    }

    pub(crate) async fn reset(&self, asks: &[Ask<'_>]) -> Result<(), StoreError> {
        let keys = self.keys(asks);
        self.store.reset(&counters(asks, &keys)).await
    }

    async fn decide(&self, operation: Operation, asks: &[Ask<'_>]) -> Result<Decisions, StoreError> {
        let keys = self.keys(asks);
        let counters = counters(asks, &keys);
        let (outcome, degraded) = match self.store.apply(operation, &counters, self.on_store_error).await? {
            Answer::Decided { outcome, degraded } => (outcome, degraded),
            Answer::Unchecked => {
                return Ok(asks.iter().map(|(policy, _)| Decision::unchecked(policy)).collect());
            }
        };
        let mut readings = outcome.readings();
        let decision = |(policy, _): &Ask<'_>| {
            let (own, others) = readings.split_at(policy.quotas().len().min(readings.len()));
            readings = others;
            Decision::new(policy, COST, outcome.taken(), degraded, own)
        };
        Ok(asks.iter().map(decision).collect())
    }

    fn keys(&self, asks: &[Ask<'_>]) -> SmallVec<[String; 1]> {
        let key = |(policy, key): &Ask<'_>| key.in_store(&self.key_prefix, policy, self.prefixes);
        asks.iter().map(key).collect()
    }
}

fn counters<'a>(asks: &[Ask<'_>], keys: &'a [String]) -> SmallVec<[Counter<'a>; 2]> {
    let counters = |((policy, _), key): (&Ask<'_>, &'a String)| {
        let quotas: SmallVec<[_; 2]> = policy.quotas().iter().copied().collect();
        quotas.into_iter().map(move |quota| Counter::new(key, quota, COST))
    };
    asks.iter().zip(keys).flat_map(counters).collect()
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store: _, key_prefix, prefixes, proxies, on_store_error } = self;
        f.debug_struct("Limiter")
            .field("key_prefix", key_prefix)
            .field("prefixes", prefixes)
            .field("proxies", proxies)
            .field("on_store_error", on_store_error)
            .finish_non_exhaustive()
    }
}
