//! Changing a rule without a deploy: in code, or by the environment.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use crate::algorithm::Algorithm;
use crate::error::BuildError;
use crate::policy::Policy;
use crate::quota::{Quota, Quotas};
use crate::store::guarded::OnStoreError;

/// Which setting is to blame in an error.
const AMEND: &str = "amend";
const PREFIX: &str = "RATE_LIMIT_";
/// What may follow a policy's name in a variable, with what it does.
const SUFFIXES: [(&str, Setting); 6] = [
    ("_PER_SECOND", Setting::Per(Duration::from_secs(1))),
    ("_PER_MINUTE", Setting::Per(Duration::from_secs(60))),
    ("_PER_HOUR", Setting::Per(Duration::from_secs(3_600))),
    ("_PER_DAY", Setting::Per(Duration::from_secs(86_400))),
    ("_BURST", Setting::Burst),
    ("_SHADOW", Setting::Shadow),
];

#[derive(Clone, Copy)]
enum Setting {
    Per(Duration),
    Burst,
    Shadow,
}

/// A declared policy on its way to what it is to be: what [`Builder::amend`](crate::Builder::amend)
/// hands to its closure.
///
/// A quota replaces the declared one over the same window, or comes in addition. What has been counted
/// so far stays.
#[derive(Clone, Debug)]
#[must_use = "an amendment is changed by value"]
pub struct Amendment {
    policy: Policy,
    quotas: Vec<Quota>,
    fault: Option<String>,
}

/// What is done to a policy of some name.
pub(crate) type Amend = Box<dyn FnOnce(Amendment) -> Amendment + Send>;

impl Amendment {
    fn of(policy: Policy) -> Self {
        Self { policy, quotas: policy.quotas().to_vec(), fault: None }
    }

    /// So many requests in each second.
    pub fn per_second(self, limit: u32) -> Self {
        self.quota(limit, Duration::from_secs(1))
    }

    /// So many requests in each minute.
    pub fn per_minute(self, limit: u32) -> Self {
        self.quota(limit, Duration::from_secs(60))
    }

    /// So many requests in each hour.
    pub fn per_hour(self, limit: u32) -> Self {
        self.quota(limit, Duration::from_secs(3_600))
    }

    /// So many requests in each 24 hours.
    pub fn per_day(self, limit: u32) -> Self {
        self.quota(limit, Duration::from_secs(86_400))
    }

    /// `limit` requests in each `window`.
    pub fn quota(mut self, limit: u32, window: Duration) -> Self {
        match Quota::try_new(limit, window) {
            Ok(quota) => match self.quotas.iter_mut().find(|other| other.window() == window) {
                Some(other) => *other = quota,
                None => self.quotas.push(quota),
            },
            Err(fault) => self = self.faulty(fault),
        }
        self
    }

    /// No declared quota, but those that are given after this.
    pub fn without_quotas(mut self) -> Self {
        self.quotas.clear();
        self
    }

    /// How many requests a token bucket lets pass at once.
    pub fn burst(mut self, burst: u32) -> Self {
        match &mut self.policy.algorithm {
            Algorithm::TokenBucket { burst: declared } => *declared = Some(burst),
            _ => self = self.faulty("`burst` belongs to a token bucket, and this policy is none"),
        }
        self
    }

    /// The status of a denial.
    pub fn status(mut self, status: u16) -> Self {
        if (400..=599).contains(&status) {
            self.policy.status = Some(status);
            return self;
        }
        self.faulty("the status of a denial tells a client of an error: write 400 to 599, such as 429")
    }

    /// The text of a denial.
    pub fn message(mut self, message: &'static str) -> Self {
        self.policy.message = Some(message);
        self
    }

    /// What to do when the store fails.
    pub fn on_store_error(mut self, on_store_error: OnStoreError) -> Self {
        self.policy.on_store_error = Some(on_store_error);
        self
    }

    /// Whether it only counts and reports, and never denies.
    pub fn shadow(mut self, shadow: bool) -> Self {
        self.policy.shadow = shadow;
        self
    }

    fn faulty(mut self, fault: &str) -> Self {
        self.fault.get_or_insert_with(|| fault.to_owned());
        self
    }

    fn finish(self) -> Result<Policy, String> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let Some((first, others)) = self.quotas.split_first() else {
            return Err("a policy needs at least one quota: add `per_minute` or another one".to_owned());
        };
        let mut policy = self.policy;
        policy.quotas = others.iter().try_fold(Quotas::of(*first), |quotas, quota| quotas.try_and(*quota))?;
        policy.fault().map_or(Ok(policy), |fault| Err(fault.to_owned()))
    }
}

/// The amended policies, by name.
pub(crate) fn apply(
    amendments: Vec<(String, Amend)>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    declared: &[Policy],
) -> Result<HashMap<&'static str, Policy>, BuildError> {
    let mut amended = HashMap::new();
    for (name, amend) in amendments {
        let policy = find(declared, &amended, |policy| policy.name() == name)
            .ok_or_else(|| unknown(AMEND, &name, declared.iter().map(|policy| policy.name().to_owned())))?;
        let policy = amend(Amendment::of(policy)).finish().map_err(|fault| setting(AMEND, &name, &fault))?;
        amended.insert(policy.name(), policy);
    }
    for variable in variables {
        let (Ok(variable), value) = (variable.0.into_string(), variable.1) else { continue };
        let Some(rest) = variable.strip_prefix(PREFIX) else { continue };
        let parse = |(suffix, setting): (&str, Setting)| Some((rest.strip_suffix(suffix)?, setting));
        let fault = |fault: &str| setting("amend_from_env", &variable, fault);
        let Some((name, what)) = SUFFIXES.into_iter().find_map(parse) else {
            let meant = declared.iter().map(|policy| in_environment(policy.name()) + "_");
            if meant.into_iter().any(|name| rest.starts_with(&name)) {
                let suffixes: Vec<&str> = SUFFIXES.iter().map(|(suffix, _)| *suffix).collect();
                return Err(fault(&format!("after the name comes one of {}", suffixes.join(", "))));
            }
            tracing::warn!(variable, "the variable is none that amends a rate limit, and is passed over");
            continue;
        };
        let names = || declared.iter().map(|policy| in_environment(policy.name()));
        let policy = find(declared, &amended, |policy| in_environment(policy.name()) == name)
            .ok_or_else(|| unknown("amend_from_env", name, names()))?;
        if declared.iter().any(|other| other.name() != policy.name() && in_environment(other.name()) == name)
        {
            return Err(fault("several policies have names that are the same here: rename one of them"));
        }
        let value = value.into_string().map_err(|_| fault("the value is no text"))?;
        let amendment = Amendment::of(policy);
        let number =
            || value.trim().parse().map_err(|_| fault(&format!("`{value}` is no whole number: write 20")));
        let amendment = match what {
            Setting::Per(window) => amendment.quota(number()?, window),
            Setting::Burst => amendment.burst(number()?),
            Setting::Shadow => amendment.shadow(
                value.trim().parse().map_err(|_| fault(&format!("`{value}` is neither true nor false")))?,
            ),
        };
        let policy = amendment.finish().map_err(|text| fault(&text))?;
        amended.insert(policy.name(), policy);
    }
    for policy in amended.values() {
        tracing::info!(policy = policy.name(), quotas = ?policy.quotas, shadow = policy.shadow, "rate limit amended");
    }
    Ok(amended)
}

/// The policy as it is by now.
fn find(
    declared: &[Policy],
    amended: &HashMap<&'static str, Policy>,
    is: impl Fn(&Policy) -> bool,
) -> Option<Policy> {
    let policy = declared.iter().find(|policy| is(policy))?;
    Some(*amended.get(policy.name()).unwrap_or(policy))
}

/// `my-api.v2` is `MY_API_V2` in a variable.
fn in_environment(name: &str) -> String {
    name.to_ascii_uppercase().replace(['-', '.'], "_")
}

fn setting(setting: &'static str, what: &str, fault: &str) -> BuildError {
    BuildError::Setting { setting, problem: format!("`{what}`: {fault}") }
}

fn unknown(what: &'static str, name: &str, names: impl Iterator<Item = String>) -> BuildError {
    let similarity = |other: &String| strsim::jaro_winkler(name, other);
    let nearest = names.max_by(|one, other| similarity(one).total_cmp(&similarity(other)));
    let hint = match nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "the program declares none by an attribute; `Builder::declare` adds others".to_owned(),
    };
    setting(what, name, &format!("there is no policy of that name: {hint}"))
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Setting")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARDWORK: Policy = Policy::new("hard-work").per_minute(5).per_hour(50);
    const BUCKET: Policy =
        Policy::new("bucket").per_second(5).algorithm(Algorithm::TokenBucket { burst: None });

    fn env(variables: &[(&str, &str)]) -> Result<HashMap<&'static str, Policy>, BuildError> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        apply(Vec::new(), variables, &[HARDWORK, BUCKET])
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
    fn faults_say_what_to_write_instead() {
        for (name, value, text) in [
            ("RATE_LIMIT_HARDWORK_PER_MINUTE", "20", "did you mean `HARD_WORK`?"),
            ("RATE_LIMIT_HARD_WORK_PER_MINUT", "20", "one of _PER_SECOND, _PER_MINUTE"),
            ("RATE_LIMIT_HARD_WORK_PER_MINUTE", "0", "deny every request"),
            ("RATE_LIMIT_HARD_WORK_PER_MINUTE", "many", "`many` is no whole number"),
            ("RATE_LIMIT_HARD_WORK_PER_MINUTE", "-1", "`-1` is no whole number"),
            ("RATE_LIMIT_HARD_WORK_PER_MINUTE", "60", "can never bind"),
            ("RATE_LIMIT_HARD_WORK_BURST", "3", "belongs to a token bucket"),
            ("RATE_LIMIT_HARD_WORK_SHADOW", "maybe", "neither true nor false"),
            ("RATE_LIMIT_BUCKET_BURST", "0", "a burst of 0"),
        ] {
            let fault = fault(&[(name, value)]);
            assert!(fault.contains(text), "{name}={value}: {fault}");
        }
    }

    #[test]
    fn code_and_environment_add_up() {
        let amend: Amend = Box::new(|policy| policy.per_minute(7).status(429));
        let variables = [("RATE_LIMIT_HARD_WORK_PER_HOUR".into(), "70".into())];
        let amended = apply(vec![("hard-work".to_owned(), amend)], variables, &[HARDWORK]).unwrap();
        assert_eq!(amended["hard-work"].quotas(), [Quota::per_minute(7), Quota::per_hour(70)]);
        assert_eq!(amended["hard-work"].status, Some(429));
    }
}
