//! The checks of one call to Redis, in order of arrival, with those that ask for the same merged into groups.

use ahash::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::algorithm::Algorithm;
use crate::store::{Counter, Operation};

/// The most counters of one call, and the most bytes of their keys: some hundred microseconds of Redis's time,
/// in which it serves nobody else.
const MAX_COUNTERS: usize = 256;
const MAX_KEY_BYTES: usize = 32 * 1024;
/// The most units that one call writes to sliding logs, which have an entry for each unit.
const MAX_LOGGED: u64 = 20_000;
/// The most checks that share one call.
const MAX_CHECKS: u32 = 16 * 1024;

/// An operation on one or more counters, which are decided together for one caller.
#[derive(Debug)]
pub(crate) struct Check<'a, 'k> {
    pub(super) operation: Operation,
    /// Whether to send `ASKING` first, since the keys are moving to the cluster node that is asked.
    pub(super) asking: bool,
    pub(super) counters: &'a [Counter<'k>],
    /// The hash of each counter's key.
    pub(super) hashes: SmallVec<[u64; 2]>,
    /// When it was asked, in microseconds of the clock, if that matters: what is given back counts no longer than it
    /// would have then.
    pub(super) asked: Option<u64>,
}

impl<'a, 'k> Check<'a, 'k> {
    pub(super) fn new(random: &RandomState, operation: Operation, counters: &'a [Counter<'k>]) -> Self {
        let hashes = counters.iter().map(|counter| random.hash_one(counter.key)).collect();
        Self { operation, asking: false, counters, hashes, asked: None }
    }
}

/// The checks of one call.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The keys of all counters, one after the other.
    text: String,
    counters: Vec<Asked>,
    groups: Vec<Group>,
    /// Which group is the last to ask for each key.
    last: HashTable<Last>,
    checks: u32,
    logged: u64,
    /// See [`Self::unawaited`].
    brings_script: bool,
}

/// A [`Counter`] whose key is part of the batch's text.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// Where its key begins and ends.
    key: (usize, usize),
    hash: u64,
    /// The counter itself, without its key.
    keyless: Counter<'static>,
}

/// Checks that ask for the same, and are decided together.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) operation: Operation,
    pub(super) asking: bool,
    /// When its only check was asked, if that matters.
    pub(super) asked: Option<u64>,
    /// How many checks it has.
    pub(super) count: u32,
    /// Where in the batch its counters begin.
    first: usize,
    len: usize,
}

#[derive(Debug)]
struct Last {
    hash: u64,
    /// A counter with the key.
    counter: usize,
    group: usize,
    /// Whether another group has asked for the key, too.
    is_shared: bool,
}

/// Where a check is in its batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) group: usize,
    /// How many checks of the group came before it.
    pub(super) before: u32,
}

impl Batch {
    /// Creates a batch for what is to be given back though nobody waits for that. It brings its script along, since it
    /// is not asked again if the server has lost that.
    pub(super) fn unawaited() -> Self {
        Self { brings_script: true, ..Self::default() }
    }

    /// Whether the script is sent as a whole.
    pub(super) fn brings_script(&self) -> bool {
        self.brings_script
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Returns the number of checks.
    pub(super) fn checks(&self) -> u32 {
        self.checks
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Returns the counters that each check of `group` asks for, and the hashes of their keys.
    pub(super) fn counters_and_hashes(
        &self,
        group: &Group,
    ) -> (SmallVec<[Counter<'_>; 2]>, SmallVec<[u64; 2]>) {
        (self.counters_of(group).collect(), self.hashes_of(group).collect())
    }

    /// Returns the counters of `group`, in the order in which they were asked for.
    pub(super) fn counters_of(&self, group: &Group) -> impl ExactSizeIterator<Item = Counter<'_>> + Clone {
        self.counters[group.first..group.first + group.len].iter().map(|asked| self.counter(asked))
    }

    /// Returns the counter of a group that takes from one fixed window and nothing else, as `take.lua` can.
    pub(super) fn fixed_window(&self, group: &Group) -> Option<Counter<'_>> {
        let mut counters = self.counters_of(group);
        let (counter, others) = (counters.next()?, counters.len());
        let is_fixed = group.operation == Operation::Take
            && others == 0
            && counter.algorithm == Algorithm::FixedWindow
            && !counter.shadow
            && (1..=counter.quota.limit()).contains(&counter.cost);
        is_fixed.then_some(counter)
    }

    /// Returns the hashes of the keys of a group's counters.
    pub(super) fn hashes_of(&self, group: &Group) -> impl Iterator<Item = u64> {
        self.counters[group.first..group.first + group.len].iter().map(|asked| asked.hash)
    }

    /// Returns the hash of the key of a group's first counter.
    pub(super) fn hash_of(&self, group: &Group) -> u64 {
        self.counters[group.first].hash
    }

    /// Whether another group asks for the key of this group's first counter, too.
    pub(super) fn is_shared(&self, group: usize) -> bool {
        let first = &self.counters[self.groups[group].first];
        self.last_of(first.hash, self.counter(first).key).is_some_and(|last| last.is_shared)
    }

    fn counter(&self, asked: &Asked) -> Counter<'_> {
        Counter { key: &self.text[asked.key.0..asked.key.1], ..asked.keyless }
    }

    /// Adds a check of at least one counter. Returns `None` if the batch is full; an empty one takes any check.
    ///
    /// A check joins the group that asks for the same, unless another group has asked for one of its keys since.
    /// So the checks of a key are decided in the order in which they came.
    pub(super) fn add(&mut self, check: &Check<'_, '_>) -> Option<Place> {
        let is_log = |counter: &&Counter<'_>| counter.algorithm == Algorithm::SlidingLog;
        let logged = check.counters.iter().filter(is_log).map(|counter| u64::from(counter.cost)).sum::<u64>();
        let has_room = self.checks < MAX_CHECKS && self.logged + logged <= MAX_LOGGED;
        if !(has_room || self.is_empty()) {
            return None;
        }
        let place = self.join(check).or_else(|| self.begin(check))?;
        self.checks += 1;
        self.logged += logged;
        Some(place)
    }

    /// Joins the group that asks for the same, if there is one that the check may join.
    fn join(&mut self, check: &Check<'_, '_>) -> Option<Place> {
        if !matches!(check.operation, Operation::Take | Operation::Peek) {
            return None;
        }
        let (counters, hashes) = (check.counters, &check.hashes);
        let last_of =
            |hash: &u64, counter: &Counter<'_>| self.last_of(*hash, counter.key).map(|last| last.group);
        let group = last_of(hashes.first()?, counters.first()?)?;
        let is_last = |(counter, hash): (&Counter<'_>, &u64)| last_of(hash, counter) == Some(group);
        let asked = &self.groups[group];
        let is_same = (asked.operation, asked.asking) == (check.operation, check.asking)
            && self.counters_of(asked).eq(counters.iter().copied())
            && counters.iter().zip(hashes).skip(1).all(is_last);
        if !is_same {
            return None;
        }
        let count = &mut self.groups[group].count;
        *count += 1;
        Some(Place { group, before: *count - 1 })
    }

    /// Begins a group with the check, if there is room.
    fn begin(&mut self, check: &Check<'_, '_>) -> Option<Place> {
        let counters = check.counters;
        let bytes: usize = counters.iter().map(|counter| counter.key.len()).sum();
        let has_room =
            self.counters.len() + counters.len() <= MAX_COUNTERS && self.text.len() + bytes <= MAX_KEY_BYTES;
        if !(has_room || self.is_empty()) {
            return None;
        }
        let group = self.groups.len();
        let Check { operation, asking, asked, .. } = *check;
        let (first, len) = (self.counters.len(), counters.len());
        self.groups.push(Group { operation, asking, asked, count: 1, first, len });
        for (index, (counter, hash)) in counters.iter().zip(&check.hashes).enumerate() {
            // The quotas of a policy share one key.
            let before = index.checked_sub(1).filter(|before| counters[*before].key == counter.key);
            let key = if let Some(before) = before {
                self.counters[first + before].key
            } else {
                let start = self.text.len();
                self.text.push_str(counter.key);
                (start, self.text.len())
            };
            self.counters.push(Asked { key, hash: *hash, keyless: Counter { key: "", ..*counter } });
            if before.is_none() {
                self.note_last(*hash, group);
            }
        }
        Some(Place { group, before: 0 })
    }

    fn last_of(&self, hash: u64, key: &str) -> Option<&Last> {
        let is = |last: &Last| last.hash == hash && self.counter(&self.counters[last.counter]).key == key;
        self.last.find(hash, is)
    }

    /// Notes that `group` is the last to ask for the key of the counter that was added last.
    fn note_last(&mut self, hash: u64, group: usize) {
        let counter = self.counters.len() - 1;
        let text = |counter: usize| {
            let (start, end) = self.counters[counter].key;
            &self.text[start..end]
        };
        let is = |last: &Last| last.hash == hash && text(last.counter) == text(counter);
        if let Some(last) = self.last.find_mut(hash, is) {
            last.is_shared |= last.group != group;
            last.group = group;
        } else {
            let last = Last { hash, counter, group, is_shared: false };
            self.last.insert_unique(hash, last, |last| last.hash);
        }
    }

    /// Returns what is given back in the batch by groups that are meant, for which nobody waits any more, as a batch of
    /// its own; `None` if nothing is.
    pub(super) fn give_backs(&self, is_meant: impl Fn(usize) -> bool) -> Option<Self> {
        let mut own = Self::unawaited();
        let gives_back =
            |(index, group): &(usize, &Group)| group.operation == Operation::GiveBack && is_meant(*index);
        for (_, group) in self.groups.iter().enumerate().filter(gives_back) {
            let (counters, hashes) = self.counters_and_hashes(group);
            let Group { operation, asking, asked, .. } = *group;
            // All of it had room here.
            let _ = own.add(&Check { operation, asking, counters: &counters, hashes, asked });
        }
        (!own.is_empty()).then_some(own)
    }

    /// Empties the batch, and keeps its memory for the next one.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.counters.clear();
        self.groups.clear();
        self.last.clear();
        (self.checks, self.logged, self.brings_script) = (0, 0, false);
    }
}

impl Group {
    /// Returns how much all checks ask of `counter`. A batch bounds their number, so it always fits.
    pub(super) fn units(&self, counter: &Counter<'_>) -> i64 {
        i64::from(self.count) * i64::from(counter.cost)
    }

    /// Returns the place of the last check, if that is denied; `group` is the group's own index.
    pub(super) fn last_denied(&self, group: usize, passed: u32) -> Option<Place> {
        let is_denied = self.operation == Operation::Take && passed < self.count;
        is_denied.then(|| Place { group, before: self.count - 1 })
    }
}
