//! The [`Decision`] about a request: whether it is allowed, and what is left of each quota.

use std::cmp::Reverse;
use std::time::Duration;

use smallvec::SmallVec;

use crate::algorithm::Reading;
use crate::policy::Policy;
use crate::quota::Quota;
use crate::store::Outcome;

/// The decision of a policy about one request.
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
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a decision denies nothing by itself: ask `is_allowed`"]
pub struct Decision {
    policy: &'static str,
    shadow: bool,
    degraded: bool,
    cost: u32,
    quotas: SmallVec<[QuotaState; 2]>,
}

/// The state of one quota of a policy after a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuotaState {
    /// The quota.
    pub quota: Quota,
    /// How much of the quota is left: of a token bucket with a burst perhaps more than the quota's limit.
    pub remaining: u32,
    /// How long until all of the quota is available again; zero if nothing has been taken from it.
    pub reset: Duration,
    /// Whether the quota had too little left for the request.
    pub exceeded: bool,
    /// How long until the quota has enough left for the request; `None` if it never will, since the request costs
    /// more than the quota.
    pub retry_after: Option<Duration>,
}

impl QuotaState {
    /// Returns the quota that binds first: of those that are exceeded the one with the longest wait, else the one
    /// with the least left.
    pub(crate) fn binding<'a>(states: impl Iterator<Item = &'a Self> + Clone) -> Option<&'a Self> {
        let wait = |state: &&Self| state.retry_after.unwrap_or(Duration::MAX);
        let denying = states.clone().filter(|state| state.exceeded).max_by_key(wait);
        denying.or_else(|| states.min_by_key(|state| (state.remaining, Reverse(state.reset))))
    }
}

impl Decision {
    /// Makes the decision of `policy` about `cost` from the readings of `quotas`. There are no readings if
    /// nothing was counted.
    pub(crate) fn new(policy: &Policy, cost: u32, quotas: &[Quota], outcome: &Outcome) -> Self {
        let state = |(quota, reading): (&Quota, &Reading)| QuotaState {
            quota: *quota,
            remaining: reading.remaining,
            reset: reading.reset,
            exceeded: !reading.fits,
            retry_after: reading.retry_after,
        };
        let (shadow, degraded) = (policy.is_shadow(), outcome.is_degraded());
        let quotas = quotas.iter().zip(outcome.readings()).map(state).collect();
        Self { policy: policy.name(), shadow, degraded, cost, quotas }
    }

    /// Returns the name of the policy.
    pub fn policy(&self) -> &'static str {
        self.policy
    }

    /// Whether the request may pass. A policy in shadow allows everything.
    pub fn is_allowed(&self) -> bool {
        self.shadow || !self.is_exceeded()
    }

    /// Whether a quota had too little left: the request is denied, or would be if the policy were not
    /// in shadow.
    pub fn is_exceeded(&self) -> bool {
        self.quotas.iter().any(|state| state.exceeded)
    }

    /// Whether the policy is in [shadow](Policy::shadow).
    pub fn is_shadowed(&self) -> bool {
        self.shadow
    }

    /// Whether the store was unavailable, so that this process decided by itself or let the request pass.
    pub fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// Returns how much of the quotas the request asked for.
    pub fn cost(&self) -> u32 {
        self.cost
    }

    /// Returns the state of each quota of the policy, in the order of declaration.
    ///
    /// Empty if the client has no limit, or if the store was unavailable and the limiter lets pass what it can't
    /// count.
    pub fn quotas(&self) -> &[QuotaState] {
        &self.quotas
    }

    /// Returns the quota that binds first: the one that denies for longest, or the one with the least left.
    pub fn binding(&self) -> Option<&QuotaState> {
        QuotaState::binding(self.quotas.iter())
    }

    /// Whether the quota that binds first is one of this decision, rather than one of `other`.
    pub(crate) fn binds_before(&self, other: &Self) -> bool {
        let both = [other.binding(), self.binding()];
        QuotaState::binding(both.into_iter().flatten()) == self.binding()
    }

    /// Returns the quota that binds first, if there is one.
    pub fn quota(&self) -> Option<Quota> {
        self.binding().map(|state| state.quota)
    }

    /// Returns how much is left of the quota that binds first; `u32::MAX` if there is none.
    ///
    /// That of a token bucket with a [burst](crate::Policy::burst) may be more than the quota's limit. Response
    /// fields then tell the limit.
    pub fn remaining(&self) -> u32 {
        self.binding().map_or(u32::MAX, |state| state.remaining)
    }

    /// Returns how long until all of the quota that binds first is available again; zero if there is none.
    pub fn reset(&self) -> Duration {
        self.binding().map_or(Duration::ZERO, |state| state.reset)
    }

    /// Returns how long to wait before the next try, if the policy denies.
    ///
    /// Also `None` if waiting is in vain, since the request [costs more](Self::is_too_costly) than a quota. For a
    /// policy in shadow, see the `retry_after` of its [`binding`](Self::binding) quota.
    pub fn retry_after(&self) -> Option<Duration> {
        if self.is_allowed() { None } else { self.binding().and_then(|state| state.retry_after) }
    }

    /// Whether the request costs more than a quota, so that it will never pass.
    pub fn is_too_costly(&self) -> bool {
        self.quotas.iter().any(|state| state.exceeded && state.retry_after.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Policy = Policy::new("two").per_second(2).per_minute(10);

    fn reading(remaining: u32, reset: u64, fits: bool) -> Reading {
        let reset = Duration::from_secs(reset);
        Reading::new(fits, remaining, reset, Some(if fits { Duration::ZERO } else { reset }))
    }

    fn decision(one: Reading, other: Reading) -> Decision {
        Decision::new(&TWO, 1, TWO.quotas(), &Outcome::new(false, [one, other]))
    }

    #[test]
    fn the_quota_with_the_least_left_binds() {
        let decision = decision(reading(1, 1, true), reading(0, 30, true));
        assert!(decision.is_allowed());
        assert_eq!((decision.remaining(), decision.reset()), (0, Duration::from_secs(30)));
        assert_eq!(decision.quota(), Some(Quota::per_minute(10)));
        assert_eq!(decision.retry_after(), None);
    }

    #[test]
    fn the_longest_wait_is_told() {
        let decision = decision(reading(0, 1, false), reading(0, 30, false));
        assert!(!decision.is_allowed());
        assert_eq!(decision.retry_after(), Some(Duration::from_secs(30)));
    }

    #[test]
    fn waiting_in_vain_is_not_told() {
        let never = Reading { retry_after: None, ..reading(2, 0, false) };
        let decision = decision(never, reading(0, 30, false));
        assert!(decision.is_too_costly() && !decision.is_allowed());
        assert_eq!(decision.retry_after(), None);
    }
}
