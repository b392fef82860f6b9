//! Tests of what a handler checks by itself: how denials are answered, what is charged, and what clients are told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts as _, Path, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum_rate_limit::store::{Counter, MemoryStore, Operation, Outcome, Reading, Store};
use axum_rate_limit::{
    Builder, Charge, Decision, Decisions, Denial, Error, Headers, Key, KeyPart, ManualClock, OnStoreError,
    Policy, Quota, Quotas, RateLimiter, Reason, RequestLimiter, StoreError, rate_limit,
};
use http::StatusCode;
use http::request::Parts;
use http_body_util::BodyExt as _;
use tests::{App, RedisServer};
use tower::ServiceExt as _;

/// An answer, read to its end.
struct Answer {
    status: u16,
    head: http::HeaderMap,
    body: String,
}

impl Answer {
    fn field(&self, name: &str) -> &str {
        self.head.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

async fn send(app: &Router, method: &str, path: &str, body: &str) -> Answer {
    let mut request =
        Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).expect("a request");
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 1234))));
    let response: Response = app.clone().oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    Answer {
        status: parts.status.as_u16(),
        head: parts.headers,
        body: String::from_utf8(bytes.to_vec()).expect("UTF-8"),
    }
}

const LOG_INS: Policy = Policy::new("log-ins").per_hour(2).status(429).message("One at a time, please.");

#[rate_limit(name = "clients", per_hour = 100)]
async fn log_in(limiter: RequestLimiter, user: String) -> Result<(), Denial> {
    limiter.check(&LOG_INS, user).await
}

fn log_ins() -> Router {
    Router::new().route("/log-in", post(log_in))
}

#[tokio::test]
async fn a_denial_is_answered_like_that_of_an_attribute() {
    let app = log_ins().layer(RateLimiter::memory());
    for (user, status, left) in [("ada", 200, 1), ("ada", 200, 0), ("ada", 429, 0), ("bob", 200, 1)] {
        let answer = send(&app, "POST", "/log-in", user).await;
        assert_eq!(answer.status, status, "{user}");
        assert_eq!(answer.field("ratelimit-policy"), r#""clients";q=100;w=3600, "log-ins";q=2;w=3600"#);
        assert!(answer.field("ratelimit").contains(&format!(r#""log-ins";r={left};t="#)), "{left}");
        if status == 429 {
            assert_eq!(answer.body, r#"{"detail":"One at a time, please."}"#);
            assert_eq!(answer.field("content-type"), "application/json");
            assert_eq!(answer.field("cache-control"), "no-store");
            let wait: u64 = answer.field("retry-after").parse().expect("seconds");
            assert!((3590..=3600).contains(&wait), "{wait}");
        }
    }
}

#[tokio::test]
async fn a_denial_follows_the_settings_of_the_limiter() {
    async fn plain(limiter: RequestLimiter) -> Result<(), Denial> {
        const PLAIN: Policy = Policy::new("plain").per_hour(1);
        limiter.check(&PLAIN, Key::global()).await
    }
    async fn denied(builder: Builder) -> Answer {
        let limiter = builder.memory().build().await.expect("it builds");
        let app = Router::new().route("/plain", get(plain)).layer(limiter);
        assert_eq!(send(&app, "GET", "/plain", "").await.status, 200);
        send(&app, "GET", "/plain", "").await
    }
    let builder = || RateLimiter::builder().status(StatusCode::TOO_MANY_REQUESTS);

    let problem = denied(builder().problem_details()).await;
    assert_eq!(problem.status, 429);
    assert_eq!(problem.field("content-type"), "application/problem+json");
    assert!(problem.body.contains(r#""violated-policies":["plain"]"#), "{}", problem.body);

    let custom = denied(builder().on_denied(|denied| {
        let Reason::Quota(decision) = denied.reason() else { return StatusCode::NOT_FOUND.into_response() };
        format!("{} at {}", decision.policy(), denied.request().uri).into_response()
    }));
    assert_eq!(custom.await.body, "plain at /plain");

    let legacy = denied(builder().headers(Headers::Legacy)).await;
    assert_eq!(legacy.field("x-ratelimit-remaining"), "0");
}

/// A store that is never there.
struct Away;

impl Store for Away {
    async fn apply(&self, _: Operation, _: &[Counter<'_>]) -> Result<Outcome, StoreError> {
        Err(StoreError::Unreachable("nobody is there".into()))
    }
}

#[tokio::test]
async fn a_store_that_is_away_denies_if_it_is_to() {
    async fn checked(limiter: RequestLimiter) -> Result<(), Denial> {
        const CHECKED: Policy = Policy::new("checked").per_hour(1).status(429);
        let denial = limiter.check(&CHECKED, "x").await.expect_err("the store is away");
        assert!(matches!(denial.reason(), Reason::Store(_)), "{denial:?}");
        assert!(denial.to_string().starts_with("the rate limit `checked` can't be checked: "), "{denial}");
        Err(denial)
    }
    let builder = RateLimiter::builder().store(Away).on_store_error(OnStoreError::Deny);
    let limiter = builder.build().await.expect("it builds");
    let app = Router::new().route("/", get(checked)).layer(limiter);
    let refused = send(&app, "GET", "/", "").await;
    assert_eq!((refused.status, refused.field("retry-after")), (503, "1"));
    assert_eq!(refused.body, r#"{"detail":"The rate limit can't be checked at the moment."}"#);
}

const FAILURES: Policy =
    Policy::new("failures").per_hour(2).give_back_if(|response| response.status.is_success());

async fn log_in_as(limiter: RequestLimiter, form: String) -> Result<StatusCode, Denial> {
    let (user, password) = form.split_once('&').expect("both are there");
    limiter.check(&FAILURES, user).await?;
    Ok(if password == "sesame" { StatusCode::OK } else { StatusCode::UNAUTHORIZED })
}

async fn only_failures_count(limiter: RateLimiter) {
    let app = Router::new().route("/", post(log_in_as)).layer(limiter);
    let attempts =
        [("x", 401), ("sesame", 200), ("sesame", 200), ("x", 401), ("sesame", 503), ("sesame", 503)];
    for (password, status) in attempts {
        assert_eq!(send(&app, "POST", "/", &format!("ada&{password}")).await.status, status, "{password}");
    }
    assert_eq!(send(&app, "POST", "/", "bob&sesame").await.status, 200);
}

#[tokio::test]
async fn a_charge_is_given_back_for_some_responses() {
    only_failures_count(RateLimiter::memory()).await;
    let server = RedisServer::start().await;
    only_failures_count(server.limiter().await).await;
}

const MAILS: Policy = Policy::new("mails").per_hour(10);

async fn used(limiter: &RateLimiter, key: impl Into<Key>) -> u32 {
    10 - limiter.peek(&MAILS, key).await.expect("a decision").remaining()
}

#[tokio::test]
async fn each_check_is_charged_and_can_be_corrected() {
    async fn mail(limiter: RequestLimiter, charge: Charge) -> Result<(), Denial> {
        for key in ["bob", "ada", "ada", "ada"] {
            limiter.check(&MAILS, key).await?;
        }
        // Once for each key, whatever has been checked how often.
        charge.of("mails").add(4).await.expect("it is charged");
        charge.of("mails").give_back(2).await.expect("it is given back");
        let unknown = charge.of("males").give_back(1).await.expect_err("there is none");
        assert!(matches!(unknown, Error::Build(_)), "{unknown}");
        let left: Vec<u32> = limiter.decisions().iter().map(Decision::remaining).collect();
        assert_eq!(left, [7, 5]);
        assert_eq!(limiter.decisions().get("mails").map(Decision::remaining), Some(5));
        Ok(())
    }
    let server = RedisServer::start().await;
    for limiter in [RateLimiter::memory(), server.limiter().await] {
        let app = Router::new().route("/", get(mail)).layer(limiter.clone());
        let answer = send(&app, "GET", "/", "").await;
        assert_eq!(answer.status, 200);
        assert_eq!((used(&limiter, "ada").await, used(&limiter, "bob").await), (5, 3));
        // Of two keys of a policy, the one that binds first.
        assert!(answer.field("ratelimit").starts_with(r#""mails";r=5;t="#), "{}", answer.field("ratelimit"));
        assert_eq!(answer.field("ratelimit").matches("mails").count(), 1);
    }
}

#[tokio::test]
async fn no_more_is_given_back_than_was_charged() {
    async fn gives_back(limiter: RequestLimiter, charge: Charge) -> Result<(), Denial> {
        limiter.check(&MAILS, "carl").await?;
        limiter.check(&MAILS, "carl").await?;
        charge.give_back(100).await.expect("it is given back");
        Ok(())
    }
    let limiter = RateLimiter::memory();
    let _ = limiter.add(&MAILS, "carl", 5).await.expect("it is charged");
    let app = Router::new().route("/", get(gives_back)).layer(limiter.clone());
    assert_eq!(send(&app, "GET", "/", "").await.status, 200);
    assert_eq!(used(&limiter, "carl").await, 5);
}

#[tokio::test]
async fn a_denial_can_be_survived() {
    async fn either(limiter: RequestLimiter) -> Result<&'static str, Denial> {
        const DEAR: Policy = Policy::new("dear").per_hour(1);
        const CHEAP: Policy = Policy::new("cheap").per_hour(1);
        if limiter.check(&DEAR, "all").await.is_ok() {
            return Ok("dear");
        }
        limiter.check(&CHEAP, "all").await?;
        Ok("cheap")
    }
    let app = Router::new().route("/", get(either)).layer(RateLimiter::memory());
    for (status, body) in [(200, "dear"), (200, "cheap"), (503, r#"{"detail":"Rate limit exceeded."}"#)] {
        let answer = send(&app, "GET", "/", "").await;
        assert_eq!((answer.status, answer.body.as_str()), (status, body));
    }
}

const BOTH: Policy = Policy::new("both").per_hour(2);

#[rate_limit(policy = BOTH)]
async fn both() {}

/// Checks the policy of the handler about another key, and goes on even if it denies, should the request ask for that.
async fn check_before(limiter: RequestLimiter, request: Request, next: Next) -> Result<Response, Denial> {
    if let Err(denial) = limiter.check(&BOTH, "everybody").await
        && request.uri().query() != Some("all-the-same")
    {
        return Err(denial);
    }
    Ok(next.run(request).await)
}

#[tokio::test]
async fn an_attribute_is_asked_whatever_was_checked_before() {
    let limiter = RateLimiter::memory();
    let _ = limiter.add(&BOTH, "everybody", 1).await.expect("it is charged");
    let app = Router::new().route("/", get(both)).layer(from_fn(check_before)).layer(limiter);
    for (path, status) in [("/", 200), ("/", 503), ("/?all-the-same", 200), ("/?all-the-same", 503)] {
        let answer = send(&app, "GET", path, "").await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.field("ratelimit").matches("both").count(), 1, "{path}");
    }
}

/// Checks the policy of the handler about the handler's key.
async fn check_twice(limiter: RequestLimiter, request: Request, next: Next) -> Result<Response, Denial> {
    let (mut parts, body) = request.into_parts();
    let client = axum_rate_limit::client_ip(&parts).expect("it has an address");
    limiter.check(&BOTH, client).await?;
    let response = next.run(Request::from_parts(parts.clone(), body)).await;
    let decisions = Decisions::from_request_parts(&mut parts, &()).await.expect("there is a limiter");
    let left: Vec<u32> = decisions.iter().map(Decision::remaining).collect();
    assert_eq!(left, [0, 0], "both tell where the counter stands");
    Ok(response)
}

#[tokio::test]
async fn one_key_is_told_once() {
    let app = Router::new().route("/", get(both)).layer(from_fn(check_twice)).layer(RateLimiter::memory());
    let answer = send(&app, "GET", "/", "").await;
    assert_eq!((answer.status, answer.field("ratelimit").matches(r#""both";r=0"#).count()), (200, 1));
    assert_eq!(send(&app, "GET", "/", "").await.status, 503);
}

const ITEMS: Policy = Policy::new("items").per_hour(2);

#[rate_limit(policy = ITEMS)]
async fn items() {}

/// Sends the request to the handler, checks the handler's policy and key, and sends the request again.
async fn again(limiter: RequestLimiter, request: Request, next: Next) -> String {
    let (parts, _) = request.into_parts();
    let request = || Request::from_parts(parts.clone(), Body::empty());
    let client = axum_rate_limit::client_ip(&parts).expect("it has an address");
    let quotas = if parts.uri.query().is_some() { Quotas::UNLIMITED } else { Quotas::of(Quota::per_hour(2)) };
    let first = next.clone().run(request()).await.status().as_u16();
    let checks = [
        limiter.check(&ITEMS.with_quotas(quotas), client).await.is_ok(),
        limiter.check(&ITEMS.with_quotas(quotas), client).await.is_ok(),
    ];
    let second = next.run(request()).await.status().as_u16();
    format!("{first} {checks:?} {second}")
}

/// A request that is sent again is the same request, whatever was checked in between.
#[tokio::test]
async fn a_check_changes_no_decision_of_an_attribute() {
    let app = Router::new().route("/", get(items)).layer(from_fn(again)).layer(RateLimiter::memory());
    assert_eq!(send(&app, "GET", "/", "").await.body, "200 [true, false] 200");
    assert_eq!(send(&app, "GET", "/", "").await.body, "503 [false, false] 503");
    assert_eq!(send(&app, "GET", "/?unlimited", "").await.body, "503 [true, true] 503");
}

/// Were each check compared with all others, this would take minutes.
#[tokio::test]
async fn a_handler_may_check_very_many_keys() {
    const MANY: Policy = Policy::new("many").per_hour(3).give_back_if(|response| response.status == 204);
    async fn many(limiter: RequestLimiter, charge: Charge) -> Result<StatusCode, Denial> {
        for key in 0..5_000_u64 {
            limiter.check(&MANY, key).await?;
        }
        charge.add(2).await.expect("it is charged");
        charge.give_back(1).await.expect("it is given back");
        Ok(StatusCode::NO_CONTENT)
    }
    let server = RedisServer::start().await;
    for limiter in [RateLimiter::memory(), server.limiter().await] {
        let app = Router::new().route("/", get(many)).layer(limiter.clone());
        let answer = send(&app, "GET", "/", "").await;
        assert_eq!((answer.status, answer.field("ratelimit").matches("many").count()), (204, 1));
        for key in [0, 31, 32, 2_500, 4_999_u64] {
            let left = limiter.peek(&MANY, key).await.expect("a decision").remaining();
            assert_eq!(left, 3, "{key}");
        }
    }
}

/// Each quota gets back what was taken from it.
#[tokio::test]
async fn quotas_that_change_within_a_request_are_not_mixed_up() {
    const TIERED: Policy = Policy::new("tiered").per_minute(10);
    const GOLD: Quotas = Quotas::of(Quota::per_minute(10)).and(Quota::per_day(100));
    async fn tiered(limiter: RequestLimiter, charge: Charge) -> Result<(), Denial> {
        for _ in 0..4 {
            limiter.check(&TIERED, "x").await?;
        }
        limiter.check(&TIERED.with_quotas(GOLD), "x").await?;
        charge.give_back(5).await.expect("it is given back");
        Ok(())
    }
    let limiter = RateLimiter::memory();
    let gold = TIERED.with_quotas(GOLD);
    let _ = limiter.add(&gold, "x", 4).await.expect("it is charged");
    let app = Router::new().route("/", get(tiered)).layer(limiter.clone());
    assert_eq!(send(&app, "GET", "/", "").await.status, 200);
    let decision = limiter.peek(&gold, "x").await.expect("a decision");
    let used: Vec<u32> =
        decision.quotas().iter().map(|state| state.quota.limit() - state.remaining).collect();
    assert_eq!(used, [4, 4]);
}

#[tokio::test]
async fn nothing_is_added_under_a_key_that_was_denied() {
    async fn falls_back(limiter: RequestLimiter, charge: Charge) -> Result<(), Denial> {
        if limiter.check(&MAILS, "full").await.is_err() {
            limiter.check(&MAILS, "fallback").await?;
        }
        charge.of("mails").add(4).await.expect("it is charged");
        Ok(())
    }
    let limiter = RateLimiter::memory();
    let _ = limiter.add(&MAILS, "full", 10).await.expect("it is charged");
    let app = Router::new().route("/", get(falls_back)).layer(limiter.clone());
    assert_eq!(send(&app, "GET", "/", "").await.status, 200);
    let _ = limiter.give_back(&MAILS, "full", 1).await.expect("it is given back");
    assert_eq!((used(&limiter, "full").await, used(&limiter, "fallback").await), (9, 5));
}

#[tokio::test]
async fn a_cost_that_the_handler_knows_counts_whatever_is_amended() {
    const WEIGHED: Policy = Policy::new("weighed").per_minute(10).status(429);
    async fn weighed(limiter: RequestLimiter, cost: String) -> Result<(), Denial> {
        limiter.check_with_cost(&WEIGHED, "x", cost.parse().expect("a number")).await
    }
    let clock = ManualClock::default();
    let builder = RateLimiter::builder().memory().clock(&clock).declare([WEIGHED]);
    let limiter = builder.build().await.expect("it builds");
    let app = Router::new().route("/", post(weighed)).layer(limiter.clone());
    assert_eq!(send(&app, "POST", "/", "4").await.status, 200);
    limiter.amend("weighed", |policy| policy.per_minute(20)).expect("it is declared");
    assert_eq!(send(&app, "POST", "/", "4").await.status, 200);
    assert_eq!(limiter.peek(&WEIGHED, "x").await.expect("a decision").remaining(), 12);
    let denied = send(&app, "POST", "/", "13").await;
    assert_eq!((denied.status, denied.field("retry-after")), (429, "60"));
    let never = send(&app, "POST", "/", "21").await;
    assert_eq!((never.status, never.field("retry-after")), (429, ""));
    assert!(never.body.contains("costs 21"), "{}", never.body);
    let decision = limiter.check_with_cost(&WEIGHED, "x", 12).await.expect("a decision");
    assert_eq!((decision.is_allowed(), decision.remaining()), (true, 0));
}

const SENDERS: Policy = Policy::new("senders").per_hour(2);
const RECIPIENTS: Policy = Policy::new("recipients").per_day(2).status(429).message("Too many to this one.");

async fn send_mail(
    limiter: RequestLimiter,
    Path((sender, recipient)): Path<(String, String)>,
) -> Result<(), Denial> {
    limiter.check_all([(&SENDERS, sender), (&RECIPIENTS, recipient)]).await
}

#[tokio::test]
async fn several_checks_are_all_or_nothing() {
    let server = RedisServer::start().await;
    for limiter in [RateLimiter::memory(), server.limiter().await] {
        let app = Router::new().route("/{sender}/{recipient}", post(send_mail)).layer(limiter.clone());
        for (path, status) in [("/ada/bob", 200), ("/cleo/bob", 200), ("/ada/bob", 429), ("/ada/dan", 200)] {
            assert_eq!(send(&app, "POST", path, "").await.status, status, "{path}");
        }
        let left = limiter.peek(&SENDERS, "cleo").await.expect("a decision").remaining();
        assert_eq!(left, 1);
        // Both deny; the one with the longer wait is told of.
        for recipient in ["eve", "eve"] {
            let _ = limiter.add(&RECIPIENTS, recipient, 1).await.expect("it is charged");
        }
        let denied = send(&app, "POST", "/ada/eve", "").await;
        assert_eq!((denied.status, denied.body.as_str()), (429, r#"{"detail":"Too many to this one."}"#));
        for policy in ["senders", "recipients"] {
            let exhausted = format!(r#""{policy}";r=0;"#);
            assert!(denied.field("ratelimit").contains(&exhausted), "{}", denied.field("ratelimit"));
        }
    }
}

/// The same without a request.
#[tokio::test]
async fn several_checks_of_a_job_are_all_or_nothing() {
    let server = RedisServer::start().await;
    for limiter in [RateLimiter::memory(), server.limiter().await] {
        let check = async |sender: &str, recipient: &str| {
            let checks = [(&SENDERS, sender), (&RECIPIENTS, recipient)];
            let decisions = limiter.check_all(checks).await.expect("they are decided");
            decisions.iter().map(|decision| (decision.is_allowed(), decision.remaining())).collect::<Vec<_>>()
        };
        assert_eq!(check("ada", "bob").await, [(true, 1), (true, 1)]);
        assert_eq!(check("cleo", "bob").await, [(true, 1), (true, 0)]);
        assert_eq!(check("cleo", "bob").await, [(true, 1), (false, 0)]);
        let none: [(&Policy, &str); 0] = [];
        assert!(limiter.check_all(none).await.expect("there is nothing to decide").is_empty());
    }
    let away = RateLimiter::builder().store(Away).on_store_error(OnStoreError::Deny).build().await;
    let away = away.expect("it builds");
    let refused = away.check_all([(&SENDERS, "ada")]).await.expect_err("the store is away");
    assert!(matches!(refused, Error::Store(_)), "{refused}");
}

#[tokio::test]
async fn checks_of_the_same_add_up() {
    async fn same(limiter: RequestLimiter) -> Result<(), Denial> {
        limiter.check_all([(&SENDERS, "x"), (&SENDERS, "x"), (&SENDERS, "x")]).await
    }
    let limiter = RateLimiter::memory();
    let app = Router::new().route("/", get(same)).layer(limiter.clone());
    let denied = send(&app, "GET", "/", "").await;
    assert_eq!(denied.status, 503);
    assert!(denied.body.contains("costs 3"), "{}", denied.body);
    assert_eq!(limiter.peek(&SENDERS, "x").await.expect("a decision").remaining(), 2);
}

#[tokio::test]
async fn a_denial_tells_what_a_body_of_its_own_needs() {
    async fn own_body(limiter: RequestLimiter) -> Result<(), (StatusCode, String)> {
        const OWN: Policy =
            Policy::new("own").quota(1, Duration::from_millis(2_500)).status(429).message("Slowly.");
        let Err(denial) = limiter.check(&OWN, "x").await else { return Ok(()) };
        let limits = limiter.rate_limiter().peek(&OWN, "x").await.expect("a decision").quotas().len();
        let wait = denial.retry_after().expect("it may try again").as_secs();
        let client = limiter.client_ip().expect("it has an address");
        Err((denial.status(), format!("{} {client} {wait} {limits}", denial.message())))
    }
    let clock = ManualClock::default();
    let limiter = RateLimiter::builder().clock(&clock).build().await.expect("it builds");
    let app = Router::new().route("/", get(own_body)).layer(limiter);
    assert_eq!(send(&app, "GET", "/", "").await.status, 200);
    let denied = send(&app, "GET", "/", "").await;
    assert_eq!((denied.status, denied.body.as_str()), (429, "Slowly. 192.0.2.7 3 1"));
}

/// Otherwise a function of a policy would wait for its own thread.
#[tokio::test]
async fn a_function_of_a_policy_may_hold_the_limiter() {
    fn looks(request: &Parts) -> bool {
        request.extensions.get::<RequestLimiter>().is_some_and(|limiter| !limiter.decisions().is_empty())
    }
    const LOOKED: Policy = Policy::new("looked").per_hour(2).skip_if(looks);
    #[rate_limit(policy = LOOKED)]
    async fn looked(limiter: RequestLimiter) -> Result<(), Denial> {
        let client = limiter.client_ip().expect("it has an address");
        limiter.check(&LOOKED, client).await
    }
    async fn hand_on(limiter: RequestLimiter, mut request: Request, next: Next) -> Response {
        request.extensions_mut().insert(limiter);
        next.run(request).await
    }
    let app = Router::new().route("/", get(looked)).layer(from_fn(hand_on)).layer(RateLimiter::memory());
    for status in [200, 503] {
        assert_eq!(send(&app, "GET", "/", "").await.status, status);
    }
}

#[tokio::test]
async fn an_empty_key_is_the_client() {
    async fn named(limiter: RequestLimiter, name: String) -> Result<(), Denial> {
        const NAMED: Policy = Policy::new("named").per_hour(1);
        limiter.check(&NAMED, name).await
    }
    let app = Router::new().route("/", post(named)).layer(RateLimiter::memory());
    for (client, status) in [(7, 200), (8, 200), (7, 503)] {
        let mut request = Request::post("/").body(Body::empty()).expect("a request");
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, client], 1234))));
        let response = app.clone().oneshot(request).await.expect("infallible");
        assert_eq!(response.status().as_u16(), status, "{client}");
    }
}

/// What is answered to the second check of the same, the first being answered as ever.
struct Failing(AtomicBool);

impl Store for Failing {
    async fn apply(&self, operation: Operation, counters: &[Counter<'_>]) -> Result<Outcome, StoreError> {
        if operation == Operation::Take && self.0.swap(true, Ordering::Relaxed) {
            return Err(StoreError::Refused("no".into()));
        }
        let reading = Reading::new(true, 3, Duration::from_secs(60), Some(Duration::ZERO));
        Ok(Outcome::new(true, counters.iter().map(|_| reading)))
    }
}

#[tokio::test]
async fn what_is_known_is_told_even_if_the_next_check_fails() {
    async fn twice(limiter: RequestLimiter) -> Result<(), Denial> {
        limiter.check(&MAILS, "x").await?;
        limiter.check(&MAILS, "x").await
    }
    let failing = Failing(AtomicBool::default());
    let builder = RateLimiter::builder().store(failing).on_store_error(OnStoreError::Allow);
    let limiter = builder.build().await.expect("it builds");
    let app = Router::new().route("/", get(twice)).layer(limiter);
    let answer = send(&app, "GET", "/", "").await;
    assert_eq!((answer.status, answer.field("ratelimit")), (200, r#""mails";r=3;t=60"#));
}

#[tokio::test]
async fn a_policy_that_skips_the_request_is_charged_nothing() {
    const SKIPPING: Policy = Policy::new("skipping").per_hour(1).skip_if(|_| true);
    async fn skipped(limiter: RequestLimiter, charge: Charge) -> Result<String, Denial> {
        limiter.check(&SKIPPING, "x").await?;
        limiter.check(&SKIPPING, "x").await?;
        Ok(format!("{:?}", charge.of("skipping").add(4).await))
    }
    let app = Router::new().route("/", get(skipped)).layer(RateLimiter::memory());
    assert_eq!(send(&app, "GET", "/", "").await.body, "Ok(())");
}

/// Each is given back by the function of its own policy, and denies as it says.
#[tokio::test]
async fn a_name_may_stand_for_two_policies_that_nobody_has_declared() {
    async fn several(limiter: RequestLimiter) -> Result<(), Denial> {
        let returned = MAILS.give_back_if(|_| true);
        limiter.check(&MAILS, "kept").await?;
        limiter.check(&returned, "given back").await?;
        limiter.check(&MAILS, "one of each").await?;
        limiter.check(&returned, "one of each").await?;
        limiter.check(&MAILS, "one of each").await?;
        limiter.check_all([(&MAILS.shadow(), "full"), (&MAILS, "full")]).await
    }
    let limiter = RateLimiter::memory();
    let _ = limiter.add(&MAILS, "full", 10).await.expect("it is charged");
    let app = Router::new().route("/", get(several)).layer(limiter.clone());
    assert_eq!(send(&app, "GET", "/", "").await.status, 503);
    for (key, expected) in [("kept", 1), ("given back", 0), ("one of each", 2), ("full", 10)] {
        assert_eq!(used(&limiter, key).await, expected, "{key}");
    }
}

/// A store whose first give-back fails.
struct FailsOnce {
    store: MemoryStore,
    has_failed: AtomicBool,
}

impl Store for FailsOnce {
    async fn apply(&self, operation: Operation, counters: &[Counter<'_>]) -> Result<Outcome, StoreError> {
        if operation == Operation::GiveBack && !self.has_failed.swap(true, Ordering::Relaxed) {
            return Err(StoreError::Refused("not now".into()));
        }
        self.store.apply(operation, counters).await
    }
}

#[tokio::test]
async fn one_give_back_that_fails_does_not_keep_others_from_theirs() {
    async fn many(limiter: RequestLimiter, charge: Charge) -> Result<String, Denial> {
        for key in 0..100_u64 {
            limiter.check(&MAILS, key).await?;
        }
        Ok(charge.give_back(1).await.is_err().to_string())
    }
    for on_store_error in [OnStoreError::Deny, OnStoreError::Local] {
        let store = FailsOnce { store: MemoryStore::new(1_000), has_failed: AtomicBool::default() };
        let builder = RateLimiter::builder().store(store).on_store_error(on_store_error);
        let limiter = builder.build().await.expect("it builds");
        let app = Router::new().route("/", get(many)).layer(limiter.clone());
        let failed = on_store_error == OnStoreError::Deny;
        assert_eq!(send(&app, "GET", "/", "").await.body, failed.to_string());
        let mut kept = 0;
        for key in 0..100_u64 {
            kept += used(&limiter, key).await;
        }
        assert_eq!(kept, 32, "those of the call that failed");
    }
}

/// The key is perhaps that of another client than the one that asks.
#[tokio::test]
async fn quotas_that_the_handler_names_come_before_those_of_who_asks() {
    async fn recipient(limiter: RequestLimiter) -> Result<(), Denial> {
        let tiered = MAILS.quotas_by(|_| Some(Quotas::of(Quota::per_hour(100))));
        limiter.check(&tiered.with_quotas(Quotas::of(Quota::per_hour(2))), "somebody else").await
    }
    let app = Router::new().route("/", get(recipient)).layer(RateLimiter::memory());
    let answer = send(&app, "GET", "/", "").await;
    assert_eq!(answer.field("ratelimit-policy"), r#""mails";q=2;w=3600"#);
}

#[tokio::test]
async fn the_latest_quotas_of_a_key_are_told() {
    async fn changes(limiter: RequestLimiter, charge: Charge) -> Result<(), Denial> {
        let more = MAILS.with_quotas(Quotas::of(Quota::per_hour(20)));
        for _ in 0..3 {
            limiter.check(&MAILS, "x").await?;
            limiter.check(&more, "x").await?;
        }
        charge.give_back(3).await.expect("it is given back");
        Ok(())
    }
    let limiter = RateLimiter::memory();
    let app = Router::new().route("/", get(changes)).layer(limiter.clone());
    let answer = send(&app, "GET", "/", "").await;
    assert!(answer.field("ratelimit").starts_with(r#""mails";r=17;"#), "{}", answer.field("ratelimit"));
    assert_eq!(used(&limiter, "x").await, 3);
}

/// Users log the arguments of their handlers.
#[tokio::test]
async fn what_a_handler_is_given_tells_no_secrets() {
    async fn told(limiter: RequestLimiter, charge: Charge) -> Result<String, Denial> {
        limiter.check(&MAILS, "someone@example.org").await?;
        Ok(format!("{limiter:?} {charge:?}"))
    }
    let app = Router::new().route("/", post(told)).layer(RateLimiter::memory());
    let mut request = Request::post("/").body(Body::empty()).expect("a request");
    request.headers_mut().insert("authorization", http::HeaderValue::from_static("s3cr3t"));
    let response = app.oneshot(request).await.expect("infallible");
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    let body = String::from_utf8_lossy(&body);
    assert!(body.starts_with("RequestLimiter") && !body.contains("s3cr3t") && !body.contains('@'), "{body}");
}

#[tokio::test]
async fn the_functions_of_the_policy_are_called_about_the_request() {
    fn is_free(request: &Parts) -> bool {
        request.headers.contains_key("x-free")
    }
    fn cost(request: &Parts) -> u32 {
        u32::try_from(request.uri.query().unwrap_or_default().len()).expect("it is short")
    }
    fn tier(request: &Parts) -> Option<Quotas> {
        (request.uri.path() == "/gold").then_some(Quotas::of(Quota::per_hour(100)))
    }
    const FUNCTIONS: Policy = Policy::new("functions")
        .per_hour(10)
        .cost_by(cost)
        .quotas_by(tier)
        .skip_if(is_free)
        .key(&[KeyPart::Ip]);
    async fn checked(limiter: RequestLimiter) -> Result<String, Denial> {
        limiter.check(&FUNCTIONS, "x").await?;
        let decisions = limiter.decisions();
        let Some(decision) = decisions.get("functions") else { return Ok("free".to_owned()) };
        Ok(format!("{} of {}", decision.remaining(), decision.cost()))
    }
    let app = Router::new().route("/silver", get(checked)).route("/gold", get(checked));
    let app = app.layer(RateLimiter::memory());
    assert_eq!(send(&app, "GET", "/silver?abcd", "").await.body, "6 of 4");
    // A tier's quota over the same window shares the counter.
    assert_eq!(send(&app, "GET", "/gold?abcdef", "").await.body, "90 of 6");
    assert_eq!(send(&app, "GET", "/silver?abcdefghijk", "").await.status, 503);

    let mut free = Request::get("/silver?abcdefghijk").body(Body::empty()).expect("a request");
    free.headers_mut().insert("x-free", http::HeaderValue::from_static("yes"));
    let response = app.oneshot(free).await.expect("infallible");
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!response.headers().contains_key("ratelimit"));
}

#[tokio::test]
async fn resources_and_routes_are_those_of_the_request() {
    const BY_RESOURCE: Policy = Policy::new("by-resource").per_hour(1).by_resource();
    const BY_ROUTE: Policy = Policy::new("by-route").per_hour(1).by_route();
    async fn by_resource(limiter: RequestLimiter, Path(_): Path<u32>) -> Result<(), Denial> {
        limiter.check(&BY_RESOURCE, "x").await
    }
    async fn by_route(limiter: RequestLimiter, Path(_): Path<u32>) -> Result<(), Denial> {
        limiter.check(&BY_ROUTE, "x").await
    }
    async fn another(limiter: RequestLimiter) -> Result<(), Denial> {
        limiter.check(&BY_RESOURCE, Key::from("x").resource(&http::Method::GET, "/nest/resources/1")).await
    }
    let inner = Router::new().route("/resources/{id}", get(by_resource)).route("/routes/{id}", get(by_route));
    let app = Router::new().nest("/nest", inner).route("/another", get(another));
    let limiter = RateLimiter::memory();
    let app = app.layer(limiter.clone());
    for (path, status) in [
        ("/nest/resources/1", 200),
        ("/nest/resources/2", 200),
        ("/nest/resources/1", 503),
        ("/another", 503),
        ("/nest/routes/1", 200),
        ("/nest/routes/2", 503),
    ] {
        assert_eq!(send(&app, "GET", path, "").await.status, status, "{path}");
    }
    let same = Key::from("x").route(&http::Method::GET, "/nest/routes/{id}");
    assert_eq!(limiter.peek(&BY_ROUTE, same).await.expect("a decision").remaining(), 0);
}

#[tokio::test]
async fn amendments_and_shadows_hold_in_handlers() {
    const AMENDED: Policy = Policy::new("amended").per_hour(1);
    async fn checked(limiter: RequestLimiter) -> Result<String, Denial> {
        limiter.check(&AMENDED, "x").await?;
        let exceeded: Vec<bool> = limiter.decisions().iter().map(Decision::is_exceeded).collect();
        Ok(format!("{exceeded:?}"))
    }
    let limiter = RateLimiter::builder().memory().declare([AMENDED]).build().await.expect("it builds");
    let app = Router::new().route("/", get(checked)).layer(limiter.clone());
    assert_eq!(send(&app, "GET", "/", "").await.status, 200);
    assert_eq!(send(&app, "GET", "/", "").await.status, 503);
    limiter.amend("amended", |policy| policy.per_hour(2)).expect("it is declared");
    assert_eq!(send(&app, "GET", "/", "").await.body, "[false]");
    limiter.amend("amended", |policy| policy.shadow(true)).expect("it is declared");
    let answer = send(&app, "GET", "/", "").await;
    assert_eq!((answer.body.as_str(), answer.field("ratelimit")), ("[true]", ""));
}

#[tokio::test]
async fn a_later_window_is_told_instead_of_an_earlier_one() {
    const SHORT: Policy = Policy::new("short").per_second(2);
    async fn twice(limiter: RequestLimiter, clock: axum::Extension<ManualClock>) -> Result<(), Denial> {
        limiter.check(&SHORT, "x").await?;
        limiter.check(&SHORT, "x").await?;
        let _ = limiter.check(&SHORT, "x").await.expect_err("it is over the limit");
        clock.advance(Duration::from_secs(1));
        limiter.check(&SHORT, "x").await
    }
    let clock = ManualClock::default();
    let limiter = RateLimiter::builder().memory().clock(&clock).build().await.expect("it builds");
    let app = Router::new().route("/", get(twice)).layer(axum::Extension(clock)).layer(limiter);
    let answer = send(&app, "GET", "/", "").await;
    assert_eq!((answer.status, answer.field("ratelimit")), (200, r#""short";r=1;t=1"#));
}

#[tokio::test]
async fn without_a_layer_nothing_is_checked_or_let_through() {
    async fn unlimited(limiter: RequestLimiter) -> Result<(), Denial> {
        limiter.check(&LOG_INS, "x").await
    }
    assert_eq!(send(&log_ins(), "POST", "/log-in", "ada").await.status, 500);
    assert_eq!(send(&Router::new().route("/", get(unlimited)), "GET", "/", "").await.status, 500);
}

#[tokio::test]
async fn over_http_concurrent_log_ins_are_exact() {
    async fn name(limiter: RequestLimiter) -> Result<(), Denial> {
        const EXACT: Policy = Policy::new("exact").per_hour(7);
        limiter.check(&EXACT, "all").await
    }
    let server = RedisServer::start().await;
    for limiter in [RateLimiter::memory(), server.limiter().await] {
        let app = App::serve(Router::new().route("/", get(name)).layer(limiter)).await;
        assert_eq!(app.admitted_at_once("/", 50).await, 7);
    }
}
