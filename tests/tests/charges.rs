//! Tests of what a request is charged while its store comes and goes, and of code that looks at the decisions
//! while the request is being answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRequestParts as _, State};
use axum::response::IntoResponse as _;
use axum::routing::get;
use axum_rate_limit::store::{Counter, MemoryStore, Operation, Outcome, Store};
use axum_rate_limit::{Charge, Decisions, Key, OnStoreError, Policy, RateLimiter, StoreError, rate_limit};
use http::StatusCode;
use tests::App;
use tokio::time::timeout;

/// A store that may be overloaded for a while, but is always reachable.
#[derive(Clone)]
struct Busy {
    store: Arc<MemoryStore>,
    is_busy: Arc<AtomicBool>,
}

impl Busy {
    fn new() -> Self {
        Self { store: Arc::new(MemoryStore::new(1_000)), is_busy: Arc::default() }
    }

    fn set(&self, is_busy: bool) {
        self.is_busy.store(is_busy, Ordering::SeqCst);
    }

    async fn limiter(&self, on_store_error: OnStoreError) -> RateLimiter {
        let builder = RateLimiter::builder().store(self.clone()).on_store_error(on_store_error);
        builder.timeout(Duration::from_secs(60)).build().await.expect("it builds")
    }
}

impl Store for Busy {
    async fn apply(&self, operation: Operation, counters: &[Counter<'_>]) -> Result<Outcome, StoreError> {
        if self.is_busy.load(Ordering::SeqCst) {
            return Err(StoreError::Overloaded);
        }
        self.store.apply(operation, counters).await
    }
}

const SHARED: Policy = Policy::new("shared").per_hour(100).key(&[axum_rate_limit::KeyPart::Global]);

#[rate_limit(policy = SHARED)]
async fn added_elsewhere(charge: Charge, State(store): State<Busy>) {
    store.set(!store.is_busy.load(Ordering::SeqCst));
    charge.add(10).await.expect("it is charged");
    store.set(false);
    charge.give_back(11).await.expect("it is given back");
}

#[tokio::test]
async fn what_is_given_back_goes_to_where_it_was_charged() {
    for begins_busy in [false, true] {
        let store = Busy::new();
        let limiter = store.limiter(OnStoreError::Local).await;
        let used = async || 100 - limiter.peek(&SHARED, Key::global()).await.expect("a decision").remaining();
        // Units that others have used, in the store and in this process.
        for is_busy in [false, true] {
            store.set(is_busy);
            let _ = limiter.add(&SHARED, Key::global(), 50).await.expect("it is charged");
        }
        store.set(begins_busy);
        let router = Router::new().route("/", get(added_elsewhere)).with_state(store.clone());
        let app = App::serve(router.layer(limiter.clone())).await;
        assert_eq!(app.get("/").await.status, StatusCode::OK);
        for is_busy in [false, true] {
            store.set(is_busy);
            assert_eq!(used().await, 50, "begins busy: {begins_busy}; is busy: {is_busy}");
        }
    }
}

#[rate_limit(policy = SHARED)]
async fn tries_again(charge: Charge, State(store): State<Busy>) {
    store.set(true);
    // Whether that is an error depends on the limiter.
    let _ = charge.give_back(1).await;
    store.set(false);
    charge.give_back(1).await.expect("it is given back");
}

#[tokio::test]
async fn what_the_store_was_not_asked_for_can_be_given_back_again() {
    for on_store_error in [OnStoreError::Deny, OnStoreError::Local, OnStoreError::Allow] {
        let store = Busy::new();
        let limiter = store.limiter(on_store_error).await;
        let router = Router::new().route("/", get(tries_again)).with_state(store);
        let app = App::serve(router.layer(limiter.clone())).await;
        assert_eq!(app.get("/").await.status, StatusCode::OK);
        let left = limiter.peek(&SHARED, Key::global()).await.expect("a decision").remaining();
        assert_eq!(left, 100, "{on_store_error:?}");
    }
}

#[rate_limit(name = "looked-at", per_hour = 1)]
async fn looked_at() {}

/// If the closure had to wait for the request's record, it would wait forever, and its thread with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denial_may_look_at_the_decisions() {
    let limiters = [RateLimiter::builder(), RateLimiter::builder().store(Busy::new())];
    for builder in limiters {
        let builder = builder.on_denied(|denied| {
            let mut parts = denied.request().clone();
            let mut decisions = Box::pin(async move { Decisions::from_request_parts(&mut parts, &()).await });
            let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
            let std::task::Poll::Ready(Ok(decisions)) = decisions.as_mut().poll(context) else {
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            };
            let left = decisions.get("looked-at").map(axum_rate_limit::Decision::remaining);
            (denied.status(), format!("{left:?}")).into_response()
        });
        let limiter = builder.build().await.expect("it builds");
        let app = App::serve(Router::new().route("/", get(looked_at)).layer(limiter)).await;
        assert_eq!(app.get("/").await.status, StatusCode::OK);
        let denied = timeout(Duration::from_secs(60), app.get("/")).await.expect("it is answered");
        assert_eq!((denied.status, denied.body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "Some(0)"));
    }
}
