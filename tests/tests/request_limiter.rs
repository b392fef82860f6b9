//! Tests of what a handler checks by itself: how denials are answered, what is checked, and what clients are told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts as _, Path, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use axum_rate_limit::store::{Counter, Operation, Outcome, Reading, Store};
use axum_rate_limit::{
    Builder, Charge, Decision, Decisions, Denial, Headers, Key, KeyPart, ManualClock, OnStoreError, Policy,
    Quota, Quotas, RateLimiter, Reason, RequestLimiter, StoreError, rate_limit,
};
use http::StatusCode;
use http::request::Parts;
use tests::{Away, Reply, reply, send};
use tower::ServiceExt as _;

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
    async fn denied(builder: Builder) -> Reply {
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

#[tokio::test]
async fn what_is_checked_after_the_response_is_counted_but_not_remembered() {
    const MESSAGES: Policy = Policy::new("messages").per_hour(2);
    async fn opens(limiter: RequestLimiter) -> (Extension<RequestLimiter>, &'static str) {
        limiter.check(&MESSAGES, "hello").await.expect("it is the first");
        (Extension(limiter), "opened")
    }
    let app = Router::new().route("/", get(opens)).layer(RateLimiter::memory());
    let response =
        app.oneshot(Request::get("/").body(Body::empty()).expect("a request")).await.expect("infallible");
    let limiter = response.extensions().get::<RequestLimiter>().expect("the handler's");
    for (key, passes) in
        [("a", true), ("a", true), ("a", false), ("b", true), ("hello", true), ("hello", false)]
    {
        assert_eq!(limiter.check(&MESSAGES, key).await.is_ok(), passes, "{key}");
    }
    assert_eq!(limiter.decisions().len(), 1, "a socket may check any number of keys");
}

const MAILS: Policy = Policy::new("mails").per_hour(10);

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
        let peer = ConnectInfo(SocketAddr::from(([192, 0, 2, client], 1234)));
        let request = Request::post("/").extension(peer).body(Body::empty()).expect("a request");
        assert_eq!(reply(&app, request).await.status, status, "{client}");
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

/// Users log the arguments of their handlers.
#[tokio::test]
async fn what_a_handler_is_given_tells_no_secrets() {
    async fn told(limiter: RequestLimiter, charge: Charge) -> Result<String, Denial> {
        limiter.check(&MAILS, "someone@example.org").await?;
        Ok(format!("{limiter:?} {charge:?}"))
    }
    let app = Router::new().route("/", post(told)).layer(RateLimiter::memory());
    let request = Request::post("/").header("authorization", "s3cr3t").body(Body::empty());
    let body = reply(&app, request.expect("a request")).await.body;
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

    let free = Request::get("/silver?abcdefghijk").header("x-free", "yes").body(Body::empty());
    let answer = reply(&app, free.expect("a request")).await;
    assert_eq!((answer.status, answer.field("ratelimit")), (200, ""));
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
    async fn twice(limiter: RequestLimiter, clock: Extension<ManualClock>) -> Result<(), Denial> {
        limiter.check(&SHORT, "x").await?;
        limiter.check(&SHORT, "x").await?;
        let _ = limiter.check(&SHORT, "x").await.expect_err("it is over the limit");
        clock.advance(Duration::from_secs(1));
        limiter.check(&SHORT, "x").await
    }
    let clock = ManualClock::default();
    let limiter = RateLimiter::builder().memory().clock(&clock).build().await.expect("it builds");
    let app = Router::new().route("/", get(twice)).layer(Extension(clock)).layer(limiter);
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
