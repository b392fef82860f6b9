//! The scripts that decide, and how a batch is put to them.

use redis::{ErrorKind, RedisError, RedisResult, Script, ServerErrorKind, Value};
use rmp::encode::{write_array_len, write_sint, write_uint};
use smallvec::SmallVec;

use super::answers::Answers;
use super::batch::Batch;
use super::connection::{Requests, Wire};
use super::failure::node_of_cluster;
use super::key::StoredKey;
use super::part::{Part, fixed, units};
use super::windows::Windows;
use crate::algorithm::{Algorithm, Rule};
use crate::clock::Clock;
use crate::store::{Counter, Operation};

/// How many numbers tell a rule: see `take.lua`.
const TAKE_RULE_NUMBERS: usize = 3;
/// How many numbers tell a rule: see `apply.lua`.
const RULE_NUMBERS: usize = 6;
/// How many tell a check, and each of its counters.
const CHECK_NUMBERS: usize = 3;
const COUNTER_NUMBERS: usize = 2;

/// The scripts, by which all servers decide.
pub(super) struct Decider {
    /// Takes from fixed windows, one for each check.
    take: Script,
    /// Does whatever is asked.
    apply: Script,
    clock: Clock,
    /// Whether no script spans two checks.
    is_sharded: bool,
}

impl Decider {
    pub(super) fn new(clock: Clock, is_sharded: bool) -> Self {
        let (take, apply) = (include_str!("take.lua"), include_str!("apply.lua"));
        Self { take: Script::new(take), apply: Script::new(apply), clock, is_sharded }
    }

    /// Makes the scripts known to a server.
    pub(super) async fn load(&self, wire: &mut Wire) -> RedisResult<()> {
        for script in [&self.take, &self.apply] {
            script.load_async(wire).await?;
        }
        Ok(())
    }

    /// Decides all of `batch`: one round trip, and three more when the server has lost a script, which it
    /// then has not run. `now` is the time of the clock, in microseconds.
    pub(super) async fn decide(
        &self,
        wire: &mut Wire,
        batch: &Batch,
        windows: &mut Windows,
        now: u64,
    ) -> RedisResult<Answers> {
        windows.forget_resets(batch);
        let parts = if self.is_sharded { Part::each(batch) } else { Part::by_script(batch) };
        let all: Vec<&Part<'_>> = parts.iter().collect();
        let mut replies = self.ask(wire, &all, windows, now).await?;
        let lost: Vec<usize> =
            (0..parts.len()).filter(|index| replies[*index].as_ref().is_err_and(is_lost)).collect();
        if !lost.is_empty() {
            self.load(wire).await?;
            let asked: Vec<&Part<'_>> = lost.iter().map(|index| &parts[*index]).collect();
            let again = self.ask(wire, &asked, windows, now).await?;
            for (index, reply) in lost.into_iter().zip(again) {
                replies[index] = reply;
            }
        }
        Answers::read(batch, parts.iter().zip(replies), windows, now)
    }

    /// What the server says to each of `parts`, which are sent together.
    async fn ask(
        &self,
        wire: &mut Wire,
        parts: &[&Part<'_>],
        windows: &Windows,
        now: u64,
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let requests = wire.call();
        for part in parts {
            if part.is_asking() {
                requests.command("ASKING", 0);
            }
            self.call(requests, part, windows, now);
        }
        let mut replies = Vec::with_capacity(parts.len());
        for part in parts {
            if part.is_asking() {
                // Should it be refused, so is what it was sent for.
                wire.answer().await?;
            }
            let reply = wire.answer().await?.extract_error();
            let of_one = |error: RedisError| node_of_cluster(&error).unwrap_or(error);
            replies.push(if self.is_sharded { reply } else { reply.map_err(of_one) });
        }
        Ok(replies)
    }

    /// Asks for a decision of `part`.
    fn call(&self, requests: &mut Requests, part: &Part<'_>, windows: &Windows, now: u64) {
        let rules = Rules::of(part);
        let count = part.counters().count();
        let (script, arguments) = if part.is_simple {
            (&self.take, count * (1 + usize::from(rules.0.len() > 1)) + rules.0.len() * TAKE_RULE_NUMBERS)
        } else {
            (&self.apply, 1)
        };
        requests.command("EVALSHA", 2 + count + arguments);
        requests.argument(script.get_hash().as_bytes());
        requests.number(count);
        for counter in part.counters() {
            StoredKey::from(&counter).write(requests);
        }
        if part.is_simple {
            take(requests, part, &rules, windows, now);
        } else {
            requests.argument(&self.plan(part, &rules));
        }
    }

    /// What `apply.lua` is told besides the keys.
    fn plan(&self, part: &Part<'_>, rules: &Rules<'_>) -> Vec<u8> {
        let checks = part.groups().count() * CHECK_NUMBERS + part.counters().count() * COUNTER_NUMBERS;
        let mut plan = Plan::new(2 + rules.0.len() * RULE_NUMBERS + checks);
        match self.clock.injected_micros() {
            Some(micros) => plan.put(micros),
            None => plan.put_none(),
        }
        plan.put(rules.0.len() as u64);
        for asked in &rules.0 {
            let rule = Rule::new(asked.quota, asked.algorithm);
            plan.put(number(asked.algorithm));
            plan.put(rule.limit);
            plan.put(rule.window);
            plan.put(asked.cost.into());
            plan.put(rule.burst());
            plan.put(asked.shadow.into());
        }
        for (_, group) in part.groups() {
            let counters = part.batch.counters_of(group);
            plan.put(code(group.operation));
            plan.put(group.count.into());
            plan.put(counters.len() as u64);
            for counter in counters {
                plan.put(rules.number_of(&counter).into());
                plan.put(counter.policy as u64);
            }
        }
        plan.bytes
    }
}

/// What `take.lua` is told besides the keys.
fn take(requests: &mut Requests, part: &Part<'_>, rules: &Rules<'_>, windows: &Windows, now: u64) {
    let batch = part.batch;
    for (group, counter) in part.groups().filter_map(|(_, group)| Some((group, fixed(batch, group)?))) {
        let is_told = windows.left(batch.hash_of(group), &counter, now).is_some();
        let units = units(group, &counter);
        requests.number(if is_told { units } else { -units });
        if rules.0.len() > 1 {
            requests.number(rules.number_of(&counter));
        }
    }
    for rule in &rules.0 {
        requests.number(rule.quota.limit());
        requests.number(rule.cost);
        requests.number(rule.quota.window_millis());
    }
}

/// The rules of a part: one, or a few.
struct Rules<'a>(SmallVec<[Counter<'a>; 4]>);

impl<'a> Rules<'a> {
    fn of(part: &Part<'a>) -> Self {
        let mut rules = Self(SmallVec::new());
        for counter in part.counters() {
            if rules.position(&counter).is_none() {
                rules.0.push(counter);
            }
        }
        rules
    }

    fn position(&self, counter: &Counter<'_>) -> Option<usize> {
        let rule = |counter: &Counter<'_>| (counter.quota, counter.algorithm, counter.cost, counter.shadow);
        self.0.iter().position(|known| rule(known) == rule(counter))
    }

    /// As the script counts, from 1.
    fn number_of(&self, counter: &Counter<'_>) -> u32 {
        self.position(counter).and_then(|index| u32::try_from(index + 1).ok()).unwrap_or_default()
    }
}

/// A list in MessagePack.
struct Plan {
    bytes: Vec<u8>,
}

// Writing to a vector does not fail.
impl Plan {
    fn new(items: usize) -> Self {
        let mut bytes = Vec::with_capacity(items * 5);
        let _ = write_array_len(&mut bytes, u32::try_from(items).unwrap_or(u32::MAX));
        Self { bytes }
    }

    fn put(&mut self, number: u64) {
        let _ = write_uint(&mut self.bytes, number);
    }

    fn put_none(&mut self) {
        let _ = write_sint(&mut self.bytes, -1);
    }
}

/// Whether the server does not know the script.
fn is_lost(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

fn code(operation: Operation) -> u64 {
    match operation {
        Operation::Take => 0,
        Operation::Peek => 1,
        Operation::Add => 2,
        Operation::GiveBack => 3,
        Operation::Reset => 4,
    }
}

fn number(algorithm: Algorithm) -> u64 {
    match algorithm {
        Algorithm::FixedWindow => 1,
        Algorithm::SlidingWindow => 2,
        Algorithm::SlidingLog => 3,
        Algorithm::TokenBucket { .. } => 4,
    }
}
