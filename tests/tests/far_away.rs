//! Tests of servers at the end of a long line, where a call may be sent before the previous one is answered.

use std::time::Duration;

use axum_rate_limit::{Algorithm, OnStoreError, Policy, RateLimiter};
use futures_util::FutureExt as _;
use tests::{Fault, FaultProxy, RedisServer, built};

const MANY: Policy = Policy::new("many").per_hour(1_000_000);

/// A limiter and its server, at the two ends of a line.
struct Line {
    server: RedisServer,
    proxy: FaultProxy,
    limiter: RateLimiter,
}

impl Line {
    /// Opens a line with a limiter that remembers no denials.
    async fn with_timeout(timeout: Duration) -> Self {
        let server = RedisServer::start().await;
        let proxy = FaultProxy::to(server.port());
        let settings = || RateLimiter::builder().redis(proxy.url()).timeout(timeout).deny_memory(false);
        let limiter = built(settings).await;
        Self { server, proxy, limiter }
    }
}

/// If a server is so far away that a check which waited for the previous call would be too late, the next call
/// is sent before the previous one is answered.
#[tokio::test]
async fn a_server_far_away_is_asked_before_it_has_answered() {
    let (counted, _) = from_far_away(Duration::from_millis(1_200), async |_| ()).await;
    assert!(counted > 90, "{counted} of 100 are decided by the server");
}

/// Calls that find the scripts lost while others are in flight are sent again, all of them after one reload.
#[tokio::test]
async fn a_server_far_away_may_lose_its_scripts() {
    let flush = async |server: &RedisServer| {
        let () = server.call(&["SCRIPT", "FLUSH"]).await;
    };
    let (counted, calls) = from_far_away(Duration::from_millis(400), flush).await;
    assert!(counted > 90, "{counted} of 100 are decided by the server");
    assert!(calls > 10, "{calls} calls");
}

/// If the time on the line outweighs that of the processors, no check waits for the answer to another.
#[tokio::test]
async fn a_server_far_away_is_asked_by_each_when_they_come() {
    // Otherwise, a check would wait for a part of this timeout.
    let Line { server, proxy, limiter } = Line::with_timeout(Duration::from_secs(3_600)).await;
    proxy.set(Fault::Delay(Duration::from_millis(400)));
    let _ = limiter.check(&MANY, "0").await.expect("a decision");
    proxy.set(Fault::Delay(Duration::from_secs(600)));
    let mut checks = Vec::new();
    for key in ["1", "2", "3", "4"] {
        let mut check = Box::pin(limiter.check(&MANY, key));
        assert!(check.as_mut().now_or_never().is_none(), "it waits");
        checks.push(check);
        let counters = format!("{}", checks.len() + 1);
        server.until(&["DBSIZE"], |told| told == counters).await;
        // The more calls are in flight, the longer the next one waits for checks to share it.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// The limiter pings a server for which there has been no check for a while.
#[tokio::test]
async fn a_check_does_not_wait_for_the_answer_to_a_ping() {
    let Line { server, proxy, limiter } = Line::with_timeout(Duration::from_secs(3_600)).await;
    let _ = limiter.check(&MANY, "0").await.expect("a decision");
    proxy.set(Fault::Delay(Duration::from_secs(600)));
    let pinged = format!("cmdstat_ping:calls={},", server.runs("ping").await + 1);
    server.until(&["INFO", "commandstats"], |told| told.contains(&pinged)).await;
    let mut check = Box::pin(limiter.check(&MANY, "1"));
    assert!(check.as_mut().now_or_never().is_none(), "it waits");
    server.until(&["DBSIZE"], |told| told == "2").await;
}

/// If a server stops for longer than the timeout, checks that come soon after it has stopped are late, but later
/// ones are not.
#[tokio::test]
async fn a_server_far_away_may_stop_for_a_while() {
    let Line { server, proxy, limiter } = Line::with_timeout(Duration::from_secs(4)).await;
    proxy.set(Fault::Delay(Duration::from_millis(20)));
    let _ = limiter.check(&MANY, "0").await.expect("a decision");
    let () = server.call(&["CLIENT", "PAUSE", "5000"]).await;
    let mut checks = Vec::new();
    for turn in 0..60 {
        let limiter = limiter.clone();
        let check =
            tokio::spawn(async move { limiter.check(&MANY, turn.to_string()).await.expect("a decision") });
        checks.push(check);
        tokio::time::sleep(Duration::from_millis(45)).await;
    }
    // These come after two seconds, and may have to share a call with checks that came half a second before.
    for check in checks.split_off(50) {
        assert!(!check.await.expect("no panic").is_degraded());
    }
}

/// Makes a hundred checks in five seconds, over a line with this `delay`, and calls `midway` halfway. Returns
/// how many the server has decided, and how many calls it has run.
async fn from_far_away(delay: Duration, midway: impl AsyncFn(&RedisServer)) -> (u32, u64) {
    const HALF: Policy = Policy::new("half").per_hour(50);
    let Line { server, proxy, limiter } = Line::with_timeout(Duration::from_secs(2)).await;
    let before = server.calls().await;
    proxy.set(Fault::Delay(delay));
    let mut checks = Vec::new();
    for turn in 0..100 {
        if turn == 50 {
            midway(&server).await;
        }
        let limiter = limiter.clone();
        checks.push(tokio::spawn(async move { limiter.check(&HALF, "x").await.expect("a decision") }));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut decided = Vec::new();
    for check in checks {
        let decision = check.await.expect("no panic");
        if !decision.is_degraded() {
            decided.push(decision.is_allowed());
        }
    }
    let passed = decided.iter().filter(|passed| **passed).count();
    assert!(passed <= 50, "{passed} have passed of 50");
    // They are decided in the order in which they came.
    assert!(decided.is_sorted_by(|one, next| one >= next), "{decided:?}");
    (u32::try_from(decided.len()).expect("a few"), server.calls().await - before)
}

/// There is no time to load the scripts one after the other and to ask again. So the first check that misses one is
/// late, but not those that follow.
#[tokio::test]
async fn lost_scripts_are_loaded_though_no_check_can_wait_for_it() {
    const TIMEOUT: Duration = Duration::from_millis(600);
    const WINDOW: Policy = Policy::new("window").per_hour(1_000_000);
    const BUCKET: Policy = WINDOW.algorithm(Algorithm::TokenBucket { burst: None });
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.port());
    let settings =
        || RateLimiter::builder().redis(proxy.url()).timeout(TIMEOUT).on_store_error(OnStoreError::Deny);
    let limiter = built(settings).await;
    // The first answer is the fastest, by which the limiter takes the distance.
    let check = async |policy: &Policy, percent| {
        proxy.set(Fault::Delay(TIMEOUT * percent / 100));
        limiter.check(policy, "x").await.is_ok()
    };
    assert!(check(&WINDOW, 55).await);
    let () = server.call(&["SCRIPT", "FLUSH"]).await;
    let mut late = 0;
    while !check(&BUCKET, 65).await {
        late += 1;
        assert!(late < 4, "it is never asked in time");
        // The line is not dead, so the connection is kept, and with it what it knows.
        assert!(check(&WINDOW, 55).await);
    }
}
