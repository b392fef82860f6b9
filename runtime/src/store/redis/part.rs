//! The parts of a batch, each of which one script or one transaction decides.

use std::time::Duration;

use redis::Value;
use smallvec::{SmallVec, smallvec};

use super::batch::{Batch, Group};
use super::transaction;
use super::windows::Windows;
use crate::store::Counter;

/// Some groups of a batch, and what decides them.
#[derive(Clone, Debug)]
pub(super) struct Part {
    groups: SmallVec<[usize; 1]>,
    pub(super) decider: Decider,
    /// How long the window of each group still lasts, if that was known when it was asked, so that it is not
    /// told again. Empty if `apply.lua` decides.
    pub(super) known: SmallVec<[Option<Duration>; 1]>,
}

/// What decides a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decider {
    /// A [`transaction`], if all counters seem to have much room.
    Transaction,
    /// `take.lua`, which also corrects an `overcharge` of the only counter by a transaction.
    Take { overcharge: Option<Overcharge> },
    /// `apply.lua`.
    Apply,
}

/// What a transaction has charged to a counter that had too little room, or whose window does not end. Which
/// checks pass is decided by that; only the counter is left to correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overcharge {
    /// The counter's value after the charge.
    pub(super) used: i64,
    /// How long its window still lasts, as known or told; if neither, its whole length.
    pub(super) left: Duration,
}

impl Overcharge {
    /// Returns the reply of `take.lua`, in place of one that has not come.
    pub(super) fn told(self) -> Value {
        let left = i64::try_from(self.left.as_millis()).unwrap_or(i64::MAX);
        Value::Array(vec![Value::Int(-self.used), Value::Int(left)])
    }
}

impl Decider {
    pub(super) const TAKE: Self = Self::Take { overcharge: None };
}

impl Part {
    /// Makes each group a part of its own: on a cluster no script spans the keys of several slots.
    pub(super) fn each(batch: &Batch) -> Vec<Self> {
        let decider =
            |group| if batch.fixed_window(group).is_some() { Decider::TAKE } else { Decider::Apply };
        let part = |(index, group)| Self::new([index], decider(group));
        batch.groups().iter().enumerate().map(part).collect()
    }

    /// Splits a batch into what `take.lua` can decide and what it can't. If a key is in both, `apply.lua`
    /// decides all as one part: otherwise the checks of that key would be decided out of order.
    pub(super) fn by_script(batch: &Batch) -> Vec<Self> {
        let all = 0..batch.groups().len();
        let is_simple = |group: &usize| batch.fixed_window(&batch.groups()[*group]).is_some();
        let (simple, others): (Vec<usize>, Vec<usize>) = all.clone().partition(is_simple);
        let (simple, others) = (Self::new(simple, Decider::TAKE), Self::new(others, Decider::Apply));
        if others.groups.is_empty() {
            vec![simple]
        } else if simple.groups.is_empty() {
            vec![others]
        } else if simple.shares_a_key_with(&others, batch) {
            vec![Self::new(all, Decider::Apply)]
        } else {
            vec![simple, others]
        }
    }

    fn new(groups: impl IntoIterator<Item = usize>, decider: Decider) -> Self {
        Self { groups: groups.into_iter().collect(), decider, known: SmallVec::new() }
    }

    /// Looks up what is known at `now` of the windows that `take.lua` would take from. If all of them seem to
    /// have much room and the server `transacts`, a transaction decides the part instead.
    pub(super) fn look_up(&mut self, batch: &Batch, windows: &Windows, now: u64, transacts: bool) {
        if self.decider == Decider::Apply {
            return;
        }
        let mut all_suit = transacts && self.groups.len() <= transaction::MAX_COUNTERS;
        let mut known = SmallVec::new();
        for (group, counter) in self.fixed_windows(batch) {
            let window = windows.get(batch.hash_of(group), &counter, now);
            all_suit &= transaction::suits(group, &counter, window);
            known.push(window.and_then(|window| window.left));
        }
        self.known = known;
        // No transaction for a key that another group asks for, too. What it overcharges would be in the way of
        // the next group; and if the server has lost the other group's script, which is then asked again, the
        // transaction would overtake it.
        all_suit = all_suit && !self.groups.iter().any(|group| batch.is_shared(*group));
        if all_suit {
            self.decider = Decider::Transaction;
        }
    }

    /// Leaves in the part what a transaction has decided, and returns what `take.lua` would have answered to
    /// that. `executed` holds what the commands between `MULTI` and `EXEC` answered.
    ///
    /// Also returns what is left for `take.lua`, each group as a part of its own: to correct what should not
    /// have been charged, or to charge what could not be.
    pub(super) fn settle(&mut self, batch: &Batch, mut executed: &[Value]) -> (Value, Vec<Self>) {
        let (groups, known) = (std::mem::take(&mut self.groups), std::mem::take(&mut self.known));
        let (mut reply, mut left) = (Vec::new(), Vec::new());
        for (group, known) in groups.into_iter().zip(known) {
            let Some(counter) = batch.fixed_window(&batch.groups()[group]) else { continue };
            let answered;
            (answered, executed) = executed.split_at(transaction::commands(known).min(executed.len()));
            match transaction::read_answers(answered, &counter, known, &mut reply) {
                Ok(()) => {
                    self.groups.push(group);
                    self.known.push(known);
                }
                Err(overcharge) => {
                    let decider = Decider::Take { overcharge };
                    left.push(Self { groups: smallvec![group], decider, known: smallvec![None] });
                }
            }
        }
        self.decider = Decider::TAKE;
        (Value::Array(reply), left)
    }

    fn shares_a_key_with(&self, other: &Self, batch: &Batch) -> bool {
        let mut keys: Vec<u64> = other.hashes(batch).collect();
        keys.sort_unstable();
        self.hashes(batch).any(|key| keys.binary_search(&key).is_ok())
    }

    /// Returns the groups, with their indices in the batch.
    pub(super) fn groups<'b>(&self, batch: &'b Batch) -> impl Iterator<Item = (usize, &'b Group)> + Clone {
        self.groups.iter().map(|group| (*group, &batch.groups()[*group]))
    }

    /// Returns the counters of all groups.
    pub(super) fn counters<'b>(&self, batch: &'b Batch) -> impl Iterator<Item = Counter<'b>> + Clone {
        self.groups(batch).flat_map(|(_, group)| batch.counters_of(group))
    }

    /// Returns the groups that take from one fixed window, with its counter: all, unless `apply.lua` decides.
    pub(super) fn fixed_windows<'b>(
        &self,
        batch: &'b Batch,
    ) -> impl Iterator<Item = (&'b Group, Counter<'b>)> {
        self.groups(batch).filter_map(|(_, group)| Some((group, batch.fixed_window(group)?)))
    }

    fn hashes(&self, batch: &Batch) -> impl Iterator<Item = u64> {
        self.groups(batch).flat_map(|(_, group)| batch.hashes_of(group))
    }

    /// Returns how many replies come before the one that decides.
    pub(super) fn answers_before(&self, batch: &Batch) -> usize {
        match self.decider {
            Decider::Transaction => {
                1 + self.known.iter().map(|known| transaction::commands(*known)).sum::<usize>()
            }
            Decider::Take { .. } | Decider::Apply => usize::from(self.is_asking(batch)),
        }
    }

    /// Whether its keys are moving to the cluster node that is asked.
    pub(super) fn is_asking(&self, batch: &Batch) -> bool {
        self.groups(batch).any(|(_, group)| group.asking)
    }
}

#[cfg(test)]
mod tests {
    use ahash::RandomState;

    use super::*;
    use crate::algorithm::Algorithm;
    use crate::quota::Quota;
    use crate::store::Operation;
    use crate::store::redis::batch::Check;

    #[test]
    fn each_script_has_a_part_unless_a_key_is_in_both() {
        let random = RandomState::with_seeds(1, 2, 3, 4);
        let counter = |key| Counter::new(key, Quota::per_minute(9));
        let bucket = |key| Counter { algorithm: Algorithm::TokenBucket { burst: None }, ..counter(key) };
        let parts = |counters: &[Counter<'static>]| {
            let mut batch = Batch::default();
            for counter in counters {
                let check = std::slice::from_ref(counter);
                batch.add(&Check::new(&random, Operation::Take, check)).expect("there is room");
            }
            let part = |part: &Part| (part.decider == Decider::TAKE, part.groups.iter().copied().collect());
            Part::by_script(&batch).iter().map(part).collect::<Vec<(bool, Vec<usize>)>>()
        };
        assert_eq!(parts(&[counter("a"), counter("b")]), [(true, vec![0, 1])]);
        assert_eq!(parts(&[bucket("a"), bucket("b")]), [(false, vec![0, 1])]);
        assert_eq!(parts(&[counter("a"), bucket("b"), counter("c")]), [(true, vec![0, 2]), (false, vec![1])]);
        assert_eq!(parts(&[counter("a"), bucket("b"), bucket("a")]), [(false, vec![0, 1, 2])]);
    }
}
