//! Tests of remembered denials: what Redis has denied is denied without asking again, for as long as it would be.

use std::time::{Duration, Instant};

use axum_rate_limit::{Decision, ManualClock, Policy, RateLimiter};
use tests::{Fault, FaultProxy, RedisServer, built, recovered};

/// How long a limiter waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

const TEN: Policy = Policy::new("ten").per_hour(10);

/// Uses up ten of ten, and returns the next decision, which is a denial.
async fn used_up(limiter: &RateLimiter, key: &str) -> Decision {
    for _ in 0..10 {
        assert!(limiter.check(&TEN, key).await.expect("a decision").is_allowed());
    }
    let denied = limiter.check(&TEN, key).await.expect("a decision");
    assert!(!denied.is_allowed());
    denied
}

#[tokio::test]
async fn what_is_used_up_is_denied_without_a_call() {
    let server = RedisServer::start().await;
    let limiter = server.limiter().await;
    let first = used_up(&limiter, "x").await;
    let before = server.calls().await;
    let start = Instant::now();
    let mut denied = 0_u64;
    while start.elapsed() < Duration::from_millis(2_500) {
        let decision = limiter.check(&TEN, "x").await.expect("a decision");
        assert!(!decision.is_allowed() && !decision.is_degraded());
        assert!(decision.retry_after() <= first.retry_after() && decision.remaining() == 0);
        denied += 1;
        tokio::task::yield_now().await;
    }
    // Redis is asked again at most once a second, however many checks there are.
    let asked = server.calls().await - before;
    assert!(asked <= 3 && denied > 100, "{asked} calls for {denied} denials");
    assert!(limiter.check(&TEN, "y").await.expect("a decision").is_allowed(), "nobody else is denied");
}

#[tokio::test]
async fn a_denial_is_of_what_was_asked_for_and_forgotten_with_it() {
    const DEAR: Policy = Policy::new("ten").per_hour(10).cost(5);
    let server = RedisServer::start().await;
    let limiter = server.limiter().await;
    let _ = limiter.add(&TEN, "x", 7).await.expect("a decision");
    let denied = || async { !limiter.check(&DEAR, "x").await.expect("a decision").is_allowed() };
    assert!(denied().await && denied().await);
    assert!(limiter.check(&TEN, "x").await.expect("a decision").is_allowed(), "one fits where five do not");
    let _ = limiter.give_back(&TEN, "x", 3).await.expect("a decision");
    assert!(!denied().await, "what was given back is known at once");
    let _ = used_up(&limiter, "y").await;
    limiter.reset(&TEN, "y").await.expect("it is forgotten");
    assert!(limiter.check(&TEN, "y").await.expect("a decision").is_allowed());
}

#[tokio::test]
async fn what_another_instance_forgets_is_known_within_a_second_or_at_once() {
    let server = RedisServer::start().await;
    let (limiter, other) = (server.limiter().await, server.limiter().await);
    let builder = RateLimiter::builder().redis(server.url()).timeout(PATIENCE).deny_memory(false);
    let without_memory = builder.build().await.expect("it builds");
    let _ = used_up(&limiter, "x").await;
    assert!(!without_memory.check(&TEN, "x").await.expect("a decision").is_allowed());
    other.reset(&TEN, "x").await.expect("it is forgotten");
    assert!(without_memory.check(&TEN, "x").await.expect("a decision").is_allowed());
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(limiter.check(&TEN, "x").await.expect("a decision").is_allowed());
}

/// Nobody knows then whether the counter was reset, so Redis is asked again.
#[tokio::test]
async fn a_reset_without_an_answer_ends_what_is_known_of_denials() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.port());
    // The clock stands still, so that no denial becomes too old to be believed.
    let clock = ManualClock::default();
    let settings =
        || RateLimiter::builder().redis(proxy.url()).timeout(Duration::from_millis(300)).clock(&clock);
    let limiter = built(settings).await;
    while limiter.check(&TEN, "x").await.expect("a decision").is_allowed() {}
    proxy.set(Fault::Delay(Duration::from_secs(1)));
    limiter.reset(&TEN, "x").await.expect_err("there is no answer in time");
    proxy.set(Fault::None);
    assert!(recovered(&limiter, &TEN, "x").await.is_allowed());
}
