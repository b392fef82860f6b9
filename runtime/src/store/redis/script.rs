//! The scripts that decide: how a batch is put to them, and what they answer.

use std::time::Duration;

use redis::{ErrorKind, RedisError, RedisResult, Script, ServerErrorKind, Value};
use rmp::encode::{write_array_len, write_sint, write_uint};
use smallvec::SmallVec;

use super::batch::{Batch, Group, Place};
use super::connection::{Requests, Wire};
use super::failure::Failure;
use super::key::StoredKey;
use super::windows::Windows;
use crate::algorithm::{Algorithm, Reading, Rule, State};
use crate::clock::Clock;
use crate::store::{Counter, Operation, Outcome};

/// How many numbers tell a rule: see `take.lua`.
const TAKE_RULE_NUMBERS: usize = 3;
/// How many numbers tell a rule: see `apply.lua`.
const RULE_NUMBERS: usize = 6;
/// How many tell a check, and each of its counters.
const CHECK_NUMBERS: usize = 3;
const COUNTER_NUMBERS: usize = 2;
/// How many numbers the script answers for a counter.
const READING_NUMBERS: usize = 4;

/// The scripts, by which all servers decide.
pub(super) struct Decider {
    /// Takes from fixed windows, one for each check.
    take: Script,
    /// Does whatever is asked.
    apply: Script,
    clock: Clock,
    /// Whether each check needs a call of its own.
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

    /// Decides all of `batch`: one round trip, and three more when the server has lost the script, which it
    /// then has not run. `now` is the time of the clock, in microseconds.
    pub(super) async fn decide(
        &self,
        wire: &mut Wire,
        batch: &Batch,
        windows: &mut Windows,
        now: u64,
    ) -> RedisResult<Answers> {
        windows.forget_resets(batch);
        if self.is_sharded {
            return self.decide_each(wire, batch, windows, now).await;
        }
        self.call(wire.call(), batch, batch.groups(), windows, now);
        let mut reply = wire.answer().await?.extract_error();
        if reply.as_ref().is_err_and(is_lost) {
            self.load(wire).await?;
            self.call(wire.call(), batch, batch.groups(), windows, now);
            reply = wire.answer().await?.extract_error();
        }
        let mut answers = Answers::default();
        answers.read(batch, batch.groups(), reply?, windows, now)?;
        answers.teach(batch, windows, now);
        Ok(answers)
    }

    /// Decides the groups of `batch` by a call for each, sent together: on a cluster no script spans the
    /// keys of several slots.
    async fn decide_each(
        &self,
        wire: &mut Wire,
        batch: &Batch,
        windows: &mut Windows,
        now: u64,
    ) -> RedisResult<Answers> {
        let groups: Vec<&Group> = batch.groups().iter().collect();
        let mut replies = self.call_each(wire, batch, &groups, windows, now).await?;
        if replies.iter().any(|reply| reply.as_ref().is_err_and(is_lost)) {
            self.load(wire).await?;
            let again = |reply: &RedisResult<Value>| reply.as_ref().is_err_and(is_lost);
            let lost: Vec<usize> = (0..replies.len()).filter(|index| again(&replies[*index])).collect();
            let groups: Vec<&Group> = lost.iter().map(|index| &batch.groups()[*index]).collect();
            let again = self.call_each(wire, batch, &groups, windows, now).await?;
            for (index, reply) in lost.into_iter().zip(again) {
                replies[index] = reply;
            }
        }
        let mut answers = Answers::default();
        for (group, reply) in batch.groups().iter().zip(replies) {
            match reply {
                Ok(reply) => answers.read(batch, std::slice::from_ref(group), reply, windows, now)?,
                Err(error) => answers.groups.push((answers.standings.len(), Err(error.into()))),
            }
        }
        answers.teach(batch, windows, now);
        Ok(answers)
    }

    async fn call_each(
        &self,
        wire: &mut Wire,
        batch: &Batch,
        groups: &[&Group],
        windows: &Windows,
        now: u64,
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let requests = wire.call();
        for group in groups {
            if group.asking {
                requests.command("ASKING", 0);
            }
            self.call(requests, batch, std::slice::from_ref(group), windows, now);
        }
        let mut replies = Vec::with_capacity(groups.len());
        for group in groups {
            if group.asking {
                // Should it be refused, so is what it was sent for.
                wire.answer().await?;
            }
            replies.push(wire.answer().await?.extract_error());
        }
        Ok(replies)
    }

    /// Asks for a decision of `groups` of `batch`.
    fn call(&self, requests: &mut Requests, batch: &Batch, groups: &[Group], windows: &Windows, now: u64) {
        let counters = groups.iter().flat_map(|group| batch.counters_of(group));
        let count = counters.clone().count();
        let rules = Rules::of(batch, groups);
        let is_simple = is_simple(batch, groups);
        let (script, arguments) = if is_simple {
            (&self.take, count * (1 + usize::from(rules.0.len() > 1)) + rules.0.len() * TAKE_RULE_NUMBERS)
        } else {
            (&self.apply, 1)
        };
        requests.command("EVALSHA", 2 + count + arguments);
        requests.argument(script.get_hash().as_bytes());
        requests.number(count);
        for counter in counters {
            StoredKey::from(&counter).write(requests);
        }
        if is_simple {
            take(requests, batch, groups, &rules, windows, now);
        } else {
            requests.argument(&self.plan(batch, groups, &rules));
        }
    }

    fn plan(&self, batch: &Batch, groups: &[Group], rules: &Rules<'_>) -> Vec<u8> {
        let items =
            groups.iter().map(|group| CHECK_NUMBERS + batch.counters_of(group).len() * COUNTER_NUMBERS);
        let mut plan = Plan::new(2 + rules.0.len() * RULE_NUMBERS + items.sum::<usize>());
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
        for group in groups {
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

/// What `take.lua` is told besides the keys.
fn take(
    requests: &mut Requests,
    batch: &Batch,
    groups: &[Group],
    rules: &Rules<'_>,
    windows: &Windows,
    now: u64,
) {
    for (group, counter) in groups.iter().filter_map(|group| Some((group, fixed(batch, group)?))) {
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

/// Whether `take.lua` can decide all of `groups`.
fn is_simple(batch: &Batch, groups: &[Group]) -> bool {
    groups.iter().all(|group| fixed(batch, group).is_some())
}

/// The counter of a group that takes from one fixed window, and from nothing else.
fn fixed<'a>(batch: &'a Batch, group: &Group) -> Option<Counter<'a>> {
    let mut counters = batch.counters_of(group);
    let (counter, others) = (counters.next()?, counters.len());
    let is_fixed = group.operation == Operation::Take
        && others == 0
        && counter.algorithm == Algorithm::FixedWindow
        && !counter.shadow
        && (1..=counter.quota.limit()).contains(&counter.cost);
    is_fixed.then_some(counter)
}

/// How much all of a group ask of `counter`: no more than a batch has room for.
fn units(group: &Group, counter: &Counter<'_>) -> i64 {
    i64::from(group.count) * i64::from(counter.cost)
}

/// The rules of a call: one, or a few.
struct Rules<'a>(SmallVec<[Counter<'a>; 4]>);

impl<'a> Rules<'a> {
    fn of(batch: &'a Batch, groups: &[Group]) -> Self {
        let mut rules = Self(SmallVec::new());
        for counter in groups.iter().flat_map(|group| batch.counters_of(group)) {
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

impl Answers {
    /// Adds what the script that was called at `now` answered for `groups` of `batch`.
    fn read(
        &mut self,
        batch: &Batch,
        groups: &[Group],
        reply: Value,
        windows: &Windows,
        now: u64,
    ) -> RedisResult<()> {
        let mut reply = match reply {
            Value::Array(reply) => reply,
            one => vec![one],
        }
        .into_iter();
        let is_simple = is_simple(batch, groups);
        for group in groups {
            let first = self.standings.len();
            let counter = if is_simple { fixed(batch, group) } else { None };
            let decided = match (reply.next().ok_or_else(unexpected)?, counter) {
                (Value::Int(used), Some(counter)) => {
                    let left = if used < 0 {
                        let Some(Value::Int(millis)) = reply.next() else { return Err(unexpected()) };
                        let left = Duration::from_millis(millis.max(0).unsigned_abs());
                        self.told.push((self.groups.len(), left));
                        left
                    } else {
                        windows.left(batch.hash_of(group), &counter, now).ok_or_else(unexpected)?
                    };
                    let (passed, standing) = Standing::of_fixed(group, &counter, used.unsigned_abs(), left);
                    self.standings.push(standing);
                    Ok(passed)
                }
                (Value::Int(passed), None) => {
                    for _ in batch.counters_of(group) {
                        let numbers: [Option<Value>; READING_NUMBERS] = std::array::from_fn(|_| reply.next());
                        self.standings.push(Standing::read(numbers).ok_or_else(unexpected)?);
                    }
                    Ok(whole(passed))
                }
                (Value::BulkString(fault), _) => Err(Failure::of_check(&String::from_utf8_lossy(&fault))),
                _ => return Err(unexpected()),
            };
            self.groups.push((first, decided));
        }
        if reply.next().is_some() { Err(unexpected()) } else { Ok(()) }
    }

    /// Remembers what a call that was made at `now` has told of windows: not before all has been read, since
    /// what is learnt may take the place of what the script was not asked for.
    fn teach(&self, batch: &Batch, windows: &mut Windows, now: u64) {
        for (group, left) in &self.told {
            let group = &batch.groups()[*group];
            if let Some(counter) = fixed(batch, group) {
                windows.learn(batch.hash_of(group), &counter, now, *left);
            }
        }
        // What was told before a reset of the same batch is no longer true.
        windows.forget_resets(batch);
    }
}

fn unexpected() -> RedisError {
    (ErrorKind::UnexpectedReturnType, "the script answered for other counters").into()
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

/// A number that can't be more than its type has room for.
fn whole(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

/// What came of a batch.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Where the standings of each group begin, and how many of its checks pass, or why it is not decided.
    groups: Vec<(usize, Result<u32, Failure>)>,
    standings: Vec<Standing>,
    /// How long the windows of some groups last, as Redis has told.
    told: Vec<(usize, Duration)>,
}

/// Where a counter stands: see `take.lua` and `apply.lua`.
#[derive(Clone, Copy, Debug)]
struct Standing {
    room: u32,
    left: u64,
    reset: u64,
    wait: Option<u64>,
}

impl Standing {
    /// Where a fixed window stands that would have had `used` taken from it if all had fitted; and how many
    /// pass.
    fn of_fixed(group: &Group, counter: &Counter<'_>, used: u64, ends: Duration) -> (u32, Self) {
        let limit = u64::from(counter.quota.limit());
        let left = limit.saturating_sub(used.saturating_sub(units(group, counter).unsigned_abs()));
        let room = u32::try_from(left / u64::from(counter.cost)).unwrap_or(u32::MAX).min(group.count);
        let reset = u64::try_from(ends.as_micros()).unwrap_or(u64::MAX);
        (room, Self { room, left, reset, wait: Some(reset) })
    }

    fn read(numbers: [Option<Value>; READING_NUMBERS]) -> Option<Self> {
        let int = |value: Option<Value>| match value {
            Some(Value::Int(number)) => Some(number),
            _ => None,
        };
        let [room, left, reset, wait] = numbers.map(int);
        Some(Self {
            room: whole(room?),
            left: left?.max(0).unsigned_abs(),
            reset: reset?.max(0).unsigned_abs(),
            wait: u64::try_from(wait?).ok(),
        })
    }
}

impl Answers {
    /// How many checks of a group pass, or why it is not decided.
    pub(super) fn passed(&self, group: usize) -> Result<u32, &Failure> {
        self.groups[group].1.as_ref().copied()
    }

    /// What a check was told that makes another server worth a try: all others will be told the same.
    pub(super) fn lost(&self) -> Option<&Failure> {
        let mut failures = self.groups.iter().filter_map(|(_, decided)| decided.as_ref().err());
        failures.find(|failure| failure.is_away())
    }

    /// What the check at `place` is told, whose group asked for `counters`.
    ///
    /// The script tells where the counters stand at the end. They are charged evenly, so where they stood
    /// for each of those who asked for the same follows from that.
    pub(super) fn outcome(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
        place: Place,
    ) -> Result<Outcome, Failure> {
        let passed = self.passed(place.group).map_err(Failure::clone)?;
        if operation == Operation::Reset {
            return Ok(Outcome::new(false, counters.iter().map(untouched)));
        }
        let first = self.groups[place.group].0;
        let standings = &self.standings[first..first + counters.len()];
        let is_taken = place.before < passed;
        let reading = |(counter, standing): (&Counter<'_>, &Standing)| {
            // How often the counter is charged in all. A policy in shadow is charged while it has room.
            let charges = if counter.shadow {
                let of_policy =
                    counters.iter().zip(standings).filter(|(other, _)| other.policy == counter.policy);
                of_policy.map(|(_, standing)| standing.room).fold(passed, u32::min)
            } else {
                passed
            };
            let before = place.before.min(charges);
            let after = charges.min(place.before.saturating_add(1));
            let fits = before < standing.room;
            let cost = u64::from(counter.cost);
            let later = match counter.algorithm {
                // Only a bucket is whole again the later the more is taken.
                Algorithm::TokenBucket { .. } => (u64::from(charges - after) * cost)
                    .saturating_mul(Rule::new(counter.quota, counter.algorithm).interval()),
                _ => 0,
            };
            Reading {
                fits,
                remaining: u32::try_from(standing.left.saturating_sub(u64::from(after) * cost))
                    .unwrap_or(u32::MAX),
                reset: Duration::from_micros(standing.reset.saturating_sub(later)),
                retry_after: if fits {
                    Some(Duration::ZERO)
                } else {
                    standing.wait.map(Duration::from_micros)
                },
            }
        };
        let taken = match operation {
            Operation::Take => is_taken,
            Operation::Add | Operation::GiveBack => true,
            Operation::Peek | Operation::Reset => false,
        };
        Ok(Outcome::new(taken, counters.iter().zip(standings).map(reading)))
    }
}

/// What a counter says that nobody has used.
pub(super) fn untouched(counter: &Counter<'_>) -> Reading {
    let rule = Rule::new(counter.quota, counter.algorithm);
    State::new(counter.algorithm).read(&rule, 0, counter.cost.into())
}
