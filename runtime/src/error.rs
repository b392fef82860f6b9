//! The errors of stores, of building a limiter and of decisions. A denial is not an error.

use std::fmt;
use std::time::Duration;

use crate::policy::Policy;

/// An error of the store, which made no decision.
///
/// How a limiter handles it depends on its settings: see [`OnStoreError`](crate::OnStoreError).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no connection to the store, or it broke before the answer came.
    #[error("the store is not reachable: {0}")]
    Unreachable(BoxError),
    /// The store did not answer in time; whether it counted the request is unknown.
    #[error("the store did not answer within {0:?}")]
    Timeout(Duration),
    /// The store refused the operation: a key holds the wrong type, memory or a permission is missing, …
    #[error("the store refused: {0}")]
    Refused(BoxError),
    /// Too many checks are waiting for the store already.
    #[error("too many checks are waiting for the store")]
    Overloaded,
    /// The memory store has no room for another counter, and none of the few places that it looks at holds an
    /// expired one.
    ///
    /// This can also affect a known client, when it needs a counter for another quota, or when its own was
    /// dropped as expired.
    #[error("the memory store is full: raise `max_keys`, now {max_keys}, or shorten the windows")]
    Full {
        /// The maximum number of keys.
        max_keys: usize,
    },
    /// The limiter was [closed](crate::RateLimiter::close).
    #[error("the limiter is closed")]
    Closed,
}

impl StoreError {
    /// Whether a later retry may succeed without anything being changed.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum_rate_limit::StoreError;
    ///
    /// assert!(StoreError::Timeout(Duration::from_millis(100)).is_transient());
    /// assert!(!StoreError::Refused("no permission".into()).is_transient());
    /// ```
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Timeout(_) | Self::Overloaded | Self::Full { .. } => true,
            Self::Refused(_) | Self::Closed => false,
        }
    }
}

impl StoreError {
    /// Whether the store was not asked at all.
    pub(crate) fn was_not_sent(&self) -> bool {
        matches!(self, Self::Overloaded | Self::Closed)
    }

    /// Returns this as one line of a log, whatever the other end has put into it.
    pub(crate) fn in_one_line(&self) -> String {
        self.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// Returns what explains the difference of two policies of one name, if the places where they stand do not.
fn why_they_differ(first: &Policy, second: &Policy) -> &'static str {
    if first.is_same_but_for_functions(second) {
        " (a program can't tell that their functions are the same)"
    } else if first.individual_quotas().is_some() != second.individual_quotas().is_some() {
        " (`with_quotas` gives one of them the quotas of a certain client: where there is a request, use `quotas_by` \
         instead)"
    } else {
        ""
    }
}

/// Any error. The error that holds it shows its text.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error that keeps a limiter from being built, or a policy from being amended.
///
/// Its `Debug` output is its `Display` output, for programs whose `main` returns it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Two policies share a name, and so their counters, but are different rules.
    #[error(
        "two different policies are named `{}`: one at {}, one at {}; \
         give one of them another name, or make them the same `const` policy{}",
        .first.name(), .first.location(), .second.location(),
        why_they_differ(.first, .second),
    )]
    Conflict {
        /// The policy found first.
        first: Box<Policy>,
        /// A policy that differs from it.
        second: Box<Policy>,
    },
    /// A policy has the name that response fields give to the second or a later quota of another policy.
    #[error(
        "the policy `{}` at {} has the name that response fields give to a quota of `{}` at {}; \
         give it another name",
        .other.name(), .other.location(), .policy.name(), .policy.location(),
    )]
    NameTaken {
        /// The policy with several quotas.
        policy: Box<Policy>,
        /// The policy that has the name.
        other: Box<Policy>,
    },
    /// A setting has an invalid value.
    #[error("{setting}: {problem}")]
    Setting {
        /// The method or the environment variable that sets it.
        setting: &'static str,
        /// What is wrong with it, and what to write instead.
        problem: String,
    },
    /// [`require_store`](crate::Builder::require_store) is set, and the store is unavailable.
    #[error("the store is required, but is not available: {0}")]
    Store(StoreError),
}

impl fmt::Debug for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<StoreError> for BuildError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The reason why a limiter made no decision.
///
/// Its `Debug` output is its `Display` output, for programs whose `main` returns it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The limiter could not be built, or a [`Charge`](crate::Charge::of) names a policy that does not exist.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The store failed, and the limiter was not set to decide without it, or could not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn nothing_is_said_twice() {
        let refused = || StoreError::Refused("boom".into());
        for error in [Error::from(refused()), Error::from(BuildError::from(refused()))] {
            assert_eq!(error.to_string().matches("boom").count(), 1);
            assert!(error.source().is_none(), "{error}");
        }
    }
}
