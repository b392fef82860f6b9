//! Turns a batch into commands for Redis: calls of the scripts, and of a [`transaction`] where one will do.

use std::mem;
use std::time::Duration;

use redis::{RedisError, RedisResult, Script, Value};

use super::MAX_AGE;
use super::answers::Answers;
use super::batch::Batch;
use super::connection::{Requests, Wire};
use super::failure::{Failure, node_of_cluster};
use super::key;
use super::part::{Decider, Overcharge, Part};
use super::plan;
use super::question::Question;
use super::rules::Rules;
use super::transaction;
use super::windows::Windows;
use crate::clock::Clock;

/// Takes from fixed windows, one for each check.
const TAKE: &str = include_str!("take.lua");
/// Decides any check.
const APPLY: &str = include_str!("apply.lua");

/// How many numbers tell `take.lua` a rule, and what has been charged.
const TAKE_RULE_NUMBERS: usize = 3;
const OVERCHARGE_NUMBERS: usize = 3;

/// The scripts that decide checks, and how to call them. All servers run the same ones.
pub(super) struct Scripts {
    /// The hashes by which servers know them.
    take: String,
    apply: String,
    clock: Clock,
    /// How long an answer is waited for at most.
    timeout: Duration,
    /// Whether the servers are nodes of a cluster, where no script spans two checks.
    is_sharded: bool,
}

impl Scripts {
    pub(super) fn new(clock: Clock, timeout: Duration, is_sharded: bool) -> Self {
        let [take, apply] = [TAKE, APPLY].map(|script| Script::new(script).get_hash().to_owned());
        Self { take, apply, clock, timeout, is_sharded }
    }

    /// Finds out whether a server has transactions, and loads the scripts into it.
    pub(super) async fn prepare(&self, wire: &mut Wire) -> RedisResult<()> {
        let prepared = async {
            wire.try_transaction().await?;
            self.load(wire).await
        };
        prepared.await.map_err(|error| wire.located(error))
    }

    /// Loads the scripts into a server, which may be far away: both are sent before the first answer comes.
    pub(super) async fn load(&self, wire: &mut Wire) -> RedisResult<()> {
        let requests = wire.begin_call();
        for script in [TAKE, APPLY] {
            requests.command("SCRIPT", 2);
            requests.argument(b"LOAD");
            requests.argument(script.as_bytes());
        }
        for _ in [TAKE, APPLY] {
            wire.answer().await?.extract_error()?;
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
        let question = Question::new(parts);
        self.put(requests, batch, &question, Duration::ZERO);
        question
    }

    /// Asks for what is [unsettled](Question::settle) again, so long `after` it was asked first. A script that the
    /// server had lost is brought along.
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

    /// Reads the replies to `question`, which was [asked](Self::ask) at `now`. Parts without a reply have failed with
    /// `unanswered`.
    pub(super) fn answers(
        &self,
        question: Question,
        now: u64,
        unanswered: Failure,
        batch: &Batch,
        windows: &mut Windows,
    ) -> RedisResult<Answers> {
        let of_one = |error: RedisError| node_of_cluster(&error).unwrap_or(error);
        let told = |reply: RedisResult<Value>| if self.is_sharded { reply } else { reply.map_err(of_one) };
        let replies = question.into_replies().map(|(part, reply)| (part, told(reply)));
        Answers::read(batch, replies, unanswered, windows, now)
    }

    /// Asks for all parts that have no reply, so long `after` they were asked first.
    fn put(&self, requests: &mut Requests, batch: &Batch, question: &Question, after: Duration) {
        // Each script once is enough.
        let lost = question.is_asked_again();
        let (mut brings_take, mut brings_apply) = (lost, lost || batch.brings_script());
        for part in question.unanswered() {
            if part.is_asking(batch) {
                requests.command("ASKING", 0);
            }
            if part.decider == Decider::Transaction {
                let charges = part.fixed_windows(batch).zip(&part.known);
                transaction::put(requests, charges.map(|((group, counter), known)| (group, counter, *known)));
            } else {
                let brings =
                    if part.decider == Decider::Apply { &mut brings_apply } else { &mut brings_take };
                let in_full = mem::take(brings);
                self.call(requests, batch, part, after, in_full);
            }
        }
    }

    /// Has a script decide `part`, which may be sent `in_full`.
    fn call(&self, requests: &mut Requests, batch: &Batch, part: &Part, after: Duration, in_full: bool) {
        let rules = Rules::of(part, batch);
        let count = part.counters(batch).count();
        let (text, hash, arguments) = match part.decider {
            Decider::Take { overcharge } => {
                let of_checks = count * (1 + usize::from(rules.len() > 1));
                let of_overcharge = overcharge.map_or(0, |_| OVERCHARGE_NUMBERS);
                (TAKE, &self.take, of_checks + rules.len() * TAKE_RULE_NUMBERS + of_overcharge)
            }
            _ => (APPLY, &self.apply, 1),
        };
        if in_full {
            requests.command("EVAL", 2 + count + arguments);
            requests.argument(text.as_bytes());
        } else {
            requests.command("EVALSHA", 2 + count + arguments);
            requests.argument(hash.as_bytes());
        }
        requests.number(count);
        for counter in part.counters(batch) {
            key::write(&counter, requests);
        }
        if let Decider::Take { overcharge } = part.decider {
            take(requests, batch, part, &rules);
            if let Some(overcharge) = overcharge {
                self.correct(requests, overcharge, after);
            }
        } else {
            requests.argument(&plan::encode(batch, part, &rules, &self.clock));
        }
    }

    /// Adds what `take.lua` is told of an overcharge by a transaction, so long `after` that was asked for.
    fn correct(&self, requests: &mut Requests, overcharge: Overcharge, after: Duration) {
        let Overcharge { used, left } = overcharge;
        requests.number(used);
        // The answer that told its end was on the way for less than this: it may end that much later.
        requests.number(left.saturating_add(self.timeout.max(MAX_AGE)).as_millis());
        // This call is on the way for less than the timeout, too, unless the answer before was late.
        let is_late = after >= self.timeout;
        let latest = if is_late { Duration::MAX } else { after.saturating_add(self.timeout * 2) };
        requests.number(u8::from(left > latest));
    }
}

/// Adds what `take.lua` is told besides the keys.
fn take(requests: &mut Requests, batch: &Batch, part: &Part, rules: &Rules<'_>) {
    for ((group, counter), known) in part.fixed_windows(batch).zip(&part.known) {
        let units = group.units(&counter);
        requests.number(if known.is_some() { units } else { -units });
        if rules.len() > 1 {
            requests.number(rules.number_of(&counter));
        }
    }
    for rule in rules.iter() {
        requests.number(rule.quota.limit());
        requests.number(rule.cost);
        requests.number(rule.quota.window_millis());
    }
}
