//! The registry of the policies that attributes declare in the whole program, and the search for conflicts.

use std::collections::HashMap;

use crate::error::BuildError;
use crate::policy::Policy;

/// The policies of one attribute, submitted when the program is linked.
#[derive(Debug)]
pub struct Declaration {
    policies: &'static [&'static Policy],
}

impl Declaration {
    /// Declares `policies`.
    pub const fn new(policies: &'static [&'static Policy]) -> Self {
        Self { policies }
    }
}

inventory::collect!(Declaration);

/// Returns every policy that the attributes of the program declare, each once, sorted by name and location.
///
/// Policies made with [`Policy::new`] and used only with [`check`](crate::RateLimiter::check) are not included.
///
/// ```
/// for policy in axum_rate_limit::policies() {
///     println!("{} at {}: {:?}", policy.name(), policy.location(), policy.quotas());
/// }
/// ```
pub fn policies() -> Vec<&'static Policy> {
    let declarations = inventory::iter::<Declaration>.into_iter();
    let mut policies: Vec<&'static Policy> =
        declarations.flat_map(|declaration| declaration.policies.iter().copied()).collect();
    policies.sort_by_key(|policy| (policy.name(), policy.declaration()));
    // Macros such as `debug_handler` emit their item twice.
    policies.dedup();
    policies
}

/// Returns an error if policies share a name, and so their counters, but are not the same rule; or if a client
/// could not tell a policy's name from that of another policy's quota.
pub(crate) fn ensure_no_conflict<'p>(
    policies: impl IntoIterator<Item = &'p Policy>,
) -> Result<(), BuildError> {
    let mut by_name: HashMap<&str, &Policy> = HashMap::new();
    for policy in policies {
        let first = *by_name.entry(policy.name()).or_insert(policy);
        if !first.is_same_rule(policy) {
            return Err(BuildError::Conflict { first: Box::new(*first), second: Box::new(*policy) });
        }
    }
    for policy in by_name.values() {
        let quotas = 2..=policy.most_quotas();
        let taken = quotas.map(|number| format!("{}.{number}", policy.name()));
        if let Some(other) = taken.into_iter().find_map(|name| by_name.get(name.as_str())) {
            return Err(BuildError::NameTaken { policy: Box::new(**policy), other: Box::new(**other) });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_rule() {
        let one = Policy::new("x").per_minute(5);
        let again = Policy::new("x").per_minute(5);
        let other = Policy::new("x").per_minute(6);
        assert!(ensure_no_conflict(&[one, again]).is_ok());
        let error = ensure_no_conflict(&[one, again, other]).unwrap_err().to_string();
        assert!(error.contains("`x`"), "{error}");
        assert!(error.contains(&one.location().to_string()), "{error}");
        assert!(error.contains(&other.location().to_string()), "{error}");
    }

    #[test]
    fn a_name_is_no_quota_of_another() {
        let one = Policy::new("api").per_minute(5).per_hour(50);
        let error = ensure_no_conflict(&[one, Policy::new("api.2").per_minute(1)]).unwrap_err().to_string();
        assert!(error.contains("`api.2`"), "{error}");
        assert!(ensure_no_conflict(&[one, Policy::new("api.3").per_minute(1)]).is_ok());
    }

    #[test]
    fn a_name_is_none_of_the_quotas_that_depend_on_who_asks() {
        let one = Policy::new("api").per_minute(5).quotas_by(|_| None);
        for taken in ["api.2", "api.8"] {
            let error = ensure_no_conflict(&[Policy::new(taken).per_minute(1), one]).unwrap_err().to_string();
            assert!(error.contains(taken), "{error}");
        }
        assert!(ensure_no_conflict(&[one, Policy::new("api.9").per_minute(1)]).is_ok());
    }
}
