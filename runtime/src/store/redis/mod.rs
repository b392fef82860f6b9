//! Counters in Redis, shared by all who use it.
//!
//! A counter's key is that of the [`Counter`], the window in milliseconds, and, unless it counts a
//! fixed window, a letter for the algorithm: `rl:{hardwork::192.0.2.7::GET:/hardwork/}60000`. What
//! stands there is said in `apply.lua`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, Script};
use smallvec::SmallVec;

use super::{Counter, Operation, Outcome, Reading, Store};
use crate::algorithm::{Algorithm, Rule, State};
use crate::clock::Clock;
use crate::error::StoreError;

/// How long a new connection may take. It is only opened in the background and at start-up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Counters behind one multiplexed connection to a Redis server.
pub(crate) struct RedisStore {
    client: Client,
    script: Script,
    clock: Clock,
    /// None while there is none: a request never waits for it.
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl RedisStore {
    /// A store that is not connected yet.
    ///
    /// The error says what is wrong with `url`, and what to write instead.
    pub(crate) fn new(url: &str, clock: Clock) -> Result<Self, String> {
        let client = Client::open(url).map_err(|error| {
            format!(
                "{error}: write `redis://[user:password@]host[:port][/database]`, or `redis+unix:///path`"
            )
        })?;
        let script = Script::new(include_str!("apply.lua"));
        Ok(Self { client, script, clock, connection: Mutex::new(None) })
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
        let keys = counters.iter().map(key);
        if operation == Operation::Reset {
            let mut unlink = redis::cmd("UNLINK");
            for key in keys {
                unlink.arg(key);
            }
            let () = unlink.query_async(connection).await?;
            let untouched = |counter: &Counter<'_>| {
                let rule = Rule::new(counter.quota, counter.algorithm);
                State::new(counter.algorithm).read(&rule, 0, counter.cost.into())
            };
            return Ok(Outcome::new(false, counters.iter().map(untouched)));
        }
        let mut call = self.script.prepare_invoke();
        call.arg(match operation {
            Operation::Take => "take",
            Operation::Add => "add",
            Operation::GiveBack => "give_back",
            Operation::Peek | Operation::Reset => "peek",
        });
        call.arg(self.clock.injected_micros().map(|micros| micros.to_string()).unwrap_or_default());
        for (counter, key) in counters.iter().zip(keys) {
            let rule = Rule::new(counter.quota, counter.algorithm);
            call.key(key);
            call.arg(letter(counter.algorithm)).arg(rule.limit).arg(rule.window).arg(counter.cost);
            call.arg(rule.burst()).arg(counter.policy).arg(u8::from(counter.shadow));
        }
        // One round trip; three when the server has lost the script, which it then has not run.
        let reply: Vec<i64> = call.invoke_async(connection).await?;
        let Some((taken, readings)) = reply.split_first() else {
            return Err((ErrorKind::UnexpectedReturnType, "the script answered nothing").into());
        };
        Ok(Outcome::new(*taken == 1, readings.chunks_exact(4).map(reading)))
    }
}

fn key(counter: &Counter<'_>) -> String {
    let letter = match counter.algorithm {
        Algorithm::FixedWindow => "",
        other => letter(other),
    };
    format!("{}{}{letter}", counter.key, counter.quota.window_millis())
}

fn letter(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::FixedWindow => "f",
        Algorithm::SlidingWindow => "s",
        Algorithm::SlidingLog => "l",
        Algorithm::TokenBucket { .. } => "t",
    }
}

/// Whether it fits, what is left, and the microseconds to the reset and to when it fits.
fn reading(numbers: &[i64]) -> Reading {
    let micros = |number: i64| u64::try_from(number).ok().map(Duration::from_micros);
    Reading {
        fits: numbers[0] == 1,
        remaining: u32::try_from(numbers[1]).unwrap_or(u32::MAX),
        reset: micros(numbers[2]).unwrap_or_default(),
        retry_after: micros(numbers[3]),
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
