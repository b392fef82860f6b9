//! Turns a batch into commands for Redis: calls of the scripts, and of a [`transaction`] where one will do.

use std::time::Duration;

use redis::{RedisError, RedisResult, Script, Value};
use rmp::encode::{write_array_len, write_sint, write_uint};
use smallvec::SmallVec;

use super::MAX_AGE;
use super::answers::Answers;
use super::batch::Batch;
use super::connection::{Requests, Wire};
use super::failure::{Failure, node_of_cluster};
use super::key::StoredKey;
use super::part::{By, Overcharge, Part, units};
use super::question::Question;
use super::transaction;
use super::windows::Windows;
use crate::algorithm::{Algorithm, Rule};
use crate::clock::Clock;
use crate::store::{Counter, Operation};

/// How many numbers tell `take.lua` a rule, and what has been charged.
const TAKE_RULE_NUMBERS: usize = 3;
const OVERCHARGE_NUMBERS: usize = 3;
/// How many numbers tell `apply.lua` a rule.
const RULE_NUMBERS: usize = 6;
/// How many tell it a check, and each counter of the check.
const CHECK_NUMBERS: usize = 3;
const COUNTER_NUMBERS: usize = 2;

/// The scripts that decide checks, and how to call them. All servers run the same ones.
pub(super) struct Scripts {
    /// Takes from fixed windows, one for each check.
    take: Script,
    /// Decides any check.
    apply: Script,
    clock: Clock,
    /// How long an answer is waited for at most.
    timeout: Duration,
    /// Whether the servers are nodes of a cluster, where no script spans two checks.
    is_sharded: bool,
}

impl Scripts {
    pub(super) fn new(clock: Clock, timeout: Duration, is_sharded: bool) -> Self {
        let (take, apply) = (include_str!("take.lua"), include_str!("apply.lua"));
        Self { take: Script::new(take), apply: Script::new(apply), clock, timeout, is_sharded }
    }

    /// Finds out whether a server has transactions, and loads the scripts into it.
    pub(super) async fn prepare(&self, wire: &mut Wire) -> RedisResult<()> {
        wire.try_transaction().await?;
        self.load(wire).await
    }

    /// Loads the scripts into a server.
    pub(super) async fn load(&self, wire: &mut Wire) -> RedisResult<()> {
        for script in [&self.take, &self.apply] {
            script.load_async(wire).await?;
        }
        Ok(())
    }

    /// Asks a server to decide all of `batch` at `now`, in microseconds of the clock. It has transactions if it
    /// `transacts`.
    pub(super) fn ask(
        &self,
        requests: &mut Requests,
        batch: &Batch,
        windows: &mut Windows,
        now: u64,
        transacts: bool,
    ) -> Question {
        windows.forget_resets(batch);
        let mut parts = if self.is_sharded { Part::each(batch) } else { Part::by_script(batch) };
        for part in &mut parts {
            part.look_up(batch, windows, now, transacts);
        }
        let question = Question::new(parts, now);
        self.put(requests, batch, &question, Duration::ZERO);
        question
    }

    /// Asks for what is [unsettled](Question::settle) again, so long `after` it was asked first. A script that the
    /// server had lost has to be [loaded](Self::load) by now.
    pub(super) fn ask_again(
        &self,
        requests: &mut Requests,
        batch: &Batch,
        question: &mut Question,
        after: Duration,
    ) {
        question.reopen_lost();
        self.put(requests, batch, question, after);
    }

    /// Reads the replies to `question`. Parts without a reply have failed with `unanswered`.
    pub(super) fn answers(
        &self,
        question: Question,
        unanswered: Failure,
        batch: &Batch,
        windows: &mut Windows,
    ) -> RedisResult<Answers> {
        let of_one = |error: RedisError| node_of_cluster(&error).unwrap_or(error);
        let told = |reply: RedisResult<Value>| if self.is_sharded { reply } else { reply.map_err(of_one) };
        let now = question.asked_at();
        let replies = question.into_replies().map(|(part, reply)| (part, told(reply)));
        Answers::read(batch, replies, unanswered, windows, now)
    }

    /// Asks for all parts that have no reply, so long `after` they were asked first.
    fn put(&self, requests: &mut Requests, batch: &Batch, question: &Question, after: Duration) {
        for part in question.unanswered() {
            if part.is_asking(batch) {
                requests.command("ASKING", 0);
            }
            if part.by == By::Transaction {
                let charges = part.fixed(batch).zip(&part.known);
                transaction::put(requests, charges.map(|((group, counter), known)| (group, counter, *known)));
            } else {
                self.call(requests, batch, part, after);
            }
        }
    }

    /// Has a script decide `part`.
    fn call(&self, requests: &mut Requests, batch: &Batch, part: &Part, after: Duration) {
        let rules = Rules::of(part, batch);
        let count = part.counters(batch).count();
        let (script, arguments) = match part.by {
            By::Take { overcharge } => {
                let rules = rules.0.len();
                let of_checks = count * (1 + usize::from(rules > 1));
                (
                    &self.take,
                    of_checks + rules * TAKE_RULE_NUMBERS + overcharge.map_or(0, |_| OVERCHARGE_NUMBERS),
                )
            }
            _ => (&self.apply, 1),
        };
        requests.command("EVALSHA", 2 + count + arguments);
        requests.argument(script.get_hash().as_bytes());
        requests.number(count);
        for counter in part.counters(batch) {
            StoredKey::from(&counter).write(requests);
        }
        if let By::Take { overcharge } = part.by {
            take(requests, batch, part, &rules);
            if let Some(Overcharge { used, left }) = overcharge {
                requests.number(used);
                // The answer that told its end was on the way for less than this: it may end that much later.
                requests.number(left.saturating_add(self.timeout.max(MAX_AGE)).as_millis());
                // This call is on the way for less than the timeout, too, unless the answer before was late.
                let is_late = after >= self.timeout;
                let latest = if is_late { Duration::MAX } else { after.saturating_add(self.timeout * 2) };
                requests.number(u8::from(left > latest));
            }
        } else {
            requests.argument(&self.plan(batch, part, &rules));
        }
    }

    /// Returns what `apply.lua` is told besides the keys.
    fn plan(&self, batch: &Batch, part: &Part, rules: &Rules<'_>) -> Vec<u8> {
        let checks =
            part.groups(batch).count() * CHECK_NUMBERS + part.counters(batch).count() * COUNTER_NUMBERS;
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
        for (_, group) in part.groups(batch) {
            let counters = batch.counters_of(group);
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

/// Adds what `take.lua` is told besides the keys.
fn take(requests: &mut Requests, batch: &Batch, part: &Part, rules: &Rules<'_>) {
    for ((group, counter), known) in part.fixed(batch).zip(&part.known) {
        let units = units(group, &counter);
        requests.number(if known.is_some() { units } else { -units });
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

/// The distinct rules of a part's counters: one, or a few.
struct Rules<'a>(SmallVec<[Counter<'a>; 4]>);

impl<'a> Rules<'a> {
    fn of(part: &Part, batch: &'a Batch) -> Self {
        let mut rules = Self(SmallVec::new());
        for counter in part.counters(batch) {
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

    /// Returns the number of a counter's rule, from 1, as the scripts count.
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
