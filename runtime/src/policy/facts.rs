//! What a policy tells of itself.

use std::fmt;
use std::panic::Location;

use http::StatusCode;
use http::request::Parts;

use super::{Cost, GiveBackIf, Policy, Scope};
use crate::algorithm::Algorithm;
use crate::key::KeyPart;
use crate::quota::{Quota, Quotas};

impl Policy {
    /// The name, as in the store, in response fields and in the log.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The quotas, in the order in which they were declared; at least one.
    pub const fn quotas(&self) -> &[Quota] {
        self.quotas.as_slice()
    }

    /// How its quotas are counted.
    pub const fn counted_by(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether it counts and reports, but never denies.
    pub const fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// What its quotas are kept for, besides the client.
    pub const fn scope(&self) -> Scope {
        self.scope
    }

    /// The status that was declared for a denial, if any.
    pub fn denial_status(&self) -> Option<StatusCode> {
        self.status.and_then(|status| StatusCode::from_u16(status).ok())
    }

    /// The text of a denial.
    pub const fn denial_message(&self) -> &'static str {
        match self.message {
            Some(message) => message,
            None => Self::MESSAGE,
        }
    }

    /// Where the policy is declared: the file, line and column of the call of [`Policy::new`], or of the name in its
    /// attribute (of the attribute, where that says which `crate` is meant).
    pub const fn location(&self) -> &'static Location<'static> {
        self.location
    }

    /// How many quotas the fields of a response may tell of.
    pub(crate) const fn most_quotas(&self) -> usize {
        if self.has_quotas_by() { Quota::MAX_PER_POLICY } else { self.quotas().len() }
    }

    /// What tells declarations apart. Those that one call of a macro makes have one place, but not the same
    /// functions.
    pub(crate) fn declaration(&self) -> (&'static Location<'static>, &'static str) {
        (self.location, self.functions)
    }

    pub(crate) fn key_parts(&self) -> &'static [KeyPart] {
        self.key
    }

    pub(crate) fn cost_of(&self, parts: &Parts) -> u32 {
        match self.cost {
            Cost::Fixed(cost) => cost,
            Cost::By(cost) => cost(parts),
        }
    }

    /// The cost where there is no request to ask.
    pub(crate) fn fixed_cost(&self) -> u32 {
        match self.cost {
            Cost::Fixed(cost) => cost,
            Cost::By(_) => 1,
        }
    }

    /// Its quotas, if they are those of somebody.
    pub(crate) fn quotas_of_somebody(&self) -> Option<Quotas> {
        self.is_of_somebody.then_some(self.quotas)
    }

    /// Whether its quotas depend on who asks.
    pub(crate) const fn has_quotas_by(&self) -> bool {
        self.quotas_by.is_some()
    }

    /// The quotas of whoever asks, if they are not those declared.
    pub(crate) fn quotas_of(&self, parts: &Parts) -> Option<Quotas> {
        self.quotas_by.and_then(|quotas| quotas(parts))
    }

    pub(crate) fn skips(&self, parts: &Parts) -> bool {
        self.skip_if.is_some_and(|skip| skip(parts))
    }

    /// Which answers are given back, if some are.
    pub(crate) fn given_back(&self) -> Option<GiveBackIf> {
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
