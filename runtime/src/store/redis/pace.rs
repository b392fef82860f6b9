//! Decides when a call follows others that have not been answered.

use std::time::{Duration, Instant};

use super::distance::Distance;

/// Another call follows one that has been in flight for one of so many parts of the timeout, so that a check
/// that arrives meanwhile loses no more than that.
const PARTS: u32 = 8;
/// The most calls in flight because the server is far away; more are only for the sake of the timeout.
const MAX_FAR: u32 = 5;
/// How many of these leave at once, so that a few checks do not wait for each other.
const AT_ONCE: u32 = 3;
/// After these, the fourth call leaves an eighth of the distance after the third, with the first check that
/// arrives from then on, and the fifth a quarter of the distance after the fourth. So, under load, some four
/// calls are shared in the time that one takes.
const STEPS: u32 = 8;
/// The most calls in flight. If a server that is far away stops answering, one is left for each part of the
/// timeout, as with one that is near.
const MAX_IN_FLIGHT: usize = (PARTS + MAX_FAR) as usize;
/// Timers are no finer than this.
const GRAIN: Duration = Duration::from_millis(1);

/// The pace at which calls follow one another on a connection.
#[derive(Debug)]
pub(super) struct Pace {
    /// One of the [`PARTS`] of the timeout.
    part: Duration,
    pub(super) distance: Distance,
}

/// When the next call may follow those in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Following {
    /// From when on it may be sent; `None` if no call may be sent for now.
    pub(super) due: Option<Instant>,
    /// When to look again, though nothing else happens.
    pub(super) looks_up: Option<Instant>,
}

impl Pace {
    pub(super) fn new(timeout: Duration, now: Instant) -> Self {
        Self { part: timeout / PARTS, distance: Distance::new(now) }
    }

    /// Returns when another call may follow those `under_way`, of which the last was begun at `last`, and is
    /// sent or still being sent.
    pub(super) fn following(
        &self,
        under_way: usize,
        last: Instant,
        is_sent: bool,
        now: Instant,
    ) -> Following {
        if under_way >= MAX_IN_FLIGHT {
            return Following::default();
        }
        let at_last = last + self.part;
        if !is_sent {
            // By then it will have been sent.
            let looks_up = if now < at_last { at_last } else { now + self.part };
            return Following { due: None, looks_up: Some(looks_up) };
        }
        match self.far(under_way).map(|wait| last + wait) {
            // A check that arrives after `due` is sent at once, one from before when the courier looks up.
            Some(due) if due < at_last => {
                let looks_up = if due > now + GRAIN { due } else { at_last };
                Following { due: Some(due), looks_up: (now < at_last).then_some(looks_up) }
            }
            _ if now < at_last => Following { due: None, looks_up: Some(at_last) },
            _ => Following { due: Some(at_last), looks_up: None },
        }
    }

    /// Returns how long after the last of those `under_way` another call follows, if the server is far away.
    fn far(&self, under_way: usize) -> Option<Duration> {
        let next = u32::try_from(under_way).unwrap_or(u32::MAX).saturating_add(1);
        let distance = self.distance.far().filter(|_| next <= MAX_FAR)?;
        Some(distance * next.saturating_sub(AT_ONCE) / STEPS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a timeout of 80 ms; in milliseconds after the last call.
    fn following(far: u64, under_way: usize, is_sent: bool, now: u64) -> (Option<u64>, Option<u64>) {
        let last = Instant::now();
        let after = |millis| Duration::from_millis(millis);
        let mut pace = Pace::new(after(80), last);
        pace.distance.learn(after(far), 1, last);
        let Following { due, looks_up } = pace.following(under_way, last, is_sent, last + after(now));
        let millis = |time: Instant| u64::try_from((time - last).as_millis()).expect("soon");
        (due.map(millis), looks_up.map(millis))
    }

    #[test]
    fn a_call_follows_at_once_or_in_steps_of_the_distance_or_after_a_part_of_the_timeout() {
        for (far, under_way, is_sent, now, expected) in [
            // Near.
            (0, 1, true, 0, (None, Some(10))),
            (0, 1, true, 10, (Some(10), None)),
            (0, 12, true, 10, (Some(10), None)),
            (0, 13, true, 10, (None, None)),
            // Far.
            (16, 1, true, 0, (Some(0), Some(10))),
            (16, 2, true, 0, (Some(0), Some(10))),
            (16, 3, true, 0, (Some(2), Some(2))),
            (16, 3, true, 1, (Some(2), Some(10))),
            (16, 4, true, 1, (Some(4), Some(4))),
            (16, 4, true, 10, (Some(4), None)),
            // It may have stopped.
            (16, 5, true, 0, (None, Some(10))),
            (16, 5, true, 10, (Some(10), None)),
            (16, 13, true, 10, (None, None)),
            // So far that the timeout is what counts.
            (80, 2, true, 0, (Some(0), Some(10))),
            (80, 3, true, 0, (None, Some(10))),
            // The last is still being sent.
            (16, 1, false, 0, (None, Some(10))),
            (0, 1, false, 12, (None, Some(22))),
        ] {
            let case = (far, under_way, is_sent, now);
            assert_eq!(following(far, under_way, is_sent, now), expected, "{case:?}");
        }
    }
}
