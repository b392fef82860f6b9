//! Amendments: changes of declared policies in code, by environment variables, or while requests are served.

mod variables;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

pub(crate) use self::variables::{KEY_PREFIX, PREFIX, TRUSTED_PROXIES};
use crate::algorithm::Algorithm;
use crate::error::BuildError;
use crate::policy::Policy;
use crate::quota::{Quota, Quotas};
use crate::store::guarded::OnStoreError;

/// The setting that errors blame.
const AMEND: &str = "amend";

/// A declared policy that is being amended, as [`Builder::amend`](crate::Builder::amend) and
/// [`RateLimiter::amend`](crate::RateLimiter::amend) pass it to their closure.
///
/// A quota replaces the declared one over the same window, or is added. A declared quota is dropped if it can no
/// longer bind, because a new one allows no more in a longer window. A declared burst belongs to the quota with
/// the shortest window: it is dropped if another window becomes the shortest, and lowered if a new quota over a
/// longer window requires it. What has been counted so far stays.
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
        self.quota(limit, Duration::from_secs(1))
    }

    /// Sets a quota of `limit` requests per minute.
    pub fn per_minute(self, limit: u32) -> Self {
        self.quota(limit, Duration::from_secs(60))
    }

    /// Sets a quota of `limit` requests per hour.
    pub fn per_hour(self, limit: u32) -> Self {
        self.quota(limit, Duration::from_secs(3_600))
    }

    /// Sets a quota of `limit` requests per 24 hours.
    pub fn per_day(self, limit: u32) -> Self {
        self.quota(limit, Duration::from_secs(86_400))
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
        if (400..=599).contains(&status) {
            self.policy.status = Some(status);
            return self;
        }
        self.faulty("the status of a denial is an error status: write 400 to 599, such as 429")
    }

    /// Sets the text of a denial.
    pub fn message(mut self, message: &'static str) -> Self {
        if message.trim().is_empty() {
            return self.faulty("the message of a denial is empty: write what a client should read");
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

    fn finish(self) -> Result<Policy, String> {
        let Self { mut policy, declared, quotas, has_burst, fault } = self;
        if let Some(fault) = fault {
            return Err(fault);
        }
        // Making one limit stricter in an emergency must not require changes to the others.
        let is_outdone =
            |old: &Quota| quotas.iter().any(|new| new.window() > old.window() && new.limit() <= old.limit());
        let same = |old: &Quota| quotas.iter().find(|new| new.window() == old.window());
        let kept = declared.iter().filter_map(|old| same(old).or((!is_outdone(old)).then_some(old)));
        let is_added = |new: &&Quota| declared.iter().all(|old| old.window() != new.window());
        let all: Vec<Quota> = kept.chain(quotas.iter().filter(is_added)).copied().collect();
        let Some((first, others)) = all.split_first() else {
            return Err("a policy needs at least one quota: add `per_minute` or another one".to_owned());
        };
        let fold = others.iter().try_fold(Quotas::of(*first), |quotas, quota| quotas.try_and(*quota));
        let fault = |fault: &dyn fmt::Display| {
            let each: Vec<String> =
                all.iter().map(|quota| format!("{} in {:?}", quota.limit(), quota.window())).collect();
            format!("{fault} (it would have {})", each.join(", "))
        };
        let shortest = |quotas: &[Quota]| quotas.iter().map(Quota::window).min();
        if let Algorithm::TokenBucket { burst } = &mut policy.algorithm
            && !has_burst
        {
            let is_of_same = shortest(policy.quotas.as_slice()) == shortest(&all);
            // The other quotas allow more than the shortest, so this is not less than what the shortest allows.
            let most = most_of_longer(&all).map_or(u32::MAX, |most| most - 1);
            *burst = burst.filter(|_| is_of_same).map(|burst| burst.min(most));
        }
        policy.quotas = fold.map_err(|error| fault(&error))?;
        policy.fault().map_or(Ok(policy), |error| Err(fault(&error)))
    }
}

/// Returns the smallest limit of `quotas`, apart from that of the shortest window.
fn most_of_longer(quotas: &[Quota]) -> Option<u32> {
    let shortest = quotas.iter().map(Quota::window).min()?;
    quotas.iter().filter(|quota| quota.window() > shortest).map(Quota::limit).min()
}

/// The result of all amendments.
#[derive(Debug, Default)]
pub(crate) struct Amended {
    /// The policies that differ from their declarations, by name.
    pub(crate) policies: HashMap<&'static str, Policy>,
    /// Whether all policies are in shadow, including those that nobody has declared.
    pub(crate) all_in_shadow: bool,
}

/// Returns the amended policies. Each is validated once, after all changes to it.
pub(crate) fn apply(
    amendments: Vec<(String, Amend)>,
    prefix: &str,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    declared: &[Policy],
) -> Result<Amended, BuildError> {
    let mut pending = Pending::default();
    for (name, amend) in amendments {
        pending.change(AMEND, &name, find(AMEND, &name, declared)?, amend)?;
    }
    let all_in_shadow = variables::amend(&mut pending, prefix, variables, declared)?;
    let policies = pending.finish()?;
    policies.values().for_each(tell);
    Ok(Amended { policies, all_in_shadow })
}

/// Returns what `change` makes of the policy of that name.
pub(crate) fn amend<'p>(
    name: &str,
    policies: impl IntoIterator<Item = &'p Policy> + Clone,
    change: impl FnOnce(Amendment) -> Amendment,
) -> Result<Policy, BuildError> {
    let amendment = change(Amendment::of(find(AMEND, name, policies)?));
    amendment.finish().map_err(|fault| setting(AMEND, name, &fault))
}

/// Returns the policy of that name, or an error that blames `by`.
pub(crate) fn find<'p>(
    by: &'static str,
    name: &str,
    policies: impl IntoIterator<Item = &'p Policy> + Clone,
) -> Result<&'p Policy, BuildError> {
    let names = policies.clone().into_iter().map(|policy| policy.name().to_owned());
    let mut policies = policies.into_iter();
    policies.find(|policy| policy.name() == name).ok_or_else(|| setting(by, name, &unknown(name, names)))
}

/// Logs that a policy is amended.
pub(crate) fn tell(policy: &Policy) {
    let but = if policy.has_quotas_by() { ", but for those whom `quotas_by` gives other quotas" } else { "" };
    tracing::info!(
        policy = policy.name(),
        quotas = ?policy.quotas,
        shadow = policy.shadow,
        "rate limit amended{but}"
    );
}

/// The amendments of all policies, not validated yet.
#[derive(Default)]
struct Pending(HashMap<&'static str, (&'static str, Amendment)>);

impl Pending {
    /// Applies `change` to `policy`. An error blames `what` of the setting `by`.
    fn change(
        &mut self,
        by: &'static str,
        what: &str,
        policy: &Policy,
        change: impl FnOnce(Amendment) -> Amendment,
    ) -> Result<(), BuildError> {
        let (_, so_far) = self.0.remove(policy.name()).unwrap_or_else(|| (by, Amendment::of(policy)));
        let amendment = change(so_far);
        if let Some(fault) = &amendment.fault {
            return Err(setting(by, what, fault));
        }
        self.0.insert(policy.name(), (by, amendment));
        Ok(())
    }

    fn finish(self) -> Result<HashMap<&'static str, Policy>, BuildError> {
        let finish = |(name, (by, amendment)): (&'static str, (&'static str, Amendment))| {
            let policy = amendment.finish().map_err(|fault| setting(by, name, &fault))?;
            Ok((name, policy))
        };
        self.0.into_iter().map(finish).collect()
    }
}

fn setting(setting: &'static str, what: &str, fault: &str) -> BuildError {
    BuildError::Setting { setting, problem: format!("`{what}`: {fault}") }
}

/// Names whose similarity is above this are taken for misspellings of each other.
const ALIKE: f64 = 0.7;

/// Says that there is no policy of this name, and which one may be meant.
fn unknown(name: &str, names: impl Iterator<Item = String>) -> String {
    let similarity = |other: &String| strsim::jaro_winkler(name, other);
    let nearest = names.max_by(|one, other| similarity(one).total_cmp(&similarity(other)));
    let hint = match nearest.filter(|nearest| similarity(nearest) > ALIKE) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "no attribute declares one; `Builder::declare` adds others".to_owned(),
    };
    format!("there is no policy of that name: {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARDWORK: Policy = Policy::new("hard-work").per_minute(5).per_hour(50);
    const BUCKET: Policy =
        Policy::new("bucket").per_second(5).algorithm(Algorithm::TokenBucket { burst: None });

    fn env(variables: &[(&str, &str)]) -> Result<HashMap<&'static str, Policy>, BuildError> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        apply(Vec::new(), PREFIX, variables, &[HARDWORK, BUCKET]).map(|amended| amended.policies)
    }

    fn fault(variables: &[(&str, &str)]) -> String {
        env(variables).expect_err("it is faulty").to_string()
    }

    #[test]
    fn variables_replace_quotas() {
        let amended = env(&[
            ("RATE_LIMIT_HARD_WORK_PER_MINUTE", "20"),
            ("RATE_LIMIT_HARD_WORK_PER_DAY", "100"),
            ("RATE_LIMIT_HARD_WORK_SHADOW", "true"),
            ("RATE_LIMIT_BUCKET_BURST", "9"),
            ("RATE_LIMIT_ENABLED", "yes"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        let hardwork = &amended["hard-work"];
        assert_eq!(hardwork.quotas(), [Quota::per_minute(20), Quota::per_hour(50), Quota::per_day(100)]);
        assert!(hardwork.is_shadow());
        assert_eq!(amended["bucket"].algorithm, Algorithm::TokenBucket { burst: Some(9) });
    }

    #[test]
    fn a_stricter_quota_leaves_out_what_can_not_bind_beside_it() {
        for (variables, expected) in [
            (&[("RATE_LIMIT_HARD_WORK_PER_HOUR", "5")][..], &[Quota::per_hour(5)][..]),
            (&[("RATE_LIMIT_HARD_WORK_PER_DAY", "50")], &[Quota::per_minute(5), Quota::per_day(50)]),
            (&[("RATE_LIMIT_HARD_WORK_PER_DAY", "3")], &[Quota::per_day(3)]),
        ] {
            assert_eq!(env(variables).unwrap()["hard-work"].quotas(), expected);
        }
    }

    #[test]
    fn a_stricter_quota_makes_a_declared_burst_smaller() {
        const SEARCH: Policy = BUCKET.burst(20);
        let amended = |amend: Amend| {
            let amendments = vec![("bucket".to_owned(), amend)];
            apply(amendments, PREFIX, [], &[SEARCH]).map(|amended| amended.policies["bucket"].algorithm)
        };
        let burst = |burst| Algorithm::TokenBucket { burst: Some(burst) };
        assert_eq!(amended(Box::new(|policy| policy.per_minute(10))).unwrap(), burst(9));
        assert_eq!(amended(Box::new(|policy| policy.per_minute(21))).unwrap(), burst(20));
        assert_eq!(amended(Box::new(|policy| policy.per_second(1).per_minute(2))).unwrap(), burst(1));
        // Another quota is the shortest, and a burst for five per second is not meant for five per minute.
        let none = Algorithm::TokenBucket { burst: None };
        assert_eq!(amended(Box::new(|policy| policy.per_minute(5))).unwrap(), none);
        assert_eq!(amended(Box::new(|policy| policy.quota(1, Duration::from_millis(100)))).unwrap(), none);
        assert_eq!(amended(Box::new(|policy| policy.per_minute(5).burst(7))).unwrap(), burst(7));
        let error = amended(Box::new(|policy| policy.per_minute(10).burst(20))).expect_err("it is meant so");
        assert!(error.to_string().contains("give a smaller burst"), "{error}");
    }

    #[test]
    fn an_empty_variable_is_none() {
        let none = ["SHADOW", "BUCKET_BURST", "HARD_WORK_PER_MINUTE", "HARD_WORK_SHADOW", "REDIS_PER_SECOND"];
        let none = none.map(|name| format!("RATE_LIMIT_{name}"));
        let variables: Vec<(&str, &str)> = none.iter().map(|name| (name.as_str(), "")).collect();
        assert!(env(&variables).unwrap().is_empty());
    }

    #[test]
    fn faults_say_what_to_write_instead() {
        for (name, value, text) in [
            ("RATE_LIMIT_HARDWORK_PER_MINUTE", "20", "did you mean `HARD_WORK`?"),
            (
                "RATE_LIMIT_REDIS_PER_SECOND",
                "20",
                "`RATE_LIMIT_REDIS_PER_SECOND`: `REDIS`: there is no policy",
            ),
            (
                "RATE_LIMIT_REDIS_PER_SECOND",
                "20",
                "`Builder::declare` adds others (if it is another program's",
            ),
            ("RATE_LIMIT_SHADOW", "on", "neither `true` nor `false`"),
            ("RATE_LIMIT_HARD_WORK_PER_MINUT", "20", "one of _PER_SECOND, _PER_MINUTE"),
            ("RATE_LIMIT_HARD_WORK", "20", "one of _PER_SECOND, _PER_MINUTE"),
            ("RATE_LIMIT_HARD_WORK_PER_MINUTE", "0", "deny every request"),
            ("RATE_LIMIT_HARD_WORK_PER_MINUTE", "many", "`many` is not a whole number"),
            ("RATE_LIMIT_HARD_WORK_PER_MINUTE", "-1", "`-1` is not a whole number"),
            ("RATE_LIMIT_HARD_WORK_PER_MINUTE", "60", "can never bind"),
            ("RATE_LIMIT_HARD_WORK_PER_MINUTE", "60", "(it would have 60 in 60s, 50 in 3600s)"),
            ("RATE_LIMIT_HARD_WORK_BURST", "3", "belongs to a token bucket"),
            ("RATE_LIMIT_HARD_WORK_SHADOW", "maybe", "neither `true` nor `false`"),
            ("RATE_LIMIT_BUCKET_BURST", "0", "a burst of 0"),
        ] {
            let fault = fault(&[(name, value)]);
            assert!(fault.contains(text), "{name}={value}: {fault}");
        }
    }

    #[test]
    fn one_variable_puts_all_in_shadow() {
        let enforced = ("RATE_LIMIT_BUCKET_SHADOW", "0");
        for (value, expected) in
            [("true", true), ("TRUE", true), ("1", true), ("false", false), ("0", false), (" ", false)]
        {
            let amended = env(&[("RATE_LIMIT_SHADOW", value), enforced]).unwrap();
            let is_in_shadow = |name| amended.get(name).is_some_and(Policy::is_shadow);
            assert_eq!(["hard-work", "bucket"].map(is_in_shadow), [expected; 2]);
        }
    }

    #[test]
    fn variables_of_another_prefix_are_another_programs() {
        let variables = [("RATE_LIMIT_HARD_WORK_PER_MINUTE", "0"), ("SHOP_HARD_WORK_PER_MINUTE", "9")];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let amended = apply(Vec::new(), "SHOP_", variables, &[HARDWORK]).unwrap();
        assert_eq!(amended.policies["hard-work"].quotas()[0], Quota::per_minute(9));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_utf_8_is_refused() {
        use std::os::unix::ffi::OsStringExt as _;
        let fault = |name: &[u8], value: &[u8]| {
            let variable = (OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec()));
            apply(Vec::new(), PREFIX, [variable], &[HARDWORK]).map(|_| ()).map_err(|error| error.to_string())
        };
        let error = fault(b"RATE_LIMIT_HARD_WORK_PER_MINUTE", b"2\xff").expect_err("it is no number");
        assert!(error.contains("not a whole number"), "{error}");
        let error = fault(b"RATE_LIMIT_HARD_WORK_PER_\xff", b"20").expect_err("it is not a window");
        assert!(error.contains("one of _PER_SECOND"), "{error}");
        for other in [b"RATE_LIMIT_\xff".as_slice(), b"\xff"] {
            assert_eq!(fault(other, b"\xff"), Ok(()), "it is not meant");
        }
    }

    #[test]
    fn variables_are_judged_together_in_any_order() {
        let (minute, hour) = ("RATE_LIMIT_HARD_WORK_PER_MINUTE", "RATE_LIMIT_HARD_WORK_PER_HOUR");
        for (per_minute, per_hour) in [("1", "3"), ("60", "600")] {
            for variables in
                [[(minute, per_minute), (hour, per_hour)], [(hour, per_hour), (minute, per_minute)]]
            {
                let amended = env(&variables).unwrap();
                let limits: Vec<String> =
                    amended["hard-work"].quotas().iter().map(|quota| quota.limit().to_string()).collect();
                assert_eq!(limits, [per_minute, per_hour]);
            }
        }
    }

    #[test]
    fn code_and_environment_add_up() {
        let amend: Amend = Box::new(|policy| policy.per_minute(7).status(429));
        let variables = [("RATE_LIMIT_HARD_WORK_PER_HOUR".into(), "70".into())];
        let amended = apply(vec![("hard-work".to_owned(), amend)], PREFIX, variables, &[HARDWORK]).unwrap();
        let hardwork = &amended.policies["hard-work"];
        assert_eq!(hardwork.quotas(), [Quota::per_minute(7), Quota::per_hour(70)]);
        assert_eq!(hardwork.status, Some(429));
    }
}
