//! Says which policy may be meant by a name that none has.

use crate::error::BuildError;
use crate::policy::Policy;

/// Returns the error that none of `policies` has that name. It blames `by`.
pub(crate) fn nowhere<'p>(
    by: &'static str,
    name: &str,
    policies: impl IntoIterator<Item = &'p Policy>,
) -> BuildError {
    setting(by, name, &unknown(name, policies.into_iter().map(|policy| policy.name().to_owned())))
}

/// Returns the error that blames `what` of a setting.
pub(super) fn setting(setting: &'static str, what: &str, fault: &str) -> BuildError {
    BuildError::Setting { setting, problem: format!("`{what}`: {fault}") }
}

/// Names whose similarity is above this are taken for misspellings of each other.
const ALIKE: f64 = 0.7;

/// Returns how similar two names are, from 0 to 1. A single slip is one, however short they are.
pub(super) fn similarity(name: &str, other: &str) -> f64 {
    if name.len() > 2 && strsim::damerau_levenshtein(name, other) <= 1 {
        return 1.0;
    }
    strsim::jaro_winkler(name, other)
}

/// Says that there is no policy of this name, and which one may be meant.
pub(super) fn unknown(name: &str, names: impl Iterator<Item = String>) -> String {
    let similarity = |other: &String| similarity(&name.to_lowercase(), &other.to_lowercase());
    let nearest = names.max_by(|one, other| similarity(one).total_cmp(&similarity(other)));
    let hint = match nearest.filter(|nearest| similarity(nearest) > ALIKE) {
        Some(nearest) => {
            format!("did you mean `{nearest}`? (`Builder::declare` adds those that no attribute declares)")
        }
        None => "no attribute declares one; `Builder::declare` adds others".to_owned(),
    };
    format!("there is no policy of that name: {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood() {
        for (name, meant) in
            [("tow", "`two`"), ("SEARCH", "`search`"), ("serch", "`search`"), ("x", "declares one")]
        {
            let told = unknown(name, ["two", "search"].map(str::to_owned).into_iter());
            assert!(told.contains(meant), "{name}: {told}");
        }
    }
}
