//! Counters in Redis, shared by all who use it.
//!
//! A counter's key is that of the [`Counter`], the window in milliseconds, and, unless it counts a
//! fixed window, a letter for the algorithm: `rl:{hardwork::192.0.2.7::GET:/hardwork/}60000`. What
//! stands there is said in `apply.lua`.

mod connection;
mod script;
mod sharded;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use self::connection::Connection;
pub use self::connection::RedisCredentials;
#[cfg(feature = "redis-tls")]
pub use self::connection::RedisTls;
pub(crate) use self::connection::{Access, Provider, Server};
use self::script::Decider;
use super::{Counter, Operation, Outcome, Store};
use crate::clock::Clock;
use crate::error::StoreError;

/// How long a new connection may take. It is only opened in the background and at start-up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Counters behind one connection that all checks share.
pub(crate) struct RedisStore {
    server: Server,
    decider: Arc<Decider>,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    /// None while there is none: a request never waits for it.
    connection: Option<Connection>,
    /// Grows with each connection, so that a late failure of an old one is not blamed on its successor.
    generation: u64,
}

impl RedisStore {
    /// A store on `server`, that is not connected yet.
    pub(crate) fn on(server: Server, clock: Clock) -> Self {
        Self { server, decider: Arc::new(Decider::new(clock)), current: Mutex::default() }
    }

    /// Opens a new connection, makes sure that it serves, and uses it from now on.
    ///
    /// A connection that is there is given up: whoever asks has reason not to trust it.
    async fn connect(&self) -> Result<(), StoreError> {
        let opening = async {
            let mut connection = self.server.connect(CONNECT_TIMEOUT).await?;
            self.decider.load(&mut connection).await?;
            Ok(connection)
        };
        let connection = tokio::time::timeout(CONNECT_TIMEOUT, opening)
            .await
            .map_err(|_| StoreError::Timeout(CONNECT_TIMEOUT))?
            .map_err(store_error)?;
        let mut current = self.current();
        current.connection = Some(connection);
        current.generation += 1;
        Ok(())
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells what is wrong with the server, or the way there, from what is wrong with the request.
fn store_error(error: RedisError) -> StoreError {
    let away = match error.kind() {
        ErrorKind::Io
        | ErrorKind::AuthenticationFailed
        | ErrorKind::ClusterConnectionNotFound
        | ErrorKind::Parse => true,
        // It answers, but another connection may lead to one that serves.
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::ReadOnly
                | ServerErrorKind::MasterDown
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
        ),
        _ => false,
    };
    // Until version 7 the error of a command in a script is wrapped in one of the script.
    if away || error.to_string().contains("READONLY") {
        StoreError::Unreachable(error.into())
    } else {
        StoreError::Refused(error.into())
    }
}

impl Store for RedisStore {
    async fn apply(&self, operation: Operation, counters: &[Counter<'_>]) -> Result<Outcome, StoreError> {
        if counters.is_empty() {
            self.connect().await?;
            return Ok(Outcome::new(false, []));
        }
        let (connection, generation) = {
            let current = self.current();
            (current.connection.clone(), current.generation)
        };
        let Some(mut connection) = connection else {
            return Err(StoreError::Unreachable("there is no connection".into()));
        };
        let result = if connection.is_sharded() {
            sharded::apply(&self.decider, &mut connection, operation, counters).await
        } else {
            self.decider.call(&mut connection, operation, counters).await
        };
        result.map_err(|error| {
            let error = store_error(error);
            if matches!(error, StoreError::Unreachable(_)) {
                let mut current = self.current();
                if current.generation == generation {
                    current.connection = None;
                }
            }
            error
        })
    }

    async fn close(&self) {
        self.current().connection = None;
    }
}
