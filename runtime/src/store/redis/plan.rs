//! What `apply.lua` is told besides the keys, as a list in MessagePack.

use std::time::Duration;

use rmp::encode::{write_array_len, write_sint, write_uint};

use super::batch::Batch;
use super::part::Part;
use super::rules::Rules;
use crate::algorithm::{Algorithm, Rule};
use crate::clock::{Clock, micros};
use crate::store::Operation;

/// How many numbers come before the rules: the time, and how many rules there are.
const HEAD_NUMBERS: usize = 2;
/// How many tell a rule.
const RULE_NUMBERS: usize = 6;
/// How many tell a group of checks, and each counter of a check.
const GROUP_NUMBERS: usize = 3;
const COUNTER_NUMBERS: usize = 3;

/// Returns the list for `part`, whose counters have these `rules`. It is sent now by the `clock`.
pub(super) fn encode(batch: &Batch, part: &Part, rules: &Rules<'_>, clock: &Clock) -> Vec<u8> {
    let (groups, counters) = (part.groups(batch).count(), part.counters(batch).count());
    let mut plan = Plan::new(
        HEAD_NUMBERS + rules.len() * RULE_NUMBERS + groups * GROUP_NUMBERS + counters * COUNTER_NUMBERS,
    );
    match clock.injected_micros() {
        Some(now) => plan.put(now),
        None => plan.put_none(),
    }
    plan.put(rules.len() as u64);
    for counter in rules.iter() {
        let rule = Rule::new(counter.quota, counter.algorithm);
        plan.put(algorithm_number(counter.algorithm));
        plan.put(rule.limit);
        plan.put(rule.window);
        plan.put(counter.cost.into());
        plan.put(rule.burst());
        plan.put(counter.shadow.into());
    }
    for (_, group) in part.groups(batch) {
        let counters = batch.counters_of(group);
        // A busy thread may have kept it back.
        let waited = group.asked.map_or(0, |asked| clock.now_micros().saturating_sub(asked));
        plan.put(operation_number(group.operation));
        plan.put(group.count.into());
        plan.put(counters.len() as u64);
        for counter in counters {
            plan.put(rules.number_of(&counter).into());
            plan.put(counter.policy as u64);
            match counter.charge_lasts {
                Duration::MAX => plan.put_none(),
                lasts => plan.put(micros(lasts).saturating_sub(waited)),
            }
        }
    }
    plan.bytes
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

/// Returns the number of an operation.
fn operation_number(operation: Operation) -> u64 {
    match operation {
        Operation::Take => 0,
        Operation::Peek => 1,
        Operation::Add => 2,
        Operation::GiveBack => 3,
        Operation::Reset => 4,
    }
}

/// Returns the number of an algorithm.
fn algorithm_number(algorithm: Algorithm) -> u64 {
    match algorithm {
        Algorithm::FixedWindow => 1,
        Algorithm::SlidingWindow => 2,
        Algorithm::SlidingLog => 3,
        Algorithm::TokenBucket { .. } => 4,
    }
}
