//! Charges that nobody has any use for, and how much of them is to be given back.

use std::time::Duration;

use super::answers::Answers;
use super::batch::{Check, Place};
use super::common::Common;
use super::failure::Failure;
use super::owned_counter::OwnedCounter;
use crate::algorithm::{Algorithm, Rule};
use crate::store::{ChargeTime, Counter, Operation};

/// Charges that nobody has any use for.
pub(super) struct Renounced {
    place: Place,
    /// Whether its keys were moving to the cluster node that has charged them, which serves only who says so.
    asking: bool,
    counters: Vec<RenouncedCounter>,
}

struct RenouncedCounter {
    /// Which counter of its check it is.
    index: usize,
    counter: OwnedCounter,
    /// What the whole check costs.
    cost: u32,
    /// How much of that has been renounced before.
    earlier: u32,
}

/// Returns what of `renounced` was charged, and still counts `now`. Checks that asked for the same are given back
/// together.
pub(super) fn charged(
    renounced: Vec<Renounced>,
    answers: &Answers,
    time: ChargeTime,
    now: u64,
) -> Vec<Renounced> {
    let mut charged: Vec<Renounced> = Vec::new();
    for mut renounced in renounced {
        let Place { group, before } = renounced.place;
        renounced.asking = answers.asking(group);
        let mut times = renounced.times_charged(answers).into_iter();
        renounced.counters.retain_mut(|renounced| {
            let times = times.next().unwrap_or_default();
            let is_charged = before < times;
            let reset = answers.reset(group, renounced.index);
            let refilled = renounced.refilled_after(times.saturating_sub(before + 1));
            let lasts = time.lasts(renounced.counter.keyless.algorithm, reset.saturating_sub(refilled), now);
            renounced.counter.keyless.charge_lasts = lasts;
            is_charged && !lasts.is_zero()
        });
        let mut same = charged.iter_mut().filter(|other| other.place.group == group);
        if !renounced.counters.is_empty() && !same.any(|same| same.absorb(&renounced)) {
            charged.push(renounced);
        }
    }
    charged
}

impl RenouncedCounter {
    /// Returns by how much sooner than all that was charged a bucket is refilled with this, if so many checks of the
    /// same were charged after its own. A part that is renounced is the one that is refilled last.
    fn refilled_after(&self, checks: u32) -> Duration {
        let counter = &self.counter.keyless;
        let Algorithm::TokenBucket { .. } = counter.algorithm else { return Duration::ZERO };
        self.refill_time(u64::from(checks) * u64::from(self.cost) + u64::from(self.earlier))
    }

    /// Returns how long it still counts together with `other`. Of a bucket that is the sum, so that the part of one
    /// that has been refilled is not given back with the other.
    fn lasts_with(&self, other: &Self) -> Duration {
        let lasts = |one: &Self| one.counter.keyless.charge_lasts;
        let Algorithm::TokenBucket { .. } = self.counter.keyless.algorithm else { return lasts(self) };
        let still_counts = |one: &Self| lasts(one).min(one.refill_time(one.counter.keyless.cost.into()));
        still_counts(self).saturating_add(still_counts(other))
    }

    /// Returns how long a bucket takes to be refilled with so many.
    fn refill_time(&self, units: u64) -> Duration {
        let counter = &self.counter.keyless;
        let interval = Rule::new(counter.quota, counter.algorithm).interval();
        Duration::from_micros(interval.saturating_mul(units))
    }
}

impl Renounced {
    /// Renounces `counters`, those of the check at `place` from the one with the index `first` on. `of_whole` returns
    /// what the whole check costs, and how much of that has been renounced before. Returns `None` if that is nothing.
    pub(super) fn new(
        place: Place,
        first: usize,
        counters: &[Counter<'_>],
        of_whole: impl Fn(&Counter<'_>) -> (u32, u32),
    ) -> Option<Self> {
        let costs_anything = |(_, counter): &(usize, &Counter<'_>)| counter.cost > 0;
        let renounced = |(index, counter): (usize, &Counter<'_>)| {
            let (cost, earlier) = of_whole(counter);
            RenouncedCounter { index: first + index, counter: counter.into(), cost, earlier }
        };
        let counters: Vec<_> = counters.iter().enumerate().filter(costs_anything).map(renounced).collect();
        (!counters.is_empty()).then_some(Self { place, asking: false, counters })
    }

    /// Whether it is known if it was charged.
    pub(super) fn is_decided(&self, answers: &Answers) -> bool {
        !matches!(answers.passed(self.place.group), Err(Failure::Timeout(_)))
    }

    /// Returns how often the group has charged each counter. A policy in shadow is charged while it has room.
    fn times_charged(&self, answers: &Answers) -> Vec<u32> {
        let group = self.place.group;
        let charged = answers.charged(group);
        let times = |RenouncedCounter { counter, .. }: &RenouncedCounter| {
            let of_policy =
                self.counters.iter().filter(|other| other.counter.keyless.policy == counter.keyless.policy);
            let room = of_policy.map(|other| answers.room(group, other.index));
            if counter.keyless.shadow && !answers.adds(group) {
                room.fold(charged, u32::min)
            } else {
                charged
            }
        };
        self.counters.iter().map(times).collect()
    }

    /// Adds what `other`, of the same group, has charged to the same counters. Returns `false`, and does nothing,
    /// if the two can't be given back together.
    fn absorb(&mut self, other: &Self) -> bool {
        let pairs = || self.counters.iter().zip(&other.counters);
        let costs: Option<Vec<u32>> = pairs()
            .map(|(own, other)| own.counter.keyless.cost.checked_add(other.counter.keyless.cost))
            .collect();
        let is_same = self.counters.len() == other.counters.len()
            && pairs().all(|(own, other)| own.index == other.index && own.counter.key == other.counter.key);
        let Some(costs) = costs.filter(|_| is_same) else { return false };
        for ((own, other), cost) in self.counters.iter_mut().zip(&other.counters).zip(costs) {
            let lasts = own.lasts_with(other);
            let own = &mut own.counter.keyless;
            (own.cost, own.charge_lasts) = (cost, lasts);
        }
        true
    }

    /// Returns the check that gives `counters` back, which are [those](Self::counters) of this.
    pub(super) fn check<'c, 'k>(&self, common: &Common, counters: &'c [Counter<'k>]) -> Check<'c, 'k> {
        Check { asking: self.asking, ..common.check(Operation::GiveBack, counters) }
    }

    pub(super) fn counters(&self) -> impl Iterator<Item = Counter<'_>> {
        self.counters.iter().map(|renounced| renounced.counter.lend())
    }
}
