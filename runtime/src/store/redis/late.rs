//! Gives back what Redis has charged too late: for a check that was refused without Redis, or whose charge is given
//! back before it is known whether there was one.
//!
//! A check whose deadline passes is decided without Redis. Redis may charge it all the same, and its answer, should it
//! still arrive, says so. Whoever has no use for such a charge renounces it. What is renounced is given back as soon as
//! the answer tells that it was charged, as far as it still counts by then. A connection that is given up because the server
//! is silent goes on listening for that. A check that a cluster has redirected has less time than the call that it shares,
//! so it may be late although the call is not.
//!
//! On a busy machine, a task may be told that its check was late only when the answer is there already. What it then
//! renounces goes through the connection that serves by then, or else the next.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::answers::Answers;
use super::batch::Place;
use super::call::Call;
use super::failure::Failure;
use super::lane::Lane;
use super::owned_counter::OwnedCounter;
use crate::algorithm::{Algorithm, Rule};
use crate::store::{ChargeTime, Counter};

/// What is left of a check that was late.
pub(crate) struct LateCheck {
    pub(super) lane: Arc<Lane>,
    pub(super) call: Arc<Call>,
    pub(super) place: Place,
}

impl fmt::Debug for LateCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateCheck").finish_non_exhaustive()
    }
}

/// The charges of a call that are made for checks that were late.
#[derive(Default)]
pub(super) struct LateCharges(Mutex<Known>);

/// What is known about them.
#[derive(Default)]
struct Known {
    /// When the call was made that the last answers are to.
    made: Option<ChargeTime>,
    /// The answers that came after the call had been found late, which may be those to a part of it.
    late: Option<Answers>,
    /// The charges that are renounced, should they be made.
    renounced: Vec<Renounced>,
}

/// Charges that nobody has any use for.
pub(super) struct Renounced {
    place: Place,
    counters: Vec<RenouncedCounter>,
}

struct RenouncedCounter {
    /// Which counter of its check it is.
    index: usize,
    counter: OwnedCounter,
    /// What the whole check costs, and how much of that has been renounced before.
    cost: u32,
    earlier: u32,
}

impl LateCheck {
    /// Gives `counters` back, if Redis has charged them or should turn out to have charged them. They are those of the
    /// check from the one with the index `first` on.
    pub(crate) fn renounce(&self, first: usize, counters: &[Counter<'_>]) {
        self.renounce_counters(first, counters, |counter| (counter.cost, 0));
    }

    /// Does the same with a part of what the check `cost`, of which as much as `earlier` has been renounced before.
    pub(crate) fn renounce_part(&self, first: usize, counters: &[Counter<'_>], cost: u32, earlier: u32) {
        self.renounce_counters(first, counters, |_| (cost, earlier));
    }

    fn renounce_counters(
        &self,
        first: usize,
        counters: &[Counter<'_>],
        of_whole: impl Fn(&Counter<'_>) -> (u32, u32),
    ) {
        let is_charged = |(_, counter): &(usize, &Counter<'_>)| counter.cost > 0;
        let renounced = |(index, counter): (usize, &Counter<'_>)| {
            let (cost, earlier) = of_whole(counter);
            RenouncedCounter { index: first + index, counter: counter.into(), cost, earlier }
        };
        let counters: Vec<_> = counters.iter().enumerate().filter(is_charged).map(renounced).collect();
        if counters.is_empty() {
            return;
        }
        let renounced = Renounced { place: self.place, counters };
        if let Some(charged) = self.call.renounce(renounced, self.lane.common.now_micros()) {
            self.lane.give_back(&charged);
        }
    }
}

impl LateCharges {
    /// Records what is renounced `now`. Returns it if it is known to be charged. The call was answered `in_time`, if at all.
    pub(super) fn renounce(
        &self,
        renounced: Renounced,
        in_time: Option<&Answers>,
        now: u64,
    ) -> Option<Renounced> {
        let mut known = self.0.lock();
        let answers = known.late.as_ref().or(in_time).filter(|answers| renounced.is_decided(answers));
        // While the time is not known, whoever brings the answers has not yet taken what is renounced.
        if let Some((answers, time)) = answers.zip(known.made) {
            return charged(vec![renounced], answers, time, now).pop();
        }
        known.renounced.push(renounced);
        None
    }

    /// Records that the call that was made then is answered now: `late`, or else `in_time`. Returns what is renounced and
    /// charged.
    pub(super) fn answer(
        &self,
        in_time: Option<&Answers>,
        late: Option<Answers>,
        made: ChargeTime,
    ) -> Vec<Renounced> {
        let mut known = self.0.lock();
        known.made = Some(made);
        known.late = late.or(known.late.take());
        let all = std::mem::take(&mut known.renounced);
        let Some(answers) = known.late.as_ref().or(in_time) else { return Vec::new() };
        let (decided, undecided) = all.into_iter().partition(|renounced| renounced.is_decided(answers));
        let charged = charged(decided, answers, made, made.answered);
        known.renounced = undecided;
        charged
    }
}

/// Returns what of `renounced` was charged, and still counts `now`. Checks that asked for the same are given back together.
fn charged(renounced: Vec<Renounced>, answers: &Answers, time: ChargeTime, now: u64) -> Vec<Renounced> {
    let mut charged: Vec<Renounced> = Vec::new();
    for mut renounced in renounced {
        let Place { group, before } = renounced.place;
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
    /// Returns by how much sooner than all that was charged a bucket is refilled with this, if so many checks of the same
    /// were charged after its own. A part that is renounced is the one that is refilled last.
    fn refilled_after(&self, checks: u32) -> Duration {
        let counter = &self.counter.keyless;
        let Algorithm::TokenBucket { .. } = counter.algorithm else { return Duration::ZERO };
        self.refill_time(u64::from(checks) * u64::from(self.cost) + u64::from(self.earlier))
    }

    /// Returns how long it still counts together with `other`. Of a bucket that is the sum, so that the part of one that
    /// has been refilled is not given back with the other.
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
    /// Whether it is known if it was charged.
    fn is_decided(&self, answers: &Answers) -> bool {
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

    pub(super) fn counters(&self) -> impl Iterator<Item = Counter<'_>> {
        self.counters.iter().map(|renounced| renounced.counter.lend())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;
    use crate::quota::Quota;
    use crate::store::Settings;
    use crate::store::redis::common::Common;
    use crate::store::redis::connection::Wire;

    fn connect(lane: &Arc<Lane>) -> DuplexStream {
        let (near, far) = duplex(4_096);
        lane.attach(None, Wire::over(Box::pin(near), String::new())).expect("there is no other");
        far
    }

    async fn expect_asked(server: &mut DuplexStream, key: &str) {
        let mut asked = Vec::new();
        while !asked.windows(key.len()).any(|part| part == key.as_bytes()) {
            let reading = tokio::time::timeout(Duration::from_secs(30), server.read_buf(&mut asked));
            assert!(reading.await.expect("it is sent").expect("it is open") > 0);
        }
    }

    #[tokio::test]
    async fn what_is_known_to_be_charged_waits_for_a_connection_that_can_send_it() {
        let lane = Arc::new(Lane::new(Common::new(Settings::of_a_test(), false)));
        let give_back = |key: &str| {
            let counter =
                RenouncedCounter { index: 0, counter: (&Counter::new(key, Quota::per_hour(1))).into() };
            lane.give_back(&Renounced { place: Place { group: 0, before: 0 }, counters: vec![counter] });
        };
        give_back("without one");
        let _lost = connect(&lane);
        give_back("not yet sent");
        // The courier has not run.
        assert!(lane.lose(None, &Failure::NoConnection));
        let mut server = connect(&lane);
        // Both are asked in one call.
        expect_asked(&mut server, "not yet sent").await;
    }
}
