//! The four algorithms that count a quota, each a pure function of a counter's state, the time and the cost.
//!
//! Each algorithm has a file of its own, which begins with its model. All have the same operations: they
//! [`read`](State::read) where a counter stands and whether a cost fits, [`charge`](State::charge) it, give
//! [back](State::give_back), tell when it can be [forgotten](State::expires), and begin from
//! [nothing](State::new). The memory store runs these functions. The script of the Redis store does the same in
//! Lua, and is tested against them.
//!
//! Times are whole microseconds since a start that the store chooses, as in Redis's `TIME`.

mod fixed_window;
mod sliding_log;
mod sliding_window;
mod token_bucket;

use std::time::Duration;

use fixed_window::FixedWindow;
use sliding_log::SlidingLog;
use sliding_window::SlidingWindow;
use token_bucket::TokenBucket;

use crate::quota::{MAX_WINDOW, Quota};

/// How a quota is counted.
///
/// The [guide](crate::guide) helps to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Algorithm {
    /// A window begins with the first request of its key and lasts its length; the quota's count passes in it. Up
    /// to twice the count can pass within a window's length, half of it just before a window ends and half just
    /// after.
    #[default]
    FixedWindow,
    /// Counts two windows aligned to the clock; the previous one weighs as much as it still overlaps with the
    /// last window's length. Exact for evenly spaced traffic. In the worst case, a burst at the very end of a
    /// window, less than twice the count can pass.
    SlidingWindow,
    /// Remembers every request until it is a window old, so that no more than the count passes within any
    /// window's length. It takes memory for each request, in Redis for each unit of its cost, so a quota may have
    /// a count of at most [`Quota::MAX_LOG`].
    SlidingLog,
    /// A bucket that holds `burst` requests and is refilled evenly, with the quota's count per window (the
    /// generic cell rate algorithm).
    TokenBucket {
        /// How many requests may pass at once under the quota with the shortest window. `None` stands for the
        /// quota's own count, which all other quotas use in any case.
        burst: Option<u32>,
    },
}

impl Algorithm {
    /// Returns how one of `quotas` is counted. A burst belongs to the shortest window.
    pub(crate) const fn of(self, quota: &Quota, quotas: &[Quota]) -> Self {
        if let Self::TokenBucket { burst: Some(_) } = self {
            let mut index = 0;
            while index < quotas.len() {
                if quotas[index].window_millis() < quota.window_millis() {
                    return Self::TokenBucket { burst: None };
                }
                index += 1;
            }
        }
        self
    }
}

/// The longest window, and so the longest refill, in microseconds.
const LONGEST: u64 = MAX_WINDOW.as_secs() * 1_000_000;

/// The rule of a counter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) limit: u64,
    /// In microseconds.
    pub(crate) window: u64,
    pub(crate) algorithm: Algorithm,
}

impl Rule {
    pub(crate) fn new(quota: Quota, algorithm: Algorithm) -> Self {
        Self { limit: quota.limit().into(), window: quota.window_millis() * 1_000, algorithm }
    }

    /// Returns after how many microseconds a token comes back to a bucket.
    pub(crate) fn interval(&self) -> u64 {
        self.window.div_ceil(self.limit)
    }

    /// Returns how much may pass at once: at most what comes back in a year. Declared policies are checked for
    /// that; the quotas of `quotas_by` and `with_quotas` are not.
    pub(crate) fn burst(&self) -> u64 {
        match self.algorithm {
            Algorithm::TokenBucket { burst: Some(burst) } => {
                u64::from(burst).min((LONGEST / self.interval()).max(1))
            }
            _ => self.limit,
        }
    }
}

/// Where a counter stands, and whether a cost fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reading {
    /// Whether the cost that was asked for fits, or did before it was charged.
    pub fits: bool,
    /// How much is left.
    pub remaining: u32,
    /// How long until the quota is whole again; zero if nothing is taken now.
    pub reset: Duration,
    /// How long until the cost that was asked for fits; zero if it fits, `None` if it never will, since it is
    /// more than the quota.
    pub retry_after: Option<Duration>,
    /// Whether a store has reported this. If not, nobody knows where the counter stands, and nothing must be
    /// given back to it.
    pub(crate) known: bool,
}

impl Reading {
    /// Makes the reading that a custom store returns; `retry_after` is `None` if the cost never fits.
    pub fn new(fits: bool, remaining: u32, reset: Duration, retry_after: Option<Duration>) -> Self {
        Self { fits, remaining, reset, retry_after, known: true }
    }
}

/// The state of a counter.
#[derive(Clone, Debug)]
pub(crate) enum State {
    Fixed(FixedWindow),
    Sliding(SlidingWindow),
    /// Boxed, since the other variants are small.
    Log(Box<SlidingLog>),
    Bucket(TokenBucket),
}

impl State {
    /// Returns the state of a counter that nothing has been taken from.
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::FixedWindow => Self::Fixed(FixedWindow::default()),
            Algorithm::SlidingWindow => Self::Sliding(SlidingWindow::default()),
            Algorithm::SlidingLog => Self::Log(Box::default()),
            Algorithm::TokenBucket { .. } => Self::Bucket(TokenBucket::default()),
        }
    }

    /// Whether this is a state of `algorithm`.
    pub(crate) fn is(&self, algorithm: Algorithm) -> bool {
        matches!(
            (self, algorithm),
            (Self::Fixed(_), Algorithm::FixedWindow)
                | (Self::Sliding(_), Algorithm::SlidingWindow)
                | (Self::Log(_), Algorithm::SlidingLog)
                | (Self::Bucket(_), Algorithm::TokenBucket { .. })
        )
    }

    pub(crate) fn read(&self, rule: &Rule, now: u64, cost: u64) -> Reading {
        match self {
            Self::Fixed(state) => state.read(rule, now, cost),
            Self::Sliding(state) => state.read(rule, now, cost),
            Self::Log(state) => state.read(rule, now, cost),
            Self::Bucket(state) => state.read(rule, now, cost),
        }
    }

    /// Takes `cost` if it fits. The reading tells what is left afterwards.
    #[inline]
    pub(crate) fn take(&mut self, rule: &Rule, now: u64, cost: u64) -> Reading {
        if let Self::Fixed(state) = self {
            return state.take(rule, now, cost);
        }
        let reading = self.read(rule, now, cost);
        if !reading.fits || cost == 0 {
            return reading;
        }
        self.charge(rule, now, cost);
        let after = self.read(rule, now, 0);
        Reading { remaining: after.remaining, reset: after.reset, ..reading }
    }

    /// Takes `cost`, whether it fits or not.
    pub(crate) fn charge(&mut self, rule: &Rule, now: u64, cost: u64) {
        match self {
            Self::Fixed(state) => state.charge(rule, now, cost),
            Self::Sliding(state) => state.charge(rule, now, cost),
            Self::Log(state) => state.charge(rule, now, cost),
            Self::Bucket(state) => state.charge(rule, now, cost),
        }
    }

    /// Gives back `cost`, but at most what has been taken. It was charged so that it counts for another `lasts`
    /// microseconds at most: what counts longer is of other charges. `u64::MAX` if that is not known.
    pub(crate) fn give_back(&mut self, rule: &Rule, now: u64, cost: u64, lasts: u64) {
        match self {
            Self::Fixed(state) => state.give_back(rule, now, cost, lasts),
            Self::Sliding(state) => state.give_back(rule, now, cost, lasts),
            Self::Log(state) => state.give_back(rule, now, cost, lasts),
            Self::Bucket(state) => state.give_back(rule, now, cost, lasts),
        }
    }

    /// Returns the time from which the counter is the same as none.
    pub(crate) fn expires(&self, rule: &Rule) -> u64 {
        match self {
            Self::Fixed(state) => state.expires(),
            Self::Sliding(state) => state.expires(rule),
            Self::Log(state) => state.expires(rule),
            Self::Bucket(state) => state.expires(),
        }
    }
}

/// Makes a reading; `wait` is how long until a cost that does not fit now will.
fn reading(fits: bool, remaining: u64, reset: u64, wait: Option<u64>) -> Reading {
    Reading {
        fits,
        remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
        reset: Duration::from_micros(reset),
        retry_after: if fits { Some(Duration::ZERO) } else { wait.map(Duration::from_micros) },
        known: true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::micros;

    const ALGORITHMS: [Algorithm; 5] = [
        Algorithm::FixedWindow,
        Algorithm::SlidingWindow,
        Algorithm::SlidingLog,
        Algorithm::TokenBucket { burst: None },
        Algorithm::TokenBucket { burst: Some(3) },
    ];

    fn rule(algorithm: Algorithm, limit: u32, window: u64) -> Rule {
        Rule::new(Quota::new(limit, Duration::from_millis(window)), algorithm)
    }

    proptest! {
        /// For every algorithm: a cost that fits is admitted and leaves that much less, a cost that does not fit
        /// does so after its wait, and what is given back is as if never taken.
        #[test]
        fn a_reading_keeps_its_word(
            which in 0..ALGORITHMS.len(),
            limit in 1..8_u32,
            window in 1..50_u64,
            steps in proptest::collection::vec((0..60_000_u64, 0..5_u64), 1..40),
        ) {
            let rule = rule(ALGORITHMS[which], limit, window);
            let mut state = State::new(rule.algorithm);
            let mut now = 1_000_000;
            for (pause, cost) in steps {
                now += pause;
                let before = state.read(&rule, now, cost);
                prop_assert_eq!(before.fits, before.retry_after == Some(Duration::ZERO));
                prop_assert_eq!(before.remaining == 0 && cost == 1, !before.fits && cost == 1);
                if before.fits && cost > 0 {
                    let mut charged = state.clone();
                    charged.charge(&rule, now, cost);
                    let after = charged.read(&rule, now, 0);
                    prop_assert_eq!(u64::from(after.remaining), u64::from(before.remaining) - cost);
                    prop_assert!(after.reset >= before.reset);
                    let mut given = charged.clone();
                    given.give_back(&rule, now, cost, u64::MAX);
                    prop_assert_eq!(given.read(&rule, now, 0).remaining, before.remaining);
                    given = charged.clone();
                    given.give_back(&rule, now, cost, micros(after.reset));
                    prop_assert_eq!(given.read(&rule, now, 0).remaining, before.remaining);
                    state = charged;
                } else if let Some(wait) = before.retry_after.filter(|_| !before.fits) {
                    let then = now + u64::try_from(wait.as_micros()).unwrap();
                    prop_assert!(state.read(&rule, then, cost).fits, "after {:?}: {:?}", wait, state);
                    prop_assert!(!state.read(&rule, then - 1, cost).fits, "before {:?}: {:?}", wait, state);
                }
                let whole = now + u64::try_from(state.read(&rule, now, 0).reset.as_micros()).unwrap();
                let fresh = State::new(rule.algorithm).read(&rule, whole, 1);
                prop_assert_eq!(state.read(&rule, whole, 1), fresh);
                prop_assert!(state.expires(&rule) <= whole.max(now));
            }
        }

        /// The promise of each algorithm, over every period of a window's length, though some give back what they have
        /// taken at any later time.
        #[test]
        fn no_more_passes_than_promised(
            which in 0..ALGORITHMS.len(),
            limit in 1..6_u32,
            steps in proptest::collection::vec((0..8_000_u64, proptest::option::of(0..100_000_u64)), 1..120),
        ) {
            let rule = rule(ALGORITHMS[which], limit, 20);
            let mut state = State::new(rule.algorithm);
            let (mut now, mut passed, mut held) = (5_000_000, Vec::new(), Vec::new());
            for (pause, gives_back_after) in steps {
                now += pause;
                held.retain(|(back_at, until): &(u64, u64)| {
                    let is_held = *back_at > now;
                    if !is_held {
                        state.give_back(&rule, now, 1, until.saturating_sub(now));
                    }
                    is_held
                });
                let reading = state.take(&rule, now, 1);
                if reading.fits {
                    match gives_back_after {
                        Some(after) => held.push((now + after, now + micros(reading.reset))),
                        None => passed.push(now),
                    }
                }
            }
            let limit = usize::try_from(limit).unwrap();
            let most = match rule.algorithm {
                Algorithm::FixedWindow | Algorithm::SlidingWindow => 2 * limit,
                Algorithm::SlidingLog => limit,
                Algorithm::TokenBucket { burst } => limit + burst.map_or(limit, |burst| burst as usize),
            };
            for (index, start) in passed.iter().enumerate() {
                let within = passed[index..].iter().take_while(|time| **time < start + rule.window).count();
                prop_assert!(within <= most, "{} passed, of {}", within, most);
            }
        }
    }

    #[test]
    fn a_burst_is_no_more_than_comes_back_in_a_year() {
        let bucket = Algorithm::TokenBucket { burst: Some(1_000) };
        let rule = Rule::new(Quota::per_day(1), bucket);
        assert_eq!(rule.burst(), 366);
        let (mut state, mut passed) = (State::new(bucket), 0);
        while state.read(&rule, 0, 1).fits {
            state.charge(&rule, 0, 1);
            passed += 1;
        }
        assert_eq!(passed, 366, "it has an end");
    }

    #[test]
    fn a_cost_above_the_quota_never_fits() {
        for algorithm in ALGORITHMS {
            let rule = rule(algorithm, 3, 1_000);
            let reading = State::new(algorithm).read(&rule, 0, 4);
            assert_eq!((reading.fits, reading.retry_after), (false, None), "{algorithm:?}");
        }
    }
}
