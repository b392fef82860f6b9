//! The user and password for Redis, asked for at each connection.

use std::fmt;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::error::BoxError;
use crate::store::BoxFuture;

/// The user and password of a limiter at Redis: see [`redis_credentials`](crate::Builder::redis_credentials).
#[derive(Clone, PartialEq, Eq)]
pub struct RedisCredentials {
    pub(super) username: String,
    pub(super) password: String,
}

impl RedisCredentials {
    /// Creates the credentials of a user in Redis' access control lists.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self { username: username.into(), password: password.into() }
    }

    /// Creates the credentials of the user `default`, whose password is the one that `requirepass` sets.
    pub fn password(password: impl Into<String>) -> Self {
        Self::new("default", password)
    }
}

impl fmt::Debug for RedisCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCredentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Provides the current credentials.
#[derive(Clone)]
pub(crate) struct Provider(Arc<dyn Fn() -> Answer + Send + Sync>);

type Answer = BoxFuture<'static, Result<RedisCredentials, BoxError>>;

impl Provider {
    pub(crate) fn new<F, C>(provider: F) -> Self
    where
        F: Fn() -> C + Send + Sync + 'static,
        C: Future<Output = Result<RedisCredentials, BoxError>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(provider())))
    }

    /// Asks for the credentials, in a task of its own: if the provider panics, nothing else does.
    pub(super) async fn ask(&self) -> Result<RedisCredentials, BoxError> {
        let provider = Arc::clone(&self.0);
        let mut asked = JoinSet::new();
        asked.spawn(async move { provider().await });
        match asked.join_next().await {
            Some(Ok(credentials)) => credentials,
            _ => Err("the function given to `redis_credentials` panicked".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_shown() {
        let shown = format!("{:?}", RedisCredentials::new("app", "hush"));
        assert!(shown.contains("app") && !shown.contains("hush"), "{shown}");
    }
}
