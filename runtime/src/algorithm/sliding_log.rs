//! Every unit taken is remembered until it is a window old.
//!
//! ```text
//! the times of all units taken; one is alive while time > now - window
//! fits:   alive + cost <= limit
//! charge: adds the time `now`, `cost` times, and drops what is no longer alive
//! ```

use std::collections::VecDeque;

use super::{Reading, Rule, reading};

#[derive(Clone, Debug, Default)]
pub(crate) struct SlidingLog {
    /// The oldest first.
    times: VecDeque<u64>,
}

impl SlidingLog {
    /// How many are no longer alive.
    fn dead(&self, rule: &Rule, now: u64) -> usize {
        self.times.partition_point(|time| time + rule.window <= now)
    }

    pub(super) fn read(&self, rule: &Rule, now: u64, cost: u64) -> Reading {
        let dead = self.dead(rule, now);
        let used = (self.times.len() - dead) as u64;
        let until_gone = |time: &u64| time + rule.window - now;
        let reset = if used > 0 { self.times.back().map_or(0, until_gone) } else { 0 };
        let fits = cost == 0 || used + cost <= rule.limit;
        let wait = (cost <= rule.limit).then(|| {
            // So many of the oldest have to go.
            let must_go = usize::try_from((used + cost).saturating_sub(rule.limit)).unwrap_or(usize::MAX);
            let last = must_go.checked_sub(1).and_then(|before| self.times.get(dead.saturating_add(before)));
            last.map_or(0, until_gone)
        });
        reading(fits, rule.limit.saturating_sub(used), reset, wait)
    }

    pub(super) fn charge(&mut self, rule: &Rule, now: u64, cost: u64) {
        let dead = self.dead(rule, now);
        self.times.drain(..dead);
        // What is beyond any limit says no more than what is above this one.
        let most = crate::quota::Quota::MAX_LOG as usize * 2;
        let room = most.saturating_sub(self.times.len());
        let units = usize::try_from(cost).unwrap_or(usize::MAX).min(room);
        // Time may seem to stand still, but the log stays in order.
        let time = self.times.back().map_or(now, |last| now.max(*last));
        self.times.extend(std::iter::repeat_n(time, units));
    }

    /// The newest first.
    pub(super) fn give_back(&mut self, rule: &Rule, now: u64, cost: u64) {
        let dead = self.dead(rule, now);
        self.times.drain(..dead);
        let given = usize::try_from(cost).unwrap_or(usize::MAX);
        self.times.truncate(self.times.len().saturating_sub(given));
    }

    pub(super) fn expires(&self, rule: &Rule) -> u64 {
        self.times.back().map_or(0, |last| last + rule.window)
    }
}
