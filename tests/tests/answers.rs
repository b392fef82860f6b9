//! Tests of a limiter's answers under its settings: statuses, fields, problem details, custom responses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum_rate_limit::store::{Counter, Operation, Outcome, Reading, Store};
use axum_rate_limit::{
    BuildError, Builder, Denied, Error, Headers, OnStoreError, RateLimiter, Reason, StoreError, rate_limit,
};
use http::Request;
use serde_json::{Value, json};
use tests::{Away, Reply, reply, send};

#[rate_limit(name = "once", per_minute = 1, per_hour = 20)]
async fn once() -> &'static str {
    "ok"
}

#[rate_limit(name = "too-many", per_minute = 1, status = 429)]
async fn too_many() -> &'static str {
    "ok"
}

fn json(answer: &Reply) -> Value {
    serde_json::from_str(&answer.body).expect("JSON")
}

/// Returns the first answer and the second one, which is a denial.
async fn two_answers(builder: Builder, path: &str) -> (Reply, Reply) {
    let limiter = builder.build().await.expect("it builds");
    let router = Router::new().route("/once", get(once)).route("/too-many", get(too_many)).layer(limiter);
    (send(&router, "GET", path, "").await, send(&router, "GET", path, "").await)
}

#[tokio::test]
async fn the_status_is_the_policys_or_the_limiters_or_503() {
    let status = |builder: Builder, path| async move { two_answers(builder, path).await.1.status };
    assert_eq!(status(RateLimiter::builder(), "/once").await, 503);
    assert_eq!(status(RateLimiter::builder().status(StatusCode::FORBIDDEN), "/once").await, 403);
    assert_eq!(status(RateLimiter::builder().status(StatusCode::FORBIDDEN), "/too-many").await, 429);
}

#[tokio::test]
async fn fields_are_those_that_were_asked_for() {
    const DRAFT: [&str; 2] = ["ratelimit-policy", "ratelimit"];
    const LEGACY: [&str; 3] = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
    for (headers, draft, legacy) in [
        (Headers::Draft, true, false),
        (Headers::Legacy, false, true),
        (Headers::LegacyUnixTime, false, true),
        (Headers::Both, true, true),
        (Headers::Off, false, false),
    ] {
        let (first, second) = two_answers(RateLimiter::builder().headers(headers), "/once").await;
        for answer in [&first, &second] {
            assert!(DRAFT.iter().all(|name| answer.head.contains_key(*name) == draft), "{headers:?}");
            assert!(LEGACY.iter().all(|name| answer.head.contains_key(*name) == legacy), "{headers:?}");
        }
        assert!(!second.field("retry-after").is_empty());
        if legacy && headers != Headers::LegacyUnixTime {
            let values = LEGACY.map(|name| second.field(name));
            assert_eq!(values, ["1", "0", "60"], "those of the quota that binds");
        }
    }
}

#[tokio::test]
async fn a_reset_may_be_told_as_a_unix_time() {
    let unix_time = || SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs();
    let earliest = unix_time() + 60;
    let builder = RateLimiter::builder().headers(Headers::LegacyUnixTime);
    let (_, denied) = two_answers(builder, "/once").await;
    let reset: u64 = denied.field("x-ratelimit-reset").parse().expect("it is a number");
    assert!((earliest..=unix_time() + 61).contains(&reset), "{reset}");
    assert_eq!(denied.field("retry-after"), "60", "that stays as it is");
}

#[tokio::test]
async fn problem_details_say_which_policy_is_violated() {
    let problem = || RateLimiter::builder().problem_details();
    let (_, denied) = two_answers(problem(), "/once").await;
    assert_eq!(denied.field("content-type"), "application/problem+json");
    assert_eq!(
        json(&denied),
        json!({
            "type": "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
            "title": "Request cannot be satisfied due to temporary server capacity constraints",
            "status": 503,
            "detail": "Rate limit exceeded.",
            "violated-policies": ["once"],
        })
    );
    let (_, denied) = two_answers(problem(), "/too-many").await;
    assert_eq!(json(&denied)["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(json(&denied)["violated-policies"], json!(["too-many"]));
}

#[tokio::test]
async fn a_response_of_ones_own_loses_no_field() {
    fn teapot(denied: &Denied<'_>) -> Response {
        let Reason::Quota(decision) = denied.reason() else { return StatusCode::BAD_GATEWAY.into_response() };
        let text = format!(
            "{} {} {}",
            decision.policy(),
            denied.message(),
            denied.retry_after().map_or(0, |wait| wait.as_secs())
        );
        (StatusCode::IM_A_TEAPOT, [("cache-control", "private")], Html(text)).into_response()
    }
    let (_, denied) = two_answers(RateLimiter::builder().on_denied(teapot), "/once").await;
    assert_eq!(denied.status, 418);
    assert_eq!(denied.body, "once Rate limit exceeded. 60");
    assert_eq!(denied.field("retry-after"), "60");
    assert_eq!(denied.field("cache-control"), "private");
    assert!(!denied.field("ratelimit").is_empty());
}

#[tokio::test]
async fn a_response_of_ones_own_depends_on_the_request_and_on_what_the_program_knows() {
    let page = String::from("Later, please.");
    let builder = RateLimiter::builder().on_denied(move |denied| {
        let path = denied.request().uri.path();
        (denied.status(), format!("{page} ({path})")).into_response()
    });
    let (_, denied) = two_answers(builder, "/once").await;
    assert_eq!(denied.body, "Later, please. (/once)");
    // The closure also answers when the store fails.
    let builder = RateLimiter::builder().store(Away).on_store_error(OnStoreError::Deny);
    let builder = builder.on_denied(|denied| denied.request().uri.path().to_owned().into_response());
    let (refused, _) = two_answers(builder, "/once").await;
    assert_eq!(refused.body, "/once");
}

#[rate_limit(name = "upload", per_minute = 1)]
async fn upload(body: Bytes) -> String {
    body.len().to_string()
}

#[tokio::test]
async fn the_body_of_a_denied_request_is_never_read() {
    let router = Router::new().route("/", post(upload)).layer(RateLimiter::memory());
    for (status, is_read) in [(200, true), (503, false)] {
        let read = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&read);
        let body = Body::from_stream(futures_util::stream::once(async move {
            seen.store(true, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from_static(b"four"))
        }));
        let answer = reply(&router, Request::post("/").body(body).expect("a request")).await;
        assert_eq!(answer.status, status);
        assert_eq!(read.load(Ordering::Relaxed), is_read);
    }
}

#[tokio::test]
async fn settings_that_can_not_be_are_refused_by_build() {
    let refused =
        |builder: Builder| async move { builder.build().await.expect_err("it is refused").to_string() };
    let builder = RateLimiter::builder;
    assert_eq!(
        refused(builder().timeout(Duration::ZERO)).await,
        "timeout: a store needs time to answer: write at least 1 ms"
    );
    let almost = Duration::from_micros(999);
    assert!(refused(builder().timeout(almost)).await.ends_with("at least 1 ms"));
    for long in [Duration::from_millis(3_600_001), Duration::MAX] {
        assert!(refused(builder().timeout(long)).await.ends_with("an hour at most"));
    }
    assert!(refused(builder().max_keys(0)).await.starts_with("max_keys: "));
    assert!(refused(builder().ipv4_prefix(33)).await.starts_with("ipv4_prefix: "));
    assert!(refused(builder().ipv6_prefix(129)).await.starts_with("ipv6_prefix: "));
    assert!(refused(builder().status(StatusCode::OK)).await.starts_with("status: "));
    for prefix in ["a b", "{a}", "ä"] {
        assert!(refused(builder().key_prefix(prefix)).await.starts_with("key_prefix: "));
    }
    let proxies = |network: &str| refused(builder().trusted_proxies([network]));
    assert!(proxies("10.0.0.0/33").await.starts_with("trusted_proxies: `10.0.0.0/33` is not a network: "));
    for (network, instead) in [
        ("10.1.2.3/8", "write `10.0.0.0/8` or `10.1.2.3`"),
        ("fd00::1/8", "write `fd00::/8` or `fd00::1`"),
        ("::ffff:10.1.2.3/104", "write `::ffff:10.0.0.0/104` or `::ffff:10.1.2.3`"),
    ] {
        let told = proxies(network).await;
        assert!(told.ends_with(instead), "{told}");
    }
    for network in ["10.1.2.3/32", "fd00::1/128", "::ffff:10.0.0.0/104", "0.0.0.0/0"] {
        assert!(builder().trusted_proxies([network]).build().await.is_ok(), "{network}");
    }
}

#[tokio::test]
async fn clients_are_told_apart_by_their_network() {
    let limiter = RateLimiter::builder().ipv6_prefix(64).build().await.expect("it builds");
    let router = Router::new().route("/", get(once)).layer(limiter);
    let from = |ip: &str| {
        let router = router.clone();
        let address: SocketAddr = format!("{ip}:80").parse().expect("an address");
        async move {
            let request = Request::get("/").extension(ConnectInfo(address)).body(Body::empty());
            reply(&router, request.expect("a request")).await.status
        }
    };
    assert_eq!(from("192.0.2.1").await, 200);
    assert_eq!(from("[::ffff:192.0.2.1]").await, 503, "the same client over a socket for both families");
    assert_eq!(from("[::ffff:192.0.2.2]").await, 200);
    assert_eq!(from("[2001:db8:0:1::1]").await, 200);
    assert_eq!(from("[2001:db8:0:1::2]").await, 503);
    assert_eq!(from("[2001:db8:0:2::1]").await, 200);
}

#[rate_limit(name = "steady", per_minute = 2, algorithm = token_bucket)]
async fn steady() {}

/// Once a bucket is empty, the next request can pass long before the bucket is full again.
#[tokio::test]
async fn no_field_tells_of_a_time_after_the_next_try() {
    let limiter = RateLimiter::builder().headers(Headers::Both).build().await.expect("it builds");
    let router = Router::new().route("/", get(steady)).layer(limiter);
    for (status, time) in [(200, "30"), (200, "60"), (503, "30")] {
        let answer = send(&router, "GET", "/", "").await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.field("x-ratelimit-reset"), time);
        assert!(answer.field("ratelimit").ends_with(&format!(";t={time}")));
        assert_eq!(answer.field("retry-after"), if status == 503 { time } else { "" });
    }
}

#[rate_limit(name = "minutes", per_minute = 10, cost = 5)]
#[rate_limit(name = "hours", per_hour = 14, cost = 5)]
async fn stacked() {}

#[tokio::test]
async fn the_fields_of_old_tell_of_who_denies_for_longest() {
    let limiter = RateLimiter::builder().headers(Headers::Legacy).build().await.expect("it builds");
    let router = Router::new().route("/", get(stacked)).layer(limiter);
    for _ in 0..2 {
        assert_eq!(send(&router, "GET", "/", "").await.status, 200);
    }
    let denied = send(&router, "GET", "/", "").await;
    assert_eq!(denied.field("x-ratelimit-limit"), "14");
    assert_eq!(denied.field("x-ratelimit-reset"), denied.field("retry-after"));
}

/// A store that denies everything, forever.
struct Never;

impl Store for Never {
    async fn apply(&self, _: Operation, counters: &[Counter<'_>]) -> Result<Outcome, StoreError> {
        let never = Reading::new(false, 0, Duration::MAX, Some(Duration::MAX));
        Ok(Outcome::new(false, counters.iter().map(|_| never)))
    }
}

#[tokio::test]
async fn a_wait_without_end_has_no_more_digits_than_a_field_may_have() {
    for builder in [RateLimiter::builder(), RateLimiter::builder().problem_details()] {
        let limiter = builder.store(Never).headers(Headers::Both).build().await.expect("it builds");
        let denied = send(&Router::new().route("/", get(steady)).layer(limiter), "GET", "/", "").await;
        assert_eq!(denied.status, 503);
        let most = "999999999999999";
        assert_eq!((denied.field("retry-after"), denied.field("x-ratelimit-reset")), (most, most));
        assert_eq!(denied.field("ratelimit"), r#""steady";r=0;t=999999999999999"#);
    }
}

async fn job() -> Result<(), Error> {
    Err(StoreError::Timeout(Duration::from_millis(100)).into())
}

async fn start() -> Result<(), Error> {
    Err(BuildError::Setting { setting: "REDIS_URL", problem: "it is no URL".to_owned() }.into())
}

#[tokio::test]
async fn an_error_is_answered_as_a_denial_without_a_store_is() {
    let router = Router::new().route("/", get(job)).route("/start", get(start));
    let answer = send(&router, "GET", "/", "").await;
    assert_eq!(answer.status, 503);
    assert_eq!((answer.field("retry-after"), answer.field("cache-control")), ("1", "no-store"));
    let answer = send(&router, "GET", "/start", "").await;
    assert_eq!(answer.status, 500);
    assert!(!answer.body.contains("REDIS_URL"), "what is wrong is not the client's business");
}
