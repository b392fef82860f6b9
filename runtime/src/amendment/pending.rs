//! The amendments of a program at start-up: what its code and its environment change, validated together.

use std::collections::HashMap;
use std::ffi::OsString;

use super::lookup::{nowhere, setting};
use super::{AMEND, Amend, Amendment, FROM_ENV, log, variables};
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
    let mut by_code = Pending::new(AMEND);
    for (name, amend) in amendments {
        let policy = declared.iter().find(|policy| policy.name() == name);
        let policy = policy.ok_or_else(|| nowhere(AMEND, &name, declared))?;
        by_code.change(&name, policy, amend)?;
    }
    let mut policies = by_code.finish()?;
    let so_far = |policy: &Policy| policies.get(policy.name()).copied().unwrap_or(*policy);
    let so_far: Vec<Policy> = declared.iter().map(so_far).collect();
    let mut by_variables = Pending::new(FROM_ENV);
    let all_in_shadow = variables::amend(&mut by_variables, prefix, variables, &so_far)?;
    policies.extend(by_variables.finish()?);
    policies.values().for_each(log);
    Ok(Amended { policies, all_in_shadow })
}

/// The amendments of all policies, not validated yet.
pub(super) struct Pending {
    /// The setting that errors blame.
    by: &'static str,
    amendments: HashMap<&'static str, Amendment>,
}

impl Pending {
    pub(super) fn new(by: &'static str) -> Self {
        Self { by, amendments: HashMap::new() }
    }

    /// Applies `change` to `policy`. An error blames `what` of the setting.
    pub(super) fn change(
        &mut self,
        what: &str,
        policy: &Policy,
        change: impl FnOnce(Amendment) -> Amendment,
    ) -> Result<(), BuildError> {
        let so_far = self.amendments.remove(policy.name()).unwrap_or_else(|| Amendment::of(policy));
        let amendment = change(so_far);
        if let Some(fault) = &amendment.fault {
            return Err(setting(self.by, what, fault));
        }
        self.amendments.insert(policy.name(), amendment);
        Ok(())
    }

    fn finish(self) -> Result<HashMap<&'static str, Policy>, BuildError> {
        let Self { by, amendments } = self;
        let finish = |(name, amendment): (&'static str, Amendment)| {
            let policy = amendment.finish().map_err(|fault| setting(by, name, &fault))?;
            Ok((name, policy))
        };
        amendments.into_iter().map(finish).collect()
    }
}
