//! Policy × key → decision.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::decision::Decision;
use crate::error::StoreError;
use crate::key::{Key, Prefixes, Proxies, Text};
use crate::policy::Policy;
use crate::quota::{Quota, Quotas};
use crate::store::guarded::{Answer, Guarded, OnStoreError};
use crate::store::{Counter, Operation};

/// Decides; knows nothing of HTTP.
pub(crate) struct Limiter {
    pub(crate) store: Guarded,
    pub(crate) key_prefix: Cow<'static, str>,
    pub(crate) prefixes: Prefixes,
    pub(crate) proxies: Proxies,
    pub(crate) on_store_error: OnStoreError,
    /// By name, the policies that are not as declared.
    pub(crate) amended: HashMap<&'static str, Arc<Policy>>,
}

/// A policy as it is declared, or as it is amended.
#[derive(Clone, Debug)]
pub(crate) enum Effective<'p> {
    Declared(&'p Policy),
    Amended(Arc<Policy>),
}

impl Deref for Effective<'_> {
    type Target = Policy;

    fn deref(&self) -> &Policy {
        match self {
            Self::Declared(policy) => policy,
            Self::Amended(policy) => policy,
        }
    }
}

/// One policy asked about one key.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'p> {
    pub(crate) policy: Effective<'p>,
    /// Those of whoever asks, if they are not those of the policy.
    pub(crate) own_quotas: Option<Box<Quotas>>,
    pub(crate) key: Text,
    pub(crate) cost: u32,
}

impl Ask<'_> {
    fn quotas(&self) -> &[Quota] {
        self.own_quotas.as_ref().map_or(self.policy.quotas(), |quotas| quotas.as_slice())
    }
}

/// The answers, in the order of the questions.
pub(crate) type Answers = SmallVec<[Decision; 1]>;

impl Limiter {
    /// `policy` as declared, or as amended.
    pub(crate) fn effective<'p>(&self, policy: &'p Policy) -> Effective<'p> {
        // Most programs amend nothing.
        let amended = if self.amended.is_empty() { None } else { self.amended.get(policy.name()) };
        amended.map_or(Effective::Declared(policy), |amended| Effective::Amended(Arc::clone(amended)))
    }

    /// What to ask where there is no request.
    pub(crate) fn ask<'p>(&self, policy: &'p Policy, key: impl Into<Key>) -> Ask<'p> {
        let policy = self.effective(policy);
        let key = key.into().in_store(&self.key_prefix, &policy, self.prefixes);
        Ask { own_quotas: None, key, cost: policy.fixed_cost(), policy }
    }

    /// Applies `operation` to all of `asks` in one call of the store.
    pub(crate) async fn decide(&self, operation: Operation, asks: &[Ask<'_>]) -> Result<Answers, StoreError> {
        match self.decide_now(operation, asks) {
            Some(decisions) => Ok(decisions),
            None => self.decide_later(operation, asks).await,
        }
    }

    /// [`decide`](Self::decide), if that needs no answer from elsewhere.
    pub(crate) fn decide_now(&self, operation: Operation, asks: &[Ask<'_>]) -> Option<Answers> {
        let counters = counters(asks);
        if counters.is_empty() {
            return Some(
                asks.iter().map(|ask| Decision::new(&ask.policy, ask.cost, false, &[], &[])).collect(),
            );
        }
        let answer = self.store.apply_now(operation, &counters)?;
        Some(decisions(operation, asks, &answer))
    }

    /// [`decide`](Self::decide) by a store that has to be asked.
    pub(crate) async fn decide_later(
        &self,
        operation: Operation,
        asks: &[Ask<'_>],
    ) -> Result<Answers, StoreError> {
        let answer = self.store.apply(operation, &counters(asks), self.strictest(asks)).await?;
        Ok(decisions(operation, asks, &answer))
    }

    pub(crate) async fn reset(&self, asks: &[Ask<'_>]) -> Result<(), StoreError> {
        self.store.reset(&counters(asks)).await
    }

    /// What to do when the store fails: what the most careful of the policies asks for that can deny.
    fn strictest(&self, asks: &[Ask<'_>]) -> OnStoreError {
        let can_deny = asks.iter().filter(|ask| !ask.policy.shadow && ask.cost > 0);
        let of = |ask: &Ask<'_>| ask.policy.on_store_error.unwrap_or(self.on_store_error);
        can_deny.map(of).max_by_key(|choice| choice.strictness()).unwrap_or(OnStoreError::Allow)
    }
}

fn counters<'a>(asks: &'a [Ask<'_>]) -> SmallVec<[Counter<'a>; 2]> {
    let mut counters = SmallVec::new();
    for (index, ask) in asks.iter().enumerate() {
        let key = ask.key.as_str();
        counters.extend(ask.quotas().iter().map(|quota| Counter {
            key,
            quota: *quota,
            algorithm: ask.policy.algorithm,
            cost: ask.cost,
            policy: index,
            shadow: ask.policy.shadow,
        }));
    }
    counters
}

/// What each of `asks` is told.
fn decisions(operation: Operation, asks: &[Ask<'_>], answer: &Answer) -> Answers {
    let decisions: Answers = match answer {
        Answer::Decided { outcome, degraded } => {
            let mut readings = outcome.readings();
            let decision = |ask: &Ask<'_>| {
                let quotas = ask.quotas();
                let (own, others) = readings.split_at(quotas.len().min(readings.len()));
                readings = others;
                Decision::new(&ask.policy, ask.cost, *degraded, quotas, own)
            };
            asks.iter().map(decision).collect()
        }
        Answer::Unchecked => asks.iter().map(|ask| Decision::unchecked(&ask.policy, ask.cost)).collect(),
    };
    if operation == Operation::Take {
        decisions.iter().for_each(report);
    }
    decisions
}

/// Tells the log, and the metrics if there are some, what was decided.
fn report(decision: &Decision) {
    let outcome = match (decision.is_exceeded(), decision.is_shadowed()) {
        (false, _) => "allowed",
        (true, false) => "denied",
        (true, true) => "shadow_denied",
    };
    let (policy, degraded) = (decision.policy(), decision.is_degraded());
    tracing::debug!(policy, outcome, degraded, "rate limit asked");
    #[cfg(feature = "metrics")]
    {
        let degraded = if degraded { "true" } else { "false" };
        metrics::counter!("rate_limit_decisions_total", "policy" => policy, "outcome" => outcome, "degraded" => degraded)
            .increment(1);
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store: _, key_prefix, prefixes, proxies, on_store_error, amended } = self;
        f.debug_struct("Limiter")
            .field("key_prefix", key_prefix)
            .field("prefixes", prefixes)
            .field("proxies", proxies)
            .field("on_store_error", on_store_error)
            .field("amended", &amended.values())
            .finish_non_exhaustive()
    }
}
