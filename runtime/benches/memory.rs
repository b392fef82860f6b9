//! Compares a check of the memory store with one of governor's keyed limiter: with one thread and with two, on
//! one key and over ten thousand.
//!
//! Neither side makes keys or response fields. Each figure is the time that a check takes a thread, so the
//! figures for two threads show what they cost each other.

#![allow(missing_docs)] // criterion's macros generate items without docs

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use axum_rate_limit::Quota;
use axum_rate_limit::store::{Counter, MemoryStore, Operation};
use criterion::{Criterion, criterion_group, criterion_main};
use governor::RateLimiter;

const THREADS: [usize; 2] = [1, 2];
const KEYS: [usize; 2] = [1, 10_000];

/// Returns how long `rounds` calls of `check` take when each of `threads` threads makes that many at the same
/// time.
fn timed(threads: usize, rounds: u64, keys: &[String], check: impl Fn(&String) + Sync) -> Duration {
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|number| {
                let (start, check) = (&start, &check);
                scope.spawn(move || {
                    // Each thread begins elsewhere, and visits the keys in another order than they were added.
                    let mut index = number * keys.len() / 2;
                    start.wait();
                    let begin = Instant::now();
                    for _ in 0..rounds {
                        index += 7_919;
                        check(&keys[index % keys.len()]);
                    }
                    begin.elapsed()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("no check panics")).max().unwrap_or_default()
    })
}

fn memory(criterion: &mut Criterion) {
    for count in KEYS {
        let keys: Vec<String> =
            (0..count).map(|index| format!("rl:{{hardwork::192.0.2.{index}::GET:/hardwork/}}")).collect();
        for threads in THREADS {
            let mut group = criterion.benchmark_group(format!("{count} keys, {threads} threads"));
            group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
            group.bench_function("ours", |bencher| {
                let store = MemoryStore::new(1_000_000);
                let quota = Quota::per_hour(u32::MAX);
                bencher.iter_custom(|rounds| {
                    timed(threads, rounds, &keys, |key| {
                        let counter = Counter::new(key, quota);
                        assert!(
                            black_box(store.apply_now(Operation::Take, &[counter]))
                                .is_ok_and(|outcome| outcome.taken())
                        );
                    })
                });
            });
            group.bench_function("governor", |bencher| {
                let limiter = RateLimiter::keyed(
                    governor::Quota::per_second(NonZeroU32::MAX).allow_burst(NonZeroU32::MAX),
                );
                bencher.iter_custom(|rounds| {
                    timed(threads, rounds, &keys, |key| {
                        assert!(black_box(limiter.check_key(key)).is_ok());
                    })
                });
            });
            group.finish();
        }
    }
}

criterion_group!(benches, memory);
criterion_main!(benches);
