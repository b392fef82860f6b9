//! What the `metrics` facade is told: decisions, under labels that no request has a say in.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::get;
use axum_rate_limit::store::{Counter, Operation, Outcome, Store};
use axum_rate_limit::{Builder, OnStoreError, RateLimiter, StoreError, rate_limit};
use http::Request;
use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tower::ServiceExt as _;

const NAME: &str = "rate_limit_decisions_total";

#[rate_limit(name = "resources", per_hour = 2, by_resource, key = header("x-api-key"))]
async fn resource() {}

#[rate_limit(name = "tried", per_hour = 1, shadow)]
async fn tried() {}

#[rate_limit(name = "outer", per_hour = 9)]
#[rate_limit(name = "inner", per_hour = 1)]
async fn both() {}

#[rate_limit(name = "open", per_hour = 1, on_store_error = allow)]
async fn open() {}

/// One that is never there.
struct Away;

impl Store for Away {
    async fn apply(&self, _: Operation, _: &[Counter<'_>]) -> Result<Outcome, StoreError> {
        Err(StoreError::Unreachable("it is away".into()))
    }
}

/// How often each decision was counted, by policy, outcome and degraded.
type Counts = BTreeMap<(String, String, String), u64>;

/// Sends requests of these paths and API keys, and tells what was counted. There is nothing but that.
fn counted(settings: Builder, requests: &[(&str, &str)]) -> Counts {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(send(settings, requests));
    });
    let mut counts = Counts::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let (kind, key) = key.into_parts();
        assert_eq!((kind, key.name()), (MetricKind::Counter, NAME));
        let labels: Vec<(&str, &str)> = key.labels().map(|label| (label.key(), label.value())).collect();
        let [("policy", policy), ("outcome", outcome), ("degraded", degraded)] = labels[..] else {
            panic!("other labels: {labels:?}");
        };
        let DebugValue::Counter(count) = value else { panic!("{value:?} is no count") };
        counts.insert((policy.to_owned(), outcome.to_owned(), degraded.to_owned()), count);
    }
    counts
}

async fn send(settings: Builder, requests: &[(&str, &str)]) {
    let app = Router::new()
        .route("/r/{*rest}", get(resource))
        .route("/tried", get(tried))
        .route("/both", get(both))
        .route("/open", get(open))
        .layer(settings.build().await.expect("a limiter"));
    for (path, key) in requests {
        let request = Request::get(*path)
            .header("x-api-key", *key)
            .header("x-forwarded-for", *key)
            .extension(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 1))))
            .body(Body::empty())
            .expect("a request");
        app.clone().oneshot(request).await.expect("an answer");
    }
}

fn counts(counts: &[(&str, &str, &str, u64)]) -> Counts {
    let owned = |(policy, outcome, degraded, count): &(&str, &str, &str, u64)| {
        (((*policy).to_owned(), (*outcome).to_owned(), (*degraded).to_owned()), *count)
    };
    counts.iter().map(owned).collect()
}

#[test]
fn each_policy_is_counted_under_what_came_of_it() {
    let requests = [("/both", "k"); 3];
    let requests = [&requests[..], &[("/tried", "k"); 3], &[("/r/1", "k"); 3]].concat();
    let expected = counts(&[
        // Asked together: what the one denies, the other would have allowed.
        ("inner", "allowed", "false", 1),
        ("inner", "denied", "false", 2),
        ("outer", "allowed", "false", 3),
        ("resources", "allowed", "false", 2),
        ("resources", "denied", "false", 1),
        ("tried", "allowed", "false", 1),
        ("tried", "shadow_denied", "false", 2),
    ]);
    assert_eq!(counted(RateLimiter::builder(), &requests), expected);
}

#[test]
fn what_was_decided_without_the_store_is_counted_apart() {
    let requests = [[("/r/1", "k"); 3], [("/open", "k"); 3]].concat();
    let expected = counts(&[
        ("open", "allowed", "true", 3),
        ("resources", "allowed", "true", 2),
        ("resources", "denied", "true", 1),
    ]);
    assert_eq!(counted(RateLimiter::builder().store(Away), &requests), expected);
    // Who asks for nothing but a policy in shadow is not denied.
    let denying = RateLimiter::builder().store(Away).on_store_error(OnStoreError::Deny);
    let expected = counts(&[("resources", "denied", "true", 2), ("tried", "allowed", "true", 1)]);
    assert_eq!(counted(denying, &[("/r/1", "k"), ("/r/1", "k"), ("/tried", "k")]), expected);
}

#[test]
fn no_client_makes_a_label() {
    let paths: Vec<String> =
        (0..300).map(|index| format!("/r/{index}/%22policy%22?outcome=%0A{index}")).collect();
    let keys: Vec<String> = (0..300).map(|index| format!("policy=\"{index}\",outcome={index}")).collect();
    let requests: Vec<(&str, &str)> =
        paths.iter().map(String::as_str).zip(keys.iter().map(String::as_str)).collect();
    assert_eq!(counted(RateLimiter::builder(), &requests), counts(&[("resources", "allowed", "false", 300)]));
}
