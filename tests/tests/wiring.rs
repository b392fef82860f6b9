//! Tests of programs that are put together wrongly: nothing is let through, and the log says what to add.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::connect_info::MockConnectInfo;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use axum_rate_limit::{Decisions, Denial, Key, Policy, Quota, RateLimiter, RequestLimiter, rate_limit};
use http::request::Parts;
use http::{Request, StatusCode};
use tests::{App, Log};
use tower::ServiceExt as _;

#[rate_limit(name = "handler", per_minute = 5)]
async fn handler() -> &'static str {
    "ok"
}

#[rate_limit(name = "router", per_minute = 5)]
fn routes() -> Router {
    Router::new().route("/", get(|| async { "ok" }))
}

#[rate_limit(name = "inside", per_minute = 5)]
fn layer_inside() -> Router {
    Router::new().route("/", get(|| async { "ok" })).layer(RateLimiter::memory())
}

#[rate_limit(name = "merged", per_minute = 5)]
fn merged() -> Router {
    Router::new().route("/merged", get(|| async { "ok" }))
}

async fn status(router: &Router) -> StatusCode {
    let request = Request::get("/").body(Body::empty()).expect("a request");
    router.clone().oneshot(request).await.expect("infallible").status()
}

// This is a single test, since each of these errors is logged once per process.
#[tokio::test]
async fn what_is_missing_is_500_and_one_line_that_says_what_to_add() {
    let (log, _guard) = Log::of_this_thread();

    for router in [Router::new().route("/", get(handler)), routes(), layer_inside()] {
        assert_eq!(status(&router).await, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(status(&router).await, StatusCode::INTERNAL_SERVER_ERROR);
    }
    // Each policy is reported once.
    let lines = log.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for line in lines {
        assert!(line.contains("ERROR") && line.contains("add `.layer(limiter)`"), "{line}");
        assert!(line.contains("outside of limited router functions, modules and middleware"), "{line}");
    }

    for router in [Router::new().route("/", get(handler)), routes()] {
        let router = router.layer(RateLimiter::memory());
        assert_eq!(status(&router).await, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(status(&router).await, StatusCode::INTERNAL_SERVER_ERROR);
    }
    let lines = log.lines();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[3].contains("into_make_service_with_connect_info::<SocketAddr>()"), "{lines:?}");
    assert!(lines[3].contains("policy=\"handler\""), "{lines:?}");
}

const MAILS: Policy = Policy::new("mails").per_minute(2);

async fn without_a_name(limiter: RequestLimiter) -> Result<(), Denial> {
    limiter.check(&MAILS, "").await
}

#[tokio::test]
async fn an_empty_key_of_a_handler_is_shared_where_nobody_is_told_apart() {
    let (log, _guard) = Log::of_this_thread();
    let router = Router::new().route("/", get(without_a_name)).layer(RateLimiter::memory());
    for expected in [StatusCode::OK, StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE] {
        assert_eq!(status(&router).await, expected);
    }
    let lines = log.lines_with("ERROR", &["mails", "no peer address", "share one quota"]);
    assert_eq!(lines.len(), 1, "{:?}", log.lines());
    assert!(!lines[0].contains("500"), "{lines:?}");
}

const ONCE: Policy = Policy::new("once").per_minute(1);
const NEVER_MIND: Policy = Policy::new("never-mind").per_minute(1);

/// An error that is a response of its own, whatever caused it.
struct Failure;

impl From<Denial> for Failure {
    fn from(_: Denial) -> Self {
        Self
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

async fn swallowed(limiter: RequestLimiter) -> Result<(), Failure> {
    Ok(limiter.check(&ONCE, "all").await?)
}

async fn survived(limiter: RequestLimiter) -> &'static str {
    if limiter.check(&NEVER_MIND, "all").await.is_ok() { "passed" } else { "denied" }
}

#[tokio::test]
async fn a_denial_that_became_another_error_is_warned_of_once() {
    let (log, _guard) = Log::of_this_thread();
    let router = Router::new().route("/", get(swallowed)).layer(RateLimiter::memory());
    for expected in [StatusCode::OK, StatusCode::INTERNAL_SERVER_ERROR, StatusCode::INTERNAL_SERVER_ERROR] {
        assert_eq!(status(&router).await, expected);
    }
    assert_eq!(
        log.lines_with("WARN", &["policy=\"once\"", "answer with the `Denial`"]).len(),
        1,
        "{:?}",
        log.lines()
    );
    let router = Router::new().route("/", get(survived)).layer(RateLimiter::memory());
    for _ in 0..2 {
        assert_eq!(status(&router).await, StatusCode::OK);
    }
    assert!(log.lines_with("WARN", &["never-mind"]).is_empty(), "{:?}", log.lines());
}

/// This holds wherever the routes come from, and also if the same limiter is a layer of some of them.
#[tokio::test]
async fn a_limiter_around_the_router_serves_all_its_routes() {
    let limiter = RateLimiter::memory();
    let nested = Router::new().route("/twice", get(handler)).layer(limiter.clone());
    let router = Router::new().route("/", get(handler)).merge(merged()).nest("/nested", nested);
    let app = limiter.layer(router);
    let app = App::serve_inside(app).await;
    for (path, policy, left) in
        [("/", "handler", 4), ("/nested/twice", "handler", 3), ("/merged", "merged", 4)]
    {
        let answer = app.get(path).await;
        assert_eq!((answer.status, answer.parameter("r")), (StatusCode::OK, Some(left)), "{path}");
        assert!(answer.field("ratelimit").starts_with(&format!("\"{policy}\"")), "{path}");
    }
    for _ in 0..3 {
        assert_eq!(app.get("/").await.status, StatusCode::OK);
    }
    assert_eq!(app.get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let unknown = app.get("/unknown").await;
    assert_eq!((unknown.status, unknown.field("ratelimit").as_str()), (StatusCode::NOT_FOUND, ""));
}

#[tokio::test]
async fn tests_may_name_a_peer() {
    let router = Router::new()
        .route("/", get(handler))
        .layer(RateLimiter::memory())
        .layer(MockConnectInfo(SocketAddr::from(([127, 0, 0, 1], 0))));
    assert_eq!(status(&router).await, StatusCode::OK);
}

#[tokio::test]
async fn decisions_without_a_layer_are_an_error() {
    let router =
        Router::new().route("/", get(|decisions: Decisions| async move { decisions.len().to_string() }));
    assert_eq!(status(&router).await, StatusCode::INTERNAL_SERVER_ERROR);
}

fn user(request: &Parts) -> Option<String> {
    request.extensions.get::<String>().cloned()
}

#[rate_limit(name = "by-user", per_minute = 5, key = user)]
async fn by_user() {}

/// An authentication that comes too late goes unnoticed otherwise.
#[tokio::test]
async fn a_key_that_is_not_there_is_told_once() {
    let (log, _guard) = Log::of_this_thread();
    let router = Router::new().route("/", get(by_user)).layer(RateLimiter::memory());
    let signed_in = router.clone().layer(Extension("ada".to_owned()));
    let peer = || MockConnectInfo(SocketAddr::from(([127, 0, 0, 1], 0)));
    assert_eq!(status(&signed_in.layer(peer())).await, StatusCode::OK);
    assert!(log.lines().is_empty(), "{:?}", log.lines());
    let router = router.layer(peer());
    for _ in 0..2 {
        assert_eq!(status(&router).await, StatusCode::OK);
    }
    let lines = log.lines_with("INFO", &["by-user", "counted by its client's address"]);
    assert_eq!((lines.len(), log.lines().len()), (1, 1), "{:?}", log.lines());
}

#[tokio::test]
async fn a_policy_that_nobody_declares_must_be_the_one_of_its_name() {
    const OTHER: Policy = Policy::new("handler").per_minute(100);
    const SAME: Policy = Policy::new("merged").per_minute(5);
    let (log, _guard) = Log::of_this_thread();
    let limiter = RateLimiter::memory();
    let declared = limiter.policy("handler").expect("an attribute declares it");
    for policy in [declared, declared.with_quotas(Quota::per_minute(9).into())] {
        assert!(limiter.check(&policy, "x").await.expect("a decision").is_allowed());
    }
    assert!(log.lines().is_empty(), "{:?}", log.lines());
    for _ in 0..2 {
        assert!(limiter.check(&OTHER, "x").await.expect("a decision").is_allowed());
    }
    let lines =
        log.lines_with("ERROR", &["two different policies are named `handler`", "`Builder::declare`"]);
    assert_eq!(lines.len(), 1, "{:?}", log.lines());
    // As declared, whatever it is amended to.
    let (log, _guard) = Log::of_this_thread();
    let builder = RateLimiter::builder().declare([SAME]).amend("merged", |policy| policy.per_minute(9));
    let amended = builder.build().await.expect("they are the same");
    for policy in [SAME, amended.policy("merged").expect("it is declared")] {
        assert!(amended.check(&policy, "x").await.expect("a decision").is_allowed());
    }
    assert!(log.lines_with("ERROR", &[]).is_empty(), "{:?}", log.lines());
    let unknown = limiter.policy("handle").expect_err("there is none").to_string();
    assert!(unknown.contains("did you mean `handler`?"), "{unknown}");
}

const BY_RESOURCE: Policy = Policy::new("by-resource").per_minute(5).by_resource();

#[rate_limit(policy = BY_RESOURCE)]
async fn by_resource() {}

#[tokio::test]
async fn a_key_that_no_request_has_is_warned_of() {
    const JOBS: Policy = Policy::new("jobs").per_minute(5);
    let (log, _guard) = Log::of_this_thread();
    let limiter = RateLimiter::memory();
    let _: Router = Router::new().route("/", get(by_resource)).layer(limiter.clone());
    // No attribute declares it, so no request has another key.
    assert!(limiter.check(&JOBS, Key::global()).await.expect("a decision").is_allowed());
    let fitting = Key::from("x").resource(&http::Method::GET, "/");
    limiter.reset(&BY_RESOURCE, fitting).await.expect("it is reset");
    assert!(log.lines().is_empty(), "{:?}", log.lines());
    for _ in 0..2 {
        limiter.reset(&BY_RESOURCE, "x").await.expect("it is reset");
    }
    let lines = log.lines_with("WARN", &["by-resource", "add `Key::resource`"]);
    assert_eq!(lines.len(), 1, "{:?}", log.lines());
}
