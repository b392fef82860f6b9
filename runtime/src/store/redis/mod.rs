//! Counters in Redis, shared by all who use it.
//!
//! A counter is a string that holds the amount taken, and expires when its window ends. Its key is
//! the counter's key and the window in milliseconds: `rl:{hardwork::192.0.2.7::GET:/hardwork/}60000`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, Script};
use smallvec::SmallVec;

use super::{Counter, Operation, Outcome, Reading, Store};
use crate::error::{BuildError, StoreError};

/// How long a new connection may take. It is only opened in the background and at start-up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Counters behind one multiplexed connection to a Redis server.
pub(crate) struct RedisStore {
    client: Client,
    script: Script,
    /// None while there is none: a request never waits for it.
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl RedisStore {
    /// A store that is not connected yet.
    pub(crate) fn new(url: &str) -> Result<Self, BuildError> {
        let client = Client::open(url).map_err(|error| BuildError::Setting {
            setting: "redis",
            problem: format!(
                "{error}: write `redis://[user:password@]host[:port][/database]`, or `redis+unix:///path`"
            ),
        })?;
        Ok(Self { client, script: Script::new(include_str!("apply.lua")), connection: Mutex::new(None) })
    }

    /// Opens a new connection, makes sure that it serves, and uses it from now on.
    ///
    /// A connection that is there is given up: whoever asks has reason not to trust it.
    async fn connect(&self) -> Result<(), StoreError> {
        let opening = async {
            // The deadline of a decision is the limiter's; a second timer would only cost.
            let config = AsyncConnectionConfig::new().set_response_timeout(None);
            let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            self.script.load_async(&mut connection).await?;
            Ok(connection)
        };
        let connection = tokio::time::timeout(CONNECT_TIMEOUT, opening)
            .await
            .map_err(|_| StoreError::Timeout(CONNECT_TIMEOUT))?
            .map_err(store_error)?;
        *self.connection() = Some(connection);
        Ok(())
    }

    fn connection(&self) -> MutexGuard<'_, Option<MultiplexedConnection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(
        &self,
        connection: &mut MultiplexedConnection,
        operation: Operation,
        counters: &[Counter<'_>],
    ) -> Result<Outcome, RedisError> {
        let keys = counters.iter().map(|counter| format!("{}{}", counter.key, counter.quota.window_millis()));
        if operation == Operation::Reset {
            let mut unlink = redis::cmd("UNLINK");
            for key in keys {
                unlink.arg(key);
            }
            let () = unlink.query_async(connection).await?;
            let gone = Reading { used: 0, reset: Duration::ZERO };
            return Ok(Outcome::new(false, counters.iter().map(|_| gone)));
        }
        let mut call = self.script.prepare_invoke();
        call.arg(if operation == Operation::Take { "take" } else { "peek" });
        for (counter, key) in counters.iter().zip(keys) {
            call.key(key);
            call.arg(counter.quota.limit()).arg(counter.quota.window_millis()).arg(counter.cost);
        }
        // One round trip; three when the server has lost the script, which it then has not run.
        let reply: Vec<u64> = call.invoke_async(connection).await?;
        let Some((taken, pairs)) = reply.split_first() else {
            return Err((ErrorKind::UnexpectedReturnType, "the script answered nothing").into());
        };
        let reading = |pair: &[u64]| Reading { used: pair[0], reset: Duration::from_millis(pair[1]) };
        Ok(Outcome::new(*taken == 1, pairs.chunks_exact(2).map(reading)))
    }
}

/// Tells what is wrong with the server, or the way there, from what is wrong with the request.
fn store_error(error: RedisError) -> StoreError {
    match error.kind() {
        ErrorKind::Io | ErrorKind::AuthenticationFailed | ErrorKind::Parse => {
            StoreError::Unreachable(error.into())
        }
        _ => StoreError::Refused(error.into()),
    }
}

impl Store for RedisStore {
    async fn apply(&self, operation: Operation, counters: &[Counter<'_>]) -> Result<Outcome, StoreError> {
        if counters.is_empty() {
            self.connect().await?;
            return Ok(Outcome::new(false, SmallVec::<[Reading; 0]>::new()));
        }
        let connection = self.connection().clone();
        let Some(mut connection) = connection else {
            return Err(StoreError::Unreachable("there is no connection".into()));
        };
        self.run(&mut connection, operation, counters).await.map_err(|error| {
            let error = store_error(error);
            if matches!(error, StoreError::Unreachable(_)) {
                *self.connection() = None;
            }
            error
        })
    }

    async fn close(&self) {
        *self.connection() = None;
    }
}
