//! Tests threads that share a store, in every order in which they can meet at its locks and its clock.
//!
//! Loom runs each scene once for each of these orders, and finds deadlocks. This module exists only if the tests
//! are built with `--cfg interleavings`: the locks of the store and the manual clock are then loom's, and work
//! nowhere else. `tests/run.sh` has the command.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use loom::thread::{self, JoinHandle};

use super::*;
use crate::algorithm::Algorithm;
use crate::clock::ManualClock;
use crate::quota::Quota;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::FixedWindow,
    Algorithm::SlidingWindow,
    Algorithm::SlidingLog,
    Algorithm::TokenBucket { burst: None },
];

/// Runs `scene` in every order. Apart from the order, the scene has to do the same each time.
fn explore(name: &str, scene: impl Fn() + Send + Sync + 'static) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    loom::model(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        scene();
    });
    let count = count.load(Ordering::Relaxed);
    println!("{name}: {count} interleavings");
    assert!(count > 1, "{name}: the threads never meet");
}

/// Creates a store of `shards` with room for `per_shard` keys in each, which hashes alike in every run.
fn store(shards: usize, per_shard: usize) -> (Arc<MemoryStore>, ManualClock) {
    let clock = ManualClock::default();
    let store = MemoryStore {
        shards: (0..shards).map(|_| Padded::default()).collect(),
        hasher: RandomState::with_seeds(1, 2, 3, 4),
        clock: Clock::Manual(clock.clone()),
        max_keys: shards * per_shard,
    };
    (Arc::new(store), clock)
}

fn counter(key: &'static str, limit: u32) -> Counter<'static> {
    Counter::new(key, Quota::new(limit, MINUTE))
}

/// Returns two keys of a store of two shards, one in each.
fn apart(store: &MemoryStore) -> [&'static str; 2] {
    let of = |shard| {
        let is_there = |key: &&str| store.shard_of(store.hasher.hash_one(*key)) == shard;
        ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().find(is_there).expect("eight are enough")
    };
    [of(0), of(1)]
}

impl MemoryStore {
    fn takes(&self, counters: &[Counter<'_>]) -> bool {
        self.apply_now(Operation::Take, counters).expect("there is room").taken()
    }

    fn left(&self, counters: &[Counter<'_>]) -> Vec<u32> {
        let outcome = self.apply_now(Operation::Peek, counters).expect("a look needs no room");
        outcome.readings().iter().map(|reading| reading.remaining).collect()
    }
}

/// Starts a thread that does `part` with the store.
fn with<T: 'static>(
    store: &Arc<MemoryStore>,
    part: impl FnOnce(&MemoryStore) -> T + 'static,
) -> JoinHandle<T> {
    let store = Arc::clone(store);
    thread::spawn(move || part(&store))
}

fn joined<T>(threads: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    // All are started before the first is waited for.
    let threads: Vec<JoinHandle<T>> = threads.into_iter().collect();
    threads.into_iter().map(|thread| thread.join().expect("it has not panicked")).collect()
}

/// Returns how many of `results` are true.
fn number(results: impl IntoIterator<Item = bool>) -> u32 {
    results.into_iter().map(u32::from).sum()
}

/// Has three threads take from a counter of `limit`, each so many times.
fn one_counter(takes: u32, limit: u32, algorithm: Algorithm) {
    explore("one counter", move || {
        let (store, _clock) = store(1, 4);
        let counter = counter("a", limit).algorithm(algorithm);
        let part = move |store: &MemoryStore| number((0..takes).map(|_| store.takes(&[counter])));
        let admitted: u32 = joined((0..3).map(|_| with(&store, part))).iter().sum();
        assert_eq!(admitted, limit.min(3 * takes), "{algorithm:?}");
        assert_eq!(store.left(&[counter]), [limit - admitted], "{algorithm:?}");
    });
}

#[test]
fn three_threads_are_admitted_as_often_as_the_limit_says() {
    for algorithm in ALGORITHMS {
        for limit in [1, 2, 4] {
            one_counter(1, limit, algorithm);
        }
    }
    one_counter(2, 4, Algorithm::FixedWindow);
}

#[test]
fn two_counters_are_taken_in_any_order_and_both_or_neither() {
    explore("two counters", || {
        let (store, _clock) = store(2, 4);
        let [one, other] = apart(&store).map(|key| counter(key, 2));
        let forth = with(&store, move |store| number((0..2).map(|_| store.takes(&[one, other]))));
        let back = with(&store, move |store| number([store.takes(&[other, one])]));
        let look = with(&store, move |store| {
            let left = store.left(&[one, other]);
            assert_eq!(left[0], left[1], "half is taken");
            0
        });
        assert_eq!(joined([forth, back, look]).iter().sum::<u32>(), 2);
        assert_eq!(store.left(&[one, other]), [0, 0]);
    });
}

#[test]
fn what_one_counter_denies_is_taken_from_none() {
    explore("two counters, one of them scarce", || {
        let (store, _clock) = store(2, 4);
        let [plenty, scarce] = apart(&store);
        let (plenty, scarce) = (counter(plenty, 9), counter(scarce, 1));
        let both = [
            with(&store, move |store| store.takes(&[plenty, scarce])),
            with(&store, move |store| store.takes(&[scarce, plenty])),
        ];
        let alone = with(&store, move |store| store.takes(&[scarce]));
        let both = number(joined(both));
        assert_eq!(both + number(joined([alone])), 1);
        assert_eq!(store.left(&[plenty, scarce]), [9 - both, 0]);
    });
}

#[test]
fn no_room_for_one_counter_leaves_no_trace_in_the_other_shard() {
    explore("two counters, one without room", || {
        let (store, _clock) = store(2, 1);
        let [roomy, full] = apart(&store);
        let (late, living) = (counter(full, 5), Counter { key: full, ..counter("", 5) });
        // The same key with another window, so in the same shard.
        let living = Counter { quota: Quota::new(5, HOUR), ..living };
        assert!(store.takes(&[living]));
        let roomy = counter(roomy, 5);
        let threads = [[roomy, late], [late, roomy]]
            .map(|both| with(&store, move |store| store.apply_now(Operation::Take, &both).is_err()));
        assert_eq!(number(joined(threads)), 2);
        assert_eq!((store.len(), store.left(&[roomy, living])), (1, vec![5, 4]));
    });
}

#[test]
fn a_full_store_keeps_the_living_and_gives_the_place_of_the_dead() {
    explore("a full store", || {
        let (store, clock) = store(1, 2);
        let victim = Counter { quota: Quota::new(1, HOUR), ..counter("victim", 1) };
        assert!(store.takes(&[victim]));
        assert!(store.takes(&[counter("old", 1)]));
        let admitted = |store: &MemoryStore, key| {
            store.apply_now(Operation::Take, &[counter(key, 1)]).is_ok_and(|outcome| outcome.taken())
        };
        let moves = with(&store, move |store| {
            clock.advance(MINUTE);
            let is_new = admitted(store, "new");
            assert!(store.len() <= 2, "there are more than may be");
            is_new
        });
        let comes = with(&store, move |store| admitted(store, "late"));
        let asks = with(&store, move |store| store.takes(&[victim]));
        assert_eq!(number(joined([moves, comes])), 1, "the dead leave one place");
        assert_eq!(number(joined([asks])), 0, "the victim's counter is dropped");
        assert_eq!((store.left(&[victim]), store.len()), (vec![0], 2));
    });
}

#[test]
fn an_expired_counter_is_one_again_however_many_find_it() {
    for algorithm in ALGORITHMS {
        explore("an expired counter", move || {
            let (store, clock) = store(1, 1);
            let counter = counter("a", 2).algorithm(algorithm);
            assert!(store.takes(&[counter]) && store.takes(&[counter]));
            clock.advance(2 * MINUTE);
            let takes = move |store: &MemoryStore| store.takes(&[counter]);
            let pair = move |store: &MemoryStore| store.takes(&[counter, Counter { cost: 0, ..counter }]);
            let threads = [with(&store, takes), with(&store, pair), with(&store, takes)];
            assert_eq!(number(joined(threads)), 2, "{algorithm:?}");
            assert_eq!((store.left(&[counter]), store.len()), (vec![0], 1));
        });
    }
}

/// If the clock were read before the lock is taken, others could go on to the next window in between, and the
/// sliding window would go back to the one before and forget what it knew.
#[test]
fn nobody_brings_an_old_time_to_a_counter() {
    const LIMIT: u32 = 4;
    for algorithm in ALGORITHMS {
        explore("the end of a window", move || {
            let (store, clock) = store(1, 4);
            let counter = counter("a", LIMIT).algorithm(algorithm);
            // Also just before the end of windows that have a fixed place.
            clock.advance(Duration::from_micros(59_999_999));
            let before = number((0..2).map(|_| store.takes(&[counter])));
            let takes = move |store: &MemoryStore| store.takes(&[counter]);
            let moves = with(&store, move |store| {
                clock.advance(Duration::from_micros(1));
                takes(store)
            });
            let threads = [moves, with(&store, takes)];
            let admitted = before + number(joined(threads));
            // All of it is at most a microsecond old, and the only window that has ended is one with a fixed
            // place, whose requests still weigh.
            assert_eq!(store.left(&[counter]), [LIMIT - admitted], "{algorithm:?}");
        });
    }
}

#[test]
fn what_is_given_back_is_admitted_once_more_and_no_more() {
    for algorithm in ALGORITHMS {
        explore("giving back", move || {
            const LIMIT: u32 = 2;
            let (store, _clock) = store(1, 4);
            let counter = counter("a", LIMIT).algorithm(algorithm);
            let takes = move |store: &MemoryStore| number([store.takes(&[counter])]);
            let returns = with(&store, move |store| {
                if store.takes(&[counter]) {
                    store.apply_now(Operation::GiveBack, &[counter]).expect("it needs no room");
                }
                0
            });
            let threads = [returns, with(&store, takes), with(&store, takes)];
            let held: u32 = joined(threads).iter().sum();
            assert!(held <= LIMIT, "{held} are held, {algorithm:?}");
            assert_eq!(store.left(&[counter]), [LIMIT - held], "{algorithm:?}");
        });
    }
}

#[test]
fn a_reset_admits_the_limit_once_more_and_no_more() {
    for algorithm in ALGORITHMS {
        explore("a reset", move || {
            const LIMIT: u32 = 2;
            let (store, _clock) = store(1, 4);
            let counter = counter("a", LIMIT).algorithm(algorithm);
            let takes = move |store: &MemoryStore| number((0..2).map(|_| store.takes(&[counter])));
            let resets = with(&store, move |store| {
                store.apply_now(Operation::Reset, &[counter]).expect("it needs no room");
                0
            });
            let threads = [resets, with(&store, takes), with(&store, takes)];
            let admitted: u32 = joined(threads).iter().sum();
            assert!((LIMIT..=2 * LIMIT).contains(&admitted), "{admitted} are admitted, {algorithm:?}");
            assert!(store.left(&[counter])[0] <= 2 * LIMIT - admitted, "{algorithm:?}");
        });
    }
}
