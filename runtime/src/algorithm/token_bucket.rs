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

use super::{LONGEST, Reading, Rule, reading};

/// The most that can be owed: a bucket that takes more than two years to fill might as well never fill.
const MOST_DEBT: u64 = 2 * LONGEST;

#[derive(Clone, Debug, Default)]
pub(crate) struct TokenBucket {
    tat: u64,
}

impl TokenBucket {
    pub(super) fn read(&self, rule: &Rule, now: u64, cost: u64) -> Reading {
        let (interval, burst) = (rule.interval(), rule.burst());
        let debt = self.tat.saturating_sub(now);
        let depth = burst.saturating_mul(interval);
        let after = debt.saturating_add(cost.saturating_mul(interval));
        let fits = cost == 0 || after <= depth;
        let remaining = depth.saturating_sub(debt) / interval;
        reading(fits, remaining, debt, (cost <= burst).then(|| after.saturating_sub(depth)))
    }

    pub(super) fn charge(&mut self, rule: &Rule, now: u64, cost: u64) {
        let taken = cost.saturating_mul(rule.interval());
        let debt = self.tat.saturating_sub(now).saturating_add(taken);
        self.tat = now.saturating_add(debt.min(MOST_DEBT));
    }

    /// Gives back what would not have been refilled since the charge if nothing else had been given back: the time that
    /// it takes until all is that was taken then.
    pub(super) fn give_back(&mut self, rule: &Rule, now: u64, cost: u64, lasts: u64) {
        let given = cost.saturating_mul(rule.interval()).min(lasts);
        self.tat = self.tat.saturating_sub(given).max(now);
    }

    pub(super) fn expires(&self) -> u64 {
        self.tat
    }
}
