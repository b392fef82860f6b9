//! When fixed windows end, as Redis has told, so that it need not be asked with each check.
//!
//! A window's end stays where it is: only whoever resets the counter, takes its TTL away or empties the server
//! moves it. That somebody else does shows here after [`MAX_AGE`] at the latest. Nothing is decided by what is known here: it is
//! what a request that passes is told. One that is denied is told what Redis says.
//!
//! There is a place for so many windows. Each has one of two by the hash of its key; when others have both,
//! that which was told longer ago makes room. Whose end is forgotten is asked for again.

use std::time::Duration;

use super::MAX_AGE;
use super::batch::Batch;
use crate::clock::micros;
use crate::store::{Counter, Operation};

/// A power of two.
const PLACES: usize = 32_768;

/// The ends of the windows that one connection asks about.
#[derive(Debug)]
pub(super) struct Windows {
    /// Three numbers for each, all 0 where there is none: what the window is told by, and, in microseconds of
    /// the clock, when its end was told and when it is. Memory that is not used is not touched.
    places: Vec<[u64; 3]>,
}

impl Windows {
    pub(super) fn new() -> Self {
        Self { places: vec![[0; 3]; PLACES] }
    }

    /// How long the window of a counter lasts from `now`, in microseconds of the clock, if that has been told
    /// not long ago; `hash` is that of the counter's key.
    pub(super) fn left(&self, hash: u64, counter: &Counter<'_>, now: u64) -> Option<Duration> {
        let id = id(hash, counter);
        let [_, told, ends] =
            places(id).map(|place| self.places[place]).into_iter().find(|known| known[0] == id)?;
        let is_old = now.saturating_sub(told) >= micros(MAX_AGE);
        // One that has ended may have been followed by another.
        ends.checked_sub(now).filter(|left| !is_old && *left > 0).map(Duration::from_micros)
    }

    /// Learns that the window of a counter lasts so long from `now`, just before Redis was asked.
    pub(super) fn learn(&mut self, hash: u64, counter: &Counter<'_>, now: u64, left: Duration) {
        let id = id(hash, counter);
        let [one, other] = places(id);
        let is_better = self.places[other][0] == id || self.places[other][1] < self.places[one][1];
        let place = if self.places[one][0] != id && is_better { other } else { one };
        self.places[place] = [id, now, now.saturating_add(micros(left))];
    }

    /// Forgets the windows of all counters that `batch` resets.
    pub(super) fn forget_resets(&mut self, batch: &Batch) {
        for group in batch.groups().iter().filter(|group| group.operation == Operation::Reset) {
            let (counters, hashes) = batch.check(group);
            counters.iter().zip(hashes).for_each(|(counter, hash)| self.forget(hash, counter));
        }
    }

    fn forget(&mut self, hash: u64, counter: &Counter<'_>) {
        let id = id(hash, counter);
        for place in places(id) {
            if self.places[place][0] == id {
                self.places[place] = [0; 3];
            }
        }
    }
}

/// What a window is told by. Should two ever have one, each is told the end of the other.
fn id(hash: u64, counter: &Counter<'_>) -> u64 {
    hash ^ counter.quota.window_millis().wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[allow(clippy::cast_possible_truncation)] // which bits choose the place is all the same
fn places(id: u64) -> [usize; 2] {
    let place = id as usize % PLACES;
    [place, place ^ 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::Quota;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn what_is_known_is_of_this_window_and_not_old() {
        let mut windows = Windows::new();
        let (minute, hour) = (Counter::new("a", Quota::per_minute(1)), Counter::new("a", Quota::per_hour(1)));
        assert_eq!(windows.left(7, &minute, 0), None);
        windows.learn(7, &minute, SECOND, Duration::from_secs(60));
        let later = SECOND + SECOND / 10;
        assert_eq!(windows.left(7, &minute, later), Some(Duration::from_millis(59_900)));
        assert_eq!(windows.left(7, &minute, 2 * SECOND), None, "it is old");
        assert_eq!(windows.left(7, &hour, later), None, "it is another window");
        assert_eq!(windows.left(6, &minute, later), None, "it is another key");
        windows.learn(7, &minute, SECOND, Duration::from_millis(100));
        assert_eq!(windows.left(7, &minute, later), None, "it has ended");
        windows.learn(7, &minute, SECOND, Duration::from_secs(60));
        windows.forget(7, &minute);
        assert_eq!(windows.left(7, &minute, later), None, "it is forgotten");
    }

    #[test]
    fn the_one_told_longest_ago_makes_room() {
        let mut windows = Windows::new();
        let minute = Counter::new("a", Quota::per_minute(1));
        let hashes = [0, 1, 2].map(|turn| 8 + turn * PLACES as u64);
        for (hash, now) in hashes.into_iter().zip([10, 20, 30]) {
            windows.learn(hash, &minute, now, Duration::from_secs(60));
        }
        let is_known = hashes.map(|hash| windows.left(hash, &minute, 40).is_some());
        assert_eq!(is_known, [false, true, true]);
    }
}
