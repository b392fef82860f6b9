//! Quotas as text, for the log and for configuration files: `5 per minute`, or `10 per second, 1000 per hour`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{DAY, HOUR, InvalidQuota, MAX_WINDOW, MINUTE, Quota, Quotas, SECOND};

/// The windows that have a name.
const UNITS: [(&str, Duration); 4] = [("second", SECOND), ("minute", MINUTE), ("hour", HOUR), ("day", DAY)];
/// Stands between a count and its window.
const PER: &str = " per ";
/// Stands between two quotas.
const SEPARATOR: &str = ", ";
/// No quota at all.
const UNLIMITED: &str = "unlimited";

/// `5 per minute`, `30 per 90s`, `1 per 250ms`
impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{PER}", self.limit)?;
        let millis = self.window_millis;
        match UNITS.into_iter().find(|(_, window)| *window == self.window()) {
            Some((unit, _)) => f.write_str(unit),
            None if millis.is_multiple_of(1_000) => write!(f, "{}s", millis / 1_000),
            None => write!(f, "{millis}ms"),
        }
    }
}

/// Reads `5 per minute` or `5/minute`, and `30 per 90s`, `30 per 1m 30s` or the like. The windows with a name are
/// `second`, `minute`, `hour` and `day`; others are written in `ms`, `s`, `m`, `h`, `d` or `w`.
impl FromStr for Quota {
    type Err = InvalidQuota;

    fn from_str(text: &str) -> Result<Self, InvalidQuota> {
        const FORM: InvalidQuota = InvalidQuota("a quota reads `5 per minute`, `5/minute` or `30 per 90s`");
        let (count, window) = text.split_once('/').or_else(|| text.split_once(PER)).ok_or(FORM)?;
        let count = count.trim();
        if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(FORM);
        }
        let limit =
            count.parse().map_err(|_| InvalidQuota("the count of a quota is from 1 to 4294967295"))?;
        let window = window.trim();
        let unit = UNITS.into_iter().find(|(unit, _)| *unit == window);
        let window = match unit {
            Some((_, window)) => window,
            None if has_calendar_unit(window) => {
                return Err(InvalidQuota(
                    "months and years have no length that all agree on: write `30d` or `365d`",
                ));
            }
            None => humantime::parse_duration(window).map_err(|_| FORM)?,
        };
        if window < Duration::from_millis(1) || window > MAX_WINDOW {
            return Err(InvalidQuota("a window lasts from 1 ms to 366 days: write `5 per 90s` or the like"));
        }
        if !window.subsec_nanos().is_multiple_of(1_000_000) {
            return Err(InvalidQuota(
                "a window is a whole number of milliseconds: write `5 per 1500ms` or the like",
            ));
        }
        Self::try_new(limit, window)
    }
}

/// Whether a window is given in months or years, which humantime takes as 30.44 and 365.25 days.
fn has_calendar_unit(window: &str) -> bool {
    let mut units = window.split(|character: char| !character.is_ascii_alphabetic());
    units.any(|unit| unit == "M" || unit.starts_with("month") || unit.starts_with('y'))
}

/// `10 per second, 1000 per hour`, or `unlimited`
impl fmt::Display for Quotas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, quota) in self.as_slice().iter().enumerate() {
            write!(f, "{}{quota}", if index > 0 { SEPARATOR } else { "" })?;
        }
        if self.as_slice().is_empty() { f.write_str(UNLIMITED) } else { Ok(()) }
    }
}

/// Reads quotas with commas between them, as in `10 per second, 1000 per hour`, or `unlimited`.
impl FromStr for Quotas {
    type Err = InvalidQuota;

    fn from_str(text: &str) -> Result<Self, InvalidQuota> {
        if text.trim() == UNLIMITED {
            return Ok(Self::UNLIMITED);
        }
        text.split(SEPARATOR.trim()).try_fold(Self::UNLIMITED, |quotas, quota| quotas.try_and(quota.parse()?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_can_be_read(limit in 1..=u32::MAX, millis in prop_oneof![
            1..100_000_u64, (1..40_000_u64).prop_map(|seconds| seconds * 1_000), Just(86_400_000)
        ]) {
            let quota = Quota::new(limit, Duration::from_millis(millis));
            prop_assert_eq!(quota.to_string().parse(), Ok(quota));
        }
    }

    #[test]
    fn what_people_write_is_read() {
        let ninety = Quota::new(30, Duration::from_secs(90));
        for (text, quota) in [
            ("5 per minute", Quota::per_minute(5)),
            ("5/minute", Quota::per_minute(5)),
            (" 5 / 60s ", Quota::per_minute(5)),
            ("30 per 90s", ninety),
            ("30/1m 30s", ninety),
            ("1 per 250ms", Quota::new(1, Duration::from_millis(250))),
            ("7 per 1w", Quota::new(7, Duration::from_secs(7 * 86_400))),
        ] {
            assert_eq!(text.parse(), Ok(quota), "{text}");
        }
        let gold = Quotas::of(Quota::per_second(50)).and(Quota::per_day(100_000));
        for text in ["50 per second, 100000 per day", "50/second,100000/day"] {
            assert_eq!(text.parse(), Ok(gold));
        }
        for quotas in [gold, ninety.into(), Quotas::UNLIMITED] {
            assert_eq!(quotas.to_string().parse(), Ok(quotas));
        }
    }

    #[test]
    fn what_can_not_be_read_is_told_how_it_is_written() {
        for (text, fault) in [
            ("", "a quota reads `5 per minute`"),
            ("5", "a quota reads"),
            ("5 per", "a quota reads"),
            ("5 per ", "a quota reads"),
            ("per minute", "a quota reads"),
            ("+5 per minute", "a quota reads"),
            ("-5 per minute", "a quota reads"),
            ("1.5 per minute", "a quota reads"),
            ("five per minute", "a quota reads"),
            ("5 per fortnight", "a quota reads"),
            ("0 per minute", "would deny every request"),
            ("4294967296 per day", "from 1 to 4294967295"),
            ("5 per 1month", "write `30d`"),
            ("5 per 1y", "write `30d`"),
            ("5 per 367d", "from 1 ms to 366 days"),
            ("5 per 1us", "from 1 ms to 366 days"),
        ] {
            let error = text.parse::<Quota>().expect_err(text);
            assert!(error.to_string().contains(fault), "{text}: {error}");
        }
        for (text, fault) in [
            ("", "a quota reads"),
            ("5 per minute,", "a quota reads"),
            ("5 per minute, 5 per hour", "can never bind"),
            ("5 per minute, 9 per 60s", "the same window"),
        ] {
            let error = text.parse::<Quotas>().expect_err(text);
            assert!(error.to_string().contains(fault), "{text}: {error}");
        }
    }
}
