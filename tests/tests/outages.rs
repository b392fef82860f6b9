//! Tests of outages of Redis: real servers, really stopped.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{Uri, response};
use axum::routing::get;
use axum::{Extension, Router};
use axum_rate_limit::{Algorithm, Decisions, ManualClock, OnStoreError, Policy, RateLimiter, rate_limit};
use reqwest::StatusCode;
use tests::{App, Fault, FaultProxy, LIMIT_FIELDS, Log, RedisServer, built, recovered};

const MANY: Policy = Policy::new("many").per_hour(1_000_000);

/// How long anything may take; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);

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
    assert!(limiter.check(&TWO, "x").await.expect("a decision").is_degraded() && limiter.is_degraded());
    let (log, guard) = Log::of_this_thread();
    let required = RateLimiter::builder().redis(server.url()).require_store().build().await;
    let error = required.expect_err("the server is away").to_string();
    assert!(error.contains("required"), "{error}");
    assert!(log.lines_with("WARN", &["it is probed"]).is_empty(), "{:?}", log.lines());
    drop(guard);
    server.restart().await;
    let _ = recovered(&limiter, &TWO, "y").await;
    assert!(!limiter.is_degraded());
}

/// Otherwise each instance would count apart, for want of a variable.
#[tokio::test]
async fn a_store_that_is_required_has_to_be_named() {
    let error = RateLimiter::builder().memory().require_store().build().await.expect_err("there is none");
    assert!(error.to_string().contains("no store to require"), "{error}");
}

#[rate_limit(name = "judged", per_hour = 2)]
async fn judged(decisions: Decisions) -> String {
    format!("degraded: {}", decisions[0].is_degraded())
}

/// Kills the server, and returns the answers to three requests.
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
    let _ = recovered(&limiter, &MANY, "x").await;
}

#[tokio::test]
async fn a_demoted_server_is_left_and_taken_up_again() {
    const MANY: Policy = Policy::new("many").per_hour(1_000);
    let server = RedisServer::start().await;
    let limiter = server.limiter().await;
    let _ = limiter.check(&MANY, "x").await.expect("a decision");
    let mut connection = server.connection().await;
    let replica_of = |host: &str, port: &str| redis::cmd("REPLICAOF").arg(host).arg(port).to_owned();
    let () = replica_of("127.0.0.1", "1").query_async(&mut connection).await.expect("it is demoted");
    for _ in 0..3 {
        assert!(limiter.check(&MANY, "x").await.expect("a decision").is_degraded());
    }
    // A replica answers probes, but that is no reason to use it again.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(limiter.check(&MANY, "x").await.expect("a decision").is_degraded());
    let () = replica_of("NO", "ONE").query_async(&mut connection).await.expect("it is promoted");
    let _ = recovered(&limiter, &MANY, "x").await;
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
        let _ = recovered(&limiter, &ONE, "x").await;
    });
}

#[tokio::test]
async fn a_share_of_the_limit_is_kept_while_the_server_is_away() {
    const TEN: Policy = Policy::new("ten").per_hour(10);
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
async fn a_bucket_is_refilled_at_its_share_whatever_its_charges_cost() {
    const BUCKET: Policy =
        Policy::new("bucket").per_second(100).algorithm(Algorithm::TokenBucket { burst: None });
    let mut server = RedisServer::start().await;
    let clock = ManualClock::default();
    let builder = RateLimiter::builder().redis(server.url()).local_share(0.1).clock(&clock).require_store();
    let limiter = builder.build().await.expect("Redis is there");
    server.kill();
    let dear = limiter.check_with_cost(&BUCKET, "x", 100).await.expect("a decision");
    assert!(dear.is_allowed() && dear.is_degraded(), "what can pass passes once");
    // Ten come back in a second, and ninety more than the share were taken.
    for (after, allowed) in [(8_900, false), (200, true)] {
        clock.advance(Duration::from_millis(after));
        assert_eq!(limiter.check(&BUCKET, "x").await.expect("a decision").is_allowed(), allowed, "{after}");
    }
}

#[tokio::test]
async fn a_share_is_more_than_nothing_and_no_more_than_all() {
    for share in [0.0, -1.0, 1.1, f64::NAN] {
        let error =
            RateLimiter::builder().local_share(share).build().await.expect_err("no share").to_string();
        assert!(error.contains("write 0.5"), "{error}");
    }
}

const FAILURES: Policy = Policy::new("failures").per_hour(10).give_back_if(succeeded);

fn succeeded(answer: &response::Parts) -> bool {
    answer.status.is_success()
}

/// An attacker who guesses while Redis is away must not profit from what somebody else's success gives back to
/// Redis, nor the other way round.
#[tokio::test]
async fn what_is_given_back_is_given_to_where_it_was_taken() {
    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[rate_limit(policy = FAILURES)]
    async fn meanwhile(
        Extension(server): Extension<Arc<RedisServer>>,
        limiter: Extension<RateLimiter>,
        uri: Uri,
    ) -> String {
        if uri.query() == Some("back") {
            server.signal("CONT");
            let _ = recovered(&limiter, &FAILURES, "somebody").await;
        } else {
            server.signal("STOP");
        }
        // Meanwhile, others try.
        for _ in 0..3 {
            let decision = limiter.check(&FAILURES, CLIENT).await.expect("a decision");
            assert!(decision.is_allowed());
        }
        limiter.peek(&FAILURES, CLIENT).await.expect("a decision").remaining().to_string()
    }

    let server = Arc::new(RedisServer::start().await);
    let limiter = built(|| RateLimiter::builder().redis(server.url())).await;
    let routes = Router::new().route("/", get(meanwhile)).layer(Extension(Arc::clone(&server)));
    let app = App::serve(routes.layer(Extension(limiter.clone())).layer(limiter.clone())).await;
    for (path, is_degraded) in [("/", true), ("/?back", false)] {
        let before = app.get(path).await.body;
        let after = limiter.peek(&FAILURES, CLIENT).await.expect("a decision");
        assert_eq!((after.is_degraded(), after.remaining().to_string()), (is_degraded, before), "{path}");
    }
}

/// The work is done, and the client can do nothing about a failed give-back.
#[tokio::test]
async fn an_answer_is_sent_though_what_it_gives_back_is_lost() {
    #[rate_limit(policy = FAILURES)]
    async fn stopping(server: Extension<Arc<RedisServer>>) {
        server.signal("STOP");
    }

    let server = Arc::new(RedisServer::start().await);
    let limiter =
        built(|| RateLimiter::builder().redis(server.url()).on_store_error(OnStoreError::Deny)).await;
    let routes = Router::new().route("/", get(stopping)).layer(Extension(Arc::clone(&server)));
    let app = App::serve(routes.layer(limiter.clone())).await;
    let answer = app.get("/").await;
    assert_eq!((answer.status, answer.parameter("r")), (StatusCode::OK, Some(9)));
    server.signal("CONT");
    let _ = recovered(&limiter, &FAILURES, "127.0.0.1").await;
}

/// Whoever reads the log at night should find out why the store is still away, not only why it first went away.
#[tokio::test]
async fn why_a_store_is_away_is_told_anew_when_it_is_another_reason() {
    let (log, _guard) = Log::of_this_thread();
    let mut server = RedisServer::start().await;
    let limiter = built(|| RateLimiter::builder().redis(server.url())).await;
    let _ = recovered(&limiter, &MANY, "x").await;
    let address = format!("127.0.0.1:{}, database 0", server.port());
    assert_eq!(
        log.lines_with("INFO", &["is connected to its store", "rl:", &address]).len(),
        1,
        "{:?}",
        log.lines()
    );
    server.kill();
    until(|| !log.lines_with("WARN", &["the rate limiter's store is away"]).is_empty()).await;
    until(|| !log.lines_with("WARN", &["is still away", "refused", "away_for"]).is_empty()).await;
    server.restart().await;
    let _ = recovered(&limiter, &MANY, "x").await;
    let mut connection = server.connection().await;
    let mut ask = async |words: &[&str]| {
        let answer: redis::Value =
            redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.expect("it is answered");
        answer
    };
    ask(&["CONFIG", "SET", "requirepass", "secret"]).await;
    ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    until(|| !log.lines_with("WARN", &["the rate limiter's store is still away", "NOAUTH"]).is_empty()).await;
    ask(&["CONFIG", "SET", "requirepass", ""]).await;
    let _ = recovered(&limiter, &MANY, "x").await;
    let back = log.lines_with("INFO", &["the rate limiter's store is back", "away_for="]);
    assert!(!back.is_empty(), "{:?}", log.lines());
}

/// A few late checks do not open the breaker, so nothing else would report them.
#[tokio::test]
async fn checks_that_have_no_answer_in_time_are_told() {
    let (log, _guard) = Log::of_this_thread();
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.port());
    let limiter = built(|| RateLimiter::builder().redis(proxy.url()).timeout(Duration::from_secs(1))).await;
    let _ = recovered(&limiter, &MANY, "x").await;
    proxy.set(Fault::Delay(Duration::from_secs(2)));
    assert!(limiter.check(&MANY, "x").await.expect("a decision").is_degraded());
    proxy.set(Fault::None);
    let lines = log.lines_with("WARN", &["no answer in time", "within 1s", "policies=\"many\"", "checks=1"]);
    assert_eq!(lines.len(), 1, "{:?}", log.lines());
}

async fn until(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "it never was so");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
