//! Tests of what is stored in Redis, and of the calls that it gets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::routing::get;
use axum_rate_limit::{
    Algorithm, Error, ManualClock, OnStoreError, Policy, RateLimiter, StoreError, rate_limit,
};
use reqwest::StatusCode;
use tests::{App, RedisServer, built, recovered};

#[rate_limit(name = "hundred", per_hour = 100)]
async fn hundred() -> &'static str {
    "ok"
}

#[rate_limit(name = "hardwork", per_minute = 5, per_hour = 50, by_resource)]
async fn calculate() -> &'static str {
    "42"
}

#[tokio::test]
async fn keys_are_as_documented_and_expire() {
    let server = RedisServer::start().await;
    let app =
        App::serve(Router::new().route("/hardwork/", get(calculate)).layer(server.limiter().await)).await;
    app.get("/hardwork/?query=1").await;
    let keys = server.keys().await;
    assert_eq!(
        keys,
        ["rl:{hardwork::127.0.0.1::GET:/hardwork/}3600000", "rl:{hardwork::127.0.0.1::GET:/hardwork/}60000"]
    );
    for (key, window) in keys.iter().zip([3_600_000, 60_000]) {
        let left = server.pttl(key).await;
        assert!(0 < left && left <= window, "{key} has {left} ms left");
    }
}

#[tokio::test]
async fn prefixes_keep_services_apart() {
    const ONE: Policy = Policy::new("one").per_hour(1);
    let server = RedisServer::start().await;
    let other =
        RateLimiter::builder().redis(server.url()).key_prefix("shop:").build().await.expect("it builds");
    assert!(server.limiter().await.check(&ONE, "x").await.expect("a decision").is_allowed());
    assert!(other.check(&ONE, "x").await.expect("a decision").is_allowed());
    assert_eq!(server.keys().await, ["rl:{one::x}3600000", "shop:{one::x}3600000"]);
}

#[tokio::test]
async fn two_instances_share_one_limit_exactly() {
    let server = RedisServer::start().await;
    let mut apps = Vec::new();
    for _ in 0..2 {
        apps.push(App::serve(Router::new().route("/", get(hundred)).layer(server.limiter().await)).await);
    }
    let (one, other) = tokio::join!(apps[0].admitted_at_once("/", 100), apps[1].admitted_at_once("/", 100));
    assert_eq!(one + other, 100, "{one} here, {other} there");
}

#[rate_limit(name = "upper", per_minute = 2, per_hour = 3)]
#[rate_limit(name = "lower", per_minute = 2, by_resource)]
async fn stacked() -> &'static str {
    "ok"
}

#[tokio::test]
async fn a_check_is_one_call_whatever_the_number_of_quotas() {
    const ONE: Policy = Policy::new("one").per_second(1_000);
    const THREE: Policy = Policy::new("three").per_second(10).per_minute(20).per_hour(30);
    const FIVE: Policy = Policy::new("five")
        .per_second(10)
        .per_minute(20)
        .per_hour(30)
        .per_day(40)
        .quota(50, Duration::from_secs(7 * 86_400));
    let server = RedisServer::start().await;
    let limiter = server.limiter().await;
    for policy in [ONE, THREE, FIVE] {
        let before = server.calls().await;
        let _ = limiter.check(&policy, "x").await.expect("a decision");
        assert_eq!(server.calls().await - before, 1, "{policy:?}");
    }

    let app = App::serve(Router::new().route("/", get(stacked)).layer(limiter)).await;
    let before = server.calls().await;
    assert_eq!(app.statuses("/", 3).await, [200, 200, 503]);
    assert_eq!(server.calls().await - before, 3);
}

#[tokio::test]
async fn a_flushed_script_is_loaded_again() {
    const TWO: Policy = Policy::new("two").per_hour(2);
    let server = RedisServer::start().await;
    let limiter = server.limiter().await;
    for allowed in [true, true, false] {
        let mut connection = server.connection().await;
        let () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut connection).await.expect("it is flushed");
        let decision = limiter.check(&TWO, "x").await.expect("a decision");
        assert_eq!((decision.is_allowed(), decision.is_degraded()), (allowed, false));
    }
}

#[tokio::test]
async fn someone_elses_data_is_refused_and_left_alone() {
    const ONE: Policy = Policy::new("one").per_hour(1);
    let server = RedisServer::start().await;
    let mut connection = server.connection().await;
    let key = "rl:{one::x}3600000";
    let () =
        redis::cmd("HSET").arg(key).arg("f").arg("v").query_async(&mut connection).await.expect("a hash");
    let builder = RateLimiter::builder().redis(server.url()).timeout(Duration::from_secs(20));
    let limiter = builder.on_store_error(OnStoreError::Deny).build().await.expect("it builds");
    let is_refused = |error: Error| {
        assert!(error.to_string().contains("is the key prefix used by someone else?"), "{error}");
        assert!(matches!(error, Error::Store(StoreError::Refused(_))), "{error:?}");
    };
    is_refused(limiter.check(&ONE, "x").await.expect_err("a hash is no counter"));
    let () = redis::cmd("SET").arg(key).arg("many").query_async(&mut connection).await.expect("a string");
    is_refused(limiter.check(&ONE, "x").await.expect_err("`many` is no number"));
    assert!(limiter.check(&ONE, "y").await.expect("a decision").is_allowed(), "others are served");
}

#[tokio::test]
async fn a_counter_whose_ttl_was_taken_away_ends_all_the_same() {
    const ONE: Policy = Policy::new("one").per_hour(1);
    let server = RedisServer::start().await;
    let limiter = server.limiter().await;
    let _ = limiter.check(&ONE, "x").await.expect("a decision");
    let mut connection = server.connection().await;
    let key = "rl:{one::x}3600000";
    let () = redis::cmd("PERSIST").arg(key).query_async(&mut connection).await.expect("it is persistent");
    let decision = limiter.check(&ONE, "x").await.expect("a decision");
    assert!(!decision.is_allowed() && decision.reset() > Duration::ZERO);
    assert!(server.pttl(key).await > 0);
}

/// The end of a window that this process remembers must not be taken for that of the next one.
#[tokio::test]
async fn a_counter_that_was_reset_elsewhere_begins_a_window_of_its_own() {
    const MANY: Policy = Policy::new("many").per_hour(100);
    let server = RedisServer::start().await;
    let limiter = server.limiter().await;
    let mut connection = server.connection().await;
    let key = "rl:{many::x}3600000";
    for _ in 0..3 {
        let _ = limiter.check(&MANY, "x").await.expect("a decision");
        let () =
            redis::cmd("PEXPIRE").arg(key).arg(600_000).query_async(&mut connection).await.expect("it is");
        let _ = limiter.check(&MANY, "x").await.expect("a decision");
        let () = redis::cmd("UNLINK").arg(key).query_async(&mut connection).await.expect("it is gone");
        let first = limiter.check(&MANY, "x").await.expect("a decision");
        assert_eq!((first.remaining(), first.reset().as_secs().div_ceil(60)), (99, 60));
        assert!(server.pttl(key).await > 600_000);
        let () = redis::cmd("UNLINK").arg(key).query_async(&mut connection).await.expect("it is gone");
    }
    // A denial tells the wait according to Redis, whatever is remembered.
    let _ = limiter.add(&MANY, "x", 99).await.expect("a decision");
    let _ = limiter.check(&MANY, "x").await.expect("a decision");
    let () = redis::cmd("PEXPIRE").arg(key).arg(600_000).query_async(&mut connection).await.expect("it is");
    let denied = limiter.check(&MANY, "x").await.expect("a decision");
    assert_eq!(denied.retry_after().map(|wait| wait.as_secs().div_ceil(60)), Some(10));
}

#[rate_limit(name = "anew", per_hour = 5)]
async fn anew() -> &'static str {
    "ok"
}

/// Middleware between the layer and the handler may give up a request that waits for the store, and send it again.
#[tokio::test]
async fn a_request_that_is_given_up_while_it_waits_is_asked_anew() {
    let server = Arc::new(RedisServer::start().await);
    let (stopping, limiter) = (Arc::clone(&server), server.limiter().await);
    let retry = move |request: Request, next: Next| {
        let server = Arc::clone(&stopping);
        async move {
            let (parts, body) = request.into_parts();
            let first = next.clone().run(Request::from_parts(parts.clone(), Body::empty()));
            server.signal("STOP");
            let first = tokio::time::timeout(Duration::from_millis(200), first).await;
            server.signal("CONT");
            assert!(first.is_err(), "nobody answers");
            next.run(Request::from_parts(parts, body)).await
        }
    };
    let routes = Router::new().route("/", get(anew)).layer(from_fn(retry));
    let app = App::serve(routes.layer(limiter)).await;
    let answer = app.get("/").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.field("ratelimit-policy"), r#""anew";q=5;w=3600"#);
    // The first attempt may have been charged, and it has been.
    assert_eq!(answer.parameter("r"), Some(3));
}

/// Under load from many clients, some of which hang up, the server is killed again and again, each time a
/// little later. Every key that it has on disk then has a TTL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_ever_without_a_ttl_whatever_is_killed_when() {
    const POLICY: Policy = Policy::new("load").per_minute(1_000).per_hour(5_000);
    const SIMPLE: Policy = Policy::new("simple").per_minute(1_000);
    let mut server =
        RedisServer::start_with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]).await;
    let limiter = RateLimiter::builder().redis(server.url()).build().await.expect("it builds");
    let mut seen = 0;
    for round in 0..5 {
        let _ = recovered(&limiter, &POLICY, "first").await;
        let mut load = Vec::new();
        for client in 0..50 {
            let limiter = limiter.clone();
            load.push(tokio::spawn(async move {
                for request in 0..100 {
                    let key = format!("{round}-{client}-{request}");
                    let policy = if client % 2 == 0 { &POLICY } else { &SIMPLE };
                    let check = limiter.check(policy, key.as_str());
                    if request % 7 == 0 {
                        // A client that hangs up drops the future of its handler.
                        let _ = tokio::time::timeout(Duration::from_micros(200), check).await;
                    } else {
                        let _ = check.await.expect("a decision");
                    }
                }
            }));
        }
        tokio::time::sleep(Duration::from_millis(20 + 15 * round)).await;
        server.kill();
        for task in load {
            task.await.expect("no check panics");
        }
        server.restart().await;
        let mut connection = server.connection().await;
        let script = "local bad, all = 0, redis.call('KEYS', '*') \
                      for _, key in ipairs(all) do if redis.call('PTTL', key) < 0 then bad = bad + 1 end end \
                      return { #all, bad }";
        let (all, bad): (u64, u64) =
            redis::cmd("EVAL").arg(script).arg(0).query_async(&mut connection).await.expect("it counts");
        assert_eq!(bad, 0, "of {all} keys");
        seen = all;
    }
    assert!(seen > 0, "the load has reached the server");
}

/// A counter on which the server refuses to set a TTL is not created.
#[tokio::test]
async fn no_key_is_left_without_a_ttl_by_a_server_that_refuses_to_set_one() {
    const ONCE: Policy = Policy::new("once").per_hour(1);
    let server = RedisServer::start().await;
    let limiter = server.limiter().await;
    let _ = limiter.check(&ONCE, "x").await.expect("a decision");
    let () = server.call(&["ACL", "SETUSER", "default", "-pexpire"]).await;
    let _: i64 = server.call(&["UNLINK", "rl:{once::x}3600000"]).await;
    // The limiter remembers the end of a window that no longer exists.
    assert!(limiter.check(&ONCE, "x").await.expect("a decision").is_degraded());
    assert_eq!(server.keys().await, [""; 0]);
}

/// A client that hangs up leaves its place in a call to nobody, and keeps nobody else from theirs.
#[tokio::test]
async fn a_check_that_is_given_up_neither_loses_nor_leaks_a_place() {
    const MANY: Policy = Policy::new("many").per_hour(1_000);
    let server = RedisServer::start().await;
    let limiter = server.limiter().await;
    let mut kept = Vec::new();
    for index in 0..200 {
        let limiter = limiter.clone();
        let check = tokio::spawn(async move { limiter.check(&MANY, "x").await });
        if index % 2 == 0 {
            // Polled once, so that it has its place, and then dropped.
            tokio::task::yield_now().await;
            check.abort();
        } else {
            kept.push(check);
        }
    }
    for check in kept {
        assert!(check.await.expect("it was not given up").expect("a decision").is_allowed());
    }
    let left = limiter.peek(&MANY, "x").await.expect("a decision").remaining();
    assert!(
        (800..=900).contains(&left),
        "{left} left: a hundred asked to the end, and up to a hundred more began"
    );
}

/// Redis tells how long a window lasts in milliseconds, and rounds down. What a limiter tells may be old by as long as
/// the call took that it knows this from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_as_long_as_it_is_told_is_admitted() {
    const BRIEF: Policy = Policy::new("brief").quota(1, Duration::from_millis(40));
    let server = RedisServer::start().await;
    for limiter in [server.limiter().await, server.limiter_without_deny_memory().await] {
        let (mut denials, mut keys) = (0, 0..1_000);
        while denials < 50 {
            let key = keys.next().expect("the machine is fast enough for some").to_string();
            let check = async || limiter.check(&BRIEF, key.as_str()).await.expect("a decision");
            let asked = Instant::now();
            assert!(check().await.is_allowed());
            let took = asked.elapsed();
            tokio::time::sleep(Duration::from_micros(3_137)).await;
            // On a slow machine, the window may have ended.
            let Some(wait) = check().await.retry_after() else { continue };
            denials += 1;
            assert!(Duration::ZERO < wait && wait <= Duration::from_millis(40), "{wait:?}");
            let start = Instant::now();
            // A timer would sleep for whole milliseconds.
            while start.elapsed() < wait + took {
                std::hint::spin_loop();
            }
            assert!(check().await.is_allowed(), "after {wait:?}");
        }
    }
}

/// As after a failover to a server whose clock is behind.
#[tokio::test]
async fn a_wait_is_true_though_the_clock_has_gone_back() {
    // So long that no key expires by the server's own clock.
    const WINDOW: Duration = Duration::from_secs(10_000);
    let algorithms = [
        ("window", Algorithm::SlidingWindow),
        ("log", Algorithm::SlidingLog),
        ("bucket", Algorithm::TokenBucket { burst: None }),
    ];
    let server = RedisServer::start().await;
    for (name, algorithm) in algorithms {
        let policy = Policy::new(name).quota(5, WINDOW).algorithm(algorithm);
        let (ahead, behind) = (ManualClock::default(), ManualClock::default());
        let limiter = async |clock: &ManualClock| {
            built(|| RateLimiter::builder().redis(server.url()).clock(clock).deny_memory(false)).await
        };
        // Both in a window or just before it, so that no key is forgotten before it matters.
        ahead.advance(WINDOW * 3 / 2);
        let (before, after) = (limiter(&ahead).await, limiter(&behind).await);
        for _ in 0..5 {
            assert!(before.check(&policy, "x").await.expect("a decision").is_allowed(), "{name}");
        }
        let mut now = Duration::ZERO;
        for pause in [WINDOW * 9 / 10, WINDOW / 20] {
            behind.advance(pause);
            now += pause;
            let denied = after.check(&policy, "x").await.expect("a decision");
            assert!(!denied.is_allowed(), "{name}");
            let wait = denied.retry_after().expect("it fits some time");
            let then = ManualClock::default();
            let later = limiter(&then).await;
            then.advance(now + wait.saturating_sub(Duration::from_millis(1)));
            for allowed in [false, true] {
                let decision = later.peek(&policy, "x").await.expect("a decision");
                assert_eq!(decision.is_allowed(), allowed, "{name} at {now:?}: {wait:?}");
                then.advance(Duration::from_millis(1));
            }
        }
    }
}
