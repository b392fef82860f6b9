//! So many requests per window.

use std::fmt;
use std::time::Duration;

const MIN_WINDOW_MILLIS: u128 = 1;
const MAX_WINDOW_MILLIS: u128 = 366 * 24 * 60 * 60 * 1_000;

/// So many requests per window of time.
///
/// ```
/// use std::time::Duration;
/// use axum_rate_limit::Quota;
///
/// const SEARCHES: Quota = Quota::new(30, Duration::from_secs(90));
/// assert_eq!(SEARCHES.limit(), 30);
/// assert_eq!(SEARCHES.to_string(), "30 per 90s");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    limit: u32,
    window_millis: u64,
}

impl Quota {
    /// How many quotas one policy can have.
    pub const MAX_PER_POLICY: usize = 8;

    /// `limit` requests in each `window`.
    ///
    /// # Panics
    ///
    /// If `limit` is 0, or if `window` is not a whole number of milliseconds from 1 ms to 366 days.
    /// In a constant that is a compile error.
    #[track_caller]
    pub const fn new(limit: u32, window: Duration) -> Self {
        assert!(limit > 0, "a quota of 0 would deny every request: write a count from 1 to 4294967295");
        let millis = window.as_millis();
        assert!(
            MIN_WINDOW_MILLIS <= millis && millis <= MAX_WINDOW_MILLIS,
            "a window lasts from 1 ms to 366 days: write `Duration::from_secs(90)` or the like"
        );
        assert!(
            window.subsec_nanos().is_multiple_of(1_000_000),
            "a window is a whole number of milliseconds: write `Duration::from_millis(1500)` or the like"
        );
        #[allow(clippy::cast_possible_truncation)] // `MAX_WINDOW_MILLIS` fits
        Self { limit, window_millis: millis as u64 }
    }

    /// How many requests pass in a window.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// How long a window lasts.
    pub const fn window(&self) -> Duration {
        Duration::from_millis(self.window_millis)
    }

    /// [`window`](Self::window) in milliseconds.
    pub const fn window_millis(&self) -> u64 {
        self.window_millis
    }

    /// [`window`](Self::window) in whole seconds, rounded up, as response fields give it.
    pub(crate) const fn window_seconds(&self) -> u64 {
        self.window_millis.div_ceil(1_000)
    }
}

/// `30 per 90s`
impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per {:?}", self.limit, self.window())
    }
}

impl fmt::Debug for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Quota({self})")
    }
}

/// The quotas of a policy: at least one, no two over the same window, none that can never bind.
#[derive(Clone, Copy)]
pub(crate) struct Quotas {
    list: [Quota; Quota::MAX_PER_POLICY],
    len: usize,
}

impl Quotas {
    pub(crate) const fn one(quota: Quota) -> Self {
        Self { list: [quota; Quota::MAX_PER_POLICY], len: 1 }
    }

    #[track_caller]
    pub(crate) const fn and(mut self, quota: Quota) -> Self {
        assert!(
            self.len < Quota::MAX_PER_POLICY,
            "a policy has at most 8 quotas: leave the loosest ones out"
        );
        let mut index = 0;
        while index < self.len {
            let other = &self.list[index];
            assert!(
                other.window_millis != quota.window_millis,
                "two quotas of one policy have the same window, so that only the smaller can bind: leave one out"
            );
            let (short, long) =
                if other.window_millis < quota.window_millis { (other, &quota) } else { (&quota, other) };
            assert!(
                short.limit < long.limit,
                "a quota can never bind, since another allows no more in a longer time: leave it out, or give \
                 it a smaller count"
            );
            index += 1;
        }
        self.list[self.len] = quota;
        self.len += 1;
        self
    }

    pub(crate) const fn as_slice(&self) -> &[Quota] {
        self.list.split_at(self.len).0
    }
}

impl PartialEq for Quotas {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Quotas {}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    #[should_panic(expected = "deny every request")]
    fn zero_is_refused() {
        let _ = Quota::new(0, MINUTE);
    }

    #[test]
    #[should_panic(expected = "whole number of milliseconds")]
    fn odd_nanoseconds_are_refused() {
        let _ = Quota::new(1, Duration::from_micros(1_500));
    }

    #[test]
    #[should_panic(expected = "from 1 ms to 366 days")]
    fn long_windows_are_refused() {
        let _ = Quota::new(1, Duration::from_secs(367 * 86_400));
    }

    #[test]
    #[should_panic(expected = "can never bind")]
    fn a_pointless_quota_is_refused_whichever_comes_first() {
        let _ = Quotas::one(Quota::new(5, MINUTE)).and(Quota::new(10, Duration::from_secs(1)));
    }

    #[test]
    #[should_panic(expected = "the same window")]
    fn one_window_has_one_quota() {
        let _ = Quotas::one(Quota::new(5, MINUTE)).and(Quota::new(9, MINUTE));
    }

    #[test]
    fn quotas_keep_their_order() {
        let (slow, fast) = (Quota::new(50, MINUTE), Quota::new(10, Duration::from_secs(1)));
        assert_eq!(Quotas::one(slow).and(fast).as_slice(), [slow, fast]);
    }

    #[test]
    fn seconds_are_rounded_up() {
        assert_eq!(Quota::new(1, Duration::from_millis(1)).window_seconds(), 1);
        assert_eq!(Quota::new(1, Duration::from_millis(1_500)).window_seconds(), 2);
        assert_eq!(Quota::new(1, MINUTE).window_seconds(), 60);
    }
}
