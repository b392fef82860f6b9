//! Both stores against the model, on random histories: every decision, remaining and reset.
//!
//! The memory store lives on a clock that the test moves. Redis has its own; there the test moves
//! what depends on it, and takes the time that passes from what every key has left.

use std::collections::HashMap;
use std::time::Duration;

use axum_rate_limit::{Decision, ManualClock, Policy, RateLimiter};
use proptest::prelude::*;
use redis::aio::MultiplexedConnection;
use tests::RedisServer;
use tokio::runtime::Runtime;

/// Windows of hours, so that the real time which a history takes is nothing beside them.
const POLICIES: [Policy; 4] = [
    Policy::new("one").quota(3, units(60)),
    Policy::new("two").quota(2, units(10)).quota(5, units(100)),
    Policy::new("three").quota(1, units(10)).quota(3, units(100)).quota(4, units(1_000)),
    // The same counters as `one`, of which another instance knows another limit.
    Policy::new("one").quota(5, units(60)),
];
const KEYS: [&str; 3] = ["a", "b", "::"];

/// The shortest time that a history can tell.
const UNIT: Duration = Duration::from_secs(1_000);

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

/// What a decision says, as far as all must agree on it.
#[derive(Debug, PartialEq)]
struct Said {
    allowed: bool,
    /// Remaining and reset of each quota.
    quotas: Vec<(u32, Duration)>,
}

impl From<Decision> for Said {
    fn from(decision: Decision) -> Self {
        assert!(!decision.is_degraded());
        let quotas = decision.quotas().iter().map(|state| (state.remaining, state.reset)).collect();
        Self { allowed: decision.is_allowed(), quotas }
    }
}

/// The fixed window, as simply as it can be said.
#[derive(Default)]
struct Model {
    now: Duration,
    /// By name, key and window: how much is taken, and when the window ends.
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

/// Lets time pass for all keys, since a server's clock can't be moved.
async fn pass(connection: &mut MultiplexedConnection, time: Duration) {
    let script = "for _, key in ipairs(redis.call('KEYS', '*')) do \
                    local left = redis.call('PTTL', key) - tonumber(ARGV[1]) \
                    if left > 0 then redis.call('PEXPIRE', key, left) else redis.call('DEL', key) end \
                  end";
    let millis = u64::try_from(time.as_millis()).expect("a short time");
    let () =
        redis::cmd("EVAL").arg(script).arg(0).arg(millis).query_async(connection).await.expect("it passes");
}

/// Equal, but for the real time that a history takes.
fn agree(redis: &Said, model: &Said) -> bool {
    let close = |(one, other): (&(u32, Duration), &(u32, Duration))| {
        one.0 == other.0 && one.1 <= other.1 && one.1 + UNIT > other.1
    };
    redis.allowed == model.allowed && redis.quotas.iter().zip(&model.quotas).all(close)
}

#[test]
fn redis_is_the_model() {
    let runtime = Runtime::new().expect("a runtime");
    let server = runtime.block_on(RedisServer::start());
    let limiter = RateLimiter::builder().redis(server.url()).timeout(Duration::from_secs(20)).require_store();
    let limiter = runtime.block_on(limiter.build()).expect("Redis is there");
    let connection = runtime.block_on(server.connection());
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 300, ..ProptestConfig::default() });
    let history = |steps: Vec<Step>| {
        runtime.block_on(async {
            let () = redis::cmd("FLUSHALL").query_async(&mut connection.clone()).await.expect("it is empty");
            let mut model = Model::default();
            for step in steps {
                let (said, expected) = match step {
                    Step::Check { policy, key } => {
                        (ask(&limiter, policy, key, true).await, model.ask(&POLICIES[policy], key, true))
                    }
                    Step::Peek { policy, key } => {
                        (ask(&limiter, policy, key, false).await, model.ask(&POLICIES[policy], key, false))
                    }
                    Step::Reset { policy, key } => {
                        limiter.reset(&POLICIES[policy], KEYS[key]).await.expect("it is forgotten");
                        model.reset(&POLICIES[policy], key);
                        continue;
                    }
                    Step::Pass(time) => {
                        pass(&mut connection.clone(), time).await;
                        model.now += time;
                        continue;
                    }
                };
                prop_assert!(agree(&said, &expected), "{:?} is not {:?}", said, expected);
            }
            Ok(())
        })
    };
    runner.run(&steps(), history).expect("Redis decides as the model does");
}
