//! Counters in this process.
//!
//! The keys are spread over shards, each behind a lock of its own that is never held across an
//! await. A shard is a hash table over a list of slots. Whoever adds a key moves the shard's hand
//! over a few slots and drops what has expired there, so that the work of forgetting is spread over
//! the work of remembering, and nothing ever stops to sweep.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::{Counter, Operation, Outcome, Reading, Store};
use crate::clock::Clock;
use crate::error::StoreError;

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
    used: u64,
    ends: Duration,
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
        let now = self.clock.now();
        match operation {
            Operation::Peek => Ok(Outcome::new(false, held.readings(counters, now))),
            Operation::Reset => {
                for (index, counter) in counters.iter().enumerate() {
                    held.remove(index, counter);
                }
                Ok(Outcome::new(false, held.readings(counters, now)))
            }
            Operation::Take => {
                let readings = held.readings(counters, now);
                let fits = |(counter, reading): (&Counter<'_>, &Reading)| {
                    reading.used + u64::from(counter.cost) <= u64::from(counter.quota.limit())
                };
                if !counters.iter().zip(&readings).all(fits) {
                    return Ok(Outcome::new(false, readings));
                }
                let charged = |counter: &Counter<'_>| counter.cost > 0;
                let charged = || counters.iter().enumerate().filter(|(_, counter)| charged(counter));
                for (index, counter) in charged() {
                    if !held.reserve(index, counter, now, self.max_per_shard()) {
                        for (index, counter) in charged().take_while(|(before, _)| *before < index) {
                            held.release(index, counter);
                        }
                        return Err(StoreError::Full { max_keys: self.max_keys });
                    }
                }
                for (index, counter) in charged() {
                    held.charge(index, counter);
                }
                Ok(Outcome::new(true, held.readings(counters, now)))
            }
            #[allow(unreachable_patterns)] // another operation must not be taken for one of these
            _ => unreachable!("the memory store knows every operation"),
        }
    }

    /// How many counters it holds, expired ones among them.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).table.len()).sum()
    }

    fn max_per_shard(&self) -> usize {
        self.max_keys.div_ceil(self.shards.len())
    }
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

    fn readings(&self, counters: &[Counter<'_>], now: Duration) -> SmallVec<[Reading; 2]> {
        let reading = |(counter, (hash, shard)): (&Counter<'_>, &(u64, usize))| {
            let slot = self.guards[*shard].find(*hash, counter).filter(|slot| slot.ends > now);
            slot.map_or(Reading { used: 0, reset: Duration::ZERO }, |slot| Reading {
                used: slot.used,
                reset: slot.ends.saturating_sub(now),
            })
        };
        counters.iter().zip(&self.places).map(reading).collect()
    }

    fn remove(&mut self, index: usize, counter: &Counter<'_>) {
        let (hash, shard) = self.places[index];
        self.guards[shard].remove(hash, counter);
    }

    /// Makes sure that there is a running window for `counter`; false if there is no room for it.
    fn reserve(&mut self, index: usize, counter: &Counter<'_>, now: Duration, max_keys: usize) -> bool {
        let (hash, shard) = self.places[index];
        let shard = &mut self.guards[shard];
        let ends = now + counter.quota.window();
        if let Some(slot) = shard.find_mut(hash, counter) {
            if slot.ends <= now {
                (slot.used, slot.ends) = (0, ends);
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
        let window_millis = counter.quota.window_millis();
        shard.insert(Slot { hash, key: counter.key.into(), window_millis, used: 0, ends });
        true
    }

    /// Takes back a window that was opened for nothing.
    fn release(&mut self, index: usize, counter: &Counter<'_>) {
        let (hash, shard) = self.places[index];
        if self.guards[shard].find(hash, counter).is_some_and(|slot| slot.used == 0) {
            self.guards[shard].remove(hash, counter);
        }
    }

    fn charge(&mut self, index: usize, counter: &Counter<'_>) {
        let (hash, shard) = self.places[index];
        if let Some(slot) = self.guards[shard].find_mut(hash, counter) {
            slot.used += u64::from(counter.cost);
        }
    }
}

impl Slot {
    fn is(&self, counter: &Counter<'_>) -> bool {
        self.window_millis == counter.quota.window_millis() && *self.key == *counter.key
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
    fn drop_expired(&mut self, now: Duration, steps: usize) {
        for _ in 0..steps.min(self.slots.len()) {
            let index = self.hand;
            self.hand = (index + 1) % self.slots.len();
            let expired = self.slots[index].as_ref().is_some_and(|slot| slot.ends <= now);
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
    use super::*;
    use crate::clock::ManualClock;
    use crate::quota::Quota;

    const MINUTE: Duration = Duration::from_secs(60);

    fn store(max_keys: usize) -> (MemoryStore, ManualClock) {
        let clock = ManualClock::default();
        (MemoryStore::new(max_keys, Clock::Manual(clock.clone())), clock)
    }

    fn take(store: &MemoryStore, key: &str, limit: u32) -> Result<Outcome, StoreError> {
        store.apply_now(Operation::Take, &[Counter::new(key, Quota::new(limit, MINUTE), 1)])
    }

    #[test]
    fn a_window_begins_with_its_first_request_and_lasts_its_length() {
        let (store, clock) = store(10);
        clock.advance(Duration::from_secs(59));
        assert!(take(&store, "a", 2).unwrap().taken());
        clock.advance(Duration::from_secs(59));
        let second = take(&store, "a", 2).unwrap();
        assert_eq!(second.readings(), [Reading { used: 2, reset: Duration::from_secs(1) }]);
        assert!(!take(&store, "a", 2).unwrap().taken(), "denied, and extends nothing");
        clock.advance(Duration::from_secs(1));
        assert_eq!(take(&store, "a", 2).unwrap().readings(), [Reading { used: 1, reset: MINUTE }]);
    }

    #[test]
    fn a_changed_limit_keeps_what_was_counted() {
        let (store, _clock) = store(10);
        for _ in 0..3 {
            take(&store, "a", 3).unwrap();
        }
        assert!(!take(&store, "a", 2).unwrap().taken());
        assert_eq!(take(&store, "a", 9).unwrap().readings()[0].used, 4);
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
        let quota = Quota::new(5, MINUTE);
        let both = [Counter::new("a", quota, 1), Counter::new("b", quota, 1)];
        assert!(store.apply_now(Operation::Take, &both).is_err());
        assert_eq!(store.len(), 0);
    }

    #[test]
    fn reset_forgets() {
        let (store, _clock) = store(10);
        take(&store, "a", 1).unwrap();
        let counter = [Counter::new("a", Quota::new(1, MINUTE), 1)];
        store.apply_now(Operation::Reset, &counter).unwrap();
        let outcome = store.apply_now(Operation::Peek, &counter).unwrap();
        assert_eq!(outcome.readings(), [Reading { used: 0, reset: Duration::ZERO }]);
        assert_eq!(store.len(), 0);
    }
}
