//! Counters in this process.
//!
//! The keys are spread over shards, each behind a lock of its own that is never held across an
//! await. A shard is a hash table over a list of slots. Whoever adds a key moves the shard's hand
//! over a few slots and drops what has expired there, so that the work of forgetting is spread over
//! the work of remembering, and nothing ever stops to sweep.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::{Counter, Operation, Outcome, Reading, Store};
use crate::algorithm::{Rule, State};
use crate::clock::Clock;
use crate::error::StoreError;

/// When a slot expires that is about to be charged: not before that has been done.
const RESERVED: u64 = u64::MAX;
/// How many slots the hand passes when a key is added; two, so that it is faster than the growth.
const STEPS: usize = 2;
/// How many it passes when the shard is full, before the key is refused.
const STEPS_WHEN_FULL: usize = 64;
const MAX_SHARDS: usize = 64;
/// With fewer keys than this in each shard, chance would fill one while others have room.
const MIN_KEYS_PER_SHARD: usize = 1_024;

/// Counters in this process, bounded in number.
///
/// When the store is full of counters that have not expired, a new one is refused, which a limiter
/// answers like a store that is away: nobody's counter is dropped to make room for those of others.
#[derive(Debug)]
pub(crate) struct MemoryStore {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    clock: Clock,
    max_keys: usize,
}

#[derive(Debug, Default)]
struct Shard {
    /// Indices into `slots`.
    table: HashTable<usize>,
    slots: Vec<Option<Slot>>,
    /// Indices of empty slots.
    free: Vec<usize>,
    /// Where the search for expired slots goes on.
    hand: usize,
}

#[derive(Debug)]
struct Slot {
    hash: u64,
    key: Box<str>,
    window_millis: u64,
    state: State,
    /// In microseconds of the clock.
    expires: u64,
}

impl MemoryStore {
    /// Holds at most `max_keys` counters.
    pub(crate) fn new(max_keys: usize, clock: Clock) -> Self {
        let shards = (max_keys / MIN_KEYS_PER_SHARD).clamp(1, MAX_SHARDS);
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            clock,
            max_keys,
        }
    }

    /// [`Store::apply`], without an await.
    pub(crate) fn apply_now(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
    ) -> Result<Outcome, StoreError> {
        let mut held = Held::lock(self, counters);
        let now = self.clock.now_micros();
        let asked = held.readings(counters, now);
        let mut charged: SmallVec<[bool; 2]> = match operation {
            Operation::Take => charged(counters, &asked),
            Operation::Add | Operation::GiveBack => counters.iter().map(|counter| counter.cost > 0).collect(),
            Operation::Peek => return Ok(Outcome::new(false, asked)),
            Operation::Reset => {
                for (index, counter) in counters.iter().enumerate() {
                    held.remove(index, counter);
                }
                return Ok(Outcome::new(false, held.readings(counters, now)));
            }
        };
        if operation == Operation::GiveBack {
            for (index, counter) in concerned(counters, &charged) {
                held.give_back(index, counter, now);
            }
        } else {
            for (index, counter) in counters.iter().enumerate() {
                if !charged[index] || held.reserve(index, counter, now, self.max_per_shard()) {
                    continue;
                }
                // What is in shadow holds nobody up.
                charged[index] = false;
                if !counter.shadow {
                    for (index, counter) in concerned(counters, &charged) {
                        held.release(index, counter);
                    }
                    return Err(StoreError::Full { max_keys: self.max_keys });
                }
            }
            for (index, counter) in concerned(counters, &charged) {
                held.charge(index, counter, now);
            }
        }
        let taken = passes(counters, &asked) || operation != Operation::Take;
        let stands = held.readings(counters, now);
        // Whether a counter had room is a matter of before, how much it has left one of after.
        let readings = stands.iter().zip(&asked).map(|(stands, asked)| Reading {
            fits: asked.fits,
            retry_after: asked.retry_after,
            ..*stands
        });
        Ok(Outcome::new(taken, readings))
    }

    fn max_per_shard(&self) -> usize {
        self.max_keys.div_ceil(self.shards.len())
    }
}

/// The counters that are charged, with their numbers.
fn concerned<'a, 'k>(
    counters: &'a [Counter<'k>],
    charged: &'a [bool],
) -> impl Iterator<Item = (usize, &'a Counter<'k>)> {
    counters.iter().enumerate().filter(|(index, _)| charged[*index])
}

/// Whether all policies that are not in shadow allow.
fn passes(counters: &[Counter<'_>], asked: &[Reading]) -> bool {
    counters.iter().zip(asked).all(|(counter, reading)| counter.shadow || reading.fits)
}

/// Which counters a [`Take`](Operation::Take) charges.
fn charged(counters: &[Counter<'_>], asked: &[Reading]) -> SmallVec<[bool; 2]> {
    let passes = passes(counters, asked);
    let fits = |policy: usize| {
        counters.iter().zip(asked).all(|(counter, reading)| counter.policy != policy || reading.fits)
    };
    counters
        .iter()
        .map(|counter| passes && counter.cost > 0 && (!counter.shadow || fits(counter.policy)))
        .collect()
}

impl Store for MemoryStore {
    async fn apply(&self, operation: Operation, counters: &[Counter<'_>]) -> Result<Outcome, StoreError> {
        self.apply_now(operation, counters)
    }
}

/// A panic while the lock is held can't leave a shard torn: nothing between two changes panics.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shards that a call needs, all locked at once, in the order of their numbers so that no two
/// calls wait for each other.
struct Held<'a> {
    guards: SmallVec<[MutexGuard<'a, Shard>; 1]>,
    /// For each counter its hash, and its shard in `guards`.
    places: SmallVec<[(u64, usize); 2]>,
}

impl<'a> Held<'a> {
    fn lock(store: &'a MemoryStore, counters: &[Counter<'_>]) -> Self {
        let hashes = counters.iter().map(|counter| store.hasher.hash_one(counter.key));
        // The low bits choose the place in the table, so the shard is chosen by others.
        #[allow(clippy::cast_possible_truncation)]
        let shard = |hash: u64| (hash >> 48) as usize % store.shards.len();
        let hashes: SmallVec<[u64; 2]> = hashes.collect();
        let mut numbers: SmallVec<[usize; 2]> = hashes.iter().map(|hash| shard(*hash)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let places = hashes
            .iter()
            .map(|hash| {
                (*hash, numbers.iter().position(|number| *number == shard(*hash)).unwrap_or_default())
            })
            .collect();
        Self { guards: numbers.iter().map(|number| lock(&store.shards[*number])).collect(), places }
    }

    fn readings(&self, counters: &[Counter<'_>], now: u64) -> SmallVec<[Reading; 2]> {
        let reading = |(counter, (hash, shard)): (&Counter<'_>, &(u64, usize))| {
            let rule = Rule::new(counter.quota, counter.algorithm);
            let slot = self.guards[*shard].find(*hash, counter).filter(|slot| slot.expires > now);
            let read = |state: &State| state.read(&rule, now, counter.cost.into());
            slot.map_or_else(|| read(&State::new(counter.algorithm)), |slot| read(&slot.state))
        };
        counters.iter().zip(&self.places).map(reading).collect()
    }

    fn remove(&mut self, index: usize, counter: &Counter<'_>) {
        let (hash, shard) = self.places[index];
        self.guards[shard].remove(hash, counter);
    }

    /// Makes sure that there is a slot for `counter`; false if there is no room for it.
    fn reserve(&mut self, index: usize, counter: &Counter<'_>, now: u64, max_keys: usize) -> bool {
        let (hash, shard) = self.places[index];
        let shard = &mut self.guards[shard];
        if let Some(slot) = shard.find_mut(hash, counter) {
            if slot.expires <= now {
                slot.expires = RESERVED;
            }
            return true;
        }
        shard.drop_expired(now, STEPS);
        if shard.table.len() >= max_keys {
            shard.drop_expired(now, STEPS_WHEN_FULL);
        }
        if shard.table.len() >= max_keys {
            return false;
        }
        let state = State::new(counter.algorithm);
        let window_millis = counter.quota.window_millis();
        shard.insert(Slot { hash, key: counter.key.into(), window_millis, state, expires: RESERVED });
        true
    }

    /// Takes back a slot that nothing has been charged to.
    fn release(&mut self, index: usize, counter: &Counter<'_>) {
        let (hash, shard) = self.places[index];
        if self.guards[shard].find(hash, counter).is_some_and(|slot| slot.expires == RESERVED) {
            self.guards[shard].remove(hash, counter);
        }
    }

    fn charge(&mut self, index: usize, counter: &Counter<'_>, now: u64) {
        self.change(index, counter, |state, rule| state.charge(rule, now, counter.cost.into()));
    }

    fn give_back(&mut self, index: usize, counter: &Counter<'_>, now: u64) {
        self.change(index, counter, |state, rule| state.give_back(rule, now, counter.cost.into()));
    }

    fn change(&mut self, index: usize, counter: &Counter<'_>, change: impl FnOnce(&mut State, &Rule)) {
        let (hash, shard) = self.places[index];
        if let Some(slot) = self.guards[shard].find_mut(hash, counter) {
            let rule = Rule::new(counter.quota, counter.algorithm);
            change(&mut slot.state, &rule);
            slot.expires = slot.state.expires(&rule);
        }
    }
}

impl Slot {
    fn is(&self, counter: &Counter<'_>) -> bool {
        self.window_millis == counter.quota.window_millis()
            && self.state.is(counter.algorithm)
            && *self.key == *counter.key
    }
}

impl Shard {
    fn find(&self, hash: u64, counter: &Counter<'_>) -> Option<&Slot> {
        let index = self.table.find(hash, |index| is_at(&self.slots, *index, counter))?;
        self.slots[*index].as_ref()
    }

    fn find_mut(&mut self, hash: u64, counter: &Counter<'_>) -> Option<&mut Slot> {
        let index = self.table.find(hash, |index| is_at(&self.slots, *index, counter))?;
        self.slots[*index].as_mut()
    }

    fn insert(&mut self, slot: Slot) {
        let hash = slot.hash;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[index] = Some(slot);
        let slots = &self.slots;
        self.table.insert_unique(hash, index, |index| slots[*index].as_ref().map_or(0, |slot| slot.hash));
    }

    fn remove(&mut self, hash: u64, counter: &Counter<'_>) {
        let found = self.table.find_entry(hash, |index| is_at(&self.slots, *index, counter));
        if let Ok(entry) = found {
            let (index, _) = entry.remove();
            self.slots[index] = None;
            self.free.push(index);
        }
    }

    /// Looks at the next `steps` slots and drops those that have expired.
    fn drop_expired(&mut self, now: u64, steps: usize) {
        for _ in 0..steps.min(self.slots.len()) {
            let index = self.hand;
            self.hand = (index + 1) % self.slots.len();
            let expired = self.slots[index].as_ref().is_some_and(|slot| slot.expires <= now);
            if !expired {
                continue;
            }
            if let Some(slot) = self.slots[index].take()
                && let Ok(entry) = self.table.find_entry(slot.hash, |at| *at == index)
            {
                entry.remove();
                self.free.push(index);
            }
        }
    }
}

fn is_at(slots: &[Option<Slot>], index: usize, counter: &Counter<'_>) -> bool {
    slots[index].as_ref().is_some_and(|slot| slot.is(counter))
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::algorithm::Algorithm;
    use crate::clock::ManualClock;
    use crate::quota::Quota;

    const MINUTE: Duration = Duration::from_secs(60);

    impl MemoryStore {
        /// How many counters it holds, expired ones among them.
        fn len(&self) -> usize {
            self.shards.iter().map(|shard| lock(shard).table.len()).sum()
        }
    }

    fn store(max_keys: usize) -> (MemoryStore, ManualClock) {
        let clock = ManualClock::default();
        (MemoryStore::new(max_keys, Clock::Manual(clock.clone())), clock)
    }

    fn counter(key: &str, limit: u32) -> Counter<'_> {
        let (quota, algorithm) = (Quota::new(limit, MINUTE), Algorithm::FixedWindow);
        Counter { key, quota, algorithm, cost: 1, policy: 0, shadow: false }
    }

    fn take(store: &MemoryStore, key: &str, limit: u32) -> Result<Outcome, StoreError> {
        store.apply_now(Operation::Take, &[counter(key, limit)])
    }

    #[test]
    fn a_window_begins_with_its_first_request_and_lasts_its_length() {
        let (store, clock) = store(10);
        clock.advance(Duration::from_secs(59));
        assert!(take(&store, "a", 2).unwrap().taken());
        clock.advance(Duration::from_secs(59));
        let second = take(&store, "a", 2).unwrap().readings()[0];
        assert_eq!((second.remaining, second.reset), (0, Duration::from_secs(1)));
        assert!(!take(&store, "a", 2).unwrap().taken(), "denied, and extends nothing");
        clock.advance(Duration::from_secs(1));
        let third = take(&store, "a", 2).unwrap().readings()[0];
        assert_eq!((third.remaining, third.reset), (1, MINUTE));
    }

    #[test]
    fn a_changed_limit_keeps_what_was_counted() {
        let (store, _clock) = store(10);
        for _ in 0..3 {
            take(&store, "a", 3).unwrap();
        }
        assert!(!take(&store, "a", 2).unwrap().taken());
        assert_eq!(take(&store, "a", 9).unwrap().readings()[0].remaining, 5);
    }

    #[test]
    fn expired_keys_make_room_without_being_asked_for() {
        let (store, clock) = store(1_000_000);
        for index in 0..10_000 {
            take(&store, &format!("old-{index}"), 1).unwrap();
        }
        clock.advance(MINUTE);
        for index in 0..10_000 {
            take(&store, &format!("new-{index}"), 1).unwrap();
        }
        assert!(store.len() < 12_000, "{} slots for 10,000 living keys", store.len());
    }

    #[test]
    fn a_full_store_refuses_newcomers_and_keeps_the_rest() {
        let (store, clock) = store(100);
        for index in 0..100 {
            take(&store, &format!("{index}"), 1).unwrap();
        }
        assert!(matches!(take(&store, "late", 1), Err(StoreError::Full { max_keys: 100 })));
        assert!(!take(&store, "0", 1).unwrap().taken(), "who is there is still counted");
        clock.advance(MINUTE);
        assert!(take(&store, "late", 1).unwrap().taken());
    }

    #[test]
    fn no_room_for_one_is_no_charge_for_any() {
        let (store, _clock) = store(1);
        let both = [counter("a", 5), counter("b", 5)];
        assert!(store.apply_now(Operation::Take, &both).is_err());
        assert_eq!(store.len(), 0);
    }

    #[test]
    fn a_policy_in_shadow_holds_nobody_up() {
        let (store, _clock) = store(10);
        let shadow = Counter { policy: 1, shadow: true, ..counter("b", 1) };
        for (remaining, fits) in [(0, true), (0, false)] {
            let outcome = store.apply_now(Operation::Take, &[counter("a", 2), shadow]).unwrap();
            assert!(outcome.taken());
            assert_eq!((outcome.readings()[1].remaining, outcome.readings()[1].fits), (remaining, fits));
        }
        let fresh = Counter { key: "c", ..shadow };
        let outcome = store.apply_now(Operation::Take, &[counter("a", 2), fresh]).unwrap();
        assert!(!outcome.taken());
        assert_eq!(outcome.readings()[1].remaining, 1, "a denied request is not charged in shadow");
    }

    #[test]
    fn reset_forgets() {
        let (store, _clock) = store(10);
        take(&store, "a", 1).unwrap();
        let counter = [counter("a", 1)];
        store.apply_now(Operation::Reset, &counter).unwrap();
        let reading = store.apply_now(Operation::Peek, &counter).unwrap().readings()[0];
        assert_eq!((reading.remaining, reading.reset), (1, Duration::ZERO));
        assert_eq!(store.len(), 0);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (store, _clock) = store(10);
        take(&store, "a", 1).unwrap();
        let all = [Counter { cost: 9, ..counter("a", 1) }];
        assert_eq!(store.apply_now(Operation::GiveBack, &all).unwrap().readings()[0].remaining, 1);
        assert!(take(&store, "a", 1).unwrap().taken());
        assert_eq!(store.apply_now(Operation::Add, &all).unwrap().readings()[0].remaining, 0);
        assert_eq!(
            store.apply_now(Operation::GiveBack, &[counter("a", 11)]).unwrap().readings()[0].remaining,
            2
        );
    }
}
