//! Token bucket: the generic cell rate algorithm, in whole microseconds.
//!
//! ```text
//! interval = ceil(window / limit)           a token comes back each interval
//! depth    = burst * interval               the time in which an empty bucket fills
//! tat:       the theoretical arrival time, when the bucket will be full; now, if that is past
//! fits:      tat - now + cost * interval <= depth
//! charge:    tat += cost * interval
//! ```
//!
//! This is virtual scheduling as in ITU-T I.371, annex A. The interval is rounded up, so that never more than the
//! quota passes; at a thousand requests per second, the rounding costs at most a thousandth.

use super::{Reading, Rule, reading};

/// The most that can be owed: a bucket that takes more than two years to fill might as well never fill.
const MOST_DEBT: u64 = 2 * 366 * 24 * 60 * 60 * 1_000_000;

#[derive(Clone, Debug, Default)]
pub(crate) struct TokenBucket {
    tat: u64,
}

/// The rule in terms of the bucket.
struct Bucket {
    interval: u64,
    burst: u64,
}

impl From<&Rule> for Bucket {
    fn from(rule: &Rule) -> Self {
        Self { interval: rule.interval(), burst: rule.burst() }
    }
}

impl TokenBucket {
    pub(super) fn read(&self, rule: &Rule, now: u64, cost: u64) -> Reading {
        let bucket = Bucket::from(rule);
        let debt = self.tat.saturating_sub(now);
        let depth = bucket.burst.saturating_mul(bucket.interval);
        let after = debt.saturating_add(cost.saturating_mul(bucket.interval));
        let fits = cost == 0 || after <= depth;
        let remaining = depth.saturating_sub(debt) / bucket.interval;
        reading(fits, remaining, debt, (cost <= bucket.burst).then(|| after.saturating_sub(depth)))
    }

    pub(super) fn charge(&mut self, rule: &Rule, now: u64, cost: u64) {
        let taken = cost.saturating_mul(Bucket::from(rule).interval);
        let debt = self.tat.saturating_sub(now).saturating_add(taken);
        self.tat = now.saturating_add(debt.min(MOST_DEBT));
    }

    pub(super) fn give_back(&mut self, rule: &Rule, now: u64, cost: u64) {
        let given = cost.saturating_mul(Bucket::from(rule).interval);
        self.tat = self.tat.saturating_sub(given).max(now);
    }

    pub(super) fn expires(&self) -> u64 {
        self.tat
    }
}
