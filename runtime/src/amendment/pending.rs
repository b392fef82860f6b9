//! The amendments of a program at start-up: what its code and its environment change, validated together.

use std::collections::HashMap;
use std::ffi::OsString;

use super::lookup::{find, setting};
use super::{AMEND, Amend, Amendment, log, variables};
use crate::error::BuildError;
use crate::policy::Policy;

/// The result of all amendments.
#[derive(Debug, Default)]
pub(crate) struct Amended {
    /// The policies that differ from their declarations, by name.
    pub(crate) policies: HashMap<&'static str, Policy>,
    /// Whether all policies are in shadow, including those that nobody has declared.
    pub(crate) all_in_shadow: bool,
}

/// Returns the amended policies: the declared ones, as the code amends them, as the environment amends these. Each is
/// validated after all changes of the code, and after all of the environment.
pub(crate) fn apply(
    amendments: Vec<(String, Amend)>,
    prefix: &str,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    declared: &[Policy],
) -> Result<Amended, BuildError> {
    let mut by_code = Pending::default();
    for (name, amend) in amendments {
        by_code.change(AMEND, &name, find(AMEND, &name, declared)?, amend)?;
    }
    let mut policies = by_code.finish()?;
    let so_far = |policy: &Policy| policies.get(policy.name()).copied().unwrap_or(*policy);
    let so_far: Vec<Policy> = declared.iter().map(so_far).collect();
    let mut by_variables = Pending::default();
    let all_in_shadow = variables::amend(&mut by_variables, prefix, variables, &so_far)?;
    policies.extend(by_variables.finish()?);
    policies.values().for_each(log);
    Ok(Amended { policies, all_in_shadow })
}

/// The amendments of all policies, not validated yet.
#[derive(Default)]
pub(super) struct Pending(HashMap<&'static str, (&'static str, Amendment)>);

impl Pending {
    /// Applies `change` to `policy`. An error blames `what` of the setting `by`.
    pub(super) fn change(
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
