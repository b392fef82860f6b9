//! Tests of limited routers, modules and middleware over HTTP: the same on both stores.

use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use axum::{Router, http::StatusCode};
use axum_rate_limit::{Policy, RateLimiter, rate_limit};
use reqwest::Method;
use tests::{App, Instances, Log, on_both_stores};

on_both_stores!(
    a_router_is_limited_route_by_route,
    what_is_added_to_a_limited_router_is_not_limited,
    a_nested_service_has_one_quota_for_its_routes,
    a_method_router_is_limited,
    a_module_is_asked_before_its_handlers,
    one_request_is_charged_once,
    a_policy_that_stands_twice_is_one,
    an_empty_router_stays_empty,
    an_async_router_function_is_limited,
    an_alias_of_a_router_is_limited,
    a_middleware_function_limits_all_that_it_is_around,
    asked_without_a_handler,
);

async fn ok() -> &'static str {
    "ok"
}

#[rate_limit(name = "routes", per_minute = 2, by_resource)]
fn routes() -> Router {
    Router::new().route("/a", get(ok)).route("/b", get(ok).post(ok)).fallback(ok)
}

async fn a_router_is_limited_route_by_route(limiter: Instances) {
    let router = Router::new().route("/free", get(ok)).merge(routes()).nest("/nested", routes());
    let app = App::serve(router.layer(limiter)).await;
    assert_eq!(app.statuses("/a", 3).await, [200, 200, 503]);
    assert_eq!(app.statuses("/nested/a", 3).await, [200, 200, 503]);
    assert_eq!(app.statuses("/free", 3).await, [200; 3]);
    assert_eq!(app.statuses("/fallback", 3).await, [200; 3], "the fallback of a router is no route of it");

    assert_eq!(app.send(Method::HEAD, "/b").await.status, StatusCode::OK);
    assert_eq!(app.statuses("/b", 2).await, [200, 503], "HEAD counts as GET");
    assert_eq!(app.send(Method::POST, "/b").await.status, StatusCode::OK);

    let lacking = app.send(Method::DELETE, "/b").await;
    assert_eq!(lacking.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(lacking.parameter("r"), Some(1), "a path that a route matches is counted");
    let nowhere = App::serve(routes().layer(RateLimiter::memory())).await.get("/nowhere").await;
    assert!(nowhere.field("ratelimit").is_empty(), "a path that no route matches is not");
}

async fn what_is_added_to_a_limited_router_is_not_limited(limiter: Instances) {
    let router = routes().method_not_allowed_fallback(ok);
    let app = App::serve(router.route("/free", get(ok)).layer(limiter)).await;
    assert_eq!(app.statuses("/free", 3).await, [200; 3]);
    assert_eq!(app.send(Method::DELETE, "/b").await.field("ratelimit"), "");
    assert_eq!(app.statuses("/b", 3).await, [200, 200, 503]);
}

#[rate_limit(name = "services", per_minute = 2, by_route)]
fn services() -> Router {
    let service = Router::new().route("/a", get(ok)).route("/b", get(ok));
    Router::new().route("/a", get(ok)).nest_service("/service", service)
}

async fn a_nested_service_has_one_quota_for_its_routes(limiter: Instances) {
    let app = App::serve(services().layer(limiter)).await;
    assert_eq!(app.statuses("/service/a", 1).await, [200]);
    assert_eq!(app.statuses("/service/b", 2).await, [200, 503]);
    assert_eq!(app.statuses("/a", 1).await, [200]);
}

#[rate_limit(name = "methods", per_minute = 1, by_resource)]
fn methods() -> MethodRouter {
    get(ok).post(ok)
}

async fn a_method_router_is_limited(limiter: Instances) {
    let app = App::serve(Router::new().route("/", methods()).route("/other", methods()).layer(limiter)).await;
    assert_eq!(app.statuses("/", 2).await, [200, 503]);
    assert_eq!(app.send(Method::POST, "/").await.status, StatusCode::OK);
    assert_eq!(app.statuses("/other", 2).await, [200, 503]);
}

#[rate_limit(name = "module", per_minute = 3)]
mod limited {
    use axum_rate_limit::rate_limit;

    use super::{MethodRouter, Router, get, ok};

    #[rate_limit(name = "in-module", per_minute = 1)]
    async fn strict() -> &'static str {
        "ok"
    }

    #[rate_limit(name = "own-router", per_minute = 1)]
    pub(super) fn own() -> MethodRouter {
        get(ok)
    }

    pub(super) fn router() -> Router {
        Router::new().route("/strict", get(strict)).route("/loose", get(ok)).route("/own", own())
    }
}

async fn a_module_is_asked_before_its_handlers(limiter: Instances) {
    let app = App::serve(limited::router().layer(limiter)).await;
    let first = app.get("/strict").await;
    assert_eq!(first.status, StatusCode::OK);
    assert_eq!(first.field("ratelimit-policy"), r#""module";q=3;w=60, "in-module";q=1;w=60"#);
    let own = app.get("/own").await;
    assert_eq!(own.field("ratelimit-policy"), r#""module";q=3;w=60, "own-router";q=1;w=60"#);
    let second = app.get("/strict").await;
    assert_eq!(second.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(second.field("ratelimit").contains(r#""module";r=0;"#), "the module let it pass: {second:?}");
    let third = app.get("/loose").await;
    assert_eq!(third.field("ratelimit-policy"), r#""module";q=3;w=60"#);
    assert_eq!(third.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[rate_limit(policy = ONCE)]
fn once_inside() -> Router {
    Router::new().route("/", get(once_handler))
}

#[rate_limit(policy = ONCE)]
async fn once_handler() -> &'static str {
    "ok"
}

#[rate_limit(policy = ONCE)]
fn once_outside() -> Router {
    Router::new().nest("/in", once_inside()).merge(Router::new().route("/beside", get(once_handler)))
}

static ONCE: Policy = Policy::new("once").per_minute(3);

#[rate_limit(policy = TWICE)]
#[rate_limit(policy = TWICE)]
async fn twice() -> &'static str {
    "ok"
}

static TWICE: Policy = Policy::new("twice").per_minute(2);

async fn one_request_is_charged_once(limiter: Instances) {
    // The limiter is layered twice, too.
    let app = App::serve(once_outside().layer(limiter.clone()).layer(limiter)).await;
    for left in [2, 1, 0] {
        let answer = app.get("/in").await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.field("ratelimit-policy"), r#""once";q=3;w=60"#);
        assert_eq!(answer.parameter("r"), Some(left));
    }
    assert_eq!(app.get("/beside").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

async fn a_policy_that_stands_twice_is_one(limiter: Instances) {
    let app = App::serve(Router::new().route("/", get(twice)).layer(limiter)).await;
    for left in [1, 0] {
        let answer = app.get("/").await;
        assert_eq!((answer.status, answer.parameter("r")), (StatusCode::OK, Some(left)));
        assert_eq!(answer.field("ratelimit-policy"), r#""twice";q=2;w=60"#);
    }
    assert_eq!(app.get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[rate_limit(name = "empty", per_minute = 1)]
fn empty() -> Router {
    Router::new()
}

#[rate_limit(name = "empty", per_minute = 1)]
fn empty_method_router() -> MethodRouter {
    MethodRouter::new()
}

async fn an_empty_router_stays_empty(limiter: Instances) {
    let (log, guard) = Log::of_this_thread();
    let router = Router::new().route("/", get(ok)).merge(empty()).route("/none", empty_method_router());
    drop(guard);
    assert_eq!(log.lines_with("WARN", &["no routes", "empty"]).len(), 1, "{:?}", log.lines());
    let app = App::serve(router.layer(limiter)).await;
    assert_eq!(app.statuses("/", 2).await, [200, 200]);
    assert_eq!(app.statuses("/nowhere", 2).await, [404, 404]);
    assert_eq!(app.statuses("/none", 2).await, [405, 503]);
}

#[rate_limit(name = "async-routes", per_minute = 1)]
async fn async_routes(path: &str, early: bool) -> Router {
    tokio::task::yield_now().await;
    if early {
        return Router::new().route(path, get(ok));
    }
    Router::new()
}

async fn an_async_router_function_is_limited(limiter: Instances) {
    let app = App::serve(async_routes("/x", true).await.layer(limiter)).await;
    assert_eq!(app.statuses("/x", 2).await, [200, 503]);
}

#[rate_limit(name = "aliases", per_minute = 1)]
mod aliases {
    use super::{Router, get, ok};

    pub(super) type AppRouter = Router<()>;

    pub(super) fn plain() -> Router {
        Router::new().route("/plain", get(ok))
    }

    pub(super) fn alias() -> AppRouter {
        Router::new().route("/alias", get(ok))
    }
}

#[rate_limit(name = "late_alias", per_minute = 1)]
async fn late_alias() -> aliases::AppRouter {
    Router::new().route("/late_alias", get(ok))
}

async fn an_alias_of_a_router_is_limited(limiter: Instances) {
    let router = aliases::plain().merge(aliases::alias()).merge(late_alias().await);
    let app = App::serve(router.layer(limiter)).await;
    assert_eq!(app.statuses("/plain", 1).await, [200]);
    assert_eq!(app.statuses("/alias", 1).await, [503]);
    assert_eq!(app.statuses("/late_alias", 2).await, [200, 503]);
}

#[rate_limit(name = "everything", per_minute = 2)]
async fn everything(request: Request, next: Next) -> Response {
    next.run(request).await
}

async fn a_middleware_function_limits_all_that_it_is_around(limiter: Instances) {
    let router =
        Router::new().route("/", get(|| async { "ok" })).fallback(|| async { StatusCode::NOT_FOUND });
    let app = App::serve(router.layer(axum::middleware::from_fn(everything)).layer(limiter)).await;
    let mut statuses = Vec::new();
    for path in ["/", "/nowhere", "/", "/nowhere"] {
        statuses.push(app.get(path).await.status.as_u16());
    }
    assert_eq!(statuses, [200, 404, 503, 503]);
}

async fn asked_without_a_handler(limiter: Instances) {
    const JOBS: Policy = Policy::new("jobs").per_hour(2);
    let peeked = limiter.peek(&JOBS, "client-7").await.expect("a decision");
    assert_eq!((peeked.is_allowed(), peeked.remaining(), peeked.reset()), (true, 2, Duration::ZERO));
    for left in [1, 0] {
        let decision = limiter.check(&JOBS, "client-7").await.expect("a decision");
        assert_eq!((decision.is_allowed(), decision.remaining()), (true, left));
    }
    let denied = limiter.check(&JOBS, "client-7").await.expect("a decision");
    let wait = denied.retry_after().expect("it is denied");
    assert!(Duration::from_secs(3_500) < wait && wait <= Duration::from_secs(3_600), "{wait:?}");
    assert!(!limiter.peek(&JOBS, "client-7").await.expect("a decision").is_allowed());
    assert!(limiter.check(&JOBS, "client-8").await.expect("a decision").is_allowed());
    limiter.reset(&JOBS, "client-7").await.expect("it is forgotten");
    assert!(limiter.check(&JOBS, "client-7").await.expect("a decision").is_allowed());
}
