//! Why a check was not decided.

use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::StoreError;

/// Why a check was not decided. Checks that share a call share its failure.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// There was no answer for so long; whether the check was counted is unknown.
    Timeout(Duration),
    /// There is no connection, or it ended.
    NoConnection,
    /// Too many checks are waiting already.
    Overloaded,
    /// What the server answered, or what became of the connection.
    Redis(RedisError),
}

impl Failure {
    /// Creates the failure of one check from what the script says is wrong with it.
    pub(super) fn of_check(fault: &str) -> Self {
        // Before version 7, the place in the script comes first: `@user_script: 57: -READONLY …`.
        let placed = fault.strip_prefix("@user_script: ").and_then(|placed| placed.split_once(": -"));
        let fault = placed.map_or(fault, |(_, fault)| fault).trim_end().to_owned();
        let kind =
            if is_unwritable(&fault) { ServerErrorKind::ReadOnly } else { ServerErrorKind::ResponseError };
        Self::Redis((ErrorKind::Server(kind), "the script was refused a command", fault).into())
    }

    /// Whether another connection may lead to a server that serves.
    pub(super) fn is_away(&self) -> bool {
        let error = match self {
            Self::Redis(error) => error,
            Self::NoConnection => return true,
            Self::Timeout(_) | Self::Overloaded => return false,
        };
        match error.kind() {
            ErrorKind::Io | ErrorKind::AuthenticationFailed | ErrorKind::Parse => true,
            ErrorKind::Server(kind) => {
                matches!(
                    kind,
                    ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading
                ) || (kind == ServerErrorKind::ClusterDown && !is_of_slot(error))
            }
            _ => match error.code() {
                // A password was set, or changed: the next connection may know it.
                Some("NOAUTH" | "WRONGPASS") => true,
                Some(code) => is_unwritable(code),
                None => false,
            },
        }
    }

    /// Returns it as an error if it [is away](Self::is_away).
    pub(super) fn if_away(self) -> Result<(), Self> {
        if self.is_away() { Err(self) } else { Ok(()) }
    }

    /// Whether it says that the keys are on another node.
    #[cfg(feature = "redis-cluster")]
    pub(super) fn is_redirection(&self) -> bool {
        let Self::Redis(error) = self else { return false };
        matches!(error.kind(), ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask))
    }

    /// Whether a node says that the slot of the keys has no owner. It may have been removed from the cluster itself.
    #[cfg(feature = "redis-cluster")]
    pub(super) fn is_of_slot(&self) -> bool {
        matches!(self, Self::Redis(error) if is_of_slot(error))
    }
}

/// Whether a node of a cluster says that a slot has no owner. The other slots are still served, if the cluster
/// is configured to serve them.
fn is_of_slot(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("slot not served"))
}

/// Whether a server says that it takes no writes: a replica, or a master that has lost its replicas or its disk.
pub(super) fn is_unwritable(error: &str) -> bool {
    ["READONLY", "NOREPLICAS", "MISCONF"].iter().any(|code| error.starts_with(code))
}

/// Returns a clearer error if `error` shows that a server is, unexpectedly, a node of a cluster.
pub(super) fn node_of_cluster(error: &RedisError) -> Option<RedisError> {
    let ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::CrossSlot) =
        error.kind()
    else {
        return None;
    };
    let instead = "use `redis_cluster`, of the feature `redis-cluster`".to_owned();
    Some((ErrorKind::InvalidClientConfig, "this server is a node of a cluster", instead).into())
}

/// Returns a clearer error, which the scripts also tell, if `error` says that a key is of a type that no counter has.
fn foreign_key(error: &RedisError) -> Option<RedisError> {
    let is_foreign = error.code() == Some("WRONGTYPE")
        || error.detail().is_some_and(|detail| detail.starts_with("WRONGTYPE"));
    let question = "is the key prefix used by someone else?".to_owned();
    let kind = ErrorKind::Server(ServerErrorKind::ResponseError);
    is_foreign.then(|| (kind, "a key of this policy holds no counter", question).into())
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

/// What the limiter is told.
impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let is_away = failure.is_away();
        match failure {
            Failure::Timeout(after) => Self::Timeout(after),
            Failure::NoConnection => Self::Unreachable("there is no connection".into()),
            Failure::Overloaded => Self::Overloaded,
            Failure::Redis(error) if is_away => Self::Unreachable(error.into()),
            Failure::Redis(error) => Self::Refused(foreign_key(&error).unwrap_or(error).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_takes_no_writes_is_away_whatever_its_version() {
        for fault in [
            "READONLY You can't write against a read only replica.",
            "@user_script: 57: -READONLY You can't write against a read only replica.\r\n",
            "NOREPLICAS Not enough good replicas to write.",
            "@user_script: 57: -MISCONF Redis is configured to save RDB snapshots",
        ] {
            assert!(Failure::of_check(fault).is_away(), "{fault}");
        }
        for fault in [
            "WRONGTYPE Operation against a key",
            "OOM command not allowed",
            "ERR rl:{a: -b} holds no counter",
            "ERR rl:{a: -READONLY} holds no counter",
            "@user_script: 57: -WRONGTYPE Operation against rl:{a: -READONLY}\r\n",
        ] {
            assert!(!Failure::of_check(fault).is_away(), "{fault}");
        }
    }
}
