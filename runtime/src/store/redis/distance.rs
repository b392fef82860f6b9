//! How far away a server is.

use std::time::{Duration, Instant};

/// A server is far away whose answers are on their way for longer than that: so long are processors idle, if they
/// wait for them.
const FAR: Duration = Duration::from_micros(200);
/// Calls with more groups of checks than this are not measured: they take the server itself too long.
const SHORT: usize = 8;
/// How long it counts what was seen, at least. At most twice as long, once there is something newer.
const AGE: Duration = Duration::from_secs(10);

/// How long it takes at least to be answered: what was longer than the shortest that was seen of late has waited for
/// a processor, here or there, and not for the line.
#[derive(Debug)]
pub(super) struct Distance {
    since: Instant,
    /// The shortest since then, and the shortest before.
    least: Option<Duration>,
    before: Option<Duration>,
}

impl Distance {
    /// That of a server that has answered nothing.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, least: None, before: None }
    }

    /// Learns that so many groups of checks were answered in that time.
    pub(super) fn learn(&mut self, took: Duration, groups: usize, now: Instant) {
        if groups > SHORT {
            // It takes no less than a short one, at any rate.
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

    /// How far away the server is, if that is far.
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
