//! Compares both stores on random histories of requests that are charged more later, or give back what they were
//! charged.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use axum_rate_limit::{Algorithm, Charge, Key, KeyPart, ManualClock, Policy, RateLimiter, rate_limit};
use http::Request;
use tests::RedisServer;
use tower::ServiceExt as _;

/// Two quotas, so that one may be over when the other is not. Keys expire by Redis's own clock, so the windows are
/// long.
const WINDOWS: [(u32, Duration); 2] = [(9, Duration::from_secs(10_010)), (12, Duration::from_secs(30_000))];
const STEPS: u32 = 1_500;

const fn policy(name: &'static str, algorithm: Algorithm) -> Policy {
    let [(few, short), (more, long)] = WINDOWS;
    Policy::new(name).quota(few, short).quota(more, long).algorithm(algorithm).key(&[KeyPart::Global]).cost(2)
}

const WINDOW: Policy = policy("alike-window", Algorithm::SlidingWindow);
const LOG: Policy = policy("alike-log", Algorithm::SlidingLog);
const BUCKET: Policy = policy("alike-bucket", Algorithm::TokenBucket { burst: None });

/// What the requests were charged that have been admitted.
type Held = Arc<Mutex<Vec<Charge>>>;

fn hold(held: &Held, charge: Charge) {
    held.lock().expect("nobody panics with it").push(charge);
}

#[rate_limit(policy = WINDOW)]
async fn window(State(held): State<Held>, charge: Charge) {
    hold(&held, charge);
}

#[rate_limit(policy = LOG)]
async fn log(State(held): State<Held>, charge: Charge) {
    hold(&held, charge);
}

#[rate_limit(policy = BUCKET)]
async fn bucket(State(held): State<Held>, charge: Charge) {
    hold(&held, charge);
}

struct Side {
    limiter: RateLimiter,
    router: Router,
    held: Held,
}

impl Side {
    fn new(limiter: RateLimiter) -> Self {
        let held = Held::default();
        let router = Router::new()
            .route("/window", get(window))
            .route("/log", get(log))
            .route("/bucket", get(bucket))
            .with_state(Arc::clone(&held));
        Self { router: router.layer(limiter.clone()), limiter, held }
    }

    async fn ask(&self, path: &str) {
        let request = Request::get(path).body(Body::empty()).expect("it is one");
        let _ = self.router.clone().oneshot(request).await.expect("it is infallible");
    }

    /// Returns one of the latest charges.
    fn pick(&self, which: usize) -> Option<Charge> {
        let held = self.held.lock().expect("nobody panics with it");
        held.iter().rev().take(8).cycle().nth(which).cloned()
    }
}

#[tokio::test]
async fn both_stores_agree_on_what_is_charged_later_and_given_back() {
    let clock = ManualClock::default();
    clock.advance(Duration::from_secs(10_000_000));
    let server = RedisServer::start().await;
    let in_memory = RateLimiter::builder().clock(&clock).build().await.expect("it builds");
    let builder = RateLimiter::builder().redis(server.url()).timeout(Duration::from_secs(30)).clock(&clock);
    let sides = [in_memory, builder.require_store().build().await.expect("Redis is there")].map(Side::new);
    for (path, policy) in [("/window", WINDOW), ("/log", LOG), ("/bucket", BUCKET)] {
        for step in 0..STEPS {
            let most = if fastrand::u8(..10) == 0 { 20_000 } else { 2_000 };
            clock.advance(Duration::from_millis(fastrand::u64(..most * 1_000)));
            let (what, which, cost) = (fastrand::u8(..10), fastrand::usize(..8), fastrand::u32(1..4));
            let mut said = Vec::new();
            for side in &sides {
                match side.pick(which) {
                    Some(charge) if what == 5 => {
                        charge.of(policy.name()).add(cost).await.expect("it is charged");
                    }
                    Some(charge) if what > 5 => {
                        charge.of(policy.name()).give_back(cost).await.expect("it is given back");
                    }
                    _ => side.ask(path).await,
                }
                let decision = side.limiter.peek(&policy, Key::global()).await.expect("a decision");
                said.push((decision.remaining(), decision.reset(), decision.retry_after()));
            }
            assert_eq!(said[0], said[1], "{path} {step} {what}");
        }
    }
}
