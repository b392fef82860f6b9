//! Allowed or denied, and what is left.

use std::time::Duration;

use smallvec::SmallVec;

use crate::policy::Policy;
use crate::quota::Quota;
use crate::store::Reading;

/// What a policy said to one request.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use axum_rate_limit::{Policy, RateLimiter};
///
/// const MAILS: Policy = Policy::new("mails").per_minute(1);
///
/// let limiter = RateLimiter::memory();
/// let first = limiter.check(&MAILS, "client-7").await?;
/// assert!(first.is_allowed());
/// assert_eq!(first.remaining(), 0);
///
/// let second = limiter.check(&MAILS, "client-7").await?;
/// let wait = second.retry_after().expect("it is denied");
/// assert!(wait.as_secs() <= 60);
/// # Ok::<(), axum_rate_limit::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Decision {
    policy: Policy,
    allowed: bool,
    degraded: bool,
    quotas: SmallVec<[QuotaState; 2]>,
}

/// Where one quota of a policy stands after a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuotaState {
    /// The quota.
    pub quota: Quota,
    /// How much of it is left.
    pub remaining: u32,
    /// After how long it is whole again; zero if nothing has been taken from it.
    pub reset: Duration,
    /// Whether it had too little left for the request.
    pub exceeded: bool,
}

impl Decision {
    /// What `readings`, one for each quota of `policy`, say to a request of `cost`.
    ///
    /// `taken` tells whether the store has charged the request; if not, a quota that has too little
    /// left is the reason.
    pub(crate) fn new(policy: &Policy, cost: u32, taken: bool, degraded: bool, readings: &[Reading]) -> Self {
        let quotas: SmallVec<[QuotaState; 2]> = policy
            .quotas()
            .iter()
            .zip(readings)
            .map(|(quota, reading)| {
                let limit = u64::from(quota.limit());
                let remaining = u32::try_from(limit.saturating_sub(reading.used)).unwrap_or(u32::MAX);
                QuotaState {
                    quota: *quota,
                    remaining,
                    reset: reading.reset,
                    exceeded: !taken && remaining < cost,
                }
            })
            .collect();
        let allowed = !quotas.iter().any(|state| state.exceeded);
        Self { policy: *policy, allowed, degraded, quotas }
    }

    /// A pass that no store was asked for: nothing is known of the quotas.
    pub(crate) fn unchecked(policy: &Policy) -> Self {
        Self { policy: *policy, allowed: true, degraded: true, quotas: SmallVec::new() }
    }

    /// The policy that decided.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether the policy lets the request pass.
    pub fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// Whether the store was away, so that this process decided by itself or let the request pass.
    pub fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// Where each quota of the policy stands, in the order of their declaration; empty if the store
    /// was away and the limiter lets pass what it can't count.
    pub fn quotas(&self) -> &[QuotaState] {
        &self.quotas
    }

    /// The quota that binds first: the one that denies for longest, or the one with the least left.
    pub fn binding(&self) -> Option<&QuotaState> {
        let denying = self.quotas.iter().filter(|state| state.exceeded).max_by_key(|state| state.reset);
        denying.or_else(|| {
            self.quotas.iter().min_by_key(|state| (state.remaining, std::cmp::Reverse(state.reset)))
        })
    }

    /// How much is left of the quota that binds first.
    pub fn remaining(&self) -> u32 {
        self.binding().map_or(0, |state| state.remaining)
    }

    /// After how long the quota that binds first is whole again.
    pub fn reset(&self) -> Duration {
        self.binding().map_or(Duration::ZERO, |state| state.reset)
    }

    /// How long to wait before the next try, if the policy denies.
    pub fn retry_after(&self) -> Option<Duration> {
        if self.allowed { None } else { self.binding().map(|state| state.reset) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Policy = Policy::new("two").per_second(2).per_minute(10);

    fn reading(used: u64, reset: u64) -> Reading {
        Reading { used, reset: Duration::from_secs(reset) }
    }

    #[test]
    fn the_quota_with_the_least_left_binds() {
        let decision = Decision::new(&TWO, 1, true, false, &[reading(1, 1), reading(10, 30)]);
        assert!(decision.is_allowed());
        assert_eq!((decision.remaining(), decision.reset()), (0, Duration::from_secs(30)));
        assert_eq!(decision.retry_after(), None);
    }

    #[test]
    fn the_longest_wait_is_told() {
        let decision = Decision::new(&TWO, 1, false, false, &[reading(2, 1), reading(10, 30)]);
        assert!(!decision.is_allowed());
        assert_eq!(decision.retry_after(), Some(Duration::from_secs(30)));
    }

    #[test]
    fn a_policy_that_another_one_holds_up_allows() {
        let decision = Decision::new(&TWO, 1, false, false, &[reading(1, 1), reading(3, 30)]);
        assert!(decision.is_allowed());
        assert_eq!(decision.quotas()[0].remaining, 1);
    }

    #[test]
    fn more_used_than_allowed_is_none_left() {
        let decision = Decision::new(&TWO, 1, false, false, &[reading(5, 1), reading(3, 30)]);
        assert_eq!(decision.remaining(), 0);
    }
}
