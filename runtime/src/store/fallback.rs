//! A store that may be away, and this process's memory as its fallback.

use std::time::Duration;

use smallvec::SmallVec;

use super::backend::Backend;
use super::remote::{Begun, Concluded, Remote};
use super::{Counter, MemoryStore, Operation, Outcome, Ticket};
use crate::algorithm::Algorithm;
use crate::error::StoreError;
use crate::key;
use crate::log_throttle::LogThrottle;
use crate::quota::Quota;
use crate::telemetry;

/// What to do when the store fails, or is slower than the [timeout](crate::Builder::timeout).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnStoreError {
    /// Count the same policies in this process's memory. Each process then admits the whole limit, or its
    /// [share](crate::Builder::local_share).
    #[default]
    Local,
    /// Let everything pass.
    Allow,
    /// Deny everything: 503.
    Deny,
}

impl OnStoreError {
    /// Returns how careful the choice is: the more careful, the higher.
    pub(crate) fn strictness(self) -> u8 {
        match self {
            Self::Allow => 0,
            Self::Local => 1,
            Self::Deny => 2,
        }
    }
}

/// A store with its breaker and its fallback. If there is no remote store, the memory is the store.
pub(crate) struct StoreWithFallback {
    store: Option<Remote>,
    memory: MemoryStore,
    /// How much of each quota the memory admits when it stands in for the store.
    local_share: f64,
    complaints: LogThrottle,
    /// Complaints about checks that had no answer in time.
    delays: LogThrottle,
}

impl StoreWithFallback {
    pub(crate) fn memory(memory: MemoryStore) -> Self {
        let (complaints, delays) = (LogThrottle::new(), LogThrottle::new());
        Self { store: None, memory, local_share: 1.0, complaints, delays }
    }

    pub(crate) fn remote(
        backend: Backend,
        timeout: Duration,
        fallback: MemoryStore,
        local_share: f64,
    ) -> Self {
        Self { store: Some(Remote::new(backend, timeout)), local_share, ..Self::memory(fallback) }
    }

    /// Returns where the store is, for the log, unless it is this process's memory.
    pub(crate) fn location(&self) -> Option<String> {
        self.store.as_ref().map(|remote| remote.breaker().backend().location())
    }

    /// Whether the store, or a part of it, is known to be away, or the limiter is closed.
    pub(crate) fn is_away(&self) -> bool {
        self.store.as_ref().is_some_and(|remote| remote.breaker().is_away())
    }

    /// Whether the store is a cluster, which charges each key by itself.
    pub(crate) fn is_sharded(&self) -> bool {
        self.store.as_ref().is_some_and(|remote| remote.breaker().backend().is_sharded())
    }

    /// Connects.
    pub(crate) async fn start(&self) -> Result<(), StoreError> {
        match &self.store {
            Some(remote) => remote.breaker().start().await,
            None => Ok(()),
        }
    }

    /// Serves without the store, which is away: it is left alone, and probed until it answers.
    pub(crate) fn start_without(&self, error: &StoreError) {
        if let Some(remote) = &self.store {
            remote.breaker().start_without(error);
        }
    }

    /// Applies `operation` to `counters`, or begins to.
    pub(crate) fn begin(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
        on_error: impl FnOnce() -> OnStoreError,
    ) -> Begun {
        // A client without a limit has no counters.
        if counters.is_empty() {
            return Begun::Decided(Ok(Outcome::new(true, [])));
        }
        let outcome = match &self.store {
            None => self.memory.apply_now(operation, counters),
            Some(remote) => match remote.begin(operation, counters) {
                Begun::Decided(outcome) => outcome,
                other => return other,
            },
        };
        Begun::Decided(outcome.or_else(|error| self.fall_back(operation, counters, on_error(), error)))
    }

    /// Returns the outcome of what was begun for `counters`, once it is answered.
    pub(crate) fn conclude(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
        ticket: &Ticket,
        on_error: impl FnOnce() -> OnStoreError,
    ) -> Concluded {
        let Concluded { outcome, late } = match &self.store {
            Some(remote) => remote.conclude(operation, counters, ticket),
            None => Concluded::in_time(Err(StoreError::Closed)),
        };
        let outcome = outcome.or_else(|error| self.fall_back(operation, counters, on_error(), error));
        Concluded { outcome, late }
    }

    /// Applies `operation` to `counters`, and waits for the store's answer.
    pub(crate) async fn apply(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
        on_error: OnStoreError,
    ) -> Concluded {
        let Concluded { outcome, late } = match &self.store {
            Some(remote) => remote.apply(operation, counters).await,
            None => Concluded::in_time(self.memory.apply_now(operation, counters)),
        };
        let outcome = outcome.or_else(|error| self.fall_back(operation, counters, on_error, error));
        Concluded { outcome, late }
    }

    /// Gives back what the memory was charged in place of the store.
    pub(crate) fn give_back_in_process(&self, counters: &[Counter<'_>]) -> Outcome {
        self.memory.give_back(&self.share(counters)).degraded()
    }

    /// Decides where the store has failed.
    #[cold]
    fn fall_back(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
        on_error: OnStoreError,
        error: StoreError,
    ) -> Result<Outcome, StoreError> {
        self.complain(&error, counters);
        match on_error {
            OnStoreError::Allow => Ok(Outcome::new(false, []).degraded()),
            OnStoreError::Local if self.store.is_some() => {
                let share = self.share(counters);
                let outcome = self.memory.apply_now(operation, &share);
                outcome.map(Outcome::degraded).inspect_err(|error| self.complain(error, counters))
            }
            OnStoreError::Local | OnStoreError::Deny => Err(error),
        }
    }

    /// Returns `counters` with the limits that this process may admit by itself.
    fn share<'k>(&self, counters: &[Counter<'k>]) -> SmallVec<[Counter<'k>; 2]> {
        let share = |counter: &Counter<'k>| {
            // A cost that fits the whole limit must fit some time.
            let depth = |limit: u32| self.share_of(limit).max(counter.cost.min(limit));
            let limit = counter.quota.limit();
            let (limit, algorithm) = match counter.algorithm {
                // The limit is also the rate, by which charges of all costs are measured.
                Algorithm::TokenBucket { burst } => {
                    let burst = Some(depth(burst.unwrap_or(limit)));
                    (self.share_of(limit), Algorithm::TokenBucket { burst })
                }
                other => (depth(limit), other),
            };
            Counter { quota: counter.quota.with_limit(limit), algorithm, ..*counter }
        };
        counters.iter().map(share).collect()
    }

    /// Returns `quotas` with the limits that refill the buckets of this process when it stands in for the store.
    pub(crate) fn shares(&self, quotas: &[Quota]) -> SmallVec<[Quota; 2]> {
        quotas.iter().map(|quota| quota.with_limit(self.share_of(quota.limit()))).collect()
    }

    /// Returns this process's share of `limit`, rounded up, so that it is never 0.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a share is more than 0, and at most 1
    fn share_of(&self, limit: u32) -> u32 {
        (f64::from(limit) * self.local_share).ceil() as u32
    }

    /// Forgets `counters` here and in the store. If the store can't be told, that is an error, whatever the
    /// limiter does when the store fails.
    pub(crate) async fn reset(&self, counters: &[Counter<'_>]) -> Result<(), StoreError> {
        if counters.is_empty() {
            return Ok(());
        }
        self.memory.apply_now(Operation::Reset, counters)?;
        match &self.store {
            Some(remote) => remote.apply(Operation::Reset, counters).await.outcome.map(|_| ()),
            None => Ok(()),
        }
    }

    pub(crate) async fn close(&self) {
        if let Some(remote) = &self.store {
            remote.breaker().close().await;
        }
    }

    /// Logs the failures that somebody has to do something about. That a store is away is logged when it goes.
    fn complain(&self, error: &StoreError, counters: &[Counter<'_>]) {
        telemetry::failed(error);
        match error {
            StoreError::Refused(_) | StoreError::Full { .. } | StoreError::Overloaded => {
                if let Some(checks) = self.complaints.occurs() {
                    let (error, policies) = (error.in_one_line(), policy_names(counters));
                    tracing::error!(
                        error,
                        policies,
                        checks,
                        "requests can't be counted (logged at most once in ten seconds)"
                    );
                }
            }
            StoreError::Timeout(_) => {
                if let Some(checks) = self.delays.occurs() {
                    let policies = policy_names(counters);
                    tracing::warn!(
                        %error,
                        policies,
                        checks,
                        "checks had no answer in time (logged at most once in ten seconds)"
                    );
                }
            }
            StoreError::Unreachable(_) | StoreError::Closed => {}
        }
    }
}

/// Returns the names of the policies that `counters` belong to, as their keys tell.
pub(crate) fn policy_names(counters: &[Counter<'_>]) -> String {
    let name = |counter: &Counter<'_>| key::policy_of(counter.key).map(str::to_owned);
    let mut names: Vec<String> = counters.iter().filter_map(name).collect();
    names.dedup();
    names.join(", ")
}
