//! Tests of what is charged later, or given back, over HTTP: the same on both stores.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::response;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use axum::{Router, http::StatusCode};
use axum_rate_limit::store::{Counter, MemoryStore, Operation, Outcome, Store};
use axum_rate_limit::{
    Algorithm, Charge, Denial, Error, Headers, Key, KeyPart, Policy, RateLimiter, RequestLimiter, StoreError,
    rate_limit,
};
use tests::{App, Fault, FaultProxy, Instances, Log, RedisServer, built, on_both_stores};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

on_both_stores!(
    a_charge_is_added_or_given_back,
    what_was_denied_has_nothing_to_give_back,
    an_answer_gives_back_what_it_does_not_count,
    what_an_answer_gives_back_is_of_one_policy,
    one_charge_of_several,
    what_is_charged_at_different_times_is_given_back,
    what_is_charged_twice_under_one_key_is_given_back,
);

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

/// Otherwise, a misspelt name would silently let too much pass.
#[tokio::test]
async fn a_charge_of_a_policy_that_does_not_exist_fails() {
    #[rate_limit(name = "tokens", per_hour = 10)]
    async fn complete(charge: Charge) -> Result<(), Error> {
        charge.of(String::from("charged")).add(1).await?;
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

const OF_EACH_ALGORITHM: [Policy; 4] = [
    Policy::new("repeated-fixed").per_hour(100),
    Policy::new("repeated-sliding").per_hour(100).algorithm(Algorithm::SlidingWindow),
    Policy::new("repeated-log").per_hour(100).algorithm(Algorithm::SlidingLog),
    Policy::new("repeated-bucket").per_hour(100).algorithm(Algorithm::TokenBucket { burst: None }),
];

fn repeated(number: usize) -> Policy {
    OF_EACH_ALGORITHM[number].key(&[KeyPart::Global]).give_back_if(succeeded)
}

/// Checks one key again and again, more often than is told apart, and charges it once more. The first check is free.
async fn repeat(limiter: RequestLimiter, charge: Charge, Path(number): Path<usize>) -> Result<(), Denial> {
    limiter.check_with_cost(&repeated(number), Key::global(), 0).await?;
    for _ in 0..80 {
        limiter.check(&repeated(number), Key::global()).await?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    charge.add(7).await.expect("it is charged");
    Ok(())
}

async fn what_is_charged_at_different_times_is_given_back(limiter: Instances) {
    let app = App::serve(Router::new().route("/{number}", get(repeat)).layer(limiter.clone())).await;
    for (number, policy) in OF_EACH_ALGORITHM.iter().enumerate() {
        let answer = app.get(&format!("/{number}")).await;
        assert_eq!((answer.status, answer.parameter("r")), (StatusCode::OK, Some(100)), "{policy:?}");
        let left = limiter.peek(policy, Key::global()).await.expect("a decision").remaining();
        assert_eq!(left, 100, "{policy:?}");
    }
}

macro_rules! checked_by_attribute_and_handler {
    ($($policy:ident $handler:ident $name:literal $algorithm:expr;)*) => {$(
        const $policy: Policy = Policy::new($name)
            .per_hour(100)
            .key(&[KeyPart::Global])
            .algorithm($algorithm)
            .give_back_if(succeeded);

        #[rate_limit(policy = $policy)]
        async fn $handler(limiter: RequestLimiter) -> Result<(), Denial> {
            limiter.check_with_cost(&$policy, Key::global(), 4).await
        }
    )*};
}

checked_by_attribute_and_handler!(
    TWICE_FIXED twice_fixed "twice-fixed" Algorithm::FixedWindow;
    TWICE_SLIDING twice_sliding "twice-sliding" Algorithm::SlidingWindow;
    TWICE_LOG twice_log "twice-log" Algorithm::SlidingLog;
    TWICE_BUCKET twice_bucket "twice-bucket" Algorithm::TokenBucket { burst: None };
);

/// The two charges are given back in one call, to one counter.
async fn what_is_charged_twice_under_one_key_is_given_back(limiter: Instances) {
    let router = Router::new()
        .route("/fixed", get(twice_fixed))
        .route("/sliding", get(twice_sliding))
        .route("/log", get(twice_log))
        .route("/bucket", get(twice_bucket));
    let app = App::serve(router.layer(limiter.clone())).await;
    for (path, policy) in [
        ("/fixed", &TWICE_FIXED),
        ("/sliding", &TWICE_SLIDING),
        ("/log", &TWICE_LOG),
        ("/bucket", &TWICE_BUCKET),
    ] {
        let answer = app.get(path).await;
        assert_eq!((answer.status, answer.parameter("r")), (StatusCode::OK, Some(100)), "{path}");
        let left = limiter.peek(policy, Key::global()).await.expect("a decision").remaining();
        assert_eq!(left, 100, "{path}");
    }
}

const LISTED: Policy = Policy::new("listed").per_hour(10).give_back_if(succeeded);

async fn lists(limiter: RequestLimiter, State(proxy): State<Arc<FaultProxy>>) -> Result<(), Denial> {
    for item in 0..100 {
        limiter.check(&LISTED, format!("item{item}")).await?;
    }
    proxy.set(Fault::Delay(Duration::from_millis(500)));
    Ok(())
}

/// There is a response, though nobody is left to read it.
#[tokio::test]
async fn all_is_given_back_though_the_client_hangs_up_meanwhile() {
    let server = RedisServer::start().await;
    let proxy = Arc::new(FaultProxy::to(server.port()));
    let url = proxy.url();
    let limiter = built(|| RateLimiter::builder().redis(&url).timeout(Duration::from_secs(30))).await;
    let router = Router::new().route("/", get(lists)).with_state(Arc::clone(&proxy));
    let app = App::serve(router.layer(limiter)).await;
    let address = app.url("");
    let mut client = TcpStream::connect(address.trim_start_matches("http://")).await.expect("it listens");
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it is read");
    while server.keys().await.len() < 100 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // In the middle of giving back.
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(client);
    let direct = server.limiter().await;
    let start = Instant::now();
    for item in 0..100 {
        while direct.peek(&LISTED, format!("item{item}")).await.expect("a decision").remaining() < 10 {
            assert!(start.elapsed() < Duration::from_secs(10), "item{item} is still charged");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Counts in memory, and takes its time to give back, as a cluster does where a node has to be waited for.
struct Slow(Arc<MemoryStore>);

impl Store for Slow {
    async fn apply(&self, operation: Operation, counters: &[Counter<'_>]) -> Result<Outcome, StoreError> {
        if operation == Operation::GiveBack {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.0.apply_now(operation, counters)
    }
}

/// There is a response, though nobody is left to read it.
#[tokio::test]
async fn a_slow_store_gives_back_though_the_client_hangs_up_meanwhile() {
    let builder = RateLimiter::builder().store(Slow(Arc::new(MemoryStore::new(100))));
    let limiter = builder.timeout(Duration::from_secs(30)).build().await.expect("it builds");
    let app = App::serve(shop().layer(limiter.clone())).await;
    let address = app.url("");
    let mut client = TcpStream::connect(address.trim_start_matches("http://")).await.expect("it listens");
    client.write_all(b"GET /number/1 HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it is read");
    let left = async || limiter.peek(&FAILURES, Key::global()).await.expect("a decision").remaining();
    while left().await == 10 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(client);
    let start = Instant::now();
    while left().await < 10 {
        assert!(start.elapsed() < Duration::from_secs(10), "it is still charged");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
