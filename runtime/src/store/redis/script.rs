//! One call of the script that decides.

use std::time::Duration;

use redis::{ErrorKind, RedisError, Script};

use super::connection::Connection;
use crate::algorithm::{Algorithm, Reading, Rule, State};
use crate::clock::Clock;
use crate::store::{Counter, Operation, Outcome};

/// Decides counters whose keys are on one node.
pub(super) struct Decider {
    script: Script,
    clock: Clock,
}

impl Decider {
    pub(super) fn new(clock: Clock) -> Self {
        Self { script: Script::new(include_str!("apply.lua")), clock }
    }

    /// Makes the script known to the server, and tells whether it serves.
    pub(super) async fn load(&self, connection: &mut Connection) -> Result<(), RedisError> {
        self.script.load_async(connection).await?;
        if connection.is_sharded() {
            return Ok(());
        }
        // A replica takes the script, and refuses what it does. Who may not ask for the role is believed.
        let role: Result<Vec<redis::Value>, RedisError> = redis::cmd("ROLE").query_async(connection).await;
        match role.ok().and_then(|role| role.into_iter().next()) {
            Some(redis::Value::BulkString(role)) if role == b"slave" => {
                Err((ErrorKind::Io, "READONLY the server is a replica").into())
            }
            _ => Ok(()),
        }
    }

    /// One round trip; three when the server has lost the script, which it then has not run.
    pub(super) async fn call(
        &self,
        connection: &mut Connection,
        operation: Operation,
        counters: &[Counter<'_>],
    ) -> Result<Outcome, RedisError> {
        if operation == Operation::Reset {
            return forget(connection, counters).await;
        }
        let mut call = self.script.prepare_invoke();
        call.arg(match operation {
            Operation::Take => "take",
            Operation::Add => "add",
            Operation::GiveBack => "give_back",
            Operation::Peek | Operation::Reset => "peek",
        });
        call.arg(self.clock.injected_micros().map(|micros| micros.to_string()).unwrap_or_default());
        for counter in counters {
            let rule = Rule::new(counter.quota, counter.algorithm);
            call.key(key(counter));
            call.arg(letter(counter.algorithm)).arg(rule.limit).arg(rule.window).arg(counter.cost);
            call.arg(rule.burst()).arg(counter.policy).arg(u8::from(counter.shadow));
        }
        let reply: Vec<i64> = call.invoke_async(connection).await?;
        match reply.split_first() {
            Some((taken, readings)) if readings.len() == 4 * counters.len() => {
                Ok(Outcome::new(*taken == 1, readings.chunks_exact(4).map(reading)))
            }
            _ => Err((ErrorKind::UnexpectedReturnType, "the script answered for other counters").into()),
        }
    }
}

async fn forget(connection: &mut Connection, counters: &[Counter<'_>]) -> Result<Outcome, RedisError> {
    let mut unlink = redis::cmd("UNLINK");
    for counter in counters {
        unlink.arg(key(counter));
    }
    let () = unlink.query_async(connection).await?;
    Ok(Outcome::new(false, counters.iter().map(untouched)))
}

/// What a counter says that nobody has used.
pub(super) fn untouched(counter: &Counter<'_>) -> Reading {
    let rule = Rule::new(counter.quota, counter.algorithm);
    State::new(counter.algorithm).read(&rule, 0, counter.cost.into())
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
