//! Tests of what is charged later, or given back, over HTTP: the same on both stores.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::response;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use axum::{Router, http::StatusCode};
use axum_rate_limit::{
    Algorithm, Builder, Charge, Denial, Error, Headers, Key, KeyPart, ManualClock, Policy, RateLimiter,
    RequestLimiter, rate_limit,
};
use futures_util::future::join_all;
use tests::{App, Instances, Log, RedisServer, built, on_both_stores};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

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

/// The requests that wait in [`held`].
#[derive(Clone, Default)]
struct Gate {
    entered: Arc<AtomicUsize>,
    exit: Arc<Notify>,
}

/// Answers at once, unless asked to be slow: then it succeeds, but only when the gate is opened.
async fn held(State(gate): State<Gate>, parts: Parts) -> StatusCode {
    if parts.uri.query() != Some("slow") {
        return StatusCode::UNAUTHORIZED;
    }
    let exit = gate.exit.notified();
    gate.entered.fetch_add(1, Ordering::SeqCst);
    exit.await;
    StatusCode::OK
}

#[rate_limit(name = "held-fixed", per_hour = 2, key = global, give_back_if = succeeded)]
async fn held_fixed(gate: State<Gate>, parts: Parts) -> StatusCode {
    held(gate, parts).await
}

#[rate_limit(name = "held-sliding", per_hour = 2, algorithm = sliding_window, key = global, give_back_if = succeeded)]
async fn held_sliding(gate: State<Gate>, parts: Parts) -> StatusCode {
    held(gate, parts).await
}

#[rate_limit(name = "held-log", per_hour = 2, algorithm = sliding_log, key = global, give_back_if = succeeded)]
async fn held_log(gate: State<Gate>, parts: Parts) -> StatusCode {
    held(gate, parts).await
}

#[rate_limit(name = "held-bucket", per_hour = 2, algorithm = token_bucket, key = global, give_back_if = succeeded)]
async fn held_bucket(gate: State<Gate>, parts: Parts) -> StatusCode {
    held(gate, parts).await
}

/// A service on whose clock hours pass.
struct Hours {
    app: Arc<App>,
    gate: Gate,
    clock: ManualClock,
    server: Option<RedisServer>,
}

impl Hours {
    /// Returns one that counts in memory, and one that counts in Redis.
    async fn both() -> [Self; 2] {
        let server = RedisServer::start().await;
        let url = server.url();
        [
            Self::of(None, RateLimiter::builder).await,
            Self::of(Some(server), || RateLimiter::builder().redis(&url)).await,
        ]
    }

    async fn of(server: Option<RedisServer>, settings: impl Fn() -> Builder) -> Self {
        let (clock, gate) = (ManualClock::default(), Gate::default());
        let settings = || settings().clock(&clock).timeout(Duration::from_secs(30));
        let limiter = match &server {
            Some(_) => built(settings).await,
            None => settings().build().await.expect("it builds"),
        };
        let router = Router::new()
            .route("/fixed", get(held_fixed))
            .route("/sliding", get(held_sliding))
            .route("/log", get(held_log))
            .route("/bucket", get(held_bucket))
            .with_state(gate.clone());
        Self { app: Arc::new(App::serve(router.layer(limiter)).await), gate, clock, server }
    }

    /// Sends requests that are admitted and then wait.
    async fn hold(&self, path: &str, count: usize) -> Vec<JoinHandle<u16>> {
        let entered = self.gate.entered.load(Ordering::SeqCst) + count;
        let slow = (0..count).map(|_| {
            let (app, path) = (Arc::clone(&self.app), format!("{path}?slow"));
            tokio::spawn(async move { app.get(&path).await.status.as_u16() })
        });
        let slow = slow.collect();
        while self.gate.entered.load(Ordering::SeqCst) < entered {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        slow
    }

    /// Lets those that wait succeed, and so give back what they were charged.
    async fn release(&self, held: Vec<JoinHandle<u16>>) {
        self.gate.exit.notify_waiters();
        for answer in join_all(held).await {
            assert_eq!(answer.expect("no panic"), 200);
        }
    }

    /// Lets minutes pass, also for Redis's fixed windows, which go by its own clock.
    async fn pass(&self, minutes: i64) {
        self.clock.advance(Duration::from_secs(60 * minutes.unsigned_abs()));
        let Some(server) = &self.server else { return };
        for key in server.keys().await.iter().filter(|key| key.ends_with("3600000")) {
            let left = server.pttl(key).await - 60_000 * minutes;
            let () = server.call(&["PEXPIRE", key, &left.to_string()]).await;
        }
    }
}

/// Otherwise a client could hold requests open for hours, by sending their bodies slowly, and then spend at once what
/// they give back.
#[tokio::test]
async fn what_no_longer_counts_is_not_given_back_to_what_was_charged_since() {
    for service in Hours::both().await {
        for path in ["/fixed", "/sliding", "/log", "/bucket"] {
            let mut all = Vec::new();
            for _ in 0..3 {
                all.extend(service.hold(path, 2).await);
                service.pass(120).await;
            }
            assert_eq!(service.app.statuses(path, 3).await, [401, 401, 503], "{path}");
            service.release(all).await;
            assert_eq!(service.app.statuses(path, 2).await, [503; 2], "{path}");
        }
    }
}

/// The unit that counts longer is another's.
#[tokio::test]
async fn a_log_gives_back_what_was_taken_first_to_whom_it_was_taken_from() {
    for service in Hours::both().await {
        let held = service.hold("/log", 1).await;
        service.pass(50).await;
        assert_eq!(service.app.statuses("/log", 2).await, [401, 503]);
        service.pass(5).await;
        service.release(held).await;
        service.pass(6).await;
        assert_eq!(service.app.statuses("/log", 2).await, [401, 503]);
    }
}

/// What a sliding window or a bucket has recovered meanwhile is not given back a second time.
#[tokio::test]
async fn what_still_counts_is_given_back_and_no_more() {
    for service in Hours::both().await {
        let held = service.hold("/bucket", 2).await;
        service.pass(45).await;
        // One and a half are back by themselves.
        assert_eq!(service.app.statuses("/bucket", 2).await, [401, 503]);
        service.release(held).await;
        assert_eq!(service.app.statuses("/bucket", 2).await, [401, 503]);
        let held = service.hold("/fixed", 2).await;
        service.pass(59).await;
        assert_eq!(service.app.statuses("/fixed", 1).await, [503]);
        service.release(held).await;
        assert_eq!(service.app.statuses("/fixed", 3).await, [401, 401, 503]);
    }
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

/// Checks one key again and again, and charges it once more.
async fn repeat(limiter: RequestLimiter, charge: Charge, Path(number): Path<usize>) -> Result<(), Denial> {
    for _ in 0..5 {
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
