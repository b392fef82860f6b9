//! Compares both stores with a model on random histories: every decision, remaining count and reset.
//!
//! The memory store is compared with a minimal model of the fixed window, and Redis with the memory store under
//! every algorithm. Both run on a clock that the test moves. Only Redis's fixed windows end by the server's own
//! clock: there, the test subtracts the time that passes from the TTL of every key.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use axum_rate_limit::{Algorithm, Builder, Decision, ManualClock, Policy, RateLimiter};
use proptest::prelude::*;
use redis::aio::MultiplexedConnection;
use tests::RedisServer;
use tokio::runtime::Runtime;

/// Windows of hours, so that the real time that a history takes is negligible.
const POLICIES: [Policy; 4] = [
    Policy::new("one").quota(3, units(60)),
    Policy::new("two").quota(2, units(10)).quota(5, units(100)),
    Policy::new("three").quota(1, units(10)).quota(3, units(100)).quota(4, units(1_000)),
    // The same counters as `one`, under the different limit that another instance may have.
    Policy::new("one").quota(5, units(60)),
];
const KEYS: [&str; 3] = ["a", "b", "::"];

/// The unit of time in a history.
const UNIT: Duration = Duration::from_secs(1_000);
const UNIT_MILLIS: u64 = 1_000_000;

const fn units(count: u64) -> Duration {
    Duration::from_secs(UNIT.as_secs() * count)
}

#[derive(Clone, Debug)]
enum Step {
    Check { policy: usize, key: usize },
    Peek { policy: usize, key: usize },
    Reset { policy: usize, key: usize },
    Pass(Duration),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let asked = || (0..POLICIES.len(), 0..KEYS.len());
    let edges =
        prop_oneof![Just(1), Just(9), Just(10), Just(59), Just(60), Just(100), Just(1_000), 0..70_u64];
    let step = prop_oneof![
        8 => asked().prop_map(|(policy, key)| Step::Check { policy, key }),
        1 => asked().prop_map(|(policy, key)| Step::Peek { policy, key }),
        1 => asked().prop_map(|(policy, key)| Step::Reset { policy, key }),
        3 => edges.prop_map(|passed| Step::Pass(units(passed))),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The parts of a decision on which all must agree.
#[derive(Debug, PartialEq)]
struct Said {
    allowed: bool,
    /// The remaining count and the reset of each quota.
    quotas: Vec<(u32, Duration)>,
}

impl From<Decision> for Said {
    fn from(decision: Decision) -> Self {
        assert!(!decision.is_degraded());
        let quotas = decision.quotas().iter().map(|state| (state.remaining, state.reset)).collect();
        Self { allowed: decision.is_allowed(), quotas }
    }
}

/// A minimal model of the fixed window.
#[derive(Default)]
struct Model {
    now: Duration,
    /// The units taken and the end of the window, by policy name, key and window.
    counters: HashMap<(&'static str, usize, Duration), (u32, Duration)>,
}

impl Model {
    fn ask(&mut self, policy: &Policy, key: usize, take: bool) -> Said {
        let now = self.now;
        self.counters.retain(|_, (_, ends)| *ends > now);
        let place = |window| (policy.name(), key, window);
        let used = |model: &Self, window| model.counters.get(&place(window)).map_or(0, |(used, _)| *used);
        let allowed = policy.quotas().iter().all(|quota| used(self, quota.window()) < quota.limit());
        if allowed && take {
            for quota in policy.quotas() {
                let window = quota.window();
                self.counters.entry(place(window)).or_insert((0, now + window)).0 += 1;
            }
        }
        let state = |quota: &axum_rate_limit::Quota| {
            let ends = self.counters.get(&place(quota.window())).map_or(now, |(_, ends)| *ends);
            (quota.limit().saturating_sub(used(self, quota.window())), ends.saturating_sub(now))
        };
        Said { allowed, quotas: policy.quotas().iter().map(state).collect() }
    }

    fn reset(&mut self, policy: &Policy, key: usize) {
        for quota in policy.quotas() {
            self.counters.remove(&(policy.name(), key, quota.window()));
        }
    }
}

async fn ask(limiter: &RateLimiter, policy: usize, key: usize, take: bool) -> Said {
    let (policy, key) = (&POLICIES[policy], KEYS[key]);
    let decision = if take { limiter.check(policy, key).await } else { limiter.peek(policy, key).await };
    decision.expect("a decision").into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn memory_is_the_model(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let clock = ManualClock::default();
            let limiter = RateLimiter::builder().clock(&clock).build().await.expect("it builds");
            let mut model = Model::default();
            for step in steps {
                match step {
                    Step::Check { policy, key } => {
                        prop_assert_eq!(ask(&limiter, policy, key, true).await, model.ask(&POLICIES[policy], key, true));
                    }
                    Step::Peek { policy, key } => {
                        prop_assert_eq!(ask(&limiter, policy, key, false).await, model.ask(&POLICIES[policy], key, false));
                    }
                    Step::Reset { policy, key } => {
                        limiter.reset(&POLICIES[policy], KEYS[key]).await.expect("it is forgotten");
                        model.reset(&POLICIES[policy], key);
                    }
                    Step::Pass(time) => {
                        clock.advance(time);
                        model.now += time;
                    }
                }
            }
            Ok(())
        })?;
    }
}

const BUCKET: Algorithm = Algorithm::TokenBucket { burst: None };

/// The policies under which Redis and the memory store are compared: each algorithm with one quota and with
/// several, several costs, and counters under two limits.
const ALL: [Policy; 13] = [
    Policy::new("fixed").quota(3, units(60)),
    Policy::new("fixed").quota(5, units(60)).cost(2),
    // The same counter as above, and one more.
    Policy::new("fixed").quota(4, units(60)).quota(6, units(100)),
    Policy::new("fixed-two").quota(2, units(10)).quota(5, units(100)),
    Policy::new("sliding").quota(3, units(60)).algorithm(Algorithm::SlidingWindow),
    Policy::new("sliding").quota(7, units(60)).algorithm(Algorithm::SlidingWindow).cost(3),
    Policy::new("sliding-two")
        .quota(4, units(10))
        .quota(9, units(100))
        .algorithm(Algorithm::SlidingWindow)
        .cost(2),
    Policy::new("log").quota(3, units(60)).algorithm(Algorithm::SlidingLog),
    Policy::new("log").quota(6, units(60)).algorithm(Algorithm::SlidingLog).cost(2),
    Policy::new("log-two").quota(2, units(10)).quota(5, units(100)).algorithm(Algorithm::SlidingLog),
    Policy::new("bucket").quota(3, units(60)).algorithm(BUCKET),
    Policy::new("bucket").quota(6, units(60)).algorithm(BUCKET).burst(4).cost(2),
    Policy::new("bucket-two").quota(2, units(10)).quota(5, units(100)).algorithm(BUCKET),
];

#[derive(Clone, Debug)]
enum Act {
    Check,
    Peek,
    Reset,
    Add(u32),
    GiveBack(u32),
    /// In milliseconds.
    Pass(u64),
}

fn acts() -> impl Strategy<Value = Vec<(Act, usize, usize)>> {
    let edge =
        prop_oneof![Just(1_u64), Just(9), Just(10), Just(20), Just(59), Just(60), Just(120), 0..130_u64];
    // Keys expire by the server's own clock, so the TTL of none may be shorter than a history takes.
    let jitter = prop_oneof![Just(0_i64), Just(-1), Just(1), -8..8_i64].prop_map(|minutes| minutes * 60_000);
    let time = (edge, jitter).prop_map(|(units, jitter)| (units * UNIT_MILLIS).saturating_add_signed(jitter));
    let act = prop_oneof![
        10 => Just(Act::Check),
        1 => Just(Act::Peek),
        1 => Just(Act::Reset),
        1 => (0..4_u32).prop_map(Act::Add),
        1 => (0..4_u32).prop_map(Act::GiveBack),
        4 => time.prop_map(Act::Pass),
    ];
    // At most two neighbouring policies, some of which share counters, so that the steps of a history interact.
    (0..ALL.len()).prop_flat_map(move |first| {
        let which = first..(first + 2).min(ALL.len());
        proptest::collection::vec((act.clone(), which, 0..2_usize), 1..40)
    })
}

async fn act(limiter: &RateLimiter, act: &Act, policy: &Policy, key: &str) -> Decision {
    let decision = match act {
        Act::Check => limiter.check(policy, key).await,
        Act::Peek | Act::Pass(_) => limiter.peek(policy, key).await,
        Act::Add(cost) => limiter.add(policy, key, *cost).await,
        Act::GiveBack(cost) => limiter.give_back(policy, key, *cost).await,
        Act::Reset => {
            limiter.reset(policy, key).await.expect("it is forgotten");
            limiter.peek(policy, key).await
        }
    };
    decision.expect("a decision")
}

/// Lets time pass for Redis's fixed windows, which end by the server's own clock.
async fn pass(connection: &mut MultiplexedConnection, millis: u64) {
    let script = "for _, key in ipairs(redis.call('KEYS', '*}*')) do \
                    if string.match(key, '%d$') then \
                      local left = redis.call('PTTL', key) - tonumber(ARGV[1]) \
                      if left > 0 then redis.call('PEXPIRE', key, left) else redis.call('DEL', key) end \
                    end \
                  end";
    let () =
        redis::cmd("EVAL").arg(script).arg(0).arg(millis).query_async(connection).await.expect("it passes");
}

/// Whether two decisions agree. The `tolerance` is for the real time that a history takes, by which fixed
/// windows may differ.
fn agree(redis: &Decision, memory: &Decision, tolerance: Duration) -> bool {
    // Redis tells of a fixed window in milliseconds, rounded up.
    let rounding = Duration::from_millis(1);
    let close = |one: Duration, other: Duration| one <= other + rounding && one + tolerance >= other;
    let waits = |one: Option<Duration>, other: Option<Duration>| match (one, other) {
        (Some(one), Some(other)) => close(one, other),
        (one, other) => one == other,
    };
    assert!(!redis.is_degraded(), "the server is there");
    redis.quotas().len() == memory.quotas().len()
        && redis.quotas().iter().zip(memory.quotas()).all(|(redis, memory)| {
            (redis.remaining, redis.exceeded) == (memory.remaining, memory.exceeded)
                && close(redis.reset, memory.reset)
                && waits(redis.retry_after, memory.retry_after)
        })
}

/// Builds a limiter that runs on `clock`, with a long timeout.
fn built(runtime: &Runtime, builder: Builder, clock: &ManualClock) -> RateLimiter {
    let builder = builder.clock(clock).timeout(Duration::from_secs(20));
    runtime.block_on(builder.build()).expect("it builds")
}

#[test]
fn redis_decides_as_the_memory_does() {
    let runtime = Runtime::new().expect("a runtime");
    let server = runtime.block_on(RedisServer::start());
    let connection = runtime.block_on(server.connection());
    let clock = ManualClock::default();
    let limiter = |builder: Builder| built(&runtime, builder, &clock);
    let on_redis = limiter(RateLimiter::builder().redis(server.url()).require_store());
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 2_000, ..ProptestConfig::default() });
    let history = |acts: Vec<(Act, usize, usize)>| {
        let in_memory = limiter(RateLimiter::builder());
        let is_fixed = acts.iter().any(|(_, policy, _)| ALL[*policy].counted_by() == Algorithm::FixedWindow);
        runtime.block_on(async {
            let () = redis::cmd("FLUSHALL").query_async(&mut connection.clone()).await.expect("it is empty");
            // Denials remembered from the previous history are too old after this.
            clock.advance(Duration::from_secs(2));
            for (step, policy, key) in acts {
                if let Act::Pass(millis) = step {
                    // Whole units stay further from a window's end than the real time that a history takes.
                    let millis = if is_fixed { millis - millis % UNIT_MILLIS } else { millis };
                    clock.advance(Duration::from_millis(millis));
                    pass(&mut connection.clone(), millis).await;
                }
                let (policy, key) = (&ALL[policy], KEYS[key]);
                let said = act(&on_redis, &step, policy, key).await;
                let expected = act(&in_memory, &step, policy, key).await;
                let tolerance = if is_fixed { UNIT / 3 } else { Duration::ZERO };
                prop_assert!(
                    agree(&said, &expected, tolerance),
                    "{:?}: {:?} is not {:?}",
                    step,
                    said,
                    expected
                );
            }
            Ok(())
        })
    };
    runner.run(&acts(), history).expect("Redis decides as the memory does");
}

/// Checks that are made at the same time, each of a policy and a key, and the units of time that pass afterwards.
type Round = (Vec<(usize, usize)>, u64);

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    (0..ALL.len()).prop_flat_map(|first| {
        let which = first..(first + 2).min(ALL.len());
        let checks = proptest::collection::vec((which, 0..2_usize), 1..60);
        proptest::collection::vec((checks, 0..70_u64), 1..6)
    })
}

/// Checks that are made at the same time share calls, in which equal ones are merged. Each must get the decision
/// that it would get if they were made one by one, in the order in which they came.
#[test]
fn checks_that_share_a_call_are_decided_one_after_the_other() {
    // On one thread, all checks of a round are enqueued before any is sent.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = runtime.block_on(RedisServer::start());
    let connection = runtime.block_on(server.connection());
    let clock = ManualClock::default();
    let limiter = |builder: Builder| built(&runtime, builder, &clock);
    let without_memory = limiter(RateLimiter::builder().redis(server.url()).deny_memory(false));
    let with_memory = limiter(RateLimiter::builder().redis(server.url()).key_prefix("other:"));
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 300, ..ProptestConfig::default() });
    let history = |rounds: Vec<Round>| {
        let in_memory = limiter(RateLimiter::builder());
        runtime.block_on(async {
            let () = redis::cmd("FLUSHALL").query_async(&mut connection.clone()).await.expect("it is empty");
            clock.advance(Duration::from_secs(2));
            for (checks, units) in rounds {
                let ask = |limiter: &RateLimiter| {
                    let checks = checks.iter().map(|(policy, key)| {
                        let limiter = limiter.clone();
                        async move { limiter.check(&ALL[*policy], KEYS[*key]).await.expect("a decision") }
                    });
                    futures_util::future::join_all(checks.collect::<Vec<_>>())
                };
                let before = server.calls().await;
                let said = ask(&without_memory).await;
                let taken = server.calls().await - before;
                prop_assert_eq!(taken, scripts(&checks), "{} checks share a call", checks.len());
                let remembered = ask(&with_memory).await;
                for (index, (policy, key)) in checks.iter().enumerate() {
                    let expected = in_memory.check(&ALL[*policy], KEYS[*key]).await.expect("a decision");
                    let is_fixed = ALL[*policy].counted_by() == Algorithm::FixedWindow;
                    let tolerance = if is_fixed { UNIT / 3 } else { Duration::ZERO };
                    let said = &said[index];
                    prop_assert!(
                        agree(said, &expected, tolerance),
                        "{}: {:?} is not {:?}",
                        index,
                        said,
                        expected
                    );
                    prop_assert_eq!(remembered[index].is_allowed(), expected.is_allowed());
                }
                clock.advance(UNIT * u32::try_from(units).expect("some dozens"));
                pass(&mut connection.clone(), units * UNIT_MILLIS).await;
            }
            Ok(())
        })
    };
    runner.run(&rounds(), history).expect("they are decided as if each were alone");
}

/// Returns how many calls decide these checks: one, by a short script or a transaction, for single fixed windows,
/// and one, by a longer script, for all others. If checks of both kinds share a key, the latter decides all.
fn scripts(checks: &[(usize, usize)]) -> u64 {
    let is_simple =
        |policy: &Policy| (policy.quotas().len(), policy.counted_by()) == (1, Algorithm::FixedWindow);
    let (simple, others): (Vec<_>, Vec<_>) = checks.iter().partition(|(policy, _)| is_simple(&ALL[*policy]));
    let keys = |checks: Vec<&(usize, usize)>| -> HashSet<(&str, usize)> {
        checks.into_iter().map(|(policy, key)| (ALL[*policy].name(), *key)).collect()
    };
    let (simple, others) = (keys(simple), keys(others));
    let are_two = !simple.is_empty() && !others.is_empty() && simple.is_disjoint(&others);
    if are_two { 2 } else { 1 }
}
