//! Sliding log: remembers every unit taken until it is a window old.
//!
//! ```text
//! the times of all units taken; one is alive while time > now - window
//! fits:   alive + cost <= limit
//! charge: adds the time `now`, `cost` times, and drops what is no longer alive
//! ```

use std::collections::VecDeque;

use super::{Reading, Rule, reading};
use crate::quota::Quota;

#[derive(Clone, Debug, Default)]
pub(crate) struct SlidingLog {
    /// The oldest first.
    taken: VecDeque<Taken>,
    /// How many of the units taken have been dropped.
    dropped: u64,
}

/// Units that were taken at one time.
#[derive(Clone, Copy, Debug)]
struct Taken {
    time: u64,
    /// How many units were taken up to and including these, with all that have been dropped.
    sum: u64,
}

impl SlidingLog {
    /// Returns how many entries are no longer alive, and how many units were taken up to them.
    fn dead(&self, rule: &Rule, now: u64) -> (usize, u64) {
        let dead = self.taken.partition_point(|taken| taken.time + rule.window <= now);
        (dead, self.sum_before(dead))
    }

    fn sum_before(&self, index: usize) -> u64 {
        index.checked_sub(1).and_then(|before| self.taken.get(before)).map_or(self.dropped, |taken| taken.sum)
    }

    /// Returns how many units were taken, with all that have been dropped.
    fn sum(&self) -> u64 {
        self.sum_before(self.taken.len())
    }

    fn drop_dead(&mut self, rule: &Rule, now: u64) {
        let (dead, sum) = self.dead(rule, now);
        self.dropped = sum;
        self.taken.drain(..dead);
        if self.taken.len() < self.taken.capacity() / 4 {
            self.taken.shrink_to(2 * self.taken.len());
        }
    }

    pub(super) fn read(&self, rule: &Rule, now: u64, cost: u64) -> Reading {
        let (_, dead) = self.dead(rule, now);
        let used = self.sum() - dead;
        let until_gone = |taken: &Taken| taken.time + rule.window - now;
        let reset = if used > 0 { self.taken.back().map_or(0, until_gone) } else { 0 };
        let fits = cost == 0 || used + cost <= rule.limit;
        let wait = (cost <= rule.limit).then(|| {
            // This many of the oldest units have to go.
            let must_go = (used + cost).saturating_sub(rule.limit);
            if must_go == 0 {
                return 0;
            }
            let last = self.taken.partition_point(|taken| taken.sum < dead + must_go);
            self.taken.get(last).map_or(0, until_gone)
        });
        reading(fits, rule.limit.saturating_sub(used), reset, wait)
    }

    pub(super) fn charge(&mut self, rule: &Rule, now: u64, cost: u64) {
        self.drop_dead(rule, now);
        // The log ends at twice any limit, which bounds its memory: units beyond that are not remembered.
        let most = 2 * rule.limit.max(Quota::MAX_LOG.into());
        let units = cost.min(most.saturating_sub(self.sum() - self.dropped));
        if units == 0 {
            return;
        }
        let sum = self.sum() + units;
        match self.taken.back_mut() {
            // Time may seem to stand still or go back, but the log stays in order.
            Some(last) if last.time >= now => last.sum = sum,
            _ => self.taken.push_back(Taken { time: now, sum }),
        }
    }

    /// Gives back the newest of the units that are no longer alive than the charge.
    pub(super) fn give_back(&mut self, rule: &Rule, now: u64, cost: u64, lasts: u64) {
        self.drop_dead(rule, now);
        let until = now.saturating_add(lasts);
        let end = self.taken.partition_point(|taken| taken.time + rule.window <= until);
        let before = self.sum_before(end);
        let sum = before.saturating_sub(cost).max(self.dropped);
        let mut first = self.taken.partition_point(|taken| taken.sum < sum);
        if sum > self.sum_before(first) {
            self.taken[first].sum = sum;
            first += 1;
        }
        self.taken.drain(first.min(end)..end);
        for later in self.taken.range_mut(first.min(end)..) {
            later.sum -= before - sum;
        }
    }

    pub(super) fn expires(&self, rule: &Rule) -> u64 {
        self.taken.back().map_or(0, |last| last.time + rule.window)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::algorithm::Algorithm;

    const SECOND: u64 = 1_000_000;

    fn rule(limit: u32) -> Rule {
        Rule::new(Quota::new(limit, Duration::from_secs(10)), Algorithm::SlidingLog)
    }

    #[test]
    fn what_is_taken_at_once_is_one_entry() {
        let (rule, mut log) = (rule(10_000), SlidingLog::default());
        log.charge(&rule, 5, 4_000);
        log.charge(&rule, 5, 1_000);
        log.charge(&rule, 6, 5_000);
        assert_eq!(log.taken.len(), 2);
        let full = log.read(&rule, 6, 1);
        assert!(!full.fits && full.remaining == 0);
        assert_eq!(full.retry_after, Some(Duration::from_micros(10 * SECOND - 1)));
        log.give_back(&rule, 6, 5_500, u64::MAX);
        assert_eq!((log.taken.len(), log.read(&rule, 6, 1).remaining), (1, 5_500));
        log.give_back(&rule, 6, 10_000, u64::MAX);
        assert_eq!((log.taken.len(), log.read(&rule, 6, 1).remaining), (0, 10_000));
    }

    #[test]
    fn what_is_no_longer_alive_takes_no_memory() {
        let (rule, mut log) = (rule(10_000), SlidingLog::default());
        for time in 0..10_000 {
            log.charge(&rule, time, 1);
        }
        log.charge(&rule, 20 * SECOND, 1);
        assert!(log.taken.len() == 1 && log.taken.capacity() < 100, "{}", log.taken.capacity());
        assert_eq!(log.read(&rule, 20 * SECOND, 1).remaining, 9_999);
    }

    #[test]
    fn what_is_owed_has_an_end_and_so_has_its_memory() {
        let (rule, mut log) = (rule(10), SlidingLog::default());
        for time in 0..30_000 {
            log.charge(&rule, time, 1);
        }
        assert_eq!(log.taken.len(), 20_000);
        assert!(log.taken.capacity() * size_of::<Taken>() <= 640_000, "{}", log.taken.capacity());
        log.charge(&rule, 20 * SECOND, u32::MAX.into());
        log.give_back(&rule, 20 * SECOND, 19_995, u64::MAX);
        assert_eq!(log.read(&rule, 20 * SECOND, 1).remaining, 5);
    }

    /// A policy can't have such a limit, but a store may be asked for it.
    #[test]
    fn a_long_log_has_an_end_too() {
        let (rule, mut log) = (rule(30_000), SlidingLog::default());
        for time in 0..30_000 {
            assert!(log.read(&rule, time, 1).fits);
            log.charge(&rule, time, 1);
        }
        assert!(!log.read(&rule, 30_000, 1).fits);
    }
}
