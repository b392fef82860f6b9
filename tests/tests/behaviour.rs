//! Tests of what clients see of limited handlers over HTTP: the same on both stores.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::extract::{Json, Path};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Router, http::StatusCode};
use axum_rate_limit::{Decisions, Policy, rate_limit};
use reqwest::Method;
use serde_json::{Value, json};
use tests::{App, Instances, LIMIT_FIELDS, on_both_stores};

on_both_stores!(
    five_pass_and_the_sixth_is_denied,
    a_window_ends,
    a_resource_is_a_method_and_a_path,
    one_resource_has_one_spelling,
    a_route_is_its_template,
    a_limit_is_one_for_all_that_shares_its_policy,
    many_at_once_are_counted_exactly,
    several_quotas_bind_together,
    stacked_attributes_take_all_or_nothing,
    a_rejected_request_is_counted_and_told,
    a_denial_stands_when_the_request_is_sent_again,
    what_was_not_charged_is_asked_when_the_request_is_sent_elsewhere,
    a_wildcard_has_one_spelling,
    a_handler_sees_what_was_decided,
    a_denial_is_worded_by_its_policy,
);

#[rate_limit(name = "five", per_minute = 5)]
async fn five() -> Json<Value> {
    Json(json!({ "answer": 42 }))
}

async fn five_pass_and_the_sixth_is_denied(limiter: Instances) {
    let app = App::serve(Router::new().route("/hardwork/", get(five)).layer(limiter)).await;
    for left in (0..5).rev() {
        let answer = app.get("/hardwork/").await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, r#"{"answer":42}"#));
        assert_eq!(answer.field("ratelimit-policy"), r#""five";q=5;w=60"#);
        assert_eq!(answer.parameter("r"), Some(left));
    }
    for _ in 0..2 {
        let answer = app.get("/hardwork/").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.field("content-type"), "application/json");
        assert_eq!(answer.body, r#"{"detail":"Rate limit exceeded."}"#);
        assert_eq!(answer.field("cache-control"), "no-store");
        assert_eq!(answer.field("ratelimit-policy"), r#""five";q=5;w=60"#);
        assert_eq!(answer.parameter("r"), Some(0));
        let wait: u64 = answer.field("retry-after").parse().expect("whole seconds");
        assert_eq!(answer.parameter("t"), Some(wait));
        assert!((1..=60).contains(&wait), "{wait}");
    }
}

#[rate_limit(name = "short", quota(2, per = "5s"))]
async fn short() -> &'static str {
    "ok"
}

async fn a_window_ends(limiter: Instances) {
    let app = App::serve(Router::new().route("/", get(short)).layer(limiter)).await;
    let start = Instant::now();
    assert_eq!(app.statuses("/", 3).await, [200, 200, 503]);
    while app.get("/").await.status != StatusCode::OK {
        assert!(start.elapsed() < Duration::from_secs(60), "the window does not end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(start.elapsed() >= Duration::from_secs(5), "it has ended after {:?}", start.elapsed());
    assert_eq!(app.get("/").await.parameter("r"), Some(0), "a new one has begun");
}

#[rate_limit(name = "resource", per_minute = 1, by_resource)]
async fn resource() -> &'static str {
    "ok"
}

async fn a_resource_is_a_method_and_a_path(limiter: Instances) {
    let router =
        Router::new().route("/{id}", any(resource)).nest("/api", Router::new().route("/{id}", get(resource)));
    let app = App::serve(router.layer(limiter)).await;
    assert_eq!(app.statuses("/a", 2).await, [200, 503]);
    assert_eq!(app.statuses("/b", 2).await, [200, 503]);
    assert_eq!(app.send(Method::POST, "/a").await.status, StatusCode::OK);
    assert_eq!(app.send(Method::POST, "/a").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(app.statuses("/api/a", 2).await, [200, 503], "the prefix of a nested router is a part of it");
}

async fn one_resource_has_one_spelling(limiter: Instances) {
    let app = App::serve(Router::new().route("/{id}", any(resource)).layer(limiter)).await;
    assert_eq!(app.get("/a").await.status, StatusCode::OK);
    for spelling in ["/a", "/a?x=1", "/%61", "/%61?y"] {
        assert_eq!(app.get(spelling).await.status, StatusCode::SERVICE_UNAVAILABLE, "{spelling}");
    }
    assert_eq!(app.send(Method::HEAD, "/a").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let invented = |name: &str| Method::from_bytes(name.as_bytes()).expect("a token");
    assert_eq!(app.send(invented("FOO1"), "/a").await.status, StatusCode::OK);
    assert_eq!(app.send(invented("FOO2"), "/a").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[rate_limit(name = "route", per_minute = 2, by_route)]
async fn route(Path(_): Path<String>) -> &'static str {
    "ok"
}

async fn a_route_is_its_template(limiter: Instances) {
    let router = Router::new()
        .route("/users/{id}", get(route))
        .nest("/api", Router::new().route("/users/{id}", get(route)));
    let app = App::serve(router.layer(limiter)).await;
    assert_eq!(app.get("/users/1").await.status, StatusCode::OK);
    assert_eq!(app.get("/users/2").await.status, StatusCode::OK);
    assert_eq!(app.get("/users/3").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(app.statuses("/api/users/1", 3).await, [200, 200, 503]);
}

const SHARED: Policy = Policy::new("shared").per_minute(2);

#[rate_limit(policy = SHARED)]
async fn one() -> &'static str {
    "one"
}

#[rate_limit(policy = SHARED)]
async fn other() -> &'static str {
    "other"
}

async fn a_limit_is_one_for_all_that_shares_its_policy(limiter: Instances) {
    let app =
        App::serve(Router::new().route("/one", get(one)).route("/other", get(other)).layer(limiter)).await;
    assert_eq!(app.get("/one").await.status, StatusCode::OK);
    assert_eq!(app.get("/other").await.status, StatusCode::OK);
    assert_eq!(app.get("/one").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(app.get("/other").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[rate_limit(name = "hundred", per_hour = 100)]
async fn hundred() -> &'static str {
    "ok"
}

async fn many_at_once_are_counted_exactly(limiter: Instances) {
    let app = App::serve(Router::new().route("/", get(hundred)).layer(limiter)).await;
    assert_eq!(app.admitted_at_once("/", 200).await, 100);
}

#[rate_limit(name = "several", per_hour = 3, per_day = 5)]
async fn several() -> &'static str {
    "ok"
}

async fn several_quotas_bind_together(limiter: Instances) {
    let app = App::serve(Router::new().route("/", get(several)).layer(limiter)).await;
    assert_eq!(app.statuses("/", 4).await, [200, 200, 200, 503]);
    let denied = app.get("/").await;
    assert_eq!(denied.field("ratelimit-policy"), r#""several";q=3;w=3600, "several.2";q=5;w=86400"#);
    let limits = denied.field("ratelimit");
    let remaining: Vec<&str> = limits.split(", ").filter_map(|item| item.split(";t=").next()).collect();
    assert_eq!(remaining, [r#""several";r=0"#, r#""several.2";r=2"#], "what is denied takes nothing");
}

#[rate_limit(name = "outer", per_minute = 4)]
#[rate_limit(name = "inner", per_minute = 2, by_resource, status = 429, message = "Two a minute.")]
async fn stacked() -> &'static str {
    "ok"
}

async fn stacked_attributes_take_all_or_nothing(limiter: Instances) {
    let router = Router::new().route("/a", get(stacked)).route("/b", get(stacked)).route("/c", get(stacked));
    let app = App::serve(router.layer(limiter)).await;
    assert_eq!(app.statuses("/a", 2).await, [200, 200]);
    for _ in 0..3 {
        let denied = app.get("/a").await;
        assert_eq!(denied.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(denied.body, r#"{"detail":"Two a minute."}"#);
        assert!(denied.field("ratelimit").contains(r#""outer";r=2;"#), "{denied:?}");
    }
    assert_eq!(app.statuses("/b", 2).await, [200, 200], "the denials took nothing from `outer`");
    assert_eq!(app.statuses("/c", 1).await, [503], "now `outer` is used up");
}

#[rate_limit(name = "picky", per_minute = 2)]
async fn picky(Json(_): Json<Value>) -> &'static str {
    "ok"
}

async fn a_rejected_request_is_counted_and_told(limiter: Instances) {
    let app = App::serve(Router::new().route("/", post(picky)).layer(limiter)).await;
    for left in [1, 0] {
        let answer = app.send(Method::POST, "/").await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(answer.parameter("r"), Some(left));
    }
    assert_eq!(app.send(Method::POST, "/").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let other = app.get("/").await;
    assert_eq!(other.status, StatusCode::METHOD_NOT_ALLOWED, "a handler's limit is not asked for others");
    assert!(LIMIT_FIELDS.iter().all(|name| other.field(name).is_empty()));
}

/// Middleware that sends a request again if its answer is 503.
async fn again(request: Request, next: Next) -> Response {
    let (parts, _) = request.into_parts();
    let first = next.clone().run(Request::from_parts(parts.clone(), Body::empty())).await;
    if first.status() == StatusCode::SERVICE_UNAVAILABLE {
        return next.run(Request::from_parts(parts, Body::empty())).await;
    }
    first
}

async fn a_denial_stands_when_the_request_is_sent_again(limiter: Instances) {
    let router = Router::new().route("/", get(sent_again)).layer(axum::middleware::from_fn(again));
    let app = App::serve(router.layer(limiter)).await;
    assert_eq!(app.statuses("/", 3).await, [200, 503, 503]);
    assert_eq!(app.get("/").await.body, r#"{"detail":"Rate limit exceeded."}"#);
}

#[rate_limit(name = "sent-again", per_minute = 1)]
async fn sent_again() {}

#[rate_limit(name = "wide", per_minute = 3)]
#[rate_limit(name = "narrow", per_minute = 1)]
async fn fresh() -> &'static str {
    "fresh"
}

#[rate_limit(name = "wide", per_minute = 3)]
async fn cached() -> &'static str {
    "cached"
}

/// Middleware that asks for what is cached if what is fresh is denied.
async fn or_cached(request: Request, next: Next) -> Response {
    let (mut parts, _) = request.into_parts();
    let first = next.clone().run(Request::from_parts(parts.clone(), Body::empty())).await;
    if first.status() == StatusCode::SERVICE_UNAVAILABLE {
        parts.uri = "/cached".parse().expect("a path");
        return next.run(Request::from_parts(parts, Body::empty())).await;
    }
    first
}

async fn what_was_not_charged_is_asked_when_the_request_is_sent_elsewhere(limiter: Instances) {
    let both = Router::new().route("/fresh", get(fresh)).route("/cached", get(cached));
    let router = Router::new().fallback_service(both).layer(axum::middleware::from_fn(or_cached));
    let app = App::serve(router.layer(limiter)).await;
    for (status, body) in [(200, "fresh"), (200, "cached"), (200, "cached"), (503, "Rate limit exceeded.")] {
        let answer = app.get("/fresh").await;
        assert_eq!(answer.status.as_u16(), status, "{body}");
        assert!(answer.body.contains(body), "{}", answer.body);
    }
}

async fn a_wildcard_has_one_spelling(limiter: Instances) {
    let app = App::serve(Router::new().route("/files/{*path}", get(resource)).layer(limiter)).await;
    assert_eq!(app.get("/files/a/b").await.status, StatusCode::OK);
    for spelling in ["/files/a%2Fb", "/files/a%2fb", "/files/a//b", "/files/%61/b?x"] {
        assert_eq!(app.get(spelling).await.status, StatusCode::SERVICE_UNAVAILABLE, "{spelling}");
    }
}

#[rate_limit(name = "told", per_minute = 9)]
async fn told(decisions: Decisions) -> impl IntoResponse {
    let decision = &decisions[0];
    let state = decision.quotas()[0];
    Json(json!({
        "count": decisions.len(),
        "policy": decision.policy(),
        "allowed": decision.is_allowed(),
        "degraded": decision.is_degraded(),
        "limit": state.quota.limit(),
        "remaining": decision.remaining(),
    }))
}

async fn a_handler_sees_what_was_decided(limiter: Instances) {
    let app = App::serve(Router::new().route("/", get(told)).layer(limiter)).await;
    let told: Value = serde_json::from_str(&app.get("/").await.body).expect("JSON");
    assert_eq!(
        told,
        json!({ "count": 1, "policy": "told", "allowed": true, "degraded": false, "limit": 9, "remaining": 8 })
    );
}

#[rate_limit(name = "worded", per_day = 1, status = 429, message = "Say \"please\".")]
async fn worded() -> &'static str {
    "ok"
}

async fn a_denial_is_worded_by_its_policy(limiter: Instances) {
    let app = App::serve(Router::new().route("/", get(worded)).layer(limiter)).await;
    app.get("/").await;
    let denied = app.get("/").await;
    assert_eq!(denied.status, StatusCode::TOO_MANY_REQUESTS);
    let body: Value = serde_json::from_str(&denied.body).expect("JSON, whatever the message holds");
    assert_eq!(body, json!({ "detail": "Say \"please\"." }));
}
