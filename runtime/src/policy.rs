//! A named rule: what the attribute declares.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use http::StatusCode;

use crate::quota::{Quota, Quotas};

/// A named rule: one or more [`Quota`]s, what they are kept for, and what a denial says.
///
/// The attribute makes one; this `const` builder makes one without it, with the same words and the
/// same checks. In a constant a broken rule is a compile error.
///
/// ```
/// use axum_rate_limit::Policy;
///
/// const RESOURCES: Policy = Policy::new("resources").per_minute(10).by_resource();
/// ```
///
/// ```compile_fail
/// # use axum_rate_limit::Policy;
/// const NOTHING_PASSES: Policy = Policy::new("resources").per_minute(0);
/// ```
///
/// A policy is declared where [`Policy::new`] is called. Two declarations of the same name share
/// their counters, so they must be the same otherwise: [`build`](crate::Builder::build) refuses a
/// program in which they differ.
#[derive(Clone, Copy)]
#[must_use = "a policy is changed by value"]
pub struct Policy {
    name: &'static str,
    quotas: Quotas,
    scope: Scope,
    status: Option<u16>,
    message: &'static str,
    location: &'static Location<'static>,
}

/// What a quota is kept for, besides the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Scope {
    /// One quota for all that the policy stands on.
    #[default]
    Policy,
    /// A quota for each `METHOD:path` as asked for: [`Policy::by_resource`].
    Resource,
    /// A quota for each `METHOD:template`, such as `GET:/users/{id}`: [`Policy::by_route`].
    Route,
}

/// A policy that has a name, and needs a quota to become a [`Policy`].
#[derive(Clone, Copy)]
#[must_use = "a name is no policy yet: call `per_minute` or another quota"]
pub struct Named {
    name: &'static str,
    location: &'static Location<'static>,
}

/// The quotas over a named unit of time, for [`Named`] and for [`Policy`].
macro_rules! units {
    ($result:ty) => {
        /// Adds a quota: `limit` requests in each second.
        ///
        /// # Panics
        ///
        /// As [`quota`](Self::quota) does.
        #[track_caller]
        pub const fn per_second(self, limit: u32) -> $result {
            self.quota(limit, Duration::from_secs(1))
        }

        /// Adds a quota: `limit` requests in each minute.
        ///
        /// # Panics
        ///
        /// As [`quota`](Self::quota) does.
        #[track_caller]
        pub const fn per_minute(self, limit: u32) -> $result {
            self.quota(limit, Duration::from_secs(60))
        }

        /// Adds a quota: `limit` requests in each hour.
        ///
        /// # Panics
        ///
        /// As [`quota`](Self::quota) does.
        #[track_caller]
        pub const fn per_hour(self, limit: u32) -> $result {
            self.quota(limit, Duration::from_secs(3_600))
        }

        /// Adds a quota: `limit` requests in each 24 hours.
        ///
        /// # Panics
        ///
        /// As [`quota`](Self::quota) does.
        #[track_caller]
        pub const fn per_day(self, limit: u32) -> $result {
            self.quota(limit, Duration::from_secs(86_400))
        }
    };
}

impl Named {
    units!(Policy);

    /// Adds a quota: `limit` requests in each `window`.
    ///
    /// # Panics
    ///
    /// If `limit` is 0, or if `window` is not a whole number of milliseconds from 1 ms to 366 days.
    /// In a constant that is a compile error.
    #[track_caller]
    pub const fn quota(self, limit: u32, window: Duration) -> Policy {
        Policy {
            name: self.name,
            quotas: Quotas::one(Quota::new(limit, window)),
            scope: Scope::Policy,
            status: None,
            message: Policy::MESSAGE,
            location: self.location,
        }
    }
}

impl Policy {
    /// What a denial says if nothing else is declared.
    pub const MESSAGE: &'static str = "Rate limit exceeded.";

    /// Begins a policy; the next call gives it a quota.
    ///
    /// The name stands in the keys of the store, in response fields and in the log.
    ///
    /// # Panics
    ///
    /// If `name` is not 1 to 64 characters of `A-Z a-z 0-9 _ - .`. In a constant that is a compile
    /// error.
    #[track_caller]
    #[allow(clippy::new_ret_no_self)] // a policy without a quota must not exist
    pub const fn new(name: &'static str) -> Named {
        let bytes = name.as_bytes();
        assert!(
            !bytes.is_empty() && bytes.len() <= 64,
            "the name of a policy has 1 to 64 characters of `A-Z a-z 0-9 _ - .`"
        );
        let mut index = 0;
        while index < bytes.len() {
            assert!(
                matches!(bytes[index], b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.'),
                "the name of a policy is made of `A-Z a-z 0-9 _ - .`: write `-` instead of any other character"
            );
            index += 1;
        }
        Named { name, location: Location::caller() }
    }

    units!(Self);

    /// Adds a quota: `limit` requests in each `window`. A request passes if all quotas allow it.
    ///
    /// # Panics
    ///
    /// If `limit` is 0; if `window` is not a whole number of milliseconds from 1 ms to 366 days; if
    /// the policy has a quota over that window; if it has [`Quota::MAX_PER_POLICY`] quotas; or if
    /// this quota or one there can never bind, since another allows no more in a longer window. In
    /// a constant that is a compile error.
    #[track_caller]
    pub const fn quota(mut self, limit: u32, window: Duration) -> Self {
        self.quotas = self.quotas.and(Quota::new(limit, window));
        self
    }

    /// Keeps a quota for each `METHOD:path` as asked for, without the query; `HEAD` counts as `GET`.
    ///
    /// # Panics
    ///
    /// If the policy is [`by_route`](Self::by_route). In a constant that is a compile error.
    #[track_caller]
    pub const fn by_resource(mut self) -> Self {
        assert!(
            !matches!(self.scope, Scope::Route),
            "`by_resource` and `by_route` exclude each other: keep one"
        );
        self.scope = Scope::Resource;
        self
    }

    /// Keeps a quota for each `METHOD:template`, such as `GET:/users/{id}`.
    ///
    /// # Panics
    ///
    /// If the policy is [`by_resource`](Self::by_resource). In a constant that is a compile error.
    #[track_caller]
    pub const fn by_route(mut self) -> Self {
        assert!(
            !matches!(self.scope, Scope::Resource),
            "`by_resource` and `by_route` exclude each other: keep one"
        );
        self.scope = Scope::Route;
        self
    }

    /// The status of a denial, instead of what the limiter is built with.
    ///
    /// # Panics
    ///
    /// If `status` is not from 400 to 599. In a constant that is a compile error.
    #[track_caller]
    pub const fn status(mut self, status: u16) -> Self {
        assert!(
            400 <= status && status <= 599,
            "the status of a denial tells a client of an error: write 400 to 599, such as 429"
        );
        self.status = Some(status);
        self
    }

    /// The text of a denial, instead of [`Policy::MESSAGE`].
    ///
    /// # Panics
    ///
    /// If `message` is empty. In a constant that is a compile error.
    #[track_caller]
    pub const fn message(mut self, message: &'static str) -> Self {
        assert!(!message.is_empty(), "the message of a denial is empty: write what a client should read");
        self.message = message;
        self
    }

    /// The name, as in the store, in response fields and in the log.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The quotas, in the order in which they were declared; at least one.
    pub const fn quotas(&self) -> &[Quota] {
        self.quotas.as_slice()
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
        self.message
    }

    /// Where the policy is declared: the file, line and column of its attribute or of the call of
    /// [`Policy::new`].
    pub const fn location(&self) -> &'static Location<'static> {
        self.location
    }

    /// Whether `other` is the same rule, wherever it is declared.
    pub(crate) fn is_same_rule(&self, other: &Self) -> bool {
        let Self { name, quotas, scope, status, message, location: _ } = self;
        (name, quotas, scope, status, message)
            == (&other.name, &other.quotas, &other.scope, &other.status, &other.message)
    }
}

/// The same rule, declared in the same place.
impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.is_same_rule(other) && self.location == other.location
    }
}

impl Eq for Policy {}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Policy");
        debug.field("name", &self.name).field("quotas", &self.quotas()).field("scope", &self.scope);
        if let Some(status) = self.status {
            debug.field("status", &status);
        }
        if self.message != Self::MESSAGE {
            debug.field("message", &self.message);
        }
        debug.field("location", &format_args!("{}", self.location)).finish()
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Named").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_knows_where_it_is_declared() {
        let policy = Policy::new("here").per_second(1);
        assert_eq!(policy.location().file(), file!());
    }

    #[test]
    fn the_place_tells_two_equal_rules_apart() {
        let one = Policy::new("same").per_second(1);
        let other = Policy::new("same").per_second(1);
        assert!(one.is_same_rule(&other));
        assert_ne!(one, other);
        assert_eq!(one, one.clone());
    }

    #[test]
    #[should_panic(expected = "`A-Z a-z 0-9 _ - .`")]
    fn names_are_checked() {
        let _ = Policy::new("rl:login");
    }

    #[test]
    #[should_panic(expected = "exclude each other")]
    fn one_scope_only() {
        let _ = Policy::new("x").per_second(1).by_resource().by_route();
    }

    #[test]
    #[should_panic(expected = "400 to 599")]
    fn a_denial_is_an_error() {
        let _ = Policy::new("x").per_second(1).status(200);
    }
}
