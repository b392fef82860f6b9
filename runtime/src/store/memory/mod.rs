//! The store that counts in this process's memory.
//!
//! The keys are spread over [`shard`]s, each behind a lock of its own, which is never held across an await.
//! Adding a key also looks at a few other counters and drops those that have expired. So the work of forgetting
//! is spread over the work of remembering, and nothing ever stops to sweep.

mod held;
#[cfg(all(test, interleavings))]
mod interleavings;
mod shard;

use std::fmt;

use ahash::RandomState;
#[cfg(all(test, interleavings))]
use loom::sync::{Mutex, MutexGuard};
#[cfg(not(all(test, interleavings)))]
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use self::held::Held;
use self::shard::{Shard, Slot};
use super::{Counter, Operation, Outcome, Reading, Store};
use crate::algorithm::{Rule, State};
use crate::clock::Clock;
use crate::error::StoreError;

const MAX_SHARDS: usize = 64;
/// With fewer keys per shard, chance would fill one shard while others have room.
const MIN_KEYS_PER_SHARD: usize = 1_024;

/// A store that counts in this process, with a bounded number of counters.
///
/// If the store is full, and none of the few counters that it then looks at has expired, it refuses a new one. A
/// limiter treats that like a store that is away. No counter is dropped to make room for those of others.
///
/// A limiter brings one along ([`RateLimiter::memory`](crate::RateLimiter::memory)). Use it
/// directly to build a custom store around it, or in benchmarks.
///
/// ```
/// use axum_rate_limit::Quota;
/// use axum_rate_limit::store::{Counter, MemoryStore, Operation};
///
/// let store = MemoryStore::new(1_000);
/// let counter = Counter::new("client-7", Quota::per_minute(1));
/// assert!(store.apply_now(Operation::Take, &[counter])?.taken());
/// assert!(!store.apply_now(Operation::Take, &[counter])?.taken());
/// # Ok::<(), axum_rate_limit::StoreError>(())
/// ```
pub struct MemoryStore {
    shards: Box<[Padded]>,
    hasher: RandomState,
    clock: Clock,
    max_keys: usize,
}

/// A lock on cache lines of its own, so that threads at neighbouring shards do not disturb each other.
#[repr(align(128))]
#[derive(Default)]
struct Padded(Mutex<Shard>);

impl MemoryStore {
    /// Creates a store that holds at most `max_keys` counters: the number of clients, times the quotas of each.
    pub fn new(max_keys: usize) -> Self {
        Self::with_clock(max_keys, Clock::default())
    }

    pub(crate) fn with_clock(max_keys: usize, clock: Clock) -> Self {
        let shards = (max_keys / MIN_KEYS_PER_SHARD).clamp(1, MAX_SHARDS);
        let shards = (0..shards).map(|_| Padded::default()).collect();
        Self { shards, hasher: RandomState::new(), clock, max_keys }
    }

    /// [`Store::apply`], without an await.
    ///
    /// # Errors
    ///
    /// If there is no room for a counter that has to be remembered.
    pub fn apply_now(&self, operation: Operation, counters: &[Counter<'_>]) -> Result<Outcome, StoreError> {
        match operation {
            Operation::Take => match counters {
                [counter] => self.take(counter),
                _ => self.take_all(counters),
            },
            Operation::Add => self.add(counters),
            Operation::GiveBack => Ok(self.give_back(counters)),
            Operation::Peek => Ok(Outcome::new(false, Held::lock(self, counters).readings(counters))),
            Operation::Reset => Ok(self.reset(counters)),
        }
    }

    /// Takes from one counter, which is what most checks do, under one lock and with one look-up.
    fn take(&self, counter: &Counter<'_>) -> Result<Outcome, StoreError> {
        let rule = Rule::new(counter.quota, counter.algorithm);
        let hash = self.hasher.hash_one(counter.key);
        let cost = u64::from(counter.cost);
        let mut shard = lock(&self.shards[self.shard_of(hash)]);
        // Under the lock, or a counter could see time go back: another thread may have had the lock before.
        let now = self.clock.now_micros();
        let reading = match shard.find_mut(hash, counter) {
            Some(slot) => slot.take(&rule, now, cost),
            None => self.take_first(&mut shard, hash, counter, &rule, now)?,
        };
        Ok(Outcome::of_one(reading.fits || counter.shadow, reading))
    }

    /// Takes from a counter that nothing has been taken from yet.
    #[inline(never)] // it is long, and most keys are known
    fn take_first(
        &self,
        shard: &mut Shard,
        hash: u64,
        counter: &Counter<'_>,
        rule: &Rule,
        now: u64,
    ) -> Result<Reading, StoreError> {
        let (mut state, cost) = (State::new(counter.algorithm), u64::from(counter.cost));
        let reading = state.take(rule, now, cost);
        if reading.fits && cost > 0 {
            let expires = state.expires(rule);
            let slot = Slot::new(counter, state, expires);
            let added = shard.insert(&self.hasher, hash, slot, now, self.max_per_shard());
            if added.is_err() && !counter.shadow {
                return Err(StoreError::Full { max_keys: self.max_keys });
            }
        }
        Ok(reading)
    }

    /// Takes from counters of which all must have room.
    fn take_all(&self, counters: &[Counter<'_>]) -> Result<Outcome, StoreError> {
        let mut held = Held::lock(self, counters);
        let asked = held.readings(counters);
        held.charge_all(counters, charged(counters, &asked))?;
        Ok(changed(passes(counters, &asked), &asked, &held.readings(counters)))
    }

    /// Charges counters whether they have room or not.
    fn add(&self, counters: &[Counter<'_>]) -> Result<Outcome, StoreError> {
        let mut held = Held::lock(self, counters);
        let before = held.readings(counters);
        held.charge_all(counters, counters.iter().map(|counter| counter.cost > 0).collect())?;
        Ok(changed(true, &before, &held.readings(counters)))
    }

    /// Gives back to counters, which needs no room.
    pub(super) fn give_back(&self, counters: &[Counter<'_>]) -> Outcome {
        let mut held = Held::lock(self, counters);
        let before = held.readings(counters);
        for (index, counter) in counters.iter().enumerate() {
            held.give_back(index, counter);
        }
        changed(true, &before, &held.readings(counters))
    }

    fn reset(&self, counters: &[Counter<'_>]) -> Outcome {
        let mut held = Held::lock(self, counters);
        for (index, counter) in counters.iter().enumerate() {
            held.remove(index, counter);
        }
        Outcome::new(false, held.readings(counters))
    }

    /// How many counters it holds, expired ones among them.
    #[cfg(all(test, feature = "test-util"))]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn max_per_shard(&self) -> usize {
        self.max_keys / self.shards.len()
    }

    /// Returns the shard of a key. The low and the highest bits choose the place in the shard's table, so other
    /// bits choose the shard.
    #[allow(clippy::cast_possible_truncation)] // only some of the bits are wanted
    fn shard_of(&self, hash: u64) -> usize {
        (hash >> 40) as usize % self.shards.len()
    }
}

/// Returns the outcome of a change. Whether a cost fits is told as it was before, how much is left as it is after it.
fn changed(taken: bool, before: &[Reading], after: &[Reading]) -> Outcome {
    let readings = after.iter().zip(before).map(|(after, before)| Reading {
        fits: before.fits,
        retry_after: before.retry_after,
        ..*after
    });
    Outcome::new(taken, readings)
}

/// Whether all policies that are not in shadow allow.
fn passes(counters: &[Counter<'_>], asked: &[Reading]) -> bool {
    counters.iter().zip(asked).all(|(counter, reading)| counter.shadow || reading.fits)
}

/// Returns which counters a [`Take`](Operation::Take) charges.
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

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("max_keys", &self.max_keys).finish_non_exhaustive()
    }
}

/// Locks a shard. A panic while the lock is held can't leave the shard torn: nothing between two changes panics.
fn lock(shard: &Padded) -> MutexGuard<'_, Shard> {
    let guard = shard.0.lock();
    #[cfg(all(test, interleavings))]
    let guard = guard.expect("no thread panics with it");
    guard
}

#[cfg(all(test, feature = "test-util", not(interleavings)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;
    use crate::quota::Quota;

    const MINUTE: Duration = Duration::from_secs(60);

    fn store(max_keys: usize) -> (MemoryStore, ManualClock) {
        let clock = ManualClock::default();
        (MemoryStore::with_clock(max_keys, Clock::Manual(clock.clone())), clock)
    }

    fn counter(key: &str, limit: u32) -> Counter<'_> {
        Counter::new(key, Quota::new(limit, MINUTE))
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
