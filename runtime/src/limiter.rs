//! The core of a limiter: asks the store, and does what is to be done when the store fails.

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;

use crate::ask::{Ask, counters, only_counter};
use crate::clock::Clock;
use crate::error::StoreError;
use crate::in_force::InForce;
use crate::key::{Key, NetworkBits, Proxies};
use crate::log_throttle::OncePerPolicy;
use crate::policy::Policy;
use crate::store::fallback::{OnStoreError, StoreWithFallback};
use crate::store::remote::{Begun, Concluded};
use crate::store::{Counter, Operation, Outcome, Ticket};

/// Makes decisions about keys.
pub(crate) struct Limiter {
    pub(crate) store: StoreWithFallback,
    pub(crate) clock: Clock,
    pub(crate) key_prefix: Cow<'static, str>,
    pub(crate) network_bits: NetworkBits,
    pub(crate) proxies: Proxies,
    pub(crate) on_store_error: OnStoreError,
    pub(crate) policies: InForce,
}

impl Limiter {
    /// What to ask when there is no request.
    pub(crate) fn ask<'p>(&self, policy: &'p Policy, key: impl Into<Key>) -> Ask<'p> {
        self.warn_of_conflict(policy);
        let individual_quotas = policy.individual_quotas().map(Box::new);
        let policy = self.policies.effective(policy);
        let key = key.into();
        self.warn_of_misfit(&key, &policy);
        let key = key.in_store(&self.key_prefix, &policy, self.network_bits);
        Ask { individual_quotas, key, cost: policy.fixed_cost(), policy, charge_lasts: None }
    }

    /// Logs an error if `policy` has the name of a declared one and is another rule: then they share counters.
    pub(crate) fn warn_of_conflict(&self, policy: &Policy) {
        static TOLD: OncePerPolicy = OncePerPolicy::new();
        if let Some(conflict) = self.policies.conflict(policy)
            && TOLD.is_first(policy.name())
        {
            tracing::error!(
                "{conflict}; `Builder::declare` finds this at start-up (logged once for each policy)"
            );
        }
    }

    /// Warns of a key that no request has that an attribute limits, so that what it counts is counted apart.
    fn warn_of_misfit(&self, key: &Key, policy: &Policy) {
        static TOLD: OncePerPolicy = OncePerPolicy::new();
        if let Some(misfit) = key.misfit(policy)
            && self.policies.is_of_attribute(policy.name())
            && TOLD.is_first(policy.name())
        {
            tracing::warn!(
                policy = policy.name(),
                "a key does not fit its policy, and shares no counter with the requests that an attribute limits: \
                 {misfit} (logged once for each policy)"
            );
        }
    }

    /// Applies `operation` to all of `asks` in one call of the store.
    pub(crate) async fn decide(&self, operation: Operation, asks: &[Ask<'_>]) -> Concluded {
        self.decide_or(operation, asks, self.strictest(asks)).await
    }

    /// Applies `operation` with `on_error` as what to do when the store fails.
    async fn decide_or(&self, operation: Operation, asks: &[Ask<'_>], on_error: OnStoreError) -> Concluded {
        let counters = counters(asks);
        let concluded = match self.store.begin(operation, &counters, || on_error) {
            Begun::Decided(outcome) => return Concluded::in_time(outcome),
            Begun::Asked(mut ticket) => {
                poll_fn(|context| ticket.poll(context)).await;
                self.store.conclude(operation, &counters, &ticket, || on_error)
            }
            Begun::Unasked => self.store.apply(operation, &counters, on_error).await,
        };
        match operation {
            Operation::Take | Operation::Add => renounce_denied(&counters, concluded),
            _ => concluded,
        }
    }

    /// Gives back what was charged in the store. If the store is unavailable by now, the memory does not take its
    /// place.
    pub(crate) async fn give_back(&self, asks: &[Ask<'_>]) -> Result<Outcome, StoreError> {
        self.decide_or(Operation::GiveBack, asks, OnStoreError::Deny).await.outcome
    }

    /// Returns `error` if it is one to the policies of `asks`. The others put up with what could not be given back.
    pub(crate) fn excuse(&self, asks: &[Ask<'_>], error: StoreError) -> Result<Outcome, StoreError> {
        match self.strictest(asks) {
            OnStoreError::Deny => Err(error),
            OnStoreError::Local | OnStoreError::Allow => Ok(Outcome::new(false, []).degraded()),
        }
    }

    /// Gives back what was charged in this process while the store was unavailable.
    pub(crate) fn give_back_in_process(&self, asks: &[Ask<'_>]) -> Outcome {
        self.store.give_back_in_process(&counters(asks))
    }

    /// Charges all of `asks` in one call of the store, if all of them have room, or begins to.
    pub(crate) fn begin<'a, 'p: 'a>(&self, asks: impl IntoIterator<Item = &'a Ask<'p>> + Clone) -> Begun {
        // Most requests ask one policy with one quota.
        if let Some(counter) = only_counter(asks.clone()) {
            return self.store.begin(Operation::Take, &[counter], || self.strictest(asks));
        }
        self.begin_all(asks)
    }

    #[inline(never)] // most requests ask for one counter
    fn begin_all<'a, 'p: 'a>(&self, asks: impl IntoIterator<Item = &'a Ask<'p>> + Clone) -> Begun {
        let counters = counters(asks.clone());
        self.store.begin(Operation::Take, &counters, || self.strictest(asks))
    }

    /// Returns what the store has answered to what was [begun](Self::begin) for `asks`.
    pub(crate) fn conclude<'a, 'p: 'a>(
        &self,
        asks: impl IntoIterator<Item = &'a Ask<'p>> + Clone,
        ticket: &Ticket,
    ) -> Concluded {
        let counters = counters(asks.clone());
        let concluded = self.store.conclude(Operation::Take, &counters, ticket, || self.strictest(asks));
        renounce_denied(&counters, concluded)
    }

    /// Does what [`begin`](Self::begin) has left unasked.
    pub(crate) async fn ask_store(&self, asks: &[Ask<'_>]) -> Concluded {
        let counters = counters(asks);
        let concluded = self.store.apply(Operation::Take, &counters, self.strictest(asks)).await;
        renounce_denied(&counters, concluded)
    }

    pub(crate) async fn reset(&self, asks: &[Ask<'_>]) -> Result<(), StoreError> {
        self.store.reset(&counters(asks)).await
    }

    /// What to do when the store fails: the strictest choice of the policies that can deny.
    fn strictest<'a, 'p: 'a>(&self, asks: impl IntoIterator<Item = &'a Ask<'p>>) -> OnStoreError {
        let can_deny =
            asks.into_iter().filter(|ask| !ask.policy.shadow && ask.cost > 0 && !ask.quotas().is_empty());
        let of = |ask: &Ask<'_>| ask.policy.on_store_error.unwrap_or(self.on_store_error);
        can_deny.map(of).max_by_key(|choice| choice.strictness()).unwrap_or(OnStoreError::Allow)
    }
}

/// Sees to it that what is denied because the store was late is not charged there.
fn renounce_denied(counters: &[Counter<'_>], concluded: Concluded) -> Concluded {
    let Concluded { outcome, mut late } = concluded;
    let is_denied = outcome.as_ref().map_or(true, Outcome::is_denial);
    if is_denied && let Some(late) = late.take() {
        late.renounce(0, counters);
    }
    Concluded { outcome, late }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store: _, clock: _, key_prefix, network_bits, proxies, on_store_error, policies } = self;
        f.debug_struct("Limiter")
            .field("key_prefix", key_prefix)
            .field("network_bits", network_bits)
            .field("proxies", proxies)
            .field("on_store_error", on_store_error)
            .field("amended", policies)
            .finish_non_exhaustive()
    }
}
