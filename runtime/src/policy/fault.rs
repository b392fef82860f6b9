//! Checks that the parts of a policy fit together, each of which may be valid by itself.

use super::{Cost, Policy};
use crate::algorithm::Algorithm;
use crate::quota::{MAX_WINDOW, Quota};

impl Policy {
    #[track_caller]
    pub(super) const fn checked(self) -> Self {
        match self.fault() {
            Some(fault) => panic!("{}", fault),
            None => self,
        }
    }

    /// Says what is wrong with the combination of algorithm, quotas and cost, if anything is.
    pub(crate) const fn fault(&self) -> Option<&'static str> {
        if (self.quotas_by.is_some() || self.has_individual_quotas)
            && matches!(self.algorithm, Algorithm::SlidingLog)
        {
            return Some(
                "a sliding log keeps every request, so its quotas must be known: use another algorithm \
                 with `quotas_by`",
            );
        }
        // The quotas of a certain client come too late for the other checks, and are counted as well as possible.
        if self.has_individual_quotas {
            return None;
        }
        let quotas = self.quotas.as_slice();
        let mut index = 0;
        while index < quotas.len() {
            let fault = match self.algorithm {
                Algorithm::SlidingLog => log_fault(&quotas[index]),
                Algorithm::TokenBucket { burst } => {
                    bucket_fault(&quotas[index], burst, self.algorithm.of(&quotas[index], quotas))
                }
                Algorithm::FixedWindow | Algorithm::SlidingWindow => None,
            };
            if fault.is_some() {
                return fault;
            }
            index += 1;
        }
        if let (Cost::Fixed(cost), None) = (self.cost, self.quotas_by)
            && cost > self.most_at_once()
        {
            return Some("a cost above a quota can never pass: give a smaller one, or `quotas_by` before it");
        }
        None
    }

    /// How much the strictest of the quotas lets pass at once.
    const fn most_at_once(&self) -> u32 {
        // The other quotas allow more than the burst.
        if let Algorithm::TokenBucket { burst: Some(burst) } = self.algorithm {
            return burst;
        }
        let quotas = self.quotas.as_slice();
        let (mut most, mut index) = (u32::MAX, 0);
        while index < quotas.len() {
            if quotas[index].limit() < most {
                most = quotas[index].limit();
            }
            index += 1;
        }
        most
    }
}

/// Says what is wrong with the status of a denial, if anything is.
pub(crate) const fn of_status(status: u16) -> Option<&'static str> {
    if 400 <= status && status <= 599 {
        return None;
    }
    Some("the status of a denial is an error status: write 400 to 599, such as 429")
}

/// Says what is wrong with the text of a denial, if anything is.
pub(crate) const fn of_message(message: &str) -> Option<&'static str> {
    if message.trim_ascii().is_empty() {
        return Some("the message of a denial is empty: write what a client should read");
    }
    None
}

const fn log_fault(quota: &Quota) -> Option<&'static str> {
    if quota.limit() > Quota::MAX_LOG {
        return Some(
            "a sliding log keeps every request: give a count of at most 10000, or use another algorithm",
        );
    }
    None
}

/// Says what is wrong with a quota of a policy with that burst, if anything is. `by` is how this quota is
/// counted: with the burst only if it is the quota that has it.
const fn bucket_fault(quota: &Quota, burst: Option<u32>, by: Algorithm) -> Option<&'static str> {
    let window = quota.window().as_micros();
    let limit = quota.limit() as u128;
    if limit > window {
        return Some("a token bucket refills at most once a microsecond: give a smaller count");
    }
    let burst = match burst {
        Some(0) => return Some("a burst of 0 would deny every request: write at least 1"),
        Some(burst) => burst as u128,
        None => return None,
    };
    if !matches!(by, Algorithm::TokenBucket { burst: Some(_) }) {
        if burst >= limit {
            return Some(
                "a burst can never pass at once if a quota over a longer window allows no more: give a smaller burst",
            );
        }
        return None;
    }
    if burst > most_that_refills(quota) as u128 {
        return Some("a burst that takes more than 366 days to refill is no rate: give a smaller burst");
    }
    None
}

/// Returns the largest burst of a token bucket that refills within the longest window.
#[allow(clippy::cast_possible_truncation)] // more than `u32::MAX` is no limit to a burst
pub(crate) const fn most_that_refills(quota: &Quota) -> u32 {
    let interval = quota.window().as_micros().div_ceil(quota.limit() as u128);
    let most = MAX_WINDOW.as_micros() / interval;
    if most > u32::MAX as u128 { u32::MAX } else { most as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "at most 10000")]
    fn a_log_has_an_end() {
        let _ = Policy::new("x").per_day(10_001).algorithm(Algorithm::SlidingLog);
    }

    #[test]
    #[should_panic(expected = "366 days to refill")]
    fn a_bucket_fills_some_day() {
        let _ = Policy::new("x").per_day(1).algorithm(Algorithm::TokenBucket { burst: Some(367) });
    }
}
