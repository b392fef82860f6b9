//! What stands in Redis, and what happens when Redis does not: real servers, stopped for real.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::routing::get;
use axum_rate_limit::{
    Decision, Decisions, Error, ManualClock, OnStoreError, Policy, RateLimiter, StoreError, rate_limit,
};
use futures_util::FutureExt as _;
use reqwest::StatusCode;
use tests::{App, Fault, FaultProxy, LIMIT_FIELDS, RedisServer, built};

/// How long a limiter may take to notice that its server is back.
const PATIENCE: Duration = Duration::from_secs(30);

#[rate_limit(name = "hundred", per_hour = 100)]
async fn hundred() -> &'static str {
    "ok"
}

#[rate_limit(name = "hardwork", per_minute = 5, per_hour = 50, by_resource)]
async fn calculate() -> &'static str {
    "42"
}

/// Asks until the server decides again.
async fn recovered(limiter: &RateLimiter, policy: &Policy, key: &str) -> Decision {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let decision = limiter.check(policy, key).await.expect("a decision");
        if !decision.is_degraded() {
            return decision;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the limiter did not find its server again");
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
        limiter.check(&policy, "x").await.expect("a decision");
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
async fn a_restarted_server_is_found_again() {
    const TWO: Policy = Policy::new("two").per_hour(2);
    let mut server = RedisServer::start().await;
    let limiter = server.limiter().await;
    assert_eq!(limiter.check(&TWO, "x").await.expect("a decision").remaining(), 1);
    server.kill();
    for allowed in [true, true, false] {
        let decision = limiter.check(&TWO, "x").await.expect("a decision");
        assert_eq!((decision.is_allowed(), decision.is_degraded()), (allowed, true), "kept in this process");
    }
    server.restart().await;
    let decision = recovered(&limiter, &TWO, "y").await;
    assert_eq!(decision.remaining(), 1, "it has come back empty");
}

#[tokio::test]
async fn a_limiter_starts_without_its_server_and_finds_it() {
    const TWO: Policy = Policy::new("two").per_hour(2);
    let mut server = RedisServer::start().await;
    server.kill();
    let limiter = RateLimiter::redis(server.url()).await.expect("it starts degraded");
    assert!(limiter.check(&TWO, "x").await.expect("a decision").is_degraded());
    let required = RateLimiter::builder().redis(server.url()).require_store().build().await;
    let error = required.expect_err("the server is away").to_string();
    assert!(error.contains("required"), "{error}");
    server.restart().await;
    recovered(&limiter, &TWO, "y").await;
}

#[rate_limit(name = "judged", per_hour = 2)]
async fn judged(decisions: Decisions) -> String {
    format!("degraded: {}", decisions[0].is_degraded())
}

/// Kills the server, and tells what three requests are answered with.
async fn without_a_server(on_store_error: OnStoreError) -> Vec<tests::Answer> {
    let mut server = RedisServer::start().await;
    let builder = RateLimiter::builder().redis(server.url()).on_store_error(on_store_error).require_store();
    let limiter = builder.build().await.expect("Redis is there");
    let app = App::serve(Router::new().route("/", get(judged)).layer(limiter)).await;
    server.kill();
    vec![app.get("/").await, app.get("/").await, app.get("/").await]
}

#[tokio::test]
async fn local_keeps_the_limit_in_this_process() {
    let answers = without_a_server(OnStoreError::Local).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    assert_eq!(statuses, [200, 200, 503]);
    assert_eq!(answers[0].body, "degraded: true");
    assert_eq!(answers[0].parameter("r"), Some(1));
}

#[tokio::test]
async fn allow_lets_everything_pass() {
    for answer in without_a_server(OnStoreError::Allow).await {
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "degraded: true"));
        assert!(LIMIT_FIELDS.iter().all(|name| answer.field(name).is_empty()), "nothing is known");
    }
}

#[tokio::test]
async fn deny_lets_nothing_pass() {
    for answer in without_a_server(OnStoreError::Deny).await {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.body, r#"{"detail":"The rate limit can't be checked at the moment."}"#);
        assert_eq!(answer.field("retry-after"), "1");
    }
}

#[tokio::test]
async fn a_silent_server_costs_no_more_than_the_timeout_and_soon_nothing() {
    const MANY: Policy = Policy::new("many").per_hour(1_000_000);
    let server = RedisServer::start().await;
    let builder = RateLimiter::builder().redis(server.url()).timeout(Duration::from_millis(200));
    let limiter = builder.require_store().build().await.expect("Redis is there");
    assert!(!limiter.check(&MANY, "x").await.expect("a decision").is_degraded());
    server.signal("STOP");
    let start = Instant::now();
    for _ in 0..1_000 {
        assert!(limiter.check(&MANY, "x").await.expect("a decision").is_degraded());
    }
    // A thousand timeouts would be 200 s; three open the breaker.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    server.signal("CONT");
    recovered(&limiter, &MANY, "x").await;
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
    let refused = |error: Error| matches!(error, Error::Store(StoreError::Refused(_)));
    assert!(refused(limiter.check(&ONE, "x").await.expect_err("a hash is no counter")));
    let () = redis::cmd("SET").arg(key).arg("many").query_async(&mut connection).await.expect("a string");
    let error = limiter.check(&ONE, "x").await.expect_err("`many` is no number");
    assert!(error.to_string().contains("is the key prefix used by someone else?"), "{error}");
    assert!(refused(error));
    assert!(limiter.check(&ONE, "y").await.expect("a decision").is_allowed(), "others are served");
}

#[tokio::test]
async fn a_counter_whose_ttl_was_taken_away_ends_all_the_same() {
    const ONE: Policy = Policy::new("one").per_hour(1);
    let server = RedisServer::start().await;
    let limiter = server.limiter().await;
    limiter.check(&ONE, "x").await.expect("a decision");
    let mut connection = server.connection().await;
    let key = "rl:{one::x}3600000";
    let () = redis::cmd("PERSIST").arg(key).query_async(&mut connection).await.expect("it is persistent");
    let decision = limiter.check(&ONE, "x").await.expect("a decision");
    assert!(!decision.is_allowed() && decision.reset() > Duration::ZERO);
    assert!(server.pttl(key).await > 0);
}

/// The end of a window that this process remembers is not that of the next one.
#[tokio::test]
async fn a_counter_that_was_reset_elsewhere_begins_a_window_of_its_own() {
    const MANY: Policy = Policy::new("many").per_hour(100);
    let server = RedisServer::start().await;
    let limiter = server.limiter().await;
    let mut connection = server.connection().await;
    let key = "rl:{many::x}3600000";
    for _ in 0..3 {
        limiter.check(&MANY, "x").await.expect("a decision");
        let () =
            redis::cmd("PEXPIRE").arg(key).arg(600_000).query_async(&mut connection).await.expect("it is");
        limiter.check(&MANY, "x").await.expect("a decision");
        let () = redis::cmd("UNLINK").arg(key).query_async(&mut connection).await.expect("it is gone");
        let first = limiter.check(&MANY, "x").await.expect("a decision");
        assert_eq!((first.remaining(), first.reset().as_secs().div_ceil(60)), (99, 60));
        assert!(server.pttl(key).await > 600_000);
        let () = redis::cmd("UNLINK").arg(key).query_async(&mut connection).await.expect("it is gone");
    }
    // Whoever is denied is told what Redis says, whatever is remembered.
    limiter.add(&MANY, "x", 99).await.expect("a decision");
    limiter.check(&MANY, "x").await.expect("a decision");
    let () = redis::cmd("PEXPIRE").arg(key).arg(600_000).query_async(&mut connection).await.expect("it is");
    let denied = limiter.check(&MANY, "x").await.expect("a decision");
    assert_eq!(denied.retry_after().map(|wait| wait.as_secs().div_ceil(60)), Some(10));
}

#[rate_limit(name = "anew", per_hour = 5)]
async fn anew() -> &'static str {
    "ok"
}

/// Something between the layer and the handler may give a request up while it waits, and send it again.
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
    // The first try may have counted, and has.
    assert_eq!(answer.parameter("r"), Some(3));
}

/// Under load from many clients, some of whom hang up, the server is killed at a random moment,
/// again and again; whatever it has on disk then has a TTL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_ever_without_a_ttl_whatever_is_killed_when() {
    const POLICY: Policy = Policy::new("load").per_minute(1_000).per_hour(5_000);
    const SIMPLE: Policy = Policy::new("simple").per_minute(1_000);
    let mut server =
        RedisServer::start_with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]).await;
    let limiter = RateLimiter::builder().redis(server.url()).build().await.expect("it builds");
    let mut seen = 0;
    for round in 0..5 {
        recovered(&limiter, &POLICY, "first").await;
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
                        check.await.expect("a decision");
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

/// How many are connected, whoever asks among them.
async fn clients(server: &RedisServer) -> usize {
    let mut connection = server.connection().await;
    let clients: String =
        redis::cmd("CLIENT").arg("LIST").query_async(&mut connection).await.expect("CLIENT LIST answers");
    clients.lines().count()
}

/// The numbers of the connections that a limiter has.
async fn connections(server: &RedisServer) -> Vec<String> {
    let clients: String = server.call(&["CLIENT", "LIST"]).await;
    let of_limiters = clients.lines().filter(|line| !line.contains("cmd=client"));
    of_limiters.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// A limiter has a connection, which is lost while nobody asks, and then another, before anybody does.
async fn is_replaced(lose: impl AsyncFnOnce(&RedisServer)) {
    const TWO: Policy = Policy::new("two").per_hour(2);
    let server = RedisServer::start().await;
    let builder = RateLimiter::builder().redis(server.url()).timeout(Duration::from_secs(1));
    let limiter = builder.build().await.expect("it builds");
    assert!(!limiter.check(&TWO, "x").await.expect("a decision").is_degraded());
    let before = connections(&server).await;
    lose(&server).await;
    let start = Instant::now();
    while connections(&server).await.iter().all(|connection| before.contains(connection)) {
        assert!(start.elapsed() < PATIENCE, "it does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // It is connected, and about to serve.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = limiter.check(&TWO, "x").await.expect("a decision");
    assert_eq!((second.is_degraded(), second.remaining()), (false, 0));
}

/// A server closes connections that have long been quiet: no request has to be the one that finds out.
#[tokio::test]
async fn a_connection_that_is_closed_while_nobody_asks_is_replaced() {
    is_replaced(async |server| {
        let _: i64 = server.call(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    })
    .await;
}

/// Nor has it to be when the server does not say that it is gone.
#[tokio::test]
async fn a_connection_that_falls_silent_while_nobody_asks_is_replaced() {
    is_replaced(async |server| {
        server.signal("STOP");
        // It is asked after five seconds, and then three times for one.
        tokio::time::sleep(Duration::from_secs(10)).await;
        server.signal("CONT");
    })
    .await;
}

/// What a server refuses to let end is not begun.
#[tokio::test]
async fn no_key_is_left_without_a_ttl_by_a_server_that_refuses_to_set_one() {
    const ONCE: Policy = Policy::new("once").per_hour(1);
    let server = RedisServer::start().await;
    let limiter = server.limiter().await;
    limiter.check(&ONCE, "x").await.expect("a decision");
    let () = server.call(&["ACL", "SETUSER", "default", "-pexpire"]).await;
    let _: i64 = server.call(&["UNLINK", "rl:{once::x}3600000"]).await;
    // The end of the window is remembered, but there is none any more.
    assert!(limiter.check(&ONCE, "x").await.expect("a decision").is_degraded());
    assert_eq!(server.keys().await, [""; 0]);
}

#[tokio::test]
async fn a_closed_limiter_holds_no_connection() {
    const TWO: Policy = Policy::new("two").per_hour(2);
    let server = RedisServer::start().await;
    let limiter = server.limiter().await;
    limiter.check(&TWO, "x").await.expect("a decision");
    limiter.close().await;
    let start = Instant::now();
    while clients(&server).await > 1 {
        assert!(start.elapsed() < PATIENCE, "the connection is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let decision = limiter.check(&TWO, "x").await.expect("a decision");
    assert!(decision.is_degraded(), "what comes late is still limited");
}

#[tokio::test]
async fn a_url_that_is_none_is_refused() {
    let error = RateLimiter::redis("localhost:6379").await.expect_err("no scheme").to_string();
    assert!(error.contains("redis://"), "{error}");
}

#[tokio::test]
async fn a_demoted_server_is_left_and_taken_up_again() {
    const MANY: Policy = Policy::new("many").per_hour(1_000);
    let server = RedisServer::start().await;
    let limiter = server.limiter().await;
    limiter.check(&MANY, "x").await.expect("a decision");
    let mut connection = server.connection().await;
    let replica_of = |host: &str, port: &str| redis::cmd("REPLICAOF").arg(host).arg(port).to_owned();
    let () = replica_of("127.0.0.1", "1").query_async(&mut connection).await.expect("it is demoted");
    for _ in 0..3 {
        assert!(limiter.check(&MANY, "x").await.expect("a decision").is_degraded());
    }
    // Probes that a replica would answer are no reason to come back.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(limiter.check(&MANY, "x").await.expect("a decision").is_degraded());
    let () = replica_of("NO", "ONE").query_async(&mut connection).await.expect("it is promoted");
    recovered(&limiter, &MANY, "x").await;
}

#[tokio::test]
async fn a_closed_limiter_asks_its_store_no_more() {
    const ONE: Policy = Policy::new("one").per_hour(1);
    let mut server = RedisServer::start().await;
    let limiter = server.limiter().await;
    server.kill();
    assert!(limiter.check(&ONE, "x").await.expect("a decision").is_degraded(), "it is probed now");
    limiter.close().await;
    server.restart().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(clients(&server).await, 1);
}

#[test]
fn a_limiter_outlives_the_runtime_that_began_to_probe() {
    const ONE: Policy = Policy::new("one").per_hour(10);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let first = runtime();
    let mut server = first.block_on(RedisServer::start());
    server.kill();
    let limiter = first.block_on(RateLimiter::redis(server.url())).expect("it starts degraded");
    drop(first);
    let second = runtime();
    second.block_on(async {
        server.restart().await;
        recovered(&limiter, &ONE, "x").await;
    });
}

const TEN: Policy = Policy::new("ten").per_hour(10);

#[tokio::test]
async fn a_share_of_the_limit_is_kept_while_the_server_is_away() {
    const DEAR: Policy = Policy::new("dear").per_hour(10).cost(8);
    let mut server = RedisServer::start().await;
    let builder = RateLimiter::builder().redis(server.url()).local_share(0.25).require_store();
    let limiter = builder.build().await.expect("Redis is there");
    server.kill();
    let mut admitted = 0;
    for _ in 0..10 {
        let decision = limiter.check(&TEN, "x").await.expect("a decision");
        assert!(decision.is_degraded());
        admitted += u32::from(decision.is_allowed());
    }
    assert_eq!(admitted, 3, "a quarter of ten, rounded up");
    assert!(limiter.check(&DEAR, "x").await.expect("a decision").is_allowed(), "what can pass passes once");
    assert!(!limiter.check(&DEAR, "x").await.expect("a decision").is_too_costly());
}

#[tokio::test]
async fn a_share_is_more_than_nothing_and_no_more_than_all() {
    for share in [0.0, -1.0, 1.1, f64::NAN] {
        let error =
            RateLimiter::builder().local_share(share).build().await.expect_err("no share").to_string();
        assert!(error.contains("write 0.5"), "{error}");
    }
}

/// Uses up ten of ten, and tells what is said to the next.
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
    // Asked again once a second, whatever is asked of it.
    let asked = server.calls().await - before;
    assert!(asked <= 3 && denied > 100, "{asked} calls for {denied} denials");
    assert!(limiter.check(&TEN, "y").await.expect("a decision").is_allowed(), "nobody else is denied");
}

#[tokio::test]
async fn a_denial_is_of_what_was_asked_for_and_forgotten_with_it() {
    const DEAR: Policy = Policy::new("ten").per_hour(10).cost(5);
    let server = RedisServer::start().await;
    let limiter = server.limiter().await;
    limiter.add(&TEN, "x", 7).await.expect("a decision");
    let denied = || async { !limiter.check(&DEAR, "x").await.expect("a decision").is_allowed() };
    assert!(denied().await && denied().await);
    assert!(limiter.check(&TEN, "x").await.expect("a decision").is_allowed(), "one fits where five do not");
    limiter.give_back(&TEN, "x", 3).await.expect("a decision");
    assert!(!denied().await, "what was given back is known at once");
    used_up(&limiter, "y").await;
    limiter.reset(&TEN, "y").await.expect("it is forgotten");
    assert!(limiter.check(&TEN, "y").await.expect("a decision").is_allowed());
}

#[tokio::test]
async fn what_another_instance_forgets_is_known_within_a_second_or_at_once() {
    let server = RedisServer::start().await;
    let (limiter, other) = (server.limiter().await, server.limiter().await);
    let builder = RateLimiter::builder().redis(server.url()).timeout(PATIENCE).deny_memory(false);
    let without_memory = builder.build().await.expect("it builds");
    used_up(&limiter, "x").await;
    assert!(!without_memory.check(&TEN, "x").await.expect("a decision").is_allowed());
    other.reset(&TEN, "x").await.expect("it is forgotten");
    assert!(without_memory.check(&TEN, "x").await.expect("a decision").is_allowed());
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(limiter.check(&TEN, "x").await.expect("a decision").is_allowed());
}

/// Nobody knows then whether it was forgotten, so Redis is asked.
#[tokio::test]
async fn a_reset_without_an_answer_ends_what_is_known_of_denials() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.port());
    // It stands still, so that no denial is too old to be believed.
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

/// Whoever waits for a connection that is lost may hear of it when there has long been another one.
#[tokio::test]
async fn what_became_of_a_connection_before_says_nothing_of_the_one_that_serves() {
    const MANY: Policy = Policy::new("many").per_hour(1_000_000);
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.port());
    let limiter = built(|| RateLimiter::builder().redis(proxy.url()).timeout(PATIENCE)).await;
    proxy.set(Fault::Swallow);
    let mut late = Box::pin(limiter.check(&MANY, "x"));
    assert!(late.as_mut().now_or_never().is_none(), "it waits");
    // It is sent, before the line is cut.
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.set(Fault::None);
    proxy.cut();
    recovered(&limiter, &MANY, "x").await;
    assert!(late.await.expect("a decision").is_degraded());
    assert!(!limiter.check(&MANY, "x").await.expect("a decision").is_degraded());
}

/// A client that hangs up leaves its place to nobody, and keeps nobody from theirs.
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
