//! Quotas: how many requests may pass per window of time.

#[cfg(feature = "serde")]
mod serde;
mod text;

use std::fmt;
use std::time::Duration;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest window of a quota.
pub(crate) const MAX_WINDOW: Duration = Duration::from_secs(366 * DAY.as_secs());

/// A number of requests per window of time.
///
/// ```
/// use std::time::Duration;
/// use axum_rate_limit::Quota;
///
/// const SEARCHES: Quota = Quota::new(30, Duration::from_secs(90));
/// assert_eq!(SEARCHES.limit(), 30);
/// assert_eq!(SEARCHES.to_string(), "30 per 90s");
/// assert_eq!(Quota::per_minute(5).to_string(), "5 per minute");
/// assert_eq!("5 per minute".parse(), Ok(Quota::per_minute(5)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    limit: u32,
    window_millis: u64,
}

impl Quota {
    /// The maximum number of quotas of one policy.
    pub const MAX_PER_POLICY: usize = 8;

    /// The maximum limit of a quota that [`SlidingLog`](crate::Algorithm::SlidingLog) counts.
    pub const MAX_LOG: u32 = 10_000;

    /// Creates a quota of `limit` requests per `window`.
    ///
    /// # Panics
    ///
    /// Panics if `limit` is 0, or if `window` is not a whole number of milliseconds from 1 ms to 366 days. In a
    /// constant, this is a compile error.
    #[track_caller]
    pub const fn new(limit: u32, window: Duration) -> Self {
        match Self::try_new(limit, window) {
            Ok(quota) => quota,
            Err(InvalidQuota(fault)) => panic!("{}", fault),
        }
    }

    /// Creates a quota from numbers that are known only at run time, such as those of a tier in a table.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum_rate_limit::Quota;
    ///
    /// let minute = Duration::from_secs(60);
    /// assert_eq!(Quota::try_new(5, minute), Ok(Quota::per_minute(5)));
    /// assert!(Quota::try_new(0, minute).unwrap_err().to_string().contains("would deny every request"));
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error where [`new`](Self::new) panics.
    pub const fn try_new(limit: u32, window: Duration) -> Result<Self, InvalidQuota> {
        let millis = window.as_millis();
        if limit == 0 {
            return Err(InvalidQuota(
                "a quota of 0 would deny every request: write a count from 1 to 4294967295",
            ));
        }
        if millis < 1 || millis > MAX_WINDOW.as_millis() {
            return Err(InvalidQuota(
                "a window lasts from 1 ms to 366 days: write `Duration::from_secs(90)` or the like",
            ));
        }
        if !window.subsec_nanos().is_multiple_of(1_000_000) {
            return Err(InvalidQuota(
                "a window is a whole number of milliseconds: write `Duration::from_millis(1500)` or \
                 the like",
            ));
        }
        #[allow(clippy::cast_possible_truncation)] // `MAX_WINDOW` fits
        Ok(Self { limit, window_millis: millis as u64 })
    }

    /// Creates a quota of `limit` requests per second.
    ///
    /// # Panics
    ///
    /// Panics if `limit` is 0.
    #[track_caller]
    pub const fn per_second(limit: u32) -> Self {
        Self::new(limit, SECOND)
    }

    /// Creates a quota of `limit` requests per minute.
    ///
    /// # Panics
    ///
    /// Panics if `limit` is 0.
    #[track_caller]
    pub const fn per_minute(limit: u32) -> Self {
        Self::new(limit, MINUTE)
    }

    /// Creates a quota of `limit` requests per hour.
    ///
    /// # Panics
    ///
    /// Panics if `limit` is 0.
    #[track_caller]
    pub const fn per_hour(limit: u32) -> Self {
        Self::new(limit, HOUR)
    }

    /// Creates a quota of `limit` requests per 24 hours.
    ///
    /// # Panics
    ///
    /// Panics if `limit` is 0.
    #[track_caller]
    pub const fn per_day(limit: u32) -> Self {
        Self::new(limit, DAY)
    }

    /// Returns how many requests may pass per window.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// Returns the length of the window.
    pub const fn window(&self) -> Duration {
        Duration::from_millis(self.window_millis)
    }

    /// Returns the [`window`](Self::window) in milliseconds.
    pub const fn window_millis(&self) -> u64 {
        self.window_millis
    }

    /// Returns a quota with the same window and another limit, which must not be 0.
    pub(crate) fn with_limit(self, limit: u32) -> Self {
        Self { limit, ..self }
    }

    /// Returns the [`window`](Self::window) in whole seconds, rounded up, as in response fields.
    pub(crate) const fn window_seconds(&self) -> u64 {
        self.window_millis.div_ceil(1_000)
    }
}

impl fmt::Debug for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Quota({self})")
    }
}

/// A quota that is invalid, or that does not go with others. The text says what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidQuota(&'static str);

/// The quotas of a policy, or of a tier of clients.
///
/// No two quotas have the same window, and a quota over a longer window allows more than one over a shorter window:
/// otherwise the shorter one could never bind.
///
/// ```
/// use axum_rate_limit::{Quota, Quotas};
///
/// const GOLD: Quotas = Quotas::of(Quota::per_second(50)).and(Quota::per_day(100_000));
/// assert_eq!(GOLD.as_slice().len(), 2);
/// assert_eq!("50 per second, 100000 per day".parse(), Ok(GOLD)); // as in a table of tiers
/// assert!(Quotas::UNLIMITED.as_slice().is_empty());
/// ```
#[derive(Clone, Copy)]
#[must_use = "quotas are changed by value"]
pub struct Quotas {
    list: [Quota; Quota::MAX_PER_POLICY],
    len: usize,
}

impl Quotas {
    /// No quota at all: a client that has it is not counted and never denied.
    pub const UNLIMITED: Self = Self { list: [Self::NONE; Quota::MAX_PER_POLICY], len: 0 };

    /// Fills the unused places of the list.
    const NONE: Quota = Quota { limit: u32::MAX, window_millis: 0 };

    /// Creates a list of one quota.
    pub const fn of(quota: Quota) -> Self {
        let mut quotas = Self::UNLIMITED;
        quotas.list[0] = quota;
        quotas.len = 1;
        quotas
    }

    /// Adds a quota. A request passes only if all quotas allow it.
    ///
    /// # Panics
    ///
    /// Panics if the list has a quota over the same window or [`Quota::MAX_PER_POLICY`] quotas already, or if one
    /// of the quotas could never bind, since another allows no more in a longer window. In a constant, this is a
    /// compile error.
    #[track_caller]
    pub const fn and(self, quota: Quota) -> Self {
        match self.try_and(quota) {
            Ok(quotas) => quotas,
            Err(InvalidQuota(fault)) => panic!("{}", fault),
        }
    }

    /// Adds a quota from numbers that are known only at run time.
    ///
    /// # Errors
    ///
    /// Returns an error where [`and`](Self::and) panics.
    pub const fn try_and(mut self, quota: Quota) -> Result<Self, InvalidQuota> {
        if self.len == Quota::MAX_PER_POLICY {
            return Err(InvalidQuota("a policy has at most 8 quotas: leave the loosest ones out"));
        }
        let mut index = 0;
        while index < self.len {
            let other = &self.list[index];
            if other.window_millis == quota.window_millis {
                return Err(InvalidQuota(
                    "two quotas of one policy have the same window, so that only the smaller can \
                     bind: leave one out",
                ));
            }
            let (short, long) =
                if other.window_millis < quota.window_millis { (other, &quota) } else { (&quota, other) };
            if short.limit >= long.limit {
                return Err(InvalidQuota(
                    "a quota can never bind, since another allows no more over a longer window: leave \
                     it out, or give it a smaller count",
                ));
            }
            index += 1;
        }
        self.list[self.len] = quota;
        self.len += 1;
        Ok(self)
    }

    /// Returns the quotas in the order in which they were added; empty if there is no limit.
    pub const fn as_slice(&self) -> &[Quota] {
        self.list.split_at(self.len).0
    }
}

impl PartialEq for Quotas {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Quotas {}

impl From<Quota> for Quotas {
    fn from(quota: Quota) -> Self {
        Self::of(quota)
    }
}

impl fmt::Debug for Quotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let _ = Quotas::of(Quota::per_minute(5)).and(Quota::per_second(10));
    }

    #[test]
    #[should_panic(expected = "the same window")]
    fn one_window_has_one_quota() {
        let _ = Quotas::of(Quota::per_minute(5)).and(Quota::per_minute(9));
    }

    #[test]
    fn quotas_keep_their_order() {
        let (slow, fast) = (Quota::per_minute(50), Quota::per_second(10));
        assert_eq!(Quotas::of(slow).and(fast).as_slice(), [slow, fast]);
    }

    #[test]
    fn seconds_are_rounded_up() {
        assert_eq!(Quota::new(1, Duration::from_millis(1)).window_seconds(), 1);
        assert_eq!(Quota::new(1, Duration::from_millis(1_500)).window_seconds(), 2);
        assert_eq!(Quota::per_minute(1).window_seconds(), 60);
    }
}
