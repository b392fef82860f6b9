//! Measures how far away a server is, by the quickest of its recent answers.

use std::time::{Duration, Instant};

/// A server is far away if even its quickest answer takes this long: so long are processors idle that wait for
/// it.
const FAR: Duration = Duration::from_micros(200);
/// Calls with more groups of checks than this do not count as measured: they take the server itself too long.
const SHORT: usize = 8;
/// How long a measurement counts at least. It counts at most twice as long, once there is a newer one.
const AGE: Duration = Duration::from_secs(10);

/// The shortest time that an answer took of late. Whatever an answer takes beyond that it has waited for a
/// processor, here or there, and not for the network.
#[derive(Debug)]
pub(super) struct Distance {
    since: Instant,
    /// The shortest time since then, and the shortest of the period before.
    least: Option<Duration>,
    before: Option<Duration>,
}

impl Distance {
    /// Creates the distance of a server that has answered nothing yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, least: None, before: None }
    }

    /// Learns that a call with so many `groups` of checks took so long to be answered.
    pub(super) fn learn(&mut self, took: Duration, groups: usize, now: Instant) {
        if groups > SHORT {
            // At any rate, a short call takes no longer.
            self.least = self.least.map(|least| least.min(took));
            return;
        }
        let age = now.saturating_duration_since(self.since);
        if age >= AGE {
            self.before = self.least.take().filter(|_| age < 2 * AGE);
            self.since = now;
        }
        self.least = Some(self.least.map_or(took, |least| least.min(took)));
    }

    /// Returns how far away the server is, if that is far.
    pub(super) fn far(&self) -> Option<Duration> {
        self.least.into_iter().chain(self.before).min().filter(|least| *least >= FAR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICRO: Duration = Duration::from_micros(1);

    #[test]
    fn the_shortest_answer_of_late_tells() {
        let start = Instant::now();
        let mut distance = Distance::new(start);
        assert_eq!(distance.far(), None, "nothing is known");
        for (second, micros, groups, far) in [
            (0, 2_000, 1, Some(2_000)),
            (1, 1_000, 8, Some(1_000)),
            (2, 3_000, 1, Some(1_000)),
            (3, 2_000, 9, Some(1_000)),
            (4, 100, 9, None),
            (12, 900, 1, None),
            (21, 900, 1, None),
            (22, 1_000, 1, Some(900)),
            (32, 2_000, 1, Some(1_000)),
            (52, 400, 1, Some(400)),
            (3_599, 1_000, 9, Some(400)),
            (3_600, 1_000, 1, Some(1_000)),
            (3_609, 199, 1, None),
        ] {
            distance.learn(MICRO * micros, groups, start + Duration::from_secs(second));
            assert_eq!(distance.far(), far.map(|micros| MICRO * micros), "after {second} seconds");
        }
    }
}
