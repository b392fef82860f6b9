//! The shards of one call, locked together, for operations on several counters.

#[cfg(all(test, interleavings))]
use loom::sync::MutexGuard;
#[cfg(not(all(test, interleavings)))]
use parking_lot::MutexGuard;
use smallvec::SmallVec;

use super::shard::{Full, Shard};
use super::{MemoryStore, lock};
use crate::algorithm::{Reading, Rule, State};
use crate::clock::micros;
use crate::error::StoreError;
use crate::store::Counter;

/// The shards that a call needs, all locked, in the order of their numbers so that no two calls deadlock.
pub(super) struct Held<'a> {
    store: &'a MemoryStore,
    now: u64,
    guards: SmallVec<[MutexGuard<'a, Shard>; 2]>,
    /// For each counter, the hash of its key and the index of its shard in `guards`.
    places: SmallVec<[(u64, usize); 2]>,
}

impl<'a> Held<'a> {
    pub(super) fn lock(store: &'a MemoryStore, counters: &[Counter<'_>]) -> Self {
        let hashes: SmallVec<[u64; 2]> =
            counters.iter().map(|counter| store.hasher.hash_one(counter.key)).collect();
        let mut numbers: SmallVec<[usize; 2]> = hashes.iter().map(|hash| store.shard_of(*hash)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let place = |hash: &u64| {
            let shard = numbers.iter().position(|number| *number == store.shard_of(*hash));
            (*hash, shard.unwrap_or_default())
        };
        let places = hashes.iter().map(place).collect();
        let guards = numbers.iter().map(|number| lock(&store.shards[*number])).collect();
        // Not before all are locked, or a counter could see time go back.
        let now = store.clock.now_micros();
        Self { store, now, guards, places }
    }

    /// Returns where the counters stand.
    pub(super) fn readings(&self, counters: &[Counter<'_>]) -> SmallVec<[Reading; 2]> {
        let reading = |(counter, (hash, shard)): (&Counter<'_>, &(u64, usize))| {
            let rule = Rule::new(counter.quota, counter.algorithm);
            let read = |state: &State| state.read(&rule, self.now, counter.cost.into());
            let state = self.guards[*shard].state_at(*hash, counter, self.now);
            state.map_or_else(|| read(&State::new(counter.algorithm)), read)
        };
        counters.iter().zip(&self.places).map(reading).collect()
    }

    pub(super) fn remove(&mut self, index: usize, counter: &Counter<'_>) {
        let (hash, shard) = self.places[index];
        self.guards[shard].remove(hash, counter);
    }

    /// Makes sure that there is a slot for `counter`.
    fn reserve(&mut self, index: usize, counter: &Counter<'_>) -> Result<(), Full> {
        let (hash, shard) = self.places[index];
        self.guards[shard].reserve(&self.store.hasher, hash, counter, self.now, self.store.max_per_shard())
    }

    /// Removes a reserved slot that nothing has been charged to.
    fn release(&mut self, index: usize, counter: &Counter<'_>) {
        let (hash, shard) = self.places[index];
        self.guards[shard].release(hash, counter);
    }

    /// Charges the counters that are to be `charged`, or none if one of them finds no room. A policy in shadow never
    /// denies, so its counters are left out where there is no room.
    pub(super) fn charge_all(
        &mut self,
        counters: &[Counter<'_>],
        mut charged: SmallVec<[bool; 2]>,
    ) -> Result<(), StoreError> {
        for (index, counter) in counters.iter().enumerate() {
            if !charged[index] || self.reserve(index, counter).is_ok() {
                continue;
            }
            charged[index] = false;
            if !counter.shadow {
                for (index, counter) in concerned(counters, &charged) {
                    self.release(index, counter);
                }
                return Err(StoreError::Full { max_keys: self.store.max_keys });
            }
        }
        for (index, counter) in concerned(counters, &charged) {
            self.charge(index, counter);
        }
        Ok(())
    }

    fn charge(&mut self, index: usize, counter: &Counter<'_>) {
        let now = self.now;
        self.change(index, counter, |state, rule| state.charge(rule, now, counter.cost.into()));
    }

    pub(super) fn give_back(&mut self, index: usize, counter: &Counter<'_>) {
        let now = self.now;
        let (cost, lasts) = (counter.cost.into(), micros(counter.charge_lasts));
        self.change(index, counter, |state, rule| state.give_back(rule, now, cost, lasts));
    }

    fn change(&mut self, index: usize, counter: &Counter<'_>, change: impl FnOnce(&mut State, &Rule)) {
        let (hash, shard) = self.places[index];
        if let Some(slot) = self.guards[shard].find_mut(hash, counter) {
            slot.change(&Rule::new(counter.quota, counter.algorithm), change);
        }
    }
}

/// Returns the counters that are charged, with their indices.
fn concerned<'a, 'k>(
    counters: &'a [Counter<'k>],
    charged: &'a [bool],
) -> impl Iterator<Item = (usize, &'a Counter<'k>)> {
    counters.iter().enumerate().filter(|(index, _)| charged[*index])
}
