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

#[cfg(test)]
mod tests {
    use ahash::RandomState;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use redis::Value;

    use super::*;
    use crate::algorithm::State;
    use crate::clock::micros;
    use crate::quota::Quota;
    use crate::store::redis::batch::Batch;
    use crate::store::redis::part::Part;
    use crate::store::redis::windows::Windows;

    const BUCKET: Algorithm = Algorithm::TokenBucket { burst: None };
    const SECOND: u64 = 1_000_000;

    /// Returns a counter that gets a token back each second.
    fn bucket(cost: u32) -> Counter<'static> {
        Counter { algorithm: BUCKET, cost, ..Counter::new("bucket", Quota::per_minute(60)) }
    }

    /// Returns the answers to so many checks that share a call and are all charged `cost`, where nothing had been taken before.
    fn answers(checks: u32, cost: u32, random: &RandomState) -> (Answers, Vec<Place>) {
        let mut batch = Batch::default();
        let counter = [bucket(cost)];
        let check = Check::new(random, Operation::Take, &counter);
        let places = (0..checks).map(|_| batch.add(&check).expect("there is room")).collect();
        let part = Part::by_script(&batch).pop().expect("it asks for something");
        let (checks, taken) = (i64::from(checks), i64::from(checks * cost));
        let standing = [checks, checks, 60, taken * SECOND.cast_signed(), 0].map(Value::Int);
        let (reply, unanswered) = (Value::Array(standing.into()), Failure::NoConnection);
        let answers = Answers::read(&batch, [(part, Ok(reply))], unanswered, &mut Windows::new(), 0);
        (answers.expect("it is what the script answers"), places)
    }

    proptest! {
        /// A bucket is refilled with what was taken first. So each unit counts for as long as those before it and it
        /// itself take to come back, and only that is given back. Of a check, the last units are renounced first.
        #[test]
        fn a_bucket_is_given_back_what_is_not_refilled_yet(
            cost in 1..=4_u32,
            parts in vec(vec(0..=4_u32, 0..=3), 1..=4),
            now in 0..=17 * SECOND,
        ) {
            let checks = u32::try_from(parts.len()).unwrap();
            let (answers, places) = answers(checks, cost, &RandomState::with_seeds(1, 2, 3, 4));
            let (mut renounced, mut kept) = (Vec::new(), vec![cost; parts.len()]);
            for ((place, parts), kept) in places.into_iter().zip(&parts).zip(&mut kept) {
                for part in parts {
                    let (part, earlier) = (*kept.min(&mut part.clone()), cost - *kept);
                    let counter = [bucket(part)];
                    renounced.extend(Renounced::new(place, 0, &counter, |_| (cost, earlier)));
                    *kept -= part;
                }
            }

            let (rule, mut state) = (Rule::new(bucket(0).quota, BUCKET), State::new(BUCKET));
            state.charge(&rule, 0, (checks * cost).into());
            for charged in charged(renounced, &answers, ChargeTime::at(0), now) {
                for counter in charged.counters() {
                    state.give_back(&rule, now, counter.cost.into(), micros(counter.charge_lasts));
                }
            }

            let counts = |unit: u64| ((unit + 1) * SECOND).saturating_sub(now).min(SECOND);
            let kept_of = |(check, kept): (u32, &u32)| {
                let first = u64::from(check * cost);
                (first..first + u64::from(*kept)).map(counts).sum::<u64>()
            };
            let expected: u64 = (0..).zip(&kept).map(kept_of).sum();
            prop_assert_eq!(micros(state.read(&rule, now, 0).reset), expected);
        }
    }
}
