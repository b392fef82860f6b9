//! Tests of what a policy says beside its quotas and its key, over HTTP: the same on both stores.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::routing::get;
use axum::{Router, http::StatusCode};
use axum_rate_limit::store::{Counter, Operation, Outcome, Store};
use axum_rate_limit::{
    Algorithm, Decision, Decisions, Key, ManualClock, OnStoreError, Policy, Quota, Quotas, RateLimiter,
    StoreError, policies, rate_limit,
};
use futures_util::FutureExt as _;
use tests::{App, Instances, LIMIT_FIELDS, Log, RedisServer, built, on_both_stores};
use tower::ServiceExt as _;

on_both_stores!(
    a_cost_is_taken_at_once,
    a_cost_above_the_quota_is_told,
    what_is_skipped_is_not_counted,
    tiers_have_quotas_of_their_own,
    a_shadow_counts_and_holds_nobody_up,
    algorithms_live_side_by_side,
);

fn weight(parts: &Parts) -> u32 {
    parts.uri.query().and_then(|query| query.parse().ok()).unwrap_or(1)
}

#[rate_limit(name = "costly", per_minute = 10, cost = weight)]
async fn costly() {}

async fn a_cost_is_taken_at_once(limiter: Instances) {
    let app = App::serve(Router::new().route("/", get(costly)).layer(limiter)).await;
    assert_eq!(app.get("/?4").await.parameter("r"), Some(6));
    let too_much = app.get("/?7").await;
    assert_eq!((too_much.status, too_much.parameter("r")), (StatusCode::SERVICE_UNAVAILABLE, Some(6)));
    assert_eq!(app.get("/?6").await.parameter("r"), Some(0));
    assert_eq!(app.get("/?1").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let free = app.get("/?0").await;
    assert_eq!((free.status, free.parameter("r")), (StatusCode::OK, Some(0)));
}

async fn a_cost_above_the_quota_is_told(limiter: Instances) {
    let app = App::serve(Router::new().route("/", get(costly)).layer(limiter)).await;
    let answer = app.get("/?11").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        answer.body,
        r#"{"detail":"This request costs 11, which is more than the limit ever allows."}"#
    );
    assert!(answer.field("retry-after").is_empty(), "to wait is in vain");
    assert_eq!(answer.parameter("r"), Some(10));
}

fn is_internal(parts: &Parts) -> bool {
    parts.headers.contains_key("x-internal")
}

#[rate_limit(name = "skipping", per_minute = 1, skip_if = is_internal)]
async fn skipping(decisions: Decisions) -> String {
    decisions.len().to_string()
}

async fn what_is_skipped_is_not_counted(limiter: Instances) {
    let app = App::serve(Router::new().route("/", get(skipping)).layer(limiter)).await;
    for _ in 0..3 {
        let answer = app.get_with("/", [("x-internal", "1")]).await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "0"));
        assert!(LIMIT_FIELDS.iter().all(|name| answer.field(name).is_empty()));
    }
    assert_eq!(app.statuses("/", 2).await, [200, 503]);
}

fn declared(name: &str) -> Policy {
    *policies().into_iter().find(|policy| policy.name() == name).expect("it is declared")
}

const GOLD: Quotas = Quotas::of(Quota::per_minute(3)).and(Quota::per_day(100));

fn tier(parts: &Parts) -> Option<Quotas> {
    match parts.headers.get("x-tier")?.to_str().ok()? {
        "gold" => Some(GOLD),
        "internal" => Some(Quotas::UNLIMITED),
        _ => None,
    }
}

#[rate_limit(name = "tiers", per_minute = 1, key = header("x-tier"), quotas_by = tier)]
async fn tiers() {}

async fn tiers_have_quotas_of_their_own(limiter: Instances) {
    let app = App::serve(Router::new().route("/", get(tiers)).layer(limiter.clone())).await;
    for (tier, expected) in
        [("free", [200, 503, 503, 503]), ("gold", [200, 200, 200, 503]), ("internal", [200; 4])]
    {
        for status in expected {
            let answer = app.get_with("/", [("x-tier", tier)]).await;
            assert_eq!(answer.status.as_u16(), status, "{tier}");
            assert_eq!(answer.field("ratelimit").is_empty(), tier == "internal");
        }
    }
    let gold = app.get_with("/", [("x-tier", "gold")]).await;
    assert_eq!(gold.field("ratelimit-policy"), r#""tiers";q=3;w=60, "tiers.2";q=100;w=86400"#);

    // Without a request, the quotas must be given.
    let (declared, key) = (declared("tiers"), || Key::header("gold"));
    let gold = declared.with_quotas(GOLD);
    limiter.each(|limiter| limiter.amend("tiers", |policy| policy.per_minute(9)).expect("it is sound"));
    let peeked = limiter.peek(&gold, key()).await.expect("a decision");
    assert_eq!((peeked.is_allowed(), peeked.quotas().len()), (false, 2), "{peeked:?}");
    limiter.reset(&gold, key()).await.expect("it is forgotten");
    for allowed in [true, true, true, false] {
        assert_eq!(limiter.check(&gold, key()).await.expect("a decision").is_allowed(), allowed);
    }
    assert_eq!(app.get_with("/", [("x-tier", "gold")]).await.status, StatusCode::SERVICE_UNAVAILABLE);
    let unlimited = declared.with_quotas(Quotas::UNLIMITED);
    limiter.reset(&unlimited, key()).await.expect("there is nothing to forget");
    assert!(limiter.check(&unlimited, key()).await.expect("a decision").is_allowed());
}

#[rate_limit(name = "enforced", per_minute = 4)]
#[rate_limit(name = "shadowed", per_minute = 2, shadow)]
async fn shadowed(decisions: Decisions) -> String {
    let shadow = decisions.get("shadowed").expect("it was asked");
    format!("{} {} {}", shadow.is_shadowed(), shadow.is_allowed(), shadow.is_exceeded())
}

async fn a_shadow_counts_and_holds_nobody_up(limiter: Instances) {
    let app = App::serve(Router::new().route("/", get(shadowed)).layer(limiter)).await;
    for exceeded in [false, false, true, true] {
        let answer = app.get("/").await;
        assert_eq!((answer.status, answer.body.clone()), (StatusCode::OK, format!("true true {exceeded}")));
        assert_eq!(answer.field("ratelimit-policy"), r#""enforced";q=4;w=60"#, "clients are told nothing");
    }
    assert_eq!(app.statuses("/", 1).await, [503]);
}

#[rate_limit(name = "a-window", per_hour = 5)]
#[rate_limit(name = "a-sliding", per_hour = 4, algorithm = sliding_window)]
#[rate_limit(name = "a-log", per_hour = 3, algorithm = sliding_log)]
#[rate_limit(name = "a-bucket", per_hour = 2, algorithm = token_bucket, burst = 6)]
async fn side_by_side() {}

async fn algorithms_live_side_by_side(limiter: Instances) {
    let app = App::serve(Router::new().route("/", get(side_by_side)).layer(limiter)).await;
    assert_eq!(app.statuses("/", 4).await, [200, 200, 200, 503]);
    let limits = app.get("/").await.field("ratelimit");
    for left in [r#""a-window";r=2;"#, r#""a-sliding";r=1;"#, r#""a-log";r=0;"#, r#""a-bucket";r=2;"#] {
        assert!(limits.contains(left), "{left} in {limits}");
    }
}

#[tokio::test]
async fn each_policy_has_its_own_answer_to_an_outage() {
    const OPEN: Policy = Policy::new("open").per_hour(1).on_store_error(OnStoreError::Allow);
    const CLOSED: Policy = Policy::new("closed").per_hour(1).on_store_error(OnStoreError::Deny);
    const LOCAL: Policy = Policy::new("local").per_hour(1);
    let mut server = RedisServer::start().await;
    let limiter = RateLimiter::redis(server.url()).await.expect("it builds");
    server.kill();
    for _ in 0..2 {
        assert!(limiter.check(&OPEN, "x").await.expect("a pass").is_allowed());
        assert!(limiter.check(&CLOSED, "x").await.is_err());
    }
    assert!(limiter.check(&LOCAL, "x").await.expect("a decision").is_allowed());
    assert!(!limiter.check(&LOCAL, "x").await.expect("a decision").is_allowed());
}

#[rate_limit(name = "trial", per_hour = 1, shadow)]
async fn on_trial() {}

#[rate_limit(name = "free", per_hour = 1, cost = 0)]
async fn free() {}

#[rate_limit(name = "for-friends", per_hour = 1, quotas_by = |_| Some(Quotas::UNLIMITED), on_store_error = deny)]
#[rate_limit(name = "for-all", per_hour = 1, on_store_error = allow)]
async fn friends() {}

/// The policy that has no limit for a client does not say what becomes of its requests.
#[tokio::test]
async fn who_has_no_limit_is_not_denied_by_what_the_policy_would_do_to_others() {
    let limiter = RateLimiter::builder().max_keys(1).build().await.expect("it builds");
    let _ = limiter.check(&Policy::new("other").per_hour(1), "x").await.expect("the one key");
    let app = App::serve(Router::new().route("/", get(friends)).layer(limiter)).await;
    assert_eq!(app.statuses("/", 3).await, [200; 3]);
}

#[tokio::test]
async fn a_shadow_and_what_is_free_never_deny_whatever_fails() {
    let mut server = RedisServer::start().await;
    let builder = RateLimiter::builder().redis(server.url()).on_store_error(OnStoreError::Deny);
    let limiter = builder.build().await.expect("it builds");
    server.kill();
    let full = RateLimiter::builder().max_keys(1).build().await.expect("it builds");
    let _ = full.check(&Policy::new("other").per_hour(1), "x").await.expect("the one key");
    for limiter in [limiter, full] {
        let router = Router::new().route("/trial", get(on_trial)).route("/free", get(free));
        let app = App::serve(router.layer(limiter)).await;
        assert_eq!(app.statuses("/trial", 3).await, [200; 3]);
        assert_eq!(app.statuses("/free", 3).await, [200; 3]);
    }
}

/// Where [`resent`] sends the request that it is called for.
static RESENDING: OnceLock<Router> = OnceLock::new();

fn resent(parts: &Parts) -> u32 {
    let mut request = Request::new(Body::empty());
    *request.extensions_mut() = parts.extensions.clone();
    let answer = RESENDING.get().and_then(|router| router.clone().oneshot(request).now_or_never());
    answer.map_or(0, |answer| answer.expect("it is infallible").status().as_u16().into())
}

#[rate_limit(name = "resending", per_hour = 1_000, cost = resent)]
async fn resending(decisions: Decisions) -> String {
    decisions.get("resending").map_or(0, Decision::cost).to_string()
}

/// Its record is locked while functions of policies run, and waiting for it would never end.
#[tokio::test]
async fn a_function_that_sends_its_own_request_is_told_so() {
    let (log, _guard) = Log::of_this_thread();
    let app = Router::new().route("/", get(resending)).layer(RateLimiter::memory());
    let _ = RESENDING.set(app.clone());
    assert_eq!(App::serve(app).await.get("/").await.body, "500");
    assert_eq!(log.lines_with("ERROR", &["resending", "nothing is decided"]).len(), 1, "{:?}", log.lines());
}

#[tokio::test]
async fn a_store_that_answers_too_little_lets_nothing_through() {
    struct Silent;
    impl Store for Silent {
        async fn apply(&self, _: Operation, _: &[Counter<'_>]) -> Result<Outcome, StoreError> {
            Ok(Outcome::new(false, []))
        }
    }
    let builder = RateLimiter::builder().store(Silent).on_store_error(OnStoreError::Deny);
    let limiter = builder.build().await.expect("it builds");
    let error = limiter.check(&Policy::new("x").per_hour(1), "x").await.expect_err("there is no decision");
    assert!(error.to_string().contains("fewer"), "{error}");
}

#[tokio::test]
async fn a_burst_is_of_the_shortest_quota_alone() {
    const BOTH: Policy = Policy::new("both")
        .per_second(2)
        .per_hour(7)
        .algorithm(Algorithm::TokenBucket { burst: None })
        .burst(3);
    let server = RedisServer::start().await;
    let clock = ManualClock::default();
    let on_redis =
        || RateLimiter::builder().redis(server.url()).timeout(Duration::from_secs(30)).clock(&clock);
    let in_memory = RateLimiter::builder().clock(&clock).build().await.expect("it builds");
    for limiter in [in_memory, built(on_redis).await] {
        for (passing, is_hour_over) in [(3, false), (2, false), (2, true), (0, true)] {
            for _ in 0..passing {
                assert!(limiter.check(&BOTH, "x").await.expect("a decision").is_allowed());
            }
            let denied = limiter.check(&BOTH, "x").await.expect("a decision");
            let wait = denied.retry_after().expect("it is denied");
            assert_eq!(wait > Duration::from_secs(60), is_hour_over, "{wait:?}");
            clock.advance(Duration::from_secs(1));
        }
    }
}

#[tokio::test]
async fn every_quota_that_is_violated_is_named() {
    let limiter = RateLimiter::builder().problem_details().build().await.expect("it builds");
    let app = App::serve(Router::new().route("/", get(two_violated)).layer(limiter)).await;
    app.get("/").await;
    let body = app.get("/").await.body;
    assert!(body.contains(r#""violated-policies":["va","vb","vb.2"]"#), "{body}");
}

#[rate_limit(name = "va", per_minute = 1)]
#[rate_limit(name = "vb", per_hour = 2, per_day = 3, cost = 2)]
async fn two_violated() {}

#[tokio::test]
async fn who_has_patience_is_let_through_when_it_can_be() {
    const SLOW: Policy = Policy::new("slow").quota(1, Duration::from_secs(2));
    const DEAR: Policy = Policy::new("dear").per_hour(1).cost_by(|_| 2);
    let limiter = RateLimiter::memory();
    let within = async |policy: &Policy, patience| {
        let start = Instant::now();
        let decision = limiter.check_within(policy, "x", patience).await.expect("a decision");
        (decision.is_allowed(), start.elapsed())
    };
    assert!(within(&SLOW, Duration::ZERO).await.0);
    let (allowed, waited) = within(&SLOW, Duration::from_secs(60)).await;
    assert!(allowed && waited >= Duration::from_millis(200), "{waited:?}");
    // A wait that would be too long is not begun.
    let _ = limiter.add(&DEAR, "x", 1).await.expect("it is charged");
    let (allowed, waited) = within(&DEAR, Duration::from_secs(600)).await;
    assert!(!allowed && waited < Duration::from_secs(60), "{waited:?}");
}

#[tokio::test]
async fn a_limiter_in_this_process_has_nothing_to_close() {
    const LEFT: Policy = Policy::new("left-open").per_hour(1);
    let limiter = RateLimiter::memory();
    limiter.close().await;
    for is_allowed in [true, false] {
        let decision = limiter.check(&LEFT, "x").await.expect("a decision");
        assert_eq!(decision.is_allowed(), is_allowed);
    }
}
