//! Metrics, for the `metrics` facade (feature `metrics`). No label depends on what a request contains.

#![cfg_attr(not(feature = "metrics"), allow(unused_variables, clippy::needless_pass_by_value))]

use crate::error::StoreError;
use crate::policy::Policy;

/// Decisions by `policy`, `outcome` and `degraded`.
#[cfg(feature = "metrics")]
const DECISIONS: &str = "rate_limit_decisions_total";
/// Checks that the store, or the memory in its place, did not decide, by `kind`.
#[cfg(feature = "metrics")]
const STORE_ERRORS: &str = "rate_limit_store_errors_total";
/// 1 while the store is available, else 0.
#[cfg(feature = "metrics")]
const STORE_UP: &str = "rate_limit_store_up";

/// Counters in this process's memory.
#[cfg(feature = "metrics")]
const MEMORY_COUNTERS: &str = "rate_limit_memory_counters";

/// The verdict of one policy about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    Denied,
    /// Over the limit, but the policy is in shadow.
    ShadowDenied,
    /// Within the limit, but not charged, since another policy has denied the request.
    NotCharged,
    /// Denied without knowing whether it is within the limit, since the store has failed.
    Refused,
}

impl Verdict {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::ShadowDenied => "shadow_denied",
            Self::NotCharged => "not_charged",
            Self::Refused => "refused",
        }
    }
}

/// Describes the metrics, and starts the counters of `policies` and of errors at zero, so that the first denial shows
/// in a rate.
pub(crate) fn begin<'p>(policies: impl IntoIterator<Item = &'p Policy>) {
    #[cfg(feature = "metrics")]
    {
        metrics::describe_counter!(
            DECISIONS,
            "Decisions by policy, outcome, and whether the store was away."
        );
        metrics::describe_counter!(
            STORE_ERRORS,
            "Checks that the store, or the memory in its place, did not decide, by the kind of error."
        );
        metrics::describe_gauge!(
            STORE_UP,
            "1 while the store of the rate limiter is there, 0 while it is away."
        );
        metrics::describe_gauge!(
            MEMORY_COUNTERS,
            "Counters in this process's memory, with expired ones that have not been dropped yet."
        );
        metrics::gauge!(MEMORY_COUNTERS).increment(0.0);
        for kind in ["unreachable", "timeout", "refused", "overloaded", "full", "closed"] {
            count_failed(kind, 0);
        }
        for policy in policies {
            let denied = if policy.is_shadow() { Verdict::ShadowDenied } else { Verdict::Denied };
            for verdict in [Verdict::Allowed, denied] {
                count(policy.name(), verdict, false, 0);
            }
        }
    }
}

/// Counts a decision.
pub(crate) fn decided(policy: &'static str, verdict: Verdict, degraded: bool) {
    #[cfg(feature = "metrics")]
    count(policy, verdict, degraded, 1);
}

#[cfg(feature = "metrics")]
fn count(policy: &'static str, verdict: Verdict, degraded: bool, by: u64) {
    let degraded = if degraded { "true" } else { "false" };
    metrics::counter!(DECISIONS, "policy" => policy, "outcome" => verdict.as_str(), "degraded" => degraded)
        .increment(by);
}

/// Counts a check that the store did not decide.
pub(crate) fn failed(error: &StoreError) {
    #[cfg(feature = "metrics")]
    {
        let kind = match error {
            StoreError::Unreachable(_) => "unreachable",
            StoreError::Timeout(_) => "timeout",
            StoreError::Refused(_) => "refused",
            StoreError::Overloaded => "overloaded",
            StoreError::Full { .. } => "full",
            StoreError::Closed => "closed",
        };
        count_failed(kind, 1);
    }
}

#[cfg(feature = "metrics")]
fn count_failed(kind: &'static str, by: u64) {
    metrics::counter!(STORE_ERRORS, "kind" => kind).increment(by);
}

/// Records whether the store is available.
pub(crate) fn store(is_up: bool) {
    #[cfg(feature = "metrics")]
    metrics::gauge!(STORE_UP).set(if is_up { 1.0 } else { 0.0 });
}

/// Records that a counter has been added to this process's memory.
pub(crate) fn counter_added() {
    #[cfg(feature = "metrics")]
    metrics::gauge!(MEMORY_COUNTERS).increment(1.0);
}

/// Records that `count` counters have been dropped from this process's memory.
#[cfg_attr(feature = "metrics", allow(clippy::cast_precision_loss))] // a memory has far less than 2^52 counters
pub(crate) fn counters_dropped(count: usize) {
    #[cfg(feature = "metrics")]
    if count > 0 {
        metrics::gauge!(MEMORY_COUNTERS).decrement(count as f64);
    }
}
