//! What can go wrong, apart from a denial.

use std::fmt;
use std::time::Duration;

use crate::policy::Policy;

/// The store did not decide.
///
/// A limiter meets this with what it was built to do: see [`OnStoreError`](crate::OnStoreError).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no connection to the store, or it broke before the answer came.
    #[error("the store is not reachable: {0}")]
    Unreachable(BoxError),
    /// The store did not answer in time; whether it counted the request is unknown.
    #[error("the store did not answer within {0:?}")]
    Timeout(Duration),
    /// The store answered that it can't: a wrong type at a key, no memory, no permission, …
    #[error("the store refused: {0}")]
    Refused(BoxError),
    /// More checks wait for the store than may.
    #[error("too many checks are waiting for the store")]
    Overloaded,
    /// The memory store has no room for another counter, and none that has expired in the few places that it looks at.
    /// A client that is known needs another one, too, for another quota, or when its own was dropped as expired.
    #[error("the memory store is full: raise `max_keys`, now {max_keys}, or shorten the windows")]
    Full {
        /// How many keys it may hold.
        max_keys: usize,
    },
    /// The limiter was [closed](crate::RateLimiter::close).
    #[error("the limiter is closed")]
    Closed,
}

impl StoreError {
    /// Whether asking again may help, by and by, without anything being changed.
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
    pub(crate) fn is_unasked(&self) -> bool {
        matches!(self, Self::Overloaded | Self::Closed)
    }
}

/// Any error; the text of the one that it is in has that of this.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A limiter could not be built.
///
/// Its `Debug` is its `Display`, for programs whose `main` returns it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Two policies share a name, and so their counters, but are different rules.
    #[error(
        "two different policies are named `{}`: one at {}, one at {}; \
         give one of them another name, or make them the same `const` policy",
        .first.name(), .first.location(), .second.location(),
    )]
    Conflict {
        /// The one found first.
        first: Box<Policy>,
        /// One that differs from it.
        second: Box<Policy>,
    },
    /// A policy bears the name by which clients know the second or a later quota of another.
    #[error(
        "the policy `{}` at {} has the name that response fields give to a quota of `{}` at {}; \
         give it another name",
        .other.name(), .other.location(), .policy.name(), .policy.location(),
    )]
    NameTaken {
        /// The one with several quotas.
        policy: Box<Policy>,
        /// The one that bears the name.
        other: Box<Policy>,
    },
    /// A setting has a value that it can't have.
    #[error("{setting}: {problem}")]
    Setting {
        /// The method of the builder, or the environment variable.
        setting: &'static str,
        /// What is wrong with it, and what to write instead.
        problem: String,
    },
    /// [`require_store`](crate::Builder::require_store) was asked for, and the store is away.
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

/// Why a limiter gave no decision.
///
/// Its `Debug` is its `Display`, for programs whose `main` returns it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The limiter could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The store failed, and the limiter is built to deny then.
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
