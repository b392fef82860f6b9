//! One shard of the memory store: the counters that one lock guards.

use ahash::RandomState;
use hashbrown::HashTable;

use crate::algorithm::{Reading, Rule, State};
use crate::store::Counter;
use crate::telemetry;

/// When a slot expires that is about to be charged: not before it has been.
const RESERVED: u64 = u64::MAX;
/// How many places of the table the hand passes when a key is added. If at least 7 in 16 are taken, the hand
/// comes round before as many keys have been added as there are.
const STEPS: usize = 4;
/// How many places it passes when the shard is full, before the key is refused.
const STEPS_WHEN_FULL: usize = 128;

/// A hash table, and a hand that goes round in it.
#[derive(Default)]
pub(super) struct Shard {
    table: HashTable<Slot>,
    /// Where the search for expired slots goes on.
    hand: usize,
}

/// A counter.
pub(super) struct Slot {
    key: Box<str>,
    window_millis: u64,
    state: State,
    /// In microseconds of the clock.
    expires: u64,
}

/// There is no room for another counter.
#[derive(Debug)]
pub(super) struct Full;

impl Slot {
    pub(super) fn new(counter: &Counter<'_>, state: State, expires: u64) -> Self {
        Self { key: counter.key.into(), window_millis: counter.quota.window_millis(), state, expires }
    }

    fn is(&self, counter: &Counter<'_>) -> bool {
        *self.key == *counter.key
            && self.window_millis == counter.quota.window_millis()
            && self.state.is(counter.algorithm)
    }

    /// Takes `cost` if it fits. The reading tells what is left afterwards.
    pub(super) fn take(&mut self, rule: &Rule, now: u64, cost: u64) -> Reading {
        let reading = self.state.take(rule, now, cost);
        if reading.fits && cost > 0 {
            self.expires = self.state.expires(rule);
        }
        reading
    }

    pub(super) fn change(&mut self, rule: &Rule, change: impl FnOnce(&mut State, &Rule)) {
        change(&mut self.state, rule);
        self.expires = self.state.expires(rule);
    }
}

impl Shard {
    pub(super) fn find_mut(&mut self, hash: u64, counter: &Counter<'_>) -> Option<&mut Slot> {
        self.table.find_mut(hash, |slot| slot.is(counter))
    }

    /// Returns what is known of a counter, unless it has expired.
    pub(super) fn state_at(&self, hash: u64, counter: &Counter<'_>, now: u64) -> Option<&State> {
        let slot = self.table.find(hash, |slot| slot.is(counter))?;
        (slot.expires > now).then_some(&slot.state)
    }

    pub(super) fn insert(
        &mut self,
        hasher: &RandomState,
        hash: u64,
        slot: Slot,
        now: u64,
        max_keys: usize,
    ) -> Result<(), Full> {
        self.drop_expired(now, STEPS);
        if self.table.len() >= max_keys {
            self.drop_expired(now, STEPS_WHEN_FULL);
        }
        if self.table.len() >= max_keys {
            return Err(Full);
        }
        self.table.insert_unique(hash, slot, |slot| hasher.hash_one(&*slot.key));
        telemetry::counter_added();
        Ok(())
    }

    /// Makes sure that there is a slot for `counter`, which is charged next.
    pub(super) fn reserve(
        &mut self,
        hasher: &RandomState,
        hash: u64,
        counter: &Counter<'_>,
        now: u64,
        max_keys: usize,
    ) -> Result<(), Full> {
        match self.find_mut(hash, counter) {
            Some(slot) if slot.expires > now => Ok(()),
            Some(slot) => {
                slot.expires = RESERVED;
                Ok(())
            }
            None => {
                let slot = Slot::new(counter, State::new(counter.algorithm), RESERVED);
                self.insert(hasher, hash, slot, now, max_keys)
            }
        }
    }

    /// Removes a reserved slot that nothing has been charged to.
    pub(super) fn release(&mut self, hash: u64, counter: &Counter<'_>) {
        if self.find_mut(hash, counter).is_some_and(|slot| slot.expires == RESERVED) {
            self.remove(hash, counter);
        }
    }

    pub(super) fn remove(&mut self, hash: u64, counter: &Counter<'_>) {
        if let Ok(entry) = self.table.find_entry(hash, |slot| slot.is(counter)) {
            entry.remove();
            telemetry::counters_dropped(1);
        }
    }

    /// Passes over the next `steps` places and drops what has expired there.
    fn drop_expired(&mut self, now: u64, steps: usize) {
        let (places, before) = (self.table.num_buckets(), self.table.len());
        for _ in 0..steps.min(places) {
            self.hand = (self.hand + 1) % places;
            if let Ok(entry) = self.table.get_bucket_entry(self.hand)
                && entry.get().expires <= now
            {
                entry.remove();
            }
        }
        telemetry::counters_dropped(before - self.table.len());
    }

    /// How many counters it holds, expired ones among them.
    #[cfg(all(test, feature = "test-util"))]
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        telemetry::counters_dropped(self.table.len());
    }
}
