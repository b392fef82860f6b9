//! Amendments by environment variables.

use std::ffi::OsString;
use std::time::Duration;

use super::{Pending, setting, unknown};
use crate::error::BuildError;
use crate::policy::Policy;

/// The setting that errors blame.
const FROM_ENV: &str = "amend_from_env";
/// The default prefix of the variables.
pub(crate) const PREFIX: &str = "RATE_LIMIT_";
/// The variables for settings of the builder, without the prefix.
pub(crate) const KEY_PREFIX: &str = "KEY_PREFIX";
pub(crate) const TRUSTED_PROXIES: &str = "TRUSTED_PROXIES";
/// The variable that puts all policies in shadow, without the prefix.
const ALL_IN_SHADOW: &str = "SHADOW";
/// The suffixes that may follow a policy's name in a variable, and what they set.
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

/// Applies the variables that begin with `prefix` to the policies. Empty variables are ignored. Returns whether
/// all policies are in shadow.
pub(super) fn amend(
    pending: &mut Pending,
    prefix: &str,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    declared: &[Policy],
) -> Result<bool, BuildError> {
    let mut all_in_shadow = false;
    for (variable, value) in variables {
        // What is not UTF-8 is treated below like any other invalid name or value.
        let (variable, value) = (variable.to_string_lossy(), value.to_string_lossy());
        match variable.strip_prefix(prefix) {
            _ if value.trim().is_empty() => {}
            Some(KEY_PREFIX | TRUSTED_PROXIES) | None => {}
            Some(ALL_IN_SHADOW) => all_in_shadow = truth(&variable, value.trim())?,
            Some(rest) => apply(pending, &variable, rest, value.trim(), declared)?,
        }
    }
    // This variable is for when there is no time to look at the others, so it overrides them.
    for policy in declared.iter().filter(|_| all_in_shadow) {
        pending.change(FROM_ENV, policy.name(), policy, |amendment| amendment.shadow(true))?;
    }
    Ok(all_in_shadow)
}

/// Applies one variable; `rest` is what follows the prefix in its name.
fn apply(
    pending: &mut Pending,
    variable: &str,
    rest: &str,
    value: &str,
    declared: &[Policy],
) -> Result<(), BuildError> {
    let fault = |fault: &str| setting(FROM_ENV, variable, fault);
    let parse = |(suffix, setting): (&str, Setting)| Some((rest.strip_suffix(suffix)?, setting));
    let Some((name, what)) = SUFFIXES.into_iter().find_map(parse) else {
        let mut names = declared.iter().map(|policy| in_environment(policy.name()));
        if names
            .any(|name| rest.strip_prefix(&name).is_some_and(|end| end.is_empty() || end.starts_with('_')))
        {
            let suffixes: Vec<&str> = SUFFIXES.iter().map(|(suffix, _)| *suffix).collect();
            return Err(fault(&format!("after the name comes one of {}", suffixes.join(", "))));
        }
        tracing::warn!(variable, "this variable does not amend a rate limit and is ignored");
        return Ok(());
    };
    let mut meant = declared.iter().filter(|policy| in_environment(policy.name()) == name);
    let Some(policy) = meant.next() else {
        let names = declared.iter().map(|policy| in_environment(policy.name()));
        let elsewhere = "if it is another program's, `Builder::env_prefix` keeps them apart";
        return Err(fault(&format!("`{name}`: {} ({elsewhere})", unknown(name, names))));
    };
    if meant.any(|other| other.name() != policy.name()) {
        return Err(fault("several policies have the same name here: rename one of them"));
    }
    let number = || value.parse().map_err(|_| fault(&format!("`{value}` is not a whole number: write 20")));
    match what {
        Setting::Per(window) => {
            let limit = number()?;
            pending.change(FROM_ENV, variable, policy, |amendment| amendment.quota(limit, window))
        }
        Setting::Burst => {
            let burst = number()?;
            pending.change(FROM_ENV, variable, policy, |amendment| amendment.burst(burst))
        }
        Setting::Shadow => {
            let shadow = truth(variable, value)?;
            pending.change(FROM_ENV, variable, policy, |amendment| amendment.shadow(shadow))
        }
    }
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
