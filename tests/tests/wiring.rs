//! A program that is put together wrongly: nothing is let through, and the log says what to add.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::MockConnectInfo;
use axum::routing::get;
use axum_rate_limit::{Decisions, RateLimiter, rate_limit};
use http::{Request, StatusCode};
use tests::Log;
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

async fn status(router: &Router) -> StatusCode {
    let request = Request::get("/").body(Body::empty()).expect("a request");
    router.clone().oneshot(request).await.expect("infallible").status()
}

// One test, since what it shows is logged once in a process.
#[tokio::test]
async fn what_is_missing_is_500_and_one_line_that_says_what_to_add() {
    let (log, _guard) = Log::of_this_thread();

    for router in [Router::new().route("/", get(handler)), routes(), layer_inside()] {
        assert_eq!(status(&router).await, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(status(&router).await, StatusCode::INTERNAL_SERVER_ERROR);
    }
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("ERROR") && lines[0].contains("add `.layer(limiter)`"), "{lines:?}");
    assert!(lines[0].contains("outside of limited router functions and modules"), "{lines:?}");

    for router in [Router::new().route("/", get(handler)), routes()] {
        let router = router.layer(RateLimiter::memory());
        assert_eq!(status(&router).await, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(status(&router).await, StatusCode::INTERNAL_SERVER_ERROR);
    }
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].contains("into_make_service_with_connect_info::<SocketAddr>()"), "{lines:?}");
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
