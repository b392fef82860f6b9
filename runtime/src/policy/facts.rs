//! The accessors of [`Policy`], and its `Debug` output.

use std::fmt;
use std::panic::Location;

use http::StatusCode;
use http::request::Parts;

use super::{Cost, GiveBackIf, Policy, Scope};
use crate::algorithm::Algorithm;
use crate::key::KeyPart;
use crate::quota::{Quota, Quotas};

impl Policy {
    /// Returns the name, as in the store, in response fields and in the log.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the quotas, in the order of declaration.
    ///
    /// There is at least one, unless the policy was given [`Quotas::UNLIMITED`] by
    /// [`with_quotas`](Self::with_quotas).
    pub const fn quotas(&self) -> &[Quota] {
        self.quotas.as_slice()
    }

    /// Returns the algorithm that counts the quotas.
    pub const fn counted_by(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether the policy is in shadow: it counts and reports, but never denies.
    pub const fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// Returns whether a key has one quota in all, or one for each resource or route.
    pub const fn scope(&self) -> Scope {
        self.scope
    }

    /// Returns the status that the policy declares for a denial, if any.
    pub fn denial_status(&self) -> Option<StatusCode> {
        self.status.and_then(|status| StatusCode::from_u16(status).ok())
    }

    /// Returns the text of a denial of a request that may pass later.
    pub const fn denial_message(&self) -> &'static str {
        match self.message {
            Some(message) => message,
            None => Self::MESSAGE,
        }
    }

    /// Returns where the policy is declared: the file, line and column of the call of [`Policy::new`], or of the
    /// name in the attribute (of the attribute itself, if it has the argument `crate`).
    pub const fn location(&self) -> &'static Location<'static> {
        self.location
    }

    /// The maximum number of quotas that response fields may list for this policy.
    pub(crate) const fn most_quotas(&self) -> usize {
        if self.has_quotas_by() { Quota::MAX_PER_POLICY } else { self.quotas().len() }
    }

    /// Tells declarations apart. Those that one call of a macro makes have the same location, but may have
    /// different functions.
    pub(crate) fn declaration(&self) -> (&'static Location<'static>, &'static str) {
        (self.location, self.functions)
    }

    /// Returns the parts of the [key](Self::key). The [`Key`](crate::Key) of a request that an attribute limits has
    /// them as well.
    pub const fn key_parts(&self) -> &'static [KeyPart] {
        self.key
    }

    pub(crate) fn cost_of(&self, parts: &Parts) -> u32 {
        match self.cost {
            Cost::Fixed(cost) => cost,
            Cost::By(cost) => cost(parts),
        }
    }

    /// The cost without a request: the declared one, or 1 if a function determines it.
    pub(crate) fn fixed_cost(&self) -> u32 {
        match self.cost {
            Cost::Fixed(cost) => cost,
            Cost::By(_) => 1,
        }
    }

    /// The quotas that were set by [`with_quotas`](Self::with_quotas), if any.
    pub(crate) fn individual_quotas(&self) -> Option<Quotas> {
        self.has_individual_quotas.then_some(self.quotas)
    }

    /// Whether the quotas depend on the request: see [`quotas_by`](Self::quotas_by). Where there is no request, pass
    /// those of a client by [`with_quotas`](Self::with_quotas).
    pub const fn has_quotas_by(&self) -> bool {
        self.quotas_by.is_some()
    }

    /// The quotas for this request, if they are not the declared ones.
    pub(crate) fn quotas_of(&self, parts: &Parts) -> Option<Quotas> {
        self.quotas_by.and_then(|quotas| quotas(parts))
    }

    pub(crate) fn skips(&self, parts: &Parts) -> bool {
        self.skip_if.is_some_and(|skip| skip(parts))
    }

    /// The function that says which responses give the charge back, if there is one.
    pub(crate) fn give_back_function(&self) -> Option<GiveBackIf> {
        self.give_back_if
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Policy");
        debug.field("name", &self.name).field("quotas", &self.quotas).field("algorithm", &self.algorithm);
        debug.field("scope", &self.scope).field("key", &self.key).field("shadow", &self.shadow);
        if let Some(status) = self.status {
            debug.field("status", &status);
        }
        if let Some(message) = self.message {
            debug.field("message", &message);
        }
        debug.field("location", &format_args!("{}", self.location)).finish_non_exhaustive()
    }
}
