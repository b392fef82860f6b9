//! Remembers when fixed windows end, so that Redis need not be asked with each check, and how much had been
//! taken from them, by which it is chosen how Redis is asked.
//!
//! The end of a window does not move, unless somebody resets the counter, takes its TTL away or empties the
//! server. If somebody else does, this shows here after [`MAX_AGE`] at the latest. No decision depends on what
//! is known here: it is only told to requests that pass, or that are the first to find out that others have
//! taken the rest.
//!
//! The number of places is fixed. The hash of its key gives a window two of them; if other windows have both,
//! the one that was told longer ago makes room. An end that is forgotten is asked for again.

use std::time::Duration;

use super::MAX_AGE;
use super::batch::Batch;
use crate::clock::micros;
use crate::store::{Counter, Operation};

/// How many windows there is room for: a power of two.
const PLACES: usize = 32_768;

/// The windows that one connection asks about.
#[derive(Debug)]
pub(super) struct Windows {
    /// Four numbers for each, all 0 if there is none: the window's id; when its end was told, and when it ends,
    /// both in microseconds of the clock; and how much had been taken. Memory that is not used is not touched.
    places: Vec<[u64; 4]>,
}

/// What is known of a window that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// How long it still lasts, if that was told less than [`MAX_AGE`] ago.
    pub(super) left: Option<Duration>,
    /// How much would have been taken from it if everything had fitted.
    pub(super) used: u64,
}

impl Windows {
    pub(super) fn new() -> Self {
        Self { places: vec![[0; 4]; PLACES] }
    }

    /// Returns what is known of a counter's window at `now`, in microseconds of the clock; `hash` is its key's.
    pub(super) fn get(&self, hash: u64, counter: &Counter<'_>, now: u64) -> Option<Window> {
        let [_, told, ends, used] = self.places[self.find(id(hash, counter))?];
        // A window that has ended may have been followed by another.
        let left = ends.checked_sub(now).filter(|left| *left > 0)?;
        let is_old = now.saturating_sub(told) >= micros(MAX_AGE);
        Some(Window { left: (!is_old).then(|| Duration::from_micros(left)), used })
    }

    /// Learns how long a counter's window lasts, from `now`, which is just before Redis was asked, and how much
    /// has been taken from it.
    pub(super) fn learn(&mut self, hash: u64, counter: &Counter<'_>, now: u64, left: Duration, used: u64) {
        let id = id(hash, counter);
        let [one, other] = places(id);
        let is_better = self.places[other][0] == id || self.places[other][1] < self.places[one][1];
        let place = if self.places[one][0] != id && is_better { other } else { one };
        self.places[place] = [id, now, now.saturating_add(micros(left)), used];
    }

    /// Learns how much has been taken from a window that is known.
    pub(super) fn learn_used(&mut self, hash: u64, counter: &Counter<'_>, used: u64) {
        if let Some(place) = self.find(id(hash, counter)) {
            self.places[place][3] = used;
        }
    }

    /// Forgets the windows of all counters that `batch` resets.
    pub(super) fn forget_resets(&mut self, batch: &Batch) {
        for group in batch.groups().iter().filter(|group| group.operation == Operation::Reset) {
            let (counters, hashes) = batch.counters_and_hashes(group);
            counters.iter().zip(hashes).for_each(|(counter, hash)| self.forget(hash, counter));
        }
    }

    fn forget(&mut self, hash: u64, counter: &Counter<'_>) {
        if let Some(place) = self.find(id(hash, counter)) {
            self.places[place] = [0; 4];
        }
    }

    fn find(&self, id: u64) -> Option<usize> {
        places(id).into_iter().find(|place| self.places[*place][0] == id)
    }
}

/// Returns the id of a counter's window. If two windows ever share one, each is told the end of the other.
fn id(hash: u64, counter: &Counter<'_>) -> u64 {
    hash ^ counter.quota.window_millis().wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[allow(clippy::cast_possible_truncation)] // any bits may choose the place
fn places(id: u64) -> [usize; 2] {
    let place = id as usize % PLACES;
    [place, place ^ 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::Quota;

    const SECOND: u64 = 1_000_000;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_known_is_of_this_window_and_its_end_not_old() {
        let mut windows = Windows::new();
        let (minute, hour) = (Counter::new("a", Quota::per_minute(1)), Counter::new("a", Quota::per_hour(1)));
        assert_eq!(windows.get(7, &minute, 0), None);
        windows.learn(7, &minute, SECOND, MINUTE, 3);
        let later = SECOND + SECOND / 10;
        let left = Some(Duration::from_millis(59_900));
        assert_eq!(windows.get(7, &minute, later), Some(Window { left, used: 3 }));
        assert_eq!(windows.get(7, &minute, 2 * SECOND), Some(Window { left: None, used: 3 }), "it is old");
        assert_eq!(windows.get(7, &hour, later), None, "it is another window");
        assert_eq!(windows.get(6, &minute, later), None, "it is another key");
        windows.learn_used(7, &minute, 4);
        windows.learn_used(7, &hour, 5);
        assert_eq!(windows.get(7, &minute, later), Some(Window { left, used: 4 }), "more has been taken");
        assert_eq!(windows.get(7, &hour, later), None, "its end is not known");
        assert_eq!(windows.get(7, &minute, 61 * SECOND), None, "it has ended");
        windows.learn(7, &minute, SECOND, MINUTE, 0);
        windows.forget(7, &minute);
        assert_eq!(windows.get(7, &minute, later), None, "it is forgotten");
    }

    #[test]
    fn the_one_told_longest_ago_makes_room() {
        let mut windows = Windows::new();
        let minute = Counter::new("a", Quota::per_minute(1));
        let hashes = [0, 1, 2].map(|turn| 8 + turn * PLACES as u64);
        for (hash, now) in hashes.into_iter().zip([10, 20, 30]) {
            windows.learn(hash, &minute, now, MINUTE, 0);
        }
        let is_known = hashes.map(|hash| windows.get(hash, &minute, 40).is_some());
        assert_eq!(is_known, [false, true, true]);
    }
}
