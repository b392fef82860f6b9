//! What of a batch one run of a script decides.

use std::time::Duration;

use smallvec::SmallVec;

use super::batch::{Batch, Group};
use crate::algorithm::Algorithm;
use crate::store::{Counter, Operation};

/// Some groups of a batch.
#[derive(Debug)]
pub(super) struct Part {
    groups: SmallVec<[usize; 1]>,
    /// Whether `take.lua` can decide them.
    pub(super) is_simple: bool,
    /// How long the window of each lasts, if that was known when it was asked and so is not told.
    pub(super) known: SmallVec<[Option<Duration>; 1]>,
}

impl Part {
    /// Each group by itself: on a cluster no script spans the keys of several slots.
    pub(super) fn each(batch: &Batch) -> Vec<Self> {
        let part = |(index, group)| Self::new([index], fixed(batch, group).is_some());
        batch.groups().iter().enumerate().map(part).collect()
    }

    /// What `take.lua` can decide, and what it can't. Should a key be in both, all is one part: else the checks
    /// of that key would be decided in another order than that in which they came.
    pub(super) fn by_script(batch: &Batch) -> Vec<Self> {
        let all = 0..batch.groups().len();
        let is_simple = |group: &usize| fixed(batch, &batch.groups()[*group]).is_some();
        let (simple, others): (Vec<usize>, Vec<usize>) = all.clone().partition(is_simple);
        let (simple, others) = (Self::new(simple, true), Self::new(others, false));
        if others.groups.is_empty() {
            vec![simple]
        } else if simple.groups.is_empty() {
            vec![others]
        } else if simple.shares_a_key_with(&others, batch) {
            vec![Self::new(all, false)]
        } else {
            vec![simple, others]
        }
    }

    fn new(groups: impl IntoIterator<Item = usize>, is_simple: bool) -> Self {
        Self { groups: groups.into_iter().collect(), is_simple, known: SmallVec::new() }
    }

    fn shares_a_key_with(&self, other: &Self, batch: &Batch) -> bool {
        let mut keys: Vec<u64> = other.hashes(batch).collect();
        keys.sort_unstable();
        self.hashes(batch).any(|key| keys.binary_search(&key).is_ok())
    }

    /// The groups, and which of the batch they are.
    pub(super) fn groups<'b>(&self, batch: &'b Batch) -> impl Iterator<Item = (usize, &'b Group)> + Clone {
        self.groups.iter().map(|group| (*group, &batch.groups()[*group]))
    }

    /// The counters of all groups.
    pub(super) fn counters<'b>(&self, batch: &'b Batch) -> impl Iterator<Item = Counter<'b>> + Clone {
        self.groups(batch).flat_map(|(_, group)| batch.counters_of(group))
    }

    fn hashes(&self, batch: &Batch) -> impl Iterator<Item = u64> {
        self.groups(batch).flat_map(|(_, group)| batch.hashes_of(group))
    }

    /// Whether it is asked of a node of a cluster that is about to get the keys.
    pub(super) fn is_asking(&self, batch: &Batch) -> bool {
        self.groups(batch).any(|(_, group)| group.asking)
    }
}

/// The counter of a group that takes from one fixed window, and from nothing else.
pub(super) fn fixed<'b>(batch: &'b Batch, group: &Group) -> Option<Counter<'b>> {
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
pub(super) fn units(group: &Group, counter: &Counter<'_>) -> i64 {
    i64::from(group.count) * i64::from(counter.cost)
}

#[cfg(test)]
mod tests {
    use ahash::RandomState;

    use super::*;
    use crate::quota::Quota;
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
            let part = |part: &Part| (part.is_simple, part.groups.iter().copied().collect());
            Part::by_script(&batch).iter().map(part).collect::<Vec<(bool, Vec<usize>)>>()
        };
        assert_eq!(parts(&[counter("a"), counter("b")]), [(true, vec![0, 1])]);
        assert_eq!(parts(&[bucket("a"), bucket("b")]), [(false, vec![0, 1])]);
        assert_eq!(parts(&[counter("a"), bucket("b"), counter("c")]), [(true, vec![0, 2]), (false, vec![1])]);
        assert_eq!(parts(&[counter("a"), bucket("b"), bucket("a")]), [(false, vec![0, 1, 2])]);
    }
}
