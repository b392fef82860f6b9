//! Reads what Redis has answered, and works out from that what each check is told.

use std::time::Duration;

use redis::{ErrorKind, RedisError, RedisResult, Value};

use super::batch::{Batch, Group, Place};
use super::failure::Failure;
use super::part::{Decider, Part};
use super::windows::Windows;
use crate::algorithm::{Algorithm, Reading, Rule, State};
use crate::store::{Counter, Operation, Outcome};

/// How many numbers `apply.lua` answers for a counter.
const READING_NUMBERS: usize = 4;

/// By how much less at most Redis tells of a fixed window than it lasts: `PTTL` is rounded down, and a key is there
/// until the clock is past its end.
pub(super) const ROUNDED_OFF: Duration = Duration::from_millis(1);

/// The decisions of a batch.
#[derive(Debug)]
pub(super) struct Answers {
    /// One of each group.
    decisions: Vec<GroupDecision>,
    /// Where the counters of all groups that are decided stand.
    standings: Vec<Standing>,
}

/// The decision of a group.
#[derive(Clone, Debug)]
struct GroupDecision {
    /// How many of its checks pass, or why it is not decided.
    passed: Result<u32, Failure>,
    /// Whether it adds, which nothing has to pass.
    adds: bool,
    /// Whether its keys were moving to the cluster node that was asked.
    asking: bool,
    /// Where the standings of its counters begin.
    first: usize,
}

/// Where a counter stands: see `take.lua` and `apply.lua`.
#[derive(Clone, Copy, Debug)]
struct Standing {
    /// How many times the cost had room, at most once for each check of the group.
    room: u32,
    /// How much was left before the first check; after it, if that has added or given back.
    left: u64,
    /// How many microseconds it takes until the quota is whole again, once all checks of the group are decided.
    reset: u64,
    /// How many microseconds it takes until the cost fits; `None` if it never will.
    wait: Option<u64>,
}

impl Standing {
    /// Returns how many checks of `group` pass, and where a fixed window stands from which `used` would have
    /// been taken if everything had fitted.
    fn of_fixed(group: &Group, counter: &Counter<'_>, used: u64, ends: Duration) -> (u32, Self) {
        let limit = u64::from(counter.quota.limit());
        let left = limit.saturating_sub(used.saturating_sub(group.units(counter).unsigned_abs()));
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

    /// Returns where `counter` stands for one check of its group, which is charged evenly so many times in all;
    /// `before` is how many checks of the group came before that one.
    fn reading(&self, counter: &Counter<'_>, charges: u32, before: u32) -> Reading {
        let after = charges.min(before.saturating_add(1));
        let fits = before.min(charges) < self.room;
        let cost = u64::from(counter.cost);
        let left = self.left.saturating_sub(u64::from(after) * cost);
        let later = match counter.algorithm {
            // Only a bucket takes the longer to be whole again the more is taken.
            Algorithm::TokenBucket { .. } => (u64::from(charges - after) * cost)
                .saturating_mul(Rule::new(counter.quota, counter.algorithm).interval()),
            _ => 0,
        };
        let reset = Duration::from_micros(self.reset.saturating_sub(later));
        let wait = self.wait.map(Duration::from_micros);
        Reading {
            fits,
            remaining: u32::try_from(left).unwrap_or(u32::MAX),
            reset: if reset.is_zero() { reset } else { at_least_until(reset, counter) },
            retry_after: if fits {
                Some(Duration::ZERO)
            } else {
                wait.map(|wait| at_least_until(wait, counter))
            },
            known: true,
        }
    }
}

impl Answers {
    /// Reads the replies to the parts of `batch`, which were asked at `now`, in microseconds of the clock.
    /// Groups without a reply have failed with `unanswered`. What the replies tell about windows is remembered.
    pub(super) fn read(
        batch: &Batch,
        replies: impl IntoIterator<Item = (Part, RedisResult<Value>)>,
        unanswered: Failure,
        windows: &mut Windows,
        now: u64,
    ) -> RedisResult<Self> {
        let undecided = GroupDecision { passed: Err(unanswered), adds: false, asking: false, first: 0 };
        let of = |group: &Group| GroupDecision {
            adds: group.operation == Operation::Add,
            asking: group.asking,
            ..undecided.clone()
        };
        let decisions = batch.groups().iter().map(of).collect();
        let mut answers = Self { decisions, standings: Vec::new() };
        for (part, reply) in replies {
            match reply {
                Ok(reply) => answers.add(batch, &part, reply, windows, now)?,
                Err(error) => {
                    for (group, _) in part.groups(batch) {
                        answers.decisions[group].passed = Err(error.clone().into());
                    }
                }
            }
        }
        // What was told before a reset in the same batch is no longer true.
        windows.forget_resets(batch);
        Ok(answers)
    }

    /// Adds the reply to `part`.
    fn add(
        &mut self,
        batch: &Batch,
        part: &Part,
        reply: Value,
        windows: &mut Windows,
        now: u64,
    ) -> RedisResult<()> {
        let mut known = part.known.iter().copied();
        let mut reply = match reply {
            Value::Array(reply) => reply,
            one => vec![one],
        }
        .into_iter();
        for (index, group) in part.groups(batch) {
            let first = self.standings.len();
            let counter = if part.decider == Decider::Apply { None } else { batch.fixed_window(group) };
            let known = known.next().flatten();
            let passed = match (reply.next().ok_or_else(unexpected)?, counter) {
                (Value::Int(taken), Some(counter)) => {
                    let (used, hash) = (taken.unsigned_abs(), batch.hash_of(group));
                    let left = if taken < 0 {
                        let Some(Value::Int(millis)) = reply.next() else { return Err(unexpected()) };
                        let left = Duration::from_millis(millis.max(0).unsigned_abs());
                        windows.learn(hash, &counter, now, left, used);
                        left
                    } else {
                        windows.learn_used(hash, &counter, used);
                        known.ok_or_else(unexpected)?
                    };
                    let (passed, standing) = Standing::of_fixed(group, &counter, used, left);
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
            let decision = &mut self.decisions[index];
            (decision.passed, decision.first) = (passed, first);
        }
        if reply.next().is_some() { Err(unexpected()) } else { Ok(()) }
    }

    /// Returns how many checks of a group pass, or why it is not decided.
    pub(super) fn passed(&self, group: usize) -> Result<u32, &Failure> {
        self.decisions[group].passed.as_ref().copied()
    }

    /// Returns how many checks of a group have been charged, but for their policies in shadow.
    pub(super) fn charged(&self, group: usize) -> u32 {
        let GroupDecision { passed, adds, .. } = &self.decisions[group];
        match passed {
            // It is a group of its own.
            Ok(_) if *adds => 1,
            Ok(passed) => *passed,
            Err(_) => 0,
        }
    }

    /// Whether a group adds.
    pub(super) fn adds(&self, group: usize) -> bool {
        self.decisions[group].adds
    }

    /// Whether the keys of a group were moving to the cluster node that was asked.
    pub(super) fn asking(&self, group: usize) -> bool {
        self.decisions[group].asking
    }

    /// Returns how long it takes until a counter of a group is whole again; `index` is that of the counter within its
    /// check.
    pub(super) fn reset(&self, group: usize, index: usize) -> Duration {
        let standing = self.standing(group, index);
        standing.map_or(Duration::ZERO, |standing| Duration::from_micros(standing.reset))
    }

    /// Returns for how many checks of a group a counter has room; `index` is that of the counter within its check.
    pub(super) fn room(&self, group: usize, index: usize) -> u32 {
        self.standing(group, index).map_or(0, |standing| standing.room)
    }

    fn standing(&self, group: usize, index: usize) -> Option<&Standing> {
        self.standings.get(self.decisions[group].first + index)
    }

    /// Returns a failure that makes another connection worth a try, if there is one: all other checks would be
    /// told the same on this one.
    pub(super) fn lost(&self) -> Option<&Failure> {
        self.failures().find(|failure| failure.is_away())
    }

    /// Returns why some groups are not decided.
    pub(super) fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.decisions.iter().filter_map(|decision| decision.passed.as_ref().err())
    }

    /// Returns what the check at `place` is told, whose group asked for `counters`.
    ///
    /// A reply tells where the counters stand for the group as a whole. Its checks are charged evenly, so where
    /// the counters stood for each of them follows from that.
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
        let first = self.decisions[place.group].first;
        let standings = &self.standings[first..first + counters.len()];
        // How often the group charges a counter. A policy in shadow is charged while it has room.
        let charges = |counter: &Counter<'_>| {
            if !counter.shadow {
                return passed;
            }
            let of_policy =
                counters.iter().zip(standings).filter(|(other, _)| other.policy == counter.policy);
            of_policy.map(|(_, standing)| standing.room).fold(passed, u32::min)
        };
        let readings = counters
            .iter()
            .zip(standings)
            .map(|(counter, standing)| standing.reading(counter, charges(counter), place.before));
        let taken = match operation {
            Operation::Take => place.before < passed,
            Operation::Add | Operation::GiveBack => true,
            Operation::Peek | Operation::Reset => false,
        };
        Ok(Outcome::new(taken, readings))
    }
}

/// Returns how long it may take until what Redis says will be the case after `told` is the case. That is the window at
/// most, as it is declared, though one that has begun within this millisecond may last up to a millisecond longer.
fn at_least_until(told: Duration, counter: &Counter<'_>) -> Duration {
    match counter.algorithm {
        Algorithm::FixedWindow => (told + ROUNDED_OFF).min(counter.quota.window()),
        _ => told,
    }
}

/// Returns the reading of a counter that nobody has used.
pub(super) fn untouched(counter: &Counter<'_>) -> Reading {
    let rule = Rule::new(counter.quota, counter.algorithm);
    State::new(counter.algorithm).read(&rule, 0, counter.cost.into())
}

/// Converts a number that is never too large for its type.
fn whole(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

pub(super) fn unexpected() -> RedisError {
    (ErrorKind::UnexpectedReturnType, "the server answered for other counters").into()
}
