//! Amendments: changes of declared policies in code, by environment variables, or while requests are served.

mod lookup;
mod pending;
mod variables;

use std::fmt;
use std::time::Duration;

pub(crate) use self::lookup::nowhere;
use self::lookup::setting;
pub(crate) use self::pending::{Amended, apply};
pub(crate) use self::variables::{KEY_PREFIX, PREFIX, TRUSTED_PROXIES};
use crate::algorithm::Algorithm;
use crate::error::BuildError;
use crate::policy::{Policy, fault};
use crate::quota::{DAY, HOUR, MINUTE, Quota, Quotas, SECOND};
use crate::store::fallback::OnStoreError;

/// The settings that errors blame.
pub(crate) const AMEND: &str = "amend";
const FROM_ENV: &str = "amend_from_env";

/// A declared policy that is being amended, as [`Builder::amend`](crate::Builder::amend) and
/// [`RateLimiter::amend`](crate::RateLimiter::amend) pass it to their closure.
///
/// A quota replaces the declared one over the same window, or is added. A declared quota is dropped if it can no
/// longer bind, because a new one allows no more in a longer window. A declared burst belongs to the quota with
/// the shortest window: it is dropped if another window becomes the shortest, and lowered if the new quotas require
/// it.
///
/// No method panics. What is invalid, such as a limit of 0, a new quota that can never bind, or a burst of a policy
/// that is no token bucket, is an error of [`Builder::build`](crate::Builder::build) or
/// [`RateLimiter::amend`](crate::RateLimiter::amend), which says what to write instead.
///
/// What has been counted so far stays under the same window: three of five used are three of ten. A token bucket keeps
/// the time until it is full instead: without a burst, that is the share that is used; with one, a higher limit may
/// leave it in debt for that time. A quota over another window begins at zero. To let a client pass at once,
/// [`reset`](crate::RateLimiter::reset) it.
#[derive(Clone, Debug)]
#[must_use = "an amendment is changed by value"]
pub struct Amendment {
    policy: Policy,
    declared: Vec<Quota>,
    /// The new quotas.
    quotas: Vec<Quota>,
    /// Whether the burst is new.
    has_burst: bool,
    fault: Option<String>,
}

/// A change to a policy.
pub(crate) type Amend = Box<dyn FnOnce(Amendment) -> Amendment + Send>;

impl Amendment {
    fn of(policy: &Policy) -> Self {
        let declared = policy.quotas().to_vec();
        Self { policy: *policy, declared, quotas: Vec::new(), has_burst: false, fault: None }
    }

    /// Sets a quota of `limit` requests per second.
    pub fn per_second(self, limit: u32) -> Self {
        self.quota(limit, SECOND)
    }

    /// Sets a quota of `limit` requests per minute.
    pub fn per_minute(self, limit: u32) -> Self {
        self.quota(limit, MINUTE)
    }

    /// Sets a quota of `limit` requests per hour.
    pub fn per_hour(self, limit: u32) -> Self {
        self.quota(limit, HOUR)
    }

    /// Sets a quota of `limit` requests per 24 hours.
    pub fn per_day(self, limit: u32) -> Self {
        self.quota(limit, DAY)
    }

    /// Sets a quota of `limit` requests per `window`.
    pub fn quota(mut self, limit: u32, window: Duration) -> Self {
        match Quota::try_new(limit, window) {
            Ok(quota) => match self.quotas.iter_mut().find(|other| other.window() == window) {
                Some(other) => *other = quota,
                None => self.quotas.push(quota),
            },
            Err(fault) => self = self.faulty(&fault.to_string()),
        }
        self
    }

    /// Replaces all quotas, by those of a configuration, say.
    ///
    /// ```
    /// use axum_rate_limit::{Policy, Quotas, RateLimiter};
    ///
    /// const FEEDS: Policy = Policy::new("feeds").per_second(5);
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let configured: Quotas = "10 per second, 1000 per hour".parse()?;
    /// let builder = RateLimiter::builder().declare([FEEDS]);
    /// let limiter = builder.amend("feeds", move |policy| policy.quotas(configured)).build().await?;
    /// # assert!(limiter.policies().iter().any(|policy| policy.quotas() == configured.as_slice()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn quotas(self, quotas: impl Into<Quotas>) -> Self {
        Self { quotas: quotas.into().as_slice().to_vec(), ..self.without_quotas() }
    }

    /// Removes all quotas, so that the policy has only those that are set after this call.
    pub fn without_quotas(mut self) -> Self {
        self.declared.clear();
        self.quotas.clear();
        self
    }

    /// Sets how many requests a token bucket lets pass at once.
    pub fn burst(mut self, burst: u32) -> Self {
        match &mut self.policy.algorithm {
            Algorithm::TokenBucket { burst: declared } => (*declared, self.has_burst) = (Some(burst), true),
            _ => self = self.faulty("`burst` belongs to a token bucket, which this policy is not"),
        }
        self
    }

    /// Sets the status of a denial.
    pub fn status(mut self, status: u16) -> Self {
        if let Some(fault) = fault::of_status(status) {
            return self.faulty(fault);
        }
        self.policy.status = Some(status);
        self
    }

    /// Sets the text of a denial. For a text from a configuration, use [`String::leak`].
    pub fn message(mut self, message: &'static str) -> Self {
        if let Some(fault) = fault::of_message(message.trim()) {
            return self.faulty(fault);
        }
        self.policy.message = Some(message);
        self
    }

    /// Sets what to do when the store fails.
    pub fn on_store_error(mut self, on_store_error: OnStoreError) -> Self {
        self.policy.on_store_error = Some(on_store_error);
        self
    }

    /// Sets whether the policy is in shadow: it counts and reports, but never denies.
    pub fn shadow(mut self, shadow: bool) -> Self {
        self.policy.shadow = shadow;
        self
    }

    fn faulty(mut self, fault: &str) -> Self {
        self.fault.get_or_insert_with(|| fault.to_owned());
        self
    }

    /// Returns the amended policy, or what is wrong with it.
    fn finish(self) -> Result<Policy, String> {
        let (quotas, changes_quotas) = (self.merged_quotas(), self.changes_quotas());
        let Self { mut policy, has_burst, fault, .. } = self;
        if let Some(fault) = fault {
            return Err(fault);
        }
        if policy.individual_quotas().is_some() {
            let fault = "`with_quotas` has set the quotas of this policy, and no amendment changes those: amend \
                         something else, or declare the policy without `with_quotas`";
            return if changes_quotas { Err(fault.to_owned()) } else { Ok(policy) };
        }
        let Some((first, others)) = quotas.split_first() else {
            return Err("a policy needs at least one quota: add one, or set `shadow` to let everybody pass"
                .to_owned());
        };
        if let Algorithm::TokenBucket { burst } = &mut policy.algorithm
            && !has_burst
        {
            *burst = burst.and_then(|burst| inherited_burst(burst, policy.quotas.as_slice(), &quotas));
        }
        let in_context = |fault: &dyn fmt::Display| {
            let each = quotas.iter().map(Quota::to_string);
            format!("{fault} (it would have {})", each.collect::<Vec<_>>().join(", "))
        };
        let all = others.iter().try_fold(Quotas::of(*first), |all, quota| all.try_and(*quota));
        policy.quotas = all.map_err(|error| in_context(&error))?;
        policy.fault().map_or(Ok(policy), |fault| Err(in_context(&fault)))
    }

    fn changes_quotas(&self) -> bool {
        !self.quotas.is_empty() || self.declared != self.policy.quotas()
    }

    /// Returns the declared quotas with the new ones in their place, without those that can no longer bind: making
    /// one limit stricter in an emergency must not require changes to the others.
    fn merged_quotas(&self) -> Vec<Quota> {
        let new_over = |window| self.quotas.iter().find(|new| new.window() == window);
        let is_outdone = |old: &Quota| {
            self.quotas.iter().any(|new| new.window() > old.window() && new.limit() <= old.limit())
        };
        let kept = self.declared.iter().filter_map(|old| {
            let replaced = new_over(old.window());
            replaced.or_else(|| (!is_outdone(old)).then_some(old))
        });
        let is_added = |new: &&Quota| self.declared.iter().all(|old| old.window() != new.window());
        kept.chain(self.quotas.iter().filter(is_added)).copied().collect()
    }
}

/// Returns what a `burst` that was declared beside other quotas becomes beside `quotas`. It belongs to the shortest
/// window.
fn inherited_burst(burst: u32, declared: &[Quota], quotas: &[Quota]) -> Option<u32> {
    let shortest = |quotas: &[Quota]| quotas.iter().copied().min_by_key(Quota::window);
    let (before, quota) = (shortest(declared)?, shortest(quotas)?);
    if before.window() != quota.window() {
        return None;
    }
    // The other quotas allow more than the shortest, so this is not less than what the shortest allows.
    let longer = quotas.iter().filter(|other| other.window() > quota.window());
    let most = longer.map(|longer| longer.limit() - 1).min().unwrap_or(u32::MAX);
    Some(burst.min(most).min(fault::most_that_refills(&quota)))
}

/// Returns what `change` makes of `policy`.
pub(crate) fn amend(
    policy: &Policy,
    change: impl FnOnce(Amendment) -> Amendment,
) -> Result<Policy, BuildError> {
    change(Amendment::of(policy)).finish().map_err(|fault| setting(AMEND, policy.name(), &fault))
}

/// Logs that a policy is amended.
pub(crate) fn log(policy: &Policy) {
    let but = if policy.has_quotas_by() { ", but for those whom `quotas_by` gives other quotas" } else { "" };
    tracing::info!(
        policy = policy.name(),
        quotas = %policy.quotas,
        shadow = policy.shadow,
        "rate limit amended{but}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stricter_quota_makes_a_declared_burst_smaller() {
        const SEARCH: Policy =
            Policy::new("search").per_second(5).algorithm(Algorithm::TokenBucket { burst: Some(20) });
        let amended =
            |change: fn(Amendment) -> Amendment| amend(&SEARCH, change).map(|policy| policy.algorithm);
        let burst = |burst| Algorithm::TokenBucket { burst: Some(burst) };
        assert_eq!(amended(|policy| policy.per_minute(10)).unwrap(), burst(9));
        assert_eq!(amended(|policy| policy.per_minute(21)).unwrap(), burst(20));
        assert_eq!(amended(|policy| policy.per_second(1).per_minute(2)).unwrap(), burst(1));
        // Another quota is the shortest, and a burst for five per second is not meant for five per minute.
        let none = Algorithm::TokenBucket { burst: None };
        assert_eq!(amended(|policy| policy.per_minute(5)).unwrap(), none);
        assert_eq!(amended(|policy| policy.quota(1, Duration::from_millis(100))).unwrap(), none);
        assert_eq!(amended(|policy| policy.per_minute(5).burst(7)).unwrap(), burst(7));
        let error = amended(|policy| policy.per_minute(10).burst(20)).expect_err("it is meant so");
        assert!(error.to_string().contains("give a smaller burst"), "{error}");
    }

    /// No bucket may take more than 366 days to refill.
    #[test]
    fn a_slower_quota_makes_a_declared_burst_smaller() {
        const MAILS: Policy =
            Policy::new("mails").per_day(1_000).algorithm(Algorithm::TokenBucket { burst: Some(1_000) });
        let slower = |policy: Amendment| policy.per_day(1);
        let mails = amend(&MAILS, slower).expect("it is valid");
        assert_eq!(mails.algorithm, Algorithm::TokenBucket { burst: Some(366) });
    }
}
