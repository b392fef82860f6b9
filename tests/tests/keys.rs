//! Tests of who shares a quota over HTTP, as the keys of policies say: the same on both stores.

use std::time::Duration;

use axum::extract::FromRequestParts as _;
use axum::http::request::Parts;
use axum::routing::get;
use axum::{Router, http::StatusCode};
use axum_rate_limit::{Decisions, Key, RateLimiter, rate_limit};
use futures_util::FutureExt as _;
use tests::{App, Instances, on_both_stores};

on_both_stores!(
    a_key_is_what_the_policy_says,
    a_key_that_a_request_lacks_is_its_address,
    an_address_above_and_an_api_key_below,
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

async fn the_key_of_a_request_can_be_written_down(limiter: Instances) {
    let app = App::serve(Router::new().route("/", get(header)).layer(limiter.clone())).await;
    assert_eq!(app.get_with("/", [("x-api-key", "me")]).await.status, StatusCode::OK);
    let declared = |name: &str| limiter.policy(name).expect("it is declared");
    assert!(!limiter.peek(&declared("header"), Key::header("me")).await.expect("a decision").is_allowed());
    limiter.reset(&declared("header"), Key::header("me")).await.expect("it is forgotten");
    assert_eq!(app.get_with("/", [("x-api-key", "me")]).await.status, StatusCode::OK);
    let both = Key::from("a").and(Key::header("b"));
    assert!(limiter.check(&declared("tuple"), both).await.expect("a decision").is_allowed());
    assert!(limiter.check(&declared("global"), Key::global()).await.expect("a decision").is_allowed());
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
