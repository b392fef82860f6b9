//! Remembers what Redis has denied, so that it need not be asked again.
//!
//! A denial stands until the instant at which the same check can next be admitted: the instant just before the
//! call was sent, plus the wait that Redis told. A check that asks the same of the same counter before then is
//! denied here, without a call. Other instances may give back or reset what was taken meanwhile, so a denial
//! stands for at most [`MAX_AGE`] before Redis is asked again; what this instance gives back or resets is known
//! at once. If several counters were asked together, those that had room are told as they stood then. On a
//! cluster, where policies are asked one by one, the denial of one denies them all.
//!
//! The room for denials is fixed. The hash of a key chooses a set of four; when the set is full, the denial that
//! ends first makes room. What is forgotten is asked of Redis again, so no decision depends on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ahash::RandomState;
use parking_lot::{Mutex, MutexGuard};
use smallvec::{SmallVec, smallvec};

use super::MAX_AGE;
use super::answers::{Answers, ROUNDED_OFF};
use super::batch::{Batch, Check, Group};
use super::owned_counter::OwnedCounter;
use crate::algorithm::Algorithm;
use crate::clock::{Clock, micros};
use crate::store::{Counter, Operation, Outcome, Reading};

const SETS: usize = 4_096;
const WAYS: usize = 4;

/// The denials that stand.
pub(super) struct Denials {
    /// Empty if denials are not remembered.
    sets: Box<[Mutex<Set>]>,
    /// Whether there has been a denial yet.
    any: AtomicBool,
    hasher: RandomState,
    clock: Clock,
}

type Set = SmallVec<[Denial; 1]>;

/// A counter that had no room.
#[derive(Debug)]
struct Denial {
    hash: u64,
    /// The counter, and what was asked of it.
    counter: OwnedCounter,
    /// When the call was sent, in microseconds of the clock.
    told: u64,
    /// When it ends, in microseconds of the clock.
    until: u64,
    /// What was asked together with it in the call; and after that, the policies that were denied because of it, if
    /// they were not asked in that call.
    askings: SmallVec<[Asking; 1]>,
}

/// What was asked together, and denied because of one counter.
#[derive(Debug)]
struct Asking {
    /// Identifies it.
    together: u64,
    /// Where all counters of it stood, with times that count from the denial.
    readings: SmallVec<[Reading; 1]>,
}

impl Denials {
    /// Creates a memory of denials, which stays empty unless it `remembers`. `hasher` is that of the keys of checks,
    /// and `clock` what their calls go by.
    pub(super) fn new(remembers: bool, hasher: RandomState, clock: Clock) -> Self {
        let sets = if remembers { SETS } else { 0 };
        let sets = (0..sets).map(|_| Mutex::default()).collect();
        Self { sets, any: AtomicBool::new(false), hasher, clock }
    }

    /// Returns the answer to `check`, if it is known to be a denial.
    pub(super) fn recall(&self, check: &Check<'_, '_>) -> Option<Outcome> {
        if check.operation != Operation::Take || !self.any.load(Ordering::Relaxed) {
            return None;
        }
        check.counters.iter().zip(&check.hashes).find_map(|(counter, hash)| {
            if counter.shadow {
                return None;
            }
            let mut set = self.set(*hash)?;
            let index = set.iter().position(|denial| denial.is(*hash, counter))?;
            let now = self.clock.now_micros();
            if now >= set[index].until {
                set.swap_remove(index);
                return None;
            }
            let (denial, together) = (&set[index], self.together(check.counters));
            let asking = denial.askings.iter().find(|asking| asking.together == together)?;
            Some(denial.outcome(&asking.readings, now))
        })
    }

    /// Learns from the answers to a batch that was sent at `sent_micros`.
    pub(super) fn learn(&self, batch: &Batch, answers: &Answers, sent_micros: u64) {
        if self.sets.is_empty() {
            return;
        }
        for (index, group) in batch.groups().iter().enumerate() {
            if group.operation == Operation::Peek {
                continue;
            }
            let passed = answers.passed(index).unwrap_or(u32::MAX);
            let denied = group.last_denied(index, passed);
            if denied.is_none() && !self.any.load(Ordering::Relaxed) {
                continue;
            }
            let (counters, hashes) = batch.counters_and_hashes(group);
            // Whoever takes or gives something changes how long others have to wait.
            if group.operation != Operation::Take || passed > 0 {
                counters.iter().zip(&hashes).for_each(|(counter, hash)| self.forget(*hash, counter.key));
            }
            if let Some(place) = denied
                && let Ok(outcome) = answers.outcome(group.operation, &counters, place)
            {
                self.remember(&counters, &hashes, &outcome, sent_micros);
            }
        }
    }

    /// Forgets the denials of all keys that `batch` gives back to or resets: nobody knows whether it did.
    pub(super) fn doubt(&self, batch: &Batch) {
        let gives = |group: &&Group| matches!(group.operation, Operation::GiveBack | Operation::Reset);
        for group in batch.groups().iter().filter(gives) {
            let (counters, hashes) = batch.counters_and_hashes(group);
            counters.iter().zip(&hashes).for_each(|(counter, hash)| self.forget(*hash, counter.key));
        }
    }

    fn remember(&self, counters: &[Counter<'_>], hashes: &[u64], outcome: &Outcome, told: u64) {
        let wait = |reading: &Reading| reading.retry_after.unwrap_or(Duration::MAX);
        let denying = outcome
            .readings()
            .iter()
            .enumerate()
            .filter(|(index, reading)| !reading.fits && !counters[*index].shadow)
            .max_by_key(|(_, reading)| wait(reading));
        let Some((index, reading)) = denying else { return };
        // Never too long: it may be admitted a little earlier than it is told.
        let earliest = match counters[index].algorithm {
            Algorithm::FixedWindow => wait(reading).saturating_sub(ROUNDED_OFF),
            _ => wait(reading),
        };
        let until = told + micros(earliest.min(MAX_AGE));
        if until <= self.clock.now_micros() {
            return;
        }
        let (hash, counter) = (hashes[index], &counters[index]);
        let Some(mut set) = self.set(hash) else { return };
        set.retain(|denial| !denial.is(hash, counter) && denial.until > told);
        if set.len() >= WAYS
            && let Some((first, _)) = set.iter().enumerate().min_by_key(|(_, denial)| denial.until)
        {
            set.swap_remove(first);
        }
        self.any.store(true, Ordering::Relaxed);
        let readings = outcome.readings().iter().copied().collect();
        let asking = Asking { together: self.together(counters), readings };
        set.push(Denial { hash, counter: counter.into(), told, until, askings: smallvec![asking] });
    }

    /// Remembers where several policies stand that were asked one by one from `asked` on, for as long as the
    /// denial of one of them stands.
    #[cfg(feature = "redis-cluster")]
    pub(super) fn remember_several(&self, counters: &[Counter<'_>], outcome: &Outcome, asked: u64) {
        let denying = counters
            .iter()
            .zip(outcome.readings())
            .filter(|(counter, reading)| !reading.fits && !counter.shadow);
        for (counter, _) in denying {
            let hash = self.hasher.hash_one(counter.key);
            let Some(mut set) = self.set(hash) else { return };
            if let Some(denial) = set.iter_mut().find(|denial| denial.is(hash, counter)) {
                // The denial may be older than `asked`.
                let age = Duration::from_micros(asked.saturating_sub(denial.told));
                let readings = outcome.readings().iter().map(|reading| Reading {
                    reset: reading.reset.saturating_add(age),
                    retry_after: reading.retry_after.map(|wait| wait.saturating_add(age)),
                    ..*reading
                });
                let (together, readings) = (self.together(counters), readings.collect());
                denial.askings.truncate(1);
                denial.askings.push(Asking { together, readings });
            }
        }
    }

    /// Forgets all denials of a key.
    fn forget(&self, hash: u64, key: &str) {
        if let Some(mut set) = self.set(hash) {
            set.retain(|denial| denial.hash != hash || &*denial.counter.key != key);
        }
    }

    fn set(&self, hash: u64) -> Option<MutexGuard<'_, Set>> {
        #[allow(clippy::cast_possible_truncation)] // any bits may choose the set
        let set = self.sets.get(hash as usize % SETS)?;
        Some(set.lock())
    }

    /// Returns a number that identifies what is asked together: 0 if one counter is asked alone.
    fn together(&self, counters: &[Counter<'_>]) -> u64 {
        if counters.len() == 1 {
            return 0;
        }
        let asked = |counter: &Counter<'_>| {
            let Counter { key: _, quota, algorithm, cost, policy, shadow, charge_lasts: _, varies: _ } =
                *counter;
            self.hasher.hash_one((counter.key, quota, algorithm, cost, policy, shadow))
        };
        counters.iter().fold(1, |all, counter| self.hasher.hash_one((all, asked(counter))))
    }
}

impl Denial {
    /// Whether it denies just what is asked of `counter`.
    fn is(&self, hash: u64, counter: &Counter<'_>) -> bool {
        let Counter { key, quota, algorithm, cost, policy: _, shadow: _, charge_lasts: _, varies: _ } =
            self.counter.lend();
        self.hash == hash
            && (quota, algorithm, cost) == (counter.quota, counter.algorithm, counter.cost)
            && key == counter.key
    }

    /// Returns a denial with `readings`, as they are at `now`.
    fn outcome(&self, readings: &[Reading], now: u64) -> Outcome {
        let age = Duration::from_micros(now.saturating_sub(self.told));
        let reading = |reading: &Reading| Reading {
            reset: reading.reset.saturating_sub(age),
            retry_after: reading.retry_after.map(|wait| wait.saturating_sub(age)),
            ..*reading
        };
        Outcome::new(false, readings.iter().map(reading))
    }
}
