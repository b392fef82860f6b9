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

    /// Makes the script known to the server, and so tells whether it serves.
    pub(super) async fn load(&self, connection: &mut Connection) -> Result<(), RedisError> {
        self.script.load_async(connection).await.map(|_| ())
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
            Some((passes, readings)) if readings.len() == 4 * counters.len() => {
                Ok(Outcome::new(*passes == 1, readings.chunks_exact(4).map(reading)))
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
    let untouched = |counter: &Counter<'_>| {
        let rule = Rule::new(counter.quota, counter.algorithm);
        State::new(counter.algorithm).read(&rule, 0, counter.cost.into())
    };
    Ok(Outcome::new(false, counters.iter().map(untouched)))
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
