//! Asks a store outside of this process, with a deadline for each call.

use std::sync::Arc;
use std::time::Duration;

use super::backend::Backend;
use super::breaker::Breaker;
use super::{Counter, LateCheck, Operation, Outcome, Ticket};
use crate::error::StoreError;

/// The state of a check once it has been [begun](Remote::begin).
pub(crate) enum Begun {
    /// It is decided.
    Decided(Result<Outcome, StoreError>),
    /// The store has been asked. Its answer has to be waited for, and then [concluded](Remote::conclude).
    #[cfg_attr(not(feature = "redis"), allow(dead_code))] // no other store gives tickets
    Asked(Ticket),
    /// The store has to be [asked](Remote::apply) by a future of its own.
    Unasked,
}

/// What came of a check.
pub(crate) struct Concluded {
    pub(crate) outcome: Result<Outcome, StoreError>,
    /// What is left of the check if the store may still charge it, because it was late.
    pub(crate) late: Option<LateCheck>,
}

impl Concluded {
    /// The store was not late, or was not asked.
    pub(crate) fn in_time(outcome: Result<Outcome, StoreError>) -> Self {
        Self { outcome, late: None }
    }
}

/// A store and its deadline.
pub(super) struct Remote {
    breaker: Arc<Breaker>,
    timeout: Duration,
}

impl Remote {
    pub(super) fn new(backend: Backend, timeout: Duration) -> Self {
        Self { breaker: Breaker::of(backend), timeout }
    }

    /// Returns what knows whether the store is there.
    pub(super) fn breaker(&self) -> &Arc<Breaker> {
        &self.breaker
    }

    #[cfg_attr(not(feature = "redis"), allow(unused_variables))] // no other store is asked this way
    #[inline(never)] // it is long, and counting in memory does not need it
    pub(super) fn begin(&self, operation: Operation, counters: &[Counter<'_>]) -> Begun {
        match self.breaker.backend() {
            #[cfg(feature = "redis")]
            Backend::Redis(store) => {
                let check = store.check(operation, counters);
                if let Some(outcome) = store.recall(&check) {
                    return Begun::Decided(Ok(outcome));
                }
                if let Err(error) = self.breaker.ensure_usable() {
                    return Begun::Decided(Err(error));
                }
                match store.begin(&check) {
                    Ok(ticket) => Begun::Asked(ticket),
                    Err(error) => Begun::Decided(self.breaker.noted(Err(error))),
                }
            }
            #[cfg(feature = "redis-cluster")]
            Backend::Cluster(cluster) => match cluster.recall(operation, counters) {
                Some(outcome) => Begun::Decided(Ok(outcome)),
                None => Begun::Unasked,
            },
            Backend::Custom(_) => Begun::Unasked,
        }
    }

    /// Returns the outcome of what was asked. It does not affect the breaker: the store reports by itself that
    /// it is lost, and by the time a caller hears of that here, the store may be back.
    // No other store is asked this way.
    #[cfg_attr(not(feature = "redis"), allow(unused_variables, clippy::unused_self))]
    pub(super) fn conclude(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
        ticket: &Ticket,
    ) -> Concluded {
        match self.breaker.backend() {
            #[cfg(feature = "redis")]
            Backend::Redis(store) => {
                Concluded { outcome: ticket.outcome(operation, counters), late: store.late(ticket) }
            }
            // The others give no tickets.
            _ => Concluded::in_time(Err(StoreError::Closed)),
        }
    }

    pub(super) async fn apply(&self, operation: Operation, counters: &[Counter<'_>]) -> Concluded {
        if let Err(error) = self.breaker.ensure_usable() {
            return Concluded::in_time(Err(error));
        }
        let (result, late) = match self.breaker.backend() {
            // Redis keeps the deadline by itself, with one timer for all checks that share a call.
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.apply(operation, counters).await,
            // Boxed, since this future is much larger than the others.
            #[cfg(feature = "redis-cluster")]
            Backend::Cluster(cluster) => Box::pin(cluster.apply(operation, counters)).await,
            Backend::Custom(store) => {
                let result = tokio::time::timeout(self.timeout, store.apply(operation, counters)).await;
                let result = result.unwrap_or(Err(StoreError::Timeout(self.timeout)));
                (result.and_then(|outcome| complete(outcome, counters)), None)
            }
        };
        Concluded { outcome: self.breaker.noted(result), late }
    }
}

/// Refuses the outcome of a store of the user's that does not tell of each counter.
fn complete(outcome: Outcome, counters: &[Counter<'_>]) -> Result<Outcome, StoreError> {
    if outcome.readings().len() == counters.len() {
        return Ok(outcome);
    }
    Err(StoreError::Refused("it answered for more counters or fewer than it was asked for".into()))
}
