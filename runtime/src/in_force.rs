//! The policies in force: as declared, or as amended.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::amendment::{self, AMEND, Amended, Amendment};
use crate::error::BuildError;
use crate::policy::Policy;
use crate::registry;
use crate::telemetry;

/// The policies of a limiter.
pub(crate) struct InForce {
    /// The declared policies, by name.
    known: HashMap<&'static str, Known>,
    /// The amended policies, by name.
    amended: ArcSwap<HashMap<&'static str, Arc<Policy>>>,
    /// Whether a policy may differ from its declaration; most programs amend nothing.
    has_amended: AtomicBool,
    /// Whether policies that nobody has declared are in shadow.
    shadows_others: bool,
    /// Held while `amended` is changed.
    changing: Mutex<()>,
}

/// A declared policy.
struct Known {
    declared: Policy,
    /// As the limiter was built with it.
    built: Policy,
    is_of_attribute: bool,
}

/// A policy as declared, or as amended.
#[derive(Clone, Debug)]
pub(crate) enum Effective<'p> {
    Declared(&'p Policy),
    Owned(Arc<Policy>),
}

impl InForce {
    /// The policies of `declared`, with those of `amended` in their place.
    pub(crate) fn new(
        declared: &[Policy],
        Amended { policies: amended, all_in_shadow }: &Amended,
    ) -> Result<Self, BuildError> {
        let of_attributes: HashSet<_> = registry::policies().into_iter().map(Policy::name).collect();
        let know = |policy: &Policy| {
            let name = policy.name();
            let built = *amended.get(name).unwrap_or(policy);
            (name, Known { declared: *policy, built, is_of_attribute: of_attributes.contains(name) })
        };
        let known: HashMap<_, _> = declared.iter().map(know).collect();
        registry::ensure_no_conflict(known.values().map(|known| &known.built))?;
        telemetry::begin(known.values().map(|known| &known.built));
        let has_amended = AtomicBool::new(!amended.is_empty() || *all_in_shadow);
        let amended = amended.iter().map(|(name, policy)| (*name, Arc::new(*policy))).collect();
        Ok(Self {
            known,
            amended: ArcSwap::from_pointee(amended),
            has_amended,
            shadows_others: *all_in_shadow,
            changing: Mutex::new(()),
        })
    }

    /// Returns `policy` as declared, or as amended.
    pub(crate) fn effective<'p>(&self, policy: &'p Policy) -> Effective<'p> {
        let amended = || {
            let amended = self.amended.load().get(policy.name()).cloned();
            let is_shadowed = || self.shadows_others && !self.known.contains_key(policy.name());
            amended.or_else(|| is_shadowed().then(|| Arc::new(policy.shadow())))
        };
        let amended = if self.has_amended.load(Ordering::Relaxed) { amended() } else { None };
        amended.map_or(Effective::Declared(policy), Effective::Owned)
    }

    /// Returns the error if `policy` has the name of a declared one, and is another rule.
    pub(crate) fn conflict(&self, policy: &Policy) -> Option<BuildError> {
        let Known { declared, built, .. } = self.known.get(policy.name())?;
        // The same rule may be declared in several places, and an amended one comes from any of them.
        let is_declared_there = |known: &Policy| known.declaration() == policy.declaration();
        let is_same =
            is_declared_there(declared) || is_declared_there(built) || declared.is_same_rule(policy);
        (!is_same).then(|| BuildError::Conflict { first: Box::new(*declared), second: Box::new(*policy) })
    }

    /// Whether an attribute declares a policy of that name.
    pub(crate) fn is_of_attribute(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|known| known.is_of_attribute)
    }

    /// Returns the declared policy of that name as it is in force, or an error that blames `by`.
    pub(crate) fn get(&self, by: &'static str, name: &str) -> Result<Policy, BuildError> {
        let built = self.find(by, name)?;
        Ok(self.amended.load().get(built.name()).map_or(*built, |policy| **policy))
    }

    /// Returns the policy of that name as the limiter was built with it, or an error that blames `by`.
    pub(crate) fn find(&self, by: &'static str, name: &str) -> Result<&Policy, BuildError> {
        let known = self.known.get(name).map(|known| &known.built);
        known.ok_or_else(|| amendment::nowhere(by, name, self.built()))
    }

    /// Returns the declared policies as the limiter was built with them.
    fn built(&self) -> impl Iterator<Item = &Policy> {
        self.known.values().map(|known| &known.built)
    }

    /// Returns the declared policies as they are in force, sorted by name.
    pub(crate) fn all(&self) -> Vec<Policy> {
        let amended = self.amended.load();
        let in_force = |built: &Policy| amended.get(built.name()).map_or(*built, |policy| **policy);
        let mut all: Vec<Policy> = self.built().map(in_force).collect();
        all.sort_unstable_by_key(Policy::name);
        all
    }

    /// Replaces the policy of that name by what `change` makes of the one that the limiter was built with.
    pub(crate) fn amend(
        &self,
        name: &str,
        change: impl FnOnce(Amendment) -> Amendment,
    ) -> Result<(), BuildError> {
        let policy = amendment::amend(self.find(AMEND, name)?, change)?;
        let _changing = self.changing.lock();
        let mut amended = HashMap::clone(&self.amended.load());
        amended.insert(policy.name(), Arc::new(policy));
        let others = self.built().filter(|built| !amended.contains_key(built.name()));
        registry::ensure_no_conflict(others.chain(amended.values().map(|policy| &**policy)))?;
        self.amended.store(Arc::new(amended));
        self.has_amended.store(true, Ordering::Relaxed);
        amendment::log(&policy);
        Ok(())
    }
}

impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.amended.load().values()).finish()
    }
}

impl Effective<'_> {
    /// Returns the same policy, which outlives its declaration.
    pub(crate) fn into_owned(self) -> Effective<'static> {
        Effective::Owned(match self {
            Self::Declared(policy) => Arc::new(*policy),
            Self::Owned(policy) => policy,
        })
    }
}

impl Deref for Effective<'_> {
    type Target = Policy;

    fn deref(&self) -> &Policy {
        match self {
            Self::Declared(policy) => policy,
            Self::Owned(policy) => policy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Policy = Policy::new("in-force-known").per_minute(1);
    const OTHER: Policy = Policy::new("in-force-other").per_minute(1);

    #[test]
    fn those_that_are_not_known_are_in_shadow_if_all_are() {
        for all_in_shadow in [false, true] {
            let amended = Amended { policies: HashMap::new(), all_in_shadow };
            let in_force = InForce::new(&[KNOWN], &amended).expect("there is no conflict");
            assert_eq!(in_force.effective(&OTHER).is_shadow(), all_in_shadow);
            in_force.amend(KNOWN.name(), |policy| policy).expect("it is known");
            assert!(!in_force.effective(&KNOWN).is_shadow(), "it is as it was amended");
        }
    }
}
