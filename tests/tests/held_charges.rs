//! Tests of requests that are held open for hours, and give back only what still counts, in both stores.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::request::Parts;
use axum::http::response;
use axum::routing::get;
use axum::{Router, http::StatusCode};
use axum_rate_limit::{
    Algorithm, Builder, Charge, Key, KeyPart, ManualClock, Policy, RateLimiter, rate_limit,
};
use futures_util::future::join_all;
use tests::{App, Fault, FaultProxy, RedisServer, built, recovered};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

fn succeeded(answer: &response::Parts) -> bool {
    answer.status.is_success()
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

#[rate_limit(name = "held-part", per_hour = 10, algorithm = token_bucket, key = global, cost = 8)]
async fn held_parts(gate: State<Gate>, parts: Parts, charge: Charge) -> StatusCode {
    let status = held(gate, parts).await;
    if status.is_success() {
        for _ in 0..8 {
            charge.give_back(1).await.expect("it is given back");
        }
    }
    status
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
            .route("/parts", get(held_parts))
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

/// The clocks of the service and of Redis drift apart while a request is held: by 50 millionths here.
#[tokio::test]
async fn a_log_in_redis_gives_back_what_was_taken_though_clocks_drift() {
    let [_, service] = Hours::both().await;
    let server = service.server.as_ref().expect("it counts in Redis");
    for drift in ["150000", "-150000"] {
        let held = service.hold("/log", 1).await;
        let key = &server.keys().await[0];
        let taken: Vec<String> = server.call(&["ZRANGE", key, "0", "-1"]).await;
        assert_eq!(taken.len(), 1);
        service.pass(50).await;
        let () = server.call(&["ZINCRBY", key, drift, &taken[0]]).await;
        service.release(held).await;
        let left: u64 = server.call(&["ZCARD", key]).await;
        assert_eq!(left, 0, "{drift}");
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

/// The bucket has refilled 7 of 8 when 8 more are taken, which leaves one. Only one more can be given back, though the
/// 8 are given back one by one.
#[tokio::test]
async fn what_a_bucket_was_refilled_with_is_not_given_back_unit_by_unit() {
    for service in Hours::both().await {
        let held = service.hold("/parts", 1).await;
        service.pass(42).await;
        assert_eq!(service.app.statuses("/parts", 1).await, [401]);
        service.release(held).await;
        let denied = service.app.get("/parts").await;
        assert_eq!((denied.status, denied.parameter("r")), (StatusCode::SERVICE_UNAVAILABLE, Some(2)));
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const SHARE: Policy = bucket("share").cost(5);
const LATE: Policy = bucket("late").cost(8);
const TOGETHER: Policy = bucket("together").cost(5).give_back_if(succeeded);

const fn bucket(name: &'static str) -> Policy {
    let algorithm = Algorithm::TokenBucket { burst: None };
    Policy::new(name).per_hour(10).algorithm(algorithm).key(&[KeyPart::Global])
}

#[rate_limit(policy = SHARE)]
async fn returns_one_by_one(State((limiter, clock)): State<(RateLimiter, ManualClock)>, charge: Charge) {
    clock.advance(36 * MINUTE);
    let others = limiter.check_with_cost(&SHARE, Key::global(), 3).await.expect("a decision");
    assert!(others.is_allowed() && others.is_degraded());
    for _ in 0..5 {
        charge.give_back(1).await.expect("it is given back");
    }
}

/// This process's half of the quota is refilled at half the rate: three of five units are back when three more are
/// taken. Only two can be given back, though the five are given back one by one.
#[tokio::test]
async fn what_this_process_has_refilled_of_its_share_is_not_given_back_unit_by_unit() {
    let clock = ManualClock::default();
    // There is no store.
    let settings = RateLimiter::builder().redis("redis://127.0.0.1:1").local_share(0.5).clock(&clock);
    let limiter = settings.build().await.expect("it builds");
    let router = Router::new().route("/", get(returns_one_by_one)).with_state((limiter.clone(), clock));
    let app = App::serve(router.layer(limiter.clone())).await;
    assert_eq!(app.get("/").await.status, StatusCode::OK);
    assert_eq!(limiter.peek(&SHARE, Key::global()).await.expect("a decision").remaining(), 2);
}

/// A server whose answers may be late, and two limiters that count in it.
#[derive(Clone)]
struct Slow {
    line: Arc<(RedisServer, FaultProxy)>,
    /// The one whose checks are late.
    limiter: RateLimiter,
    /// The one that tells what is charged.
    direct: RateLimiter,
    clock: ManualClock,
}

impl Slow {
    async fn new() -> Self {
        let (server, clock) = (RedisServer::start().await, ManualClock::default());
        let proxy = FaultProxy::to(server.port());
        let settings = |url: &str| RateLimiter::builder().redis(url).clock(&clock);
        let limiter = built(|| settings(&proxy.url()).timeout(Duration::from_millis(300))).await;
        let direct = built(|| settings(&server.url()).timeout(Duration::from_secs(30))).await;
        Self { line: Arc::new((server, proxy)), limiter, direct, clock }
    }

    fn set(&self, fault: Fault) {
        self.line.1.set(fault);
    }

    /// Takes so much of `policy` for others.
    async fn takes(&self, policy: &Policy, cost: u32) {
        let others = self.direct.check_with_cost(policy, Key::global(), cost).await.expect("a decision");
        assert!(others.is_allowed() && !others.is_degraded());
    }

    /// Waits until whatever has been given back before is given back.
    async fn gives_back(&self) {
        let _ = recovered(&self.limiter, &Policy::new("probe").per_hour(1_000), "x").await;
    }

    /// Waits until so much is left of `policy`.
    async fn leaves(&self, policy: &Policy, remaining: u32) {
        let start = Instant::now();
        loop {
            let left = self.direct.peek(policy, Key::global()).await.expect("a decision").remaining();
            if left == remaining {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "{left} are left");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[rate_limit(policy = LATE)]
async fn returns_by_halves(State(slow): State<Slow>, charge: Charge) {
    slow.set(Fault::None);
    slow.leaves(&LATE, 2).await;
    charge.give_back(4).await.expect("it is given back");
    slow.leaves(&LATE, 6).await;
    slow.clock.advance(24 * MINUTE);
    slow.takes(&LATE, 10).await;
    charge.give_back(4).await.expect("it is given back");
}

/// Half of what was charged too late is given back at once, and the bucket has refilled the other half when that is
/// given back, too.
#[tokio::test]
async fn what_a_bucket_has_refilled_of_a_late_charge_is_not_given_back() {
    let slow = Slow::new().await;
    let router = Router::new().route("/", get(returns_by_halves)).with_state(slow.clone());
    let app = App::serve(router.layer(slow.limiter.clone())).await;
    slow.set(Fault::Delay(Duration::from_millis(900)));
    assert_eq!(app.get("/").await.status, StatusCode::OK);
    slow.gives_back().await;
    slow.leaves(&LATE, 0).await;
}

#[rate_limit(policy = TOGETHER)]
async fn held_together(State((gate, _)): State<(Gate, Slow)>, parts: Parts) -> StatusCode {
    held(State(gate), parts).await
}

/// Of two that were charged too late in one call, the bucket has refilled the first and a part of the second when they
/// are given back.
#[tokio::test]
async fn what_a_bucket_has_refilled_of_late_charges_that_shared_a_call_is_not_given_back() {
    let (slow, gate) = (Slow::new().await, Gate::default());
    let router = Router::new().route("/", get(held_together)).with_state((gate.clone(), slow.clone()));
    let app = App::serve(router.layer(slow.limiter.clone())).await;
    slow.set(Fault::Delay(Duration::from_millis(900)));
    let returning = async {
        while gate.entered.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        slow.set(Fault::None);
        slow.leaves(&TOGETHER, 0).await;
        // What has been heard by then has been answered by the clock as it is now.
        slow.gives_back().await;
        slow.clock.advance(36 * MINUTE);
        slow.leaves(&TOGETHER, 6).await;
        slow.takes(&TOGETHER, 6).await;
        gate.exit.notify_waiters();
    };
    let (one, other, ()) = tokio::join!(app.get("/?slow"), app.get("/?slow"), returning);
    assert_eq!([one.status, other.status], [StatusCode::OK; 2]);
    slow.gives_back().await;
    slow.leaves(&TOGETHER, 4).await;
}
