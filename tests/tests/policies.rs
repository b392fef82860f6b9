//! Tests of keys, costs, tiers, shadows, charges and amendments over HTTP: the same on both stores.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{FromRequestParts as _, Path, Request};
use axum::http::request::Parts;
use axum::http::response;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use axum::{Router, http::StatusCode};
use axum_rate_limit::store::{Counter, Operation, Outcome, Store};
use axum_rate_limit::{
    Algorithm, Amendment, Charge, Decision, Decisions, Error, Headers, Key, KeyPart, ManualClock,
    OnStoreError, Policy, Quota, Quotas, RateLimiter, StoreError, policies, rate_limit,
};
use futures_util::FutureExt as _;
use tests::{App, Instances, LIMIT_FIELDS, Log, RedisServer, built, on_both_stores};
use tower::ServiceExt as _;

on_both_stores!(
    a_key_is_what_the_policy_says,
    a_key_that_a_request_lacks_is_its_address,
    an_address_above_and_an_api_key_below,
    a_cost_is_taken_at_once,
    a_cost_above_the_quota_is_told,
    what_is_skipped_is_not_counted,
    tiers_have_quotas_of_their_own,
    a_shadow_counts_and_holds_nobody_up,
    a_charge_is_added_or_given_back,
    what_was_denied_has_nothing_to_give_back,
    an_answer_gives_back_what_it_does_not_count,
    what_an_answer_gives_back_is_of_one_policy,
    one_charge_of_several,
    algorithms_live_side_by_side,
    a_policy_is_amended_while_requests_are_served,
    an_amendment_keeps_what_is_counted_or_how_long_a_bucket_takes,
    the_key_of_a_request_can_be_written_down,
);

fn api_key(parts: &Parts) -> Option<String> {
    parts.headers.get("x-api-key").and_then(|value| value.to_str().ok()).map(str::to_owned)
}

#[rate_limit(name = "global", per_minute = 1, key = global)]
async fn global() {}

#[rate_limit(name = "header", per_minute = 1, key = header("x-api-key"))]
async fn header() {}

#[rate_limit(name = "tuple", per_minute = 1, key = (api_key, header("x-user")))]
async fn tuple() {}

async fn a_key_is_what_the_policy_says(limiter: Instances) {
    let router =
        Router::new().route("/global", get(global)).route("/header", get(header)).route("/tuple", get(tuple));
    let app = App::serve(router.layer(limiter)).await;
    let ask = |path, key, user| app.get_with(path, [("x-api-key", key), ("x-user", user)]);
    assert_eq!(ask("/global", "a", "").await.status, StatusCode::OK);
    assert_eq!(ask("/global", "b", "").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask("/header", "a", "1").await.status, StatusCode::OK);
    assert_eq!(ask("/header", "b", "1").await.status, StatusCode::OK);
    assert_eq!(ask("/header", "a", "2").await.status, StatusCode::SERVICE_UNAVAILABLE);
    for (key, user) in [("a", "1"), ("a", "2"), ("b", "1"), ("a,", "1"), ("a", ",1"), ("a,1", "")] {
        assert_eq!(ask("/tuple", key, user).await.status, StatusCode::OK, "{key} {user}");
        assert_eq!(ask("/tuple", key, user).await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}

async fn a_key_that_a_request_lacks_is_its_address(limiter: Instances) {
    let router = Router::new().route("/header", get(header)).route("/tuple", get(tuple));
    let app = App::serve(router.layer(limiter)).await;
    assert_eq!(app.statuses("/header", 2).await, [200, 503]);
    let named = app.get_with("/header", [("x-api-key", "127.0.0.1")]).await;
    assert_eq!(named.status, StatusCode::OK, "a value that reads like the address is none");
    assert_eq!(app.statuses("/tuple", 2).await, [200, 503]);
    assert_eq!(app.get_with("/tuple", [("x-user", "1")]).await.status, StatusCode::OK);
}

#[rate_limit(name = "by-address", per_minute = 2)]
#[rate_limit(name = "by-key", per_minute = 10, key = header("x-api-key"))]
async fn two_keys() {}

async fn an_address_above_and_an_api_key_below(limiter: Instances) {
    let app = App::serve(Router::new().route("/", get(two_keys)).layer(limiter)).await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        let answer = app.get_with("/", [("x-api-key", "a")]).await;
        statuses.push(answer.status.as_u16());
        if statuses.len() == 6 {
            assert!(answer.field("ratelimit").contains(r#""by-key";r=8;"#), "{answer:?}");
        }
    }
    assert_eq!(statuses, [200, 200, 503, 503, 503, 503]);
}

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

#[rate_limit(name = "charged", per_minute = 10)]
async fn charged(charge: Charge, parts: Parts) {
    match parts.uri.query().and_then(|query| query.split_once('=')) {
        Some(("add", cost)) => charge.add(cost.parse().expect("a number")).await.expect("it is charged"),
        Some(("back", cost)) => charge.give_back(cost.parse().expect("a number")).await.expect("it is given"),
        _ => {}
    }
}

async fn a_charge_is_added_or_given_back(limiter: Instances) {
    let app = App::serve(Router::new().route("/", get(charged)).layer(limiter)).await;
    assert_eq!(app.get("/").await.parameter("r"), Some(9));
    assert_eq!(app.get("/?add=3").await.parameter("r"), Some(5));
    assert_eq!(app.get("/?back=1").await.parameter("r"), Some(5), "only the others count");
    let back = app.get("/?back=100").await;
    assert_eq!(back.parameter("r"), Some(5), "never more than this request was charged");
    let over = app.get("/?add=100").await;
    assert_eq!((over.status, over.parameter("r")), (StatusCode::OK, Some(0)));
    assert_eq!(app.get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[rate_limit(name = "one-of", per_minute = 5)]
#[rate_limit(name = "two-of", per_minute = 5)]
async fn charged_twice(charge: Charge) {
    charge.of("two-of").add(2).await.expect("it is charged");
    charge.add(1).await.expect("it is charged");
}

async fn one_charge_of_several(limiter: Instances) {
    let app = App::serve(Router::new().route("/", get(charged_twice)).layer(limiter)).await;
    let limits = app.get("/").await.field("ratelimit");
    assert!(limits.contains(r#""one-of";r=3;"#) && limits.contains(r#""two-of";r=1;"#), "{limits}");
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

async fn the_key_of_a_request_can_be_written_down(limiter: Instances) {
    let app = App::serve(Router::new().route("/", get(header)).layer(limiter.clone())).await;
    assert_eq!(app.get_with("/", [("x-api-key", "me")]).await.status, StatusCode::OK);
    assert!(!limiter.peek(&declared("header"), Key::header("me")).await.expect("a decision").is_allowed());
    limiter.reset(&declared("header"), Key::header("me")).await.expect("it is forgotten");
    assert_eq!(app.get_with("/", [("x-api-key", "me")]).await.status, StatusCode::OK);
    let both = Key::from("a").and(Key::header("b"));
    assert!(limiter.check(&declared("tuple"), both).await.expect("a decision").is_allowed());
    assert!(limiter.check(&declared("global"), Key::global()).await.expect("a decision").is_allowed());
}

#[tokio::test]
async fn an_amended_policy_replaces_the_declared_one() {
    let builder = RateLimiter::builder()
        .amend("header", |policy| policy.per_minute(3).status(429))
        .amend("enforced", |policy| policy.shadow(true).per_minute(1));
    let limiter = builder.build().await.expect("it builds");
    let router = Router::new().route("/header", get(header)).route("/shadowed", get(shadowed));
    let app = App::serve(router.layer(limiter)).await;
    assert_eq!(app.statuses("/header", 4).await, [200, 200, 200, 429]);
    assert_eq!(app.statuses("/shadowed", 4).await, [200; 4]);
}

#[rate_limit(name = "changing", per_minute = 1)]
async fn changing() {}

async fn a_policy_is_amended_while_requests_are_served(limiter: Instances) {
    let app = App::serve(Router::new().route("/changing", get(changing)).layer(limiter.clone())).await;
    let amend = |change: fn(Amendment) -> Amendment| {
        limiter.each(|limiter| limiter.amend("changing", change).expect("it is sound"));
    };
    assert_eq!(app.statuses("/changing", 2).await, [200, 503]);
    amend(|policy| policy.per_minute(3).status(429));
    assert_eq!(app.statuses("/changing", 3).await, [200, 200, 429]);
    // An amendment changes the policy as it was built, not as it was amended last.
    amend(|policy| policy.per_hour(100));
    assert_eq!(app.statuses("/changing", 1).await, [503]);
    amend(|policy| policy.shadow(true));
    assert_eq!(app.statuses("/changing", 2).await, [200; 2]);
    // Nothing has been charged to an hourly quota so far, so this one begins anew.
    amend(|policy| policy.without_quotas().per_hour(2));
    assert_eq!(app.statuses("/changing", 3).await, [200, 200, 503]);
    amend(|policy| policy);
    assert_eq!(app.statuses("/changing", 1).await, [503]);
}

const OF_ONE_CLIENT: Policy = Policy::new("of-one-client")
    .per_hour(1)
    .quotas_by(|_| Some(Quotas::of(Quota::per_hour(9))))
    .with_quotas(Quotas::of(Quota::per_hour(2)));

#[rate_limit(policy = OF_ONE_CLIENT)]
async fn of_one_client() {}

#[tokio::test]
async fn the_quotas_of_a_certain_client_come_before_those_of_a_function() {
    let app = App::serve(Router::new().route("/", get(of_one_client)).layer(RateLimiter::memory())).await;
    assert_eq!(app.statuses("/", 3).await, [200, 200, 503]);
}

#[rate_limit(name = "counted", per_day = 10, cost = 5)]
async fn counted() {}

#[rate_limit(name = "poured", per_day = 10, cost = 5, algorithm = token_bucket)]
async fn poured() {}

async fn an_amendment_keeps_what_is_counted_or_how_long_a_bucket_takes(limiter: Instances) {
    let routes = Router::new().route("/counted", get(counted)).route("/poured", get(poured));
    let app = App::serve(routes.layer(limiter.clone())).await;
    let left = async |policy: &str| {
        let policy = limiter.policy(policy).expect("it is declared");
        limiter.peek(&policy, IpAddr::from(Ipv4Addr::LOCALHOST)).await.expect("a decision").remaining()
    };
    for policy in ["counted", "poured"] {
        assert_eq!(app.statuses(&format!("/{policy}"), 1).await, [200]);
        assert_eq!(left(policy).await, 5);
        limiter.each(|limiter| limiter.amend(policy, |policy| policy.per_day(100)).expect("it is sound"));
    }
    assert_eq!(left("counted").await, 95);
    assert_eq!(left("poured").await, 50, "half of it is used");
    // Half a day until it is full, which is what fifty take.
    limiter.each(|limiter| {
        limiter.amend("poured", |policy| policy.per_day(100).burst(40)).expect("it is sound");
    });
    assert_eq!(left("poured").await, 0, "it is in debt");
    limiter.each(|limiter| limiter.amend("counted", |policy| policy.per_hour(7)).expect("it is sound"));
    let counted = limiter.policy("counted").expect("it is declared");
    let decision = limiter.peek(&counted, IpAddr::from(Ipv4Addr::LOCALHOST)).await.expect("a decision");
    let mut left: Vec<u32> = decision.quotas().iter().map(|quota| quota.remaining).collect();
    left.sort_unstable();
    assert_eq!(left, [5, 7], "the new window begins at zero");
}

#[tokio::test]
async fn an_amendment_of_a_running_limiter_that_can_not_be_leaves_it_as_it_is() {
    const MAILS: Policy = Policy::new("mails").per_hour(1);
    let builder = RateLimiter::builder().declare([MAILS, Policy::new("mails.2").per_hour(1)]);
    let limiter = builder.amend("mails", |policy| policy.per_hour(2)).build().await.expect("it builds");
    let refused = |change: fn(Amendment) -> Amendment| {
        limiter.amend("mails", change).expect_err("it can not be").to_string()
    };
    let zero = refused(|policy| policy.per_hour(9).per_minute(0));
    assert!(zero.starts_with("amend: `mails`: ") && zero.contains("write a count from 1 to"), "{zero}");
    let pointless = refused(|policy| policy.per_minute(2));
    assert!(pointless.contains("can never bind"), "{pointless}");
    let none = refused(Amendment::without_quotas);
    assert!(none.contains("at least one quota"), "{none}");
    let taken = refused(|policy| policy.per_minute(1));
    assert!(taken.contains("`mails.2`"), "{taken}");
    let unknown = limiter.amend("mail", |policy| policy).expect_err("there is none").to_string();
    assert!(unknown.contains("did you mean `mails`?"), "{unknown}");
    let in_force = |name: &str| {
        let policies = limiter.policies();
        assert!(policies.iter().map(Policy::name).is_sorted());
        policies.iter().find(|policy| policy.name() == name).map(|policy| policy.quotas().to_vec())
    };
    assert_eq!(in_force("mails"), Some(vec![Quota::per_hour(2)]));
    assert_eq!(in_force("mails.2"), Some(vec![Quota::per_hour(1)]));
    assert_eq!(in_force("header"), Some(vec![Quota::per_minute(1)]));
    for allowed in [true, true, false] {
        assert_eq!(limiter.check(&MAILS, "me").await.expect("a decision").is_allowed(), allowed);
    }
}

#[tokio::test]
async fn an_amendment_that_can_not_be_is_refused() {
    const MAILS: Policy = Policy::new("mails").per_hour(10);
    let refused = |name: &'static str, limit| async move {
        let builder =
            RateLimiter::builder().declare([MAILS]).amend(name, move |policy| policy.per_minute(limit));
        builder.build().await.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(refused("mails", 5).await, Ok(()));
    let unknown = refused("headr", 5).await.expect_err("there is none");
    assert_eq!(
        unknown,
        "amend: `headr`: there is no policy of that name: did you mean `header`? \
         (`Builder::declare` adds those that no attribute declares)"
    );
    let zero = refused("mails", 0).await.expect_err("nothing would pass");
    assert!(zero.contains("write a count from 1 to"), "{zero}");
    let pointless = refused("mails", 10).await.expect_err("the hour is stricter");
    assert!(pointless.contains("can never bind"), "{pointless}");
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

const ENTITLED: Policy =
    Policy::new("entitled").per_hour(1).key(&[KeyPart::Global]).with_quotas(Quotas::of(Quota::per_hour(3)));

#[rate_limit(policy = ENTITLED)]
async fn entitled() {}

/// An amendment changes the quotas that are declared, not those that a constant has been given.
#[tokio::test]
async fn a_policy_with_quotas_of_somebody_has_them_in_a_handler_too() {
    let amended = RateLimiter::builder().amend("entitled", |policy| policy.per_hour(2));
    let limiter = amended.build().await.expect("it is valid");
    let app = App::serve(Router::new().route("/", get(entitled)).layer(limiter.clone())).await;
    assert_eq!(app.statuses("/", 2).await, [200; 2]);
    assert_eq!(limiter.peek(&ENTITLED, Key::global()).await.expect("a decision").remaining(), 1);
    assert_eq!(app.statuses("/", 2).await, [200, 503]);
}

#[tokio::test]
async fn an_empty_key_is_none() {
    let limiter = RateLimiter::memory();
    let app = App::serve(Router::new().route("/header", get(header)).layer(limiter.clone())).await;
    assert_eq!(app.get_with("/header", [("x-api-key", "")]).await.status, StatusCode::OK);
    assert_eq!(
        app.get("/header").await.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "it was the address that counted"
    );
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
async fn a_debt_has_an_end_in_both_stores() {
    const BUCKET: Algorithm = Algorithm::TokenBucket { burst: None };
    let server = RedisServer::start().await;
    for limiter in [RateLimiter::memory(), server.limiter().await] {
        let policy = Policy::new("owed").per_day(1).algorithm(BUCKET);
        let decision = limiter.add(&policy, "x", u32::MAX).await.expect("a decision");
        assert_eq!(decision.remaining(), 0);
        assert!(!decision.is_degraded() && decision.reset() <= Duration::from_secs(2 * 366 * 86_400));
        let denied = limiter.check(&policy, "x").await.expect("a decision");
        assert!(!denied.is_allowed() && !denied.is_too_costly());
    }
}

#[tokio::test]
async fn who_gives_back_is_told_what_is_left() {
    const TEN: Policy = Policy::new("ten").per_day(10);
    let server = RedisServer::start().await;
    for limiter in [RateLimiter::memory(), server.limiter().await] {
        let _ = limiter.add(&TEN, "x", 12).await.expect("a decision");
        for (cost, remaining) in [(1, 0), (5, 4), (100, 10)] {
            let told = limiter.give_back(&TEN, "x", cost).await.expect("a decision");
            assert!(told.is_allowed() && !told.is_too_costly());
            assert_eq!(told.remaining(), remaining);
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

const WIDE: Policy = Policy::new("wide").per_minute(10).key(&[KeyPart::Global]);

#[rate_limit(policy = WIDE)]
#[rate_limit(name = "narrow", per_minute = 1)]
async fn refunded() {}

/// Middleware by which only successful requests count.
async fn refund(charge: Charge, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if !response.status().is_success() {
        charge.give_back(1).await.expect("it is given back");
    }
    response
}

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

/// Otherwise, a misspelt name would silently let too much pass.
#[tokio::test]
async fn a_charge_of_a_policy_that_does_not_exist_fails() {
    #[rate_limit(name = "tokens", per_hour = 10)]
    async fn complete(charge: Charge) -> Result<(), Error> {
        charge.of(String::from("header")).add(1).await?;
        charge.of("token").add(1).await
    }

    let (log, _guard) = Log::of_this_thread();
    let app = App::serve(Router::new().route("/", get(complete)).layer(RateLimiter::memory())).await;
    for left in [9, 8, 7] {
        let answer = app.get("/").await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.parameter("r"), Some(left), "one that was not asked is charged nothing");
    }
    // It is not logged for each request, or clients could flood the log.
    let lines = log.lines_with("ERROR", &["Charge::of: `token`", "did you mean `tokens`?"]);
    assert_eq!(lines.len(), 1, "{:?}", log.lines());
}

async fn what_was_denied_has_nothing_to_give_back(limiter: Instances) {
    let router = Router::new().route("/", get(refunded)).layer(from_fn(refund));
    let app = App::serve(router.layer(limiter.clone())).await;
    assert_eq!(app.statuses("/", 4).await, [200, 503, 503, 503]);
    let left = limiter.peek(&WIDE, Key::global()).await.expect("a decision").remaining();
    assert_eq!(left, 9, "one has passed");
}

fn succeeded(answer: &response::Parts) -> bool {
    answer.status.is_success()
}

#[rate_limit(name = "failures", per_minute = 2, give_back_if = succeeded)]
async fn log_in(parts: Parts) -> StatusCode {
    if parts.uri.query() == Some("sesame") { StatusCode::OK } else { StatusCode::UNAUTHORIZED }
}

async fn an_answer_gives_back_what_it_does_not_count(limiter: Instances) {
    let app = App::serve(Router::new().route("/", get(log_in)).layer(limiter)).await;
    for (path, status, remaining) in [
        ("/?sesame", 200, 2),
        ("/?sesame", 200, 2),
        ("/?sesame", 200, 2),
        ("/", 401, 1),
        ("/?sesame", 200, 1),
        ("/", 401, 0),
        ("/?sesame", 503, 0),
        ("/", 503, 0),
    ] {
        let answer = app.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.parameter("r")), (status, Some(remaining)), "{path}");
    }
}

const FAILURES: Policy =
    Policy::new("all-failures").per_minute(10).key(&[KeyPart::Global]).cost(2).give_back_if(succeeded);

#[rate_limit(policy = FAILURES)]
fn shop() -> Router {
    Router::new().route("/once", get(once)).route("/number/{number}", get(number))
}

#[rate_limit(name = "once", per_minute = 1)]
async fn once() {}

async fn number(_: Path<u32>) {}

/// This holds whether the answer comes from a handler, from another policy or from an extractor.
async fn what_an_answer_gives_back_is_of_one_policy(limiter: Instances) {
    let app = App::serve(shop().layer(limiter.clone())).await;
    for (path, status, failures) in
        [("/once", 200, 0), ("/once", 503, 1), ("/number/1", 200, 1), ("/number/one", 400, 2)]
    {
        assert_eq!(app.get(path).await.status.as_u16(), status, "{path}");
        let left = limiter.peek(&FAILURES, Key::global()).await.expect("a decision").remaining();
        assert_eq!(left, 10 - 2 * failures, "{path}");
    }
}

fn curious(parts: &Parts) -> Option<String> {
    let mut parts = parts.clone();
    let decisions = Decisions::from_request_parts(&mut parts, &()).now_or_never()?;
    decisions.ok().map(|_| "decided".to_owned())
}

#[rate_limit(name = "curious", per_minute = 1, key = curious)]
async fn asked_by_the_curious() {}

/// A function of a policy that could ask for the decisions would wait for itself.
#[tokio::test]
async fn a_function_finds_no_decisions_yet() {
    let app = Router::new().route("/", get(asked_by_the_curious)).layer(RateLimiter::memory());
    let app = App::serve(app).await;
    let answer = tokio::time::timeout(Duration::from_secs(20), app.get("/")).await.expect("it is answered");
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn an_answer_gives_back_once_though_no_field_tells_it() {
    let limiter = RateLimiter::builder().headers(Headers::Off).build().await.expect("it builds");
    // The same limiter is a layer of a router and of one that is nested in it.
    let routes = Router::new().nest("/shop", shop().layer(limiter.clone()));
    let app = App::serve(routes.layer(limiter.clone())).await;
    let _ = limiter.add(&FAILURES, Key::global(), 5).await.expect("a decision");
    assert_eq!(app.statuses("/shop/number/1", 3).await, [200; 3]);
    assert_eq!(limiter.peek(&FAILURES, Key::global()).await.expect("a decision").remaining(), 5);
}
