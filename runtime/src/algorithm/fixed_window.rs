//! Fixed window: one counter that ends with its window, as with `INCR` and `EXPIRE`.
//!
//! ```text
//! (used, ends), and from `ends` on (0, -)
//! fits:   used + cost <= limit
//! charge: used += cost; the first charge sets ends = now + window
//! ```

use super::{Reading, Rule, reading};

#[derive(Clone, Debug, Default)]
pub(crate) struct FixedWindow {
    used: u64,
    ends: u64,
}

impl FixedWindow {
    fn used(&self, now: u64) -> u64 {
        if self.ends > now { self.used } else { 0 }
    }

    pub(super) fn read(&self, rule: &Rule, now: u64, cost: u64) -> Reading {
        let used = self.used(now);
        let left = if used > 0 { self.ends - now } else { 0 };
        let fits = cost == 0 || used + cost <= rule.limit;
        reading(fits, rule.limit.saturating_sub(used), left, (cost <= rule.limit).then_some(left))
    }

    /// [`State::take`](super::State::take) in one step, since this is what most policies do.
    pub(super) fn take(&mut self, rule: &Rule, now: u64, cost: u64) -> Reading {
        let (used, left) = if self.ends > now { (self.used, self.ends - now) } else { (0, rule.window) };
        let used_then = used + cost;
        if cost == 0 || used_then > rule.limit {
            return self.read(rule, now, cost);
        }
        (self.used, self.ends) = (used_then, now + left);
        reading(true, rule.limit - used_then, left, None)
    }

    pub(super) fn charge(&mut self, rule: &Rule, now: u64, cost: u64) {
        if self.ends <= now {
            (self.used, self.ends) = (0, now + rule.window);
        }
        self.used += cost;
    }

    /// Gives back unless the charge was to an earlier window, which would have ended at least one window sooner. So a
    /// tolerance of half a window leaves no doubt.
    pub(super) fn give_back(&mut self, rule: &Rule, now: u64, cost: u64, lasts: u64) {
        let left = self.ends.saturating_sub(now);
        if lasts > 0 && left <= lasts.saturating_add(rule.window / 2) {
            self.used = self.used(now).saturating_sub(cost);
        }
    }

    pub(super) fn expires(&self) -> u64 {
        self.ends
    }
}
