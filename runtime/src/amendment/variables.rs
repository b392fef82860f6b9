//! Amendments by environment variables.

use std::ffi::OsString;
use std::time::Duration;

use super::FROM_ENV;
use super::lookup::{setting, similarity, unknown};
use super::pending::Pending;
use crate::error::BuildError;
use crate::policy::Policy;
use crate::quota::{DAY, HOUR, MINUTE, Quotas, SECOND};

/// The default prefix of the variables.
pub(crate) const PREFIX: &str = "RATE_LIMIT_";
/// The variables for settings of the builder, without the prefix.
pub(crate) const KEY_PREFIX: &str = "KEY_PREFIX";
pub(crate) const TRUSTED_PROXIES: &str = "TRUSTED_PROXIES";
/// The variable that puts all policies in shadow, without the prefix.
const ALL_IN_SHADOW: &str = "SHADOW";
/// The suffix that comes before all others.
const ALL_QUOTAS: &str = "_QUOTAS";
/// The suffixes that may follow a policy's name in a variable, and what they set.
const SUFFIXES: [(&str, Setting); 7] = [
    (ALL_QUOTAS, Setting::Quotas),
    ("_PER_SECOND", Setting::Per(SECOND)),
    ("_PER_MINUTE", Setting::Per(MINUTE)),
    ("_PER_HOUR", Setting::Per(HOUR)),
    ("_PER_DAY", Setting::Per(DAY)),
    ("_BURST", Setting::Burst),
    ("_SHADOW", Setting::Shadow),
];

#[derive(Clone, Copy)]
enum Setting {
    /// All quotas, in place of those that the policy has.
    Quotas,
    Per(Duration),
    Burst,
    Shadow,
}

/// Applies the variables that begin with `prefix` to the policies. Empty variables are ignored. Returns whether
/// all policies are in shadow.
pub(super) fn amend(
    pending: &mut Pending,
    prefix: &str,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    declared: &[Policy],
) -> Result<bool, BuildError> {
    let mut all_in_shadow = false;
    let mut variables: Vec<_> = variables.into_iter().collect();
    // What replaces all quotas must not replace those of other variables.
    variables.sort_by_key(|(variable, _)| !variable.to_string_lossy().ends_with(ALL_QUOTAS));
    for (variable, value) in variables {
        // What is not UTF-8 is treated below like any other invalid name or value.
        let (variable, value) = (variable.to_string_lossy(), value.to_string_lossy());
        match variable.strip_prefix(prefix) {
            _ if value.trim().is_empty() => {}
            Some(KEY_PREFIX | TRUSTED_PROXIES) | None => {}
            Some(ALL_IN_SHADOW) => all_in_shadow = truth(&variable, value.trim())?,
            Some(rest) => apply(pending, prefix, &variable, rest, value.trim(), declared)?,
        }
    }
    // This variable is for when there is no time to look at the others, so it overrides them.
    for policy in declared.iter().filter(|_| all_in_shadow) {
        pending.change(policy.name(), policy, |amendment| amendment.shadow(true))?;
    }
    Ok(all_in_shadow)
}

/// Returns the setting of the builder that a variable is probably meant to be; `rest` is what follows the prefix in its
/// name.
fn meant(rest: &str) -> Option<&'static str> {
    [KEY_PREFIX, TRUSTED_PROXIES, ALL_IN_SHADOW].into_iter().find(|setting| similarity(rest, setting) > 0.9)
}

/// Applies one variable; `rest` is what follows the prefix in its name.
fn apply(
    pending: &mut Pending,
    prefix: &str,
    variable: &str,
    rest: &str,
    value: &str,
    declared: &[Policy],
) -> Result<(), BuildError> {
    let fault = |fault: &str| setting(FROM_ENV, variable, fault);
    let parse = |(suffix, setting): (&str, Setting)| Some((rest.strip_suffix(suffix)?, setting));
    let Some((name, what)) = SUFFIXES.into_iter().find_map(parse) else {
        return without_suffix(prefix, variable, rest, declared);
    };
    let policy = named(variable, name, declared)?;
    let number = || {
        value
            .parse()
            .map_err(|_| fault(&format!("`{value}` is not a whole number: write digits alone, as in 20")))
    };
    match what {
        Setting::Quotas => {
            let quotas: Quotas = value.parse().map_err(|error| fault(&format!("`{value}`: {error}")))?;
            pending.change(variable, policy, |amendment| amendment.quotas(quotas))
        }
        Setting::Per(window) => {
            let limit = number()?;
            pending.change(variable, policy, |amendment| amendment.quota(limit, window))
        }
        Setting::Burst => {
            let burst = number()?;
            pending.change(variable, policy, |amendment| amendment.burst(burst))
        }
        Setting::Shadow => {
            let shadow = truth(variable, value)?;
            pending.change(variable, policy, |amendment| amendment.shadow(shadow))
        }
    }
}

/// Judges a variable that ends in none of the [`SUFFIXES`]: an error if it begins with the name of a policy, and
/// otherwise a warning that it is ignored.
fn without_suffix(prefix: &str, variable: &str, rest: &str, declared: &[Policy]) -> Result<(), BuildError> {
    let mut names = declared.iter().map(|policy| in_environment(policy.name()));
    if names.any(|name| rest.strip_prefix(&name).is_some_and(|end| end.is_empty() || end.starts_with('_'))) {
        let suffixes: Vec<&str> = SUFFIXES.iter().map(|(suffix, _)| *suffix).collect();
        let fault = format!("after the name comes one of {}", suffixes.join(", "));
        return Err(setting(FROM_ENV, variable, &fault));
    }
    if let Some(meant) = meant(rest) {
        tracing::warn!(variable, "this variable is ignored: did you mean {prefix}{meant}?");
        return Ok(());
    }
    tracing::warn!(
        variable,
        "this variable neither amends a declared rate limit nor is one of {prefix}{KEY_PREFIX}, \
         {prefix}{TRUSTED_PROXIES} and {prefix}{ALL_IN_SHADOW}, and is ignored"
    );
    Ok(())
}

/// Returns the policy whose name is `name` in a variable. The error blames `variable`.
fn named<'p>(variable: &str, name: &str, declared: &'p [Policy]) -> Result<&'p Policy, BuildError> {
    let fault = |fault: &str| setting(FROM_ENV, variable, fault);
    let mut meant = declared.iter().filter(|policy| in_environment(policy.name()) == name);
    let Some(policy) = meant.next() else {
        let names = declared.iter().map(|policy| in_environment(policy.name()));
        let elsewhere = "if it is another program's, `Builder::env_prefix` keeps them apart";
        return Err(fault(&format!("`{name}`: {} ({elsewhere})", unknown(name, names))));
    };
    if meant.any(|other| other.name() != policy.name()) {
        return Err(fault("several policies have the same name here: rename one of them"));
    }
    Ok(policy)
}

fn truth(variable: &str, value: &str) -> Result<bool, BuildError> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(setting(FROM_ENV, variable, &format!("`{value}` is neither `true` nor `false`"))),
    }
}

/// `my-api.v2` is `MY_API_V2` in a variable.
fn in_environment(name: &str) -> String {
    name.to_ascii_uppercase().replace(['-', '.'], "_")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::{Amend, apply};
    use super::*;
    use crate::algorithm::Algorithm;
    use crate::quota::Quota;

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
    fn a_setting_with_a_slip_is_understood() {
        assert_eq!(meant("TRUSTED_PROXY"), Some(TRUSTED_PROXIES));
        assert_eq!(meant("KEY_PREFX"), Some(KEY_PREFIX));
        assert_eq!(meant("SEARCH"), None);
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
    fn a_variable_replaces_all_quotas() {
        let all = ("RATE_LIMIT_HARD_WORK_QUOTAS", "30 per 90s, 600/hour");
        let quotas = |variables: &[(&str, &str)]| env(variables).unwrap()["hard-work"].quotas().to_vec();
        let ninety = Quota::new(30, Duration::from_secs(90));
        assert_eq!(quotas(&[all]), [ninety, Quota::per_hour(600)]);
        let day = ("RATE_LIMIT_HARD_WORK_PER_DAY", "900");
        for variables in [[all, day], [day, all]] {
            assert_eq!(quotas(&variables), [ninety, Quota::per_hour(600), Quota::per_day(900)]);
        }
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
            ("RATE_LIMIT_HARD_WORK_PER_MINUT", "20", "one of _QUOTAS, _PER_SECOND, _PER_MINUTE"),
            ("RATE_LIMIT_HARD_WORK", "20", "one of _QUOTAS, _PER_SECOND"),
            ("RATE_LIMIT_HARD_WORK_PER_MINUTE", "0", "deny every request"),
            ("RATE_LIMIT_HARD_WORK_PER_MINUTE", "many", "`many` is not a whole number"),
            ("RATE_LIMIT_HARD_WORK_PER_MINUTE", "-1", "`-1` is not a whole number"),
            ("RATE_LIMIT_HARD_WORK_PER_MINUTE", "60", "can never bind"),
            ("RATE_LIMIT_HARD_WORK_PER_MINUTE", "60", "(it would have 60 per minute, 50 per hour)"),
            ("RATE_LIMIT_HARD_WORK_BURST", "3", "belongs to a token bucket"),
            ("RATE_LIMIT_HARD_WORK_SHADOW", "maybe", "neither `true` nor `false`"),
            ("RATE_LIMIT_BUCKET_BURST", "0", "a burst of 0"),
            ("RATE_LIMIT_BUCKET_QUOTAS", "9", "`9`: a quota reads `5 per minute`"),
            ("RATE_LIMIT_BUCKET_QUOTAS", "9 per second, 9 per minute", "can never bind"),
            ("RATE_LIMIT_BUCKET_QUOTAS", "unlimited", "set `shadow` to let everybody pass"),
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
        assert!(error.contains("one of _QUOTAS"), "{error}");
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

    /// As at night, with limits that the code takes from a configuration.
    #[test]
    fn a_stricter_variable_leaves_out_what_the_code_has_amended() {
        let amended = |name: &str, amend: Amend| {
            let variables = [("RATE_LIMIT_HARD_WORK_PER_HOUR", "4"), ("RATE_LIMIT_BUCKET_PER_MINUTE", "9")];
            let variables = variables.map(|(name, value)| (name.into(), value.into()));
            apply(vec![(name.to_owned(), amend)], PREFIX, variables, &[HARDWORK, BUCKET]).unwrap()
        };
        let policies = amended("hard-work", Box::new(|policy| policy.per_minute(20).status(429))).policies;
        assert_eq!(policies["hard-work"].quotas(), [Quota::per_hour(4)]);
        assert_eq!(policies["hard-work"].status, Some(429));
        let policies = amended("bucket", Box::new(|policy| policy.burst(20))).policies;
        assert_eq!(policies["bucket"].algorithm, Algorithm::TokenBucket { burst: Some(8) });
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
