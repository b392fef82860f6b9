//! Tests of what the `metrics` facade is told: decisions and errors, under labels that no request can influence.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::get;
use axum_rate_limit::store::MemoryStore;
use axum_rate_limit::{
    Builder, Denial, ManualClock, OnStoreError, Policy, RateLimiter, RequestLimiter, rate_limit,
};
use http::Request;
use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tests::Away;
use tower::ServiceExt as _;

#[rate_limit(name = "resources", per_hour = 2, by_resource, key = header("x-api-key"))]
async fn resource() {}

#[rate_limit(name = "tried", per_hour = 1, shadow)]
async fn tried() {}

#[rate_limit(name = "outer", per_hour = 9)]
#[rate_limit(name = "inner", per_hour = 1)]
async fn both() {}

#[rate_limit(name = "open", per_hour = 1, on_store_error = allow)]
async fn open() {}

/// How often each decision was counted, by the labels `policy`, `outcome` and `degraded`.
type Counts = BTreeMap<(String, String, String), u64>;

/// What the facade was told.
#[derive(Debug, Default)]
struct Told {
    /// Without those that were announced with a count of zero.
    decisions: Counts,
    begun: usize,
    /// By kind, without those that were announced with a count of zero.
    errors: BTreeMap<String, u64>,
    kinds_begun: usize,
    is_up: Option<bool>,
}

/// Sends requests with these paths and API keys, and returns what the facade was told.
fn told(settings: Builder, requests: &[(&str, &str)]) -> Told {
    told_by(send(settings, requests))
}

/// Runs `work`, and returns what the facade was told. Panics on other metrics.
fn told_by(work: impl Future<Output = ()>) -> Told {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(work);
    });
    let mut told = Told::default();
    for (key, _, description, value) in snapshotter.snapshot().into_vec() {
        let (kind, key) = key.into_parts();
        assert!(description.is_some(), "{key:?}");
        let labels: Vec<(&str, &str)> = key.labels().map(|label| (label.key(), label.value())).collect();
        match (kind, key.name(), &labels[..], value) {
            (
                MetricKind::Counter,
                "rate_limit_decisions_total",
                &[("policy", policy), ("outcome", outcome), ("degraded", degraded)],
                DebugValue::Counter(count),
            ) => {
                told.begun += 1;
                if count > 0 {
                    let labels = (policy.to_owned(), outcome.to_owned(), degraded.to_owned());
                    told.decisions.insert(labels, count);
                }
            }
            (
                MetricKind::Counter,
                "rate_limit_store_errors_total",
                &[("kind", kind)],
                DebugValue::Counter(count),
            ) => {
                told.kinds_begun += 1;
                if count > 0 {
                    told.errors.insert(kind.to_owned(), count);
                }
            }
            (MetricKind::Gauge, "rate_limit_store_up", [], DebugValue::Gauge(value)) => {
                told.is_up = Some(value.into_inner() > 0.0);
            }
            (MetricKind::Gauge, "rate_limit_memory_counters", [], DebugValue::Gauge(value)) => {
                assert!(value.into_inner() == 0.0, "the limiter is gone: {value}");
            }
            other => panic!("{other:?}"),
        }
    }
    told
}

fn counted(settings: Builder, requests: &[(&str, &str)]) -> Counts {
    told(settings, requests).decisions
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
fn who_waits_is_not_denied() {
    const PACED: Policy = Policy::new("paced").quota(1, Duration::from_secs(2));
    let told = told_by(async {
        let limiter = RateLimiter::memory();
        for (patience, is_allowed) in [(0, true), (600, true), (0, false)] {
            let decision = limiter.check_within(&PACED, "x", Duration::from_secs(patience)).await;
            assert_eq!(decision.expect("a decision").is_allowed(), is_allowed);
        }
    });
    let expected = [("paced", "allowed", "false", 2), ("paced", "denied", "false", 1)];
    assert_eq!(told.decisions, counts(&expected));
}

#[test]
fn who_gets_an_error_is_denied() {
    const REFUSED: Policy = Policy::new("refused").per_hour(5);
    let told = told_by(async {
        let limiter = RateLimiter::builder().max_keys(1).build().await.expect("a limiter");
        assert!(limiter.check(&REFUSED, "a").await.is_ok());
        assert!(limiter.check(&REFUSED, "b").await.is_err());
        assert!(limiter.check_within(&REFUSED, "c", Duration::ZERO).await.is_err());
        // This denies nobody.
        assert!(limiter.add(&REFUSED, "d", 1).await.is_err());
    });
    let expected = [("refused", "allowed", "false", 1), ("refused", "refused", "true", 2)];
    assert_eq!(told.decisions, counts(&expected));
}

#[test]
fn what_the_memory_holds_is_told() {
    const BRIEF: Policy = Policy::new("brief").per_second(1);
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let held = Cell::new(0.0);
    let expect = |count: f64| {
        for (key, .., value) in snapshotter.snapshot().into_vec() {
            // A snapshot tells the change since the one before.
            if let (true, DebugValue::Gauge(change)) =
                (key.key().name() == "rate_limit_memory_counters", value)
            {
                held.set(held.get() + change.into_inner());
            }
        }
        assert!((held.get() - count).abs() < 0.5, "{} are held, not {count}", held.get());
    };
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let clock = ManualClock::default();
            let settings = RateLimiter::builder().clock(&clock).max_keys(10);
            let limiter = settings.build().await.expect("a limiter");
            expect(0.0);
            let check = async |keys: Range<u32>| {
                for key in keys {
                    let _ = limiter.check(&BRIEF, key.to_string().as_str()).await;
                }
            };
            // What is denied, or finds no room, is not held.
            check(0..10).await;
            check(0..20).await;
            expect(10.0);
            limiter.reset(&BRIEF, "0").await.expect("it is forgotten");
            expect(9.0);
            clock.advance(Duration::from_secs(2));
            check(20..30).await;
            expect(10.0);
            drop(limiter);
            expect(0.0);
        });
    });
}

#[test]
fn each_policy_is_counted_under_what_came_of_it() {
    let requests = [("/both", "k"); 3];
    let requests = [&requests[..], &[("/tried", "k"); 3], &[("/r/1", "k"); 3]].concat();
    let expected = counts(&[
        // Both are asked together: what `inner` denies, `outer` would have allowed.
        ("inner", "allowed", "false", 1),
        ("inner", "denied", "false", 2),
        ("outer", "allowed", "false", 1),
        ("outer", "not_charged", "false", 2),
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
    // A request that meets only a policy in shadow is not denied.
    let denying = RateLimiter::builder().store(Away).on_store_error(OnStoreError::Deny);
    let expected = counts(&[("resources", "refused", "true", 2), ("tried", "allowed", "true", 1)]);
    assert_eq!(counted(denying, &[("/r/1", "k"), ("/r/1", "k"), ("/tried", "k")]), expected);
}

#[test]
fn what_a_handler_checks_is_counted() {
    const CHECKED: Policy = Policy::new("checked").per_hour(1);
    async fn checked(limiter: RequestLimiter) -> Result<(), Denial> {
        limiter.check(&CHECKED, "x").await
    }
    let counted = |builder: Builder| {
        told_by(async {
            let limiter = builder.build().await.expect("it builds");
            let app = Router::new().route("/", get(checked)).layer(limiter);
            for _ in 0..3 {
                let request = Request::get("/").body(Body::empty()).expect("a request");
                let _ = app.clone().oneshot(request).await.expect("infallible");
            }
        })
        .decisions
    };
    let expected = counts(&[("checked", "allowed", "false", 1), ("checked", "denied", "false", 2)]);
    assert_eq!(counted(RateLimiter::builder()), expected);
    let denying = RateLimiter::builder().store(Away).on_store_error(OnStoreError::Deny);
    assert_eq!(counted(denying), counts(&[("checked", "refused", "true", 3)]));
}

#[test]
fn all_begin_with_zero() {
    let told = told(RateLimiter::builder(), &[]);
    assert_eq!((told.decisions.len(), told.begun), (0, 10), "five policies, allowed and denied");
    assert_eq!((told.errors.len(), told.kinds_begun), (0, 6), "each kind of error");
    assert_eq!(told.is_up, None, "there is no store to be away");
}

#[test]
fn a_store_that_is_away_is_told() {
    let away = told(RateLimiter::builder().store(Away), &[("/open", "k"); 3]);
    assert_eq!(away.is_up, Some(false));
    assert_eq!(away.errors, BTreeMap::from([("unreachable".to_owned(), 3)]));
    let full = told(RateLimiter::builder().max_keys(1), &[("/r/1", "a"), ("/r/1", "b"), ("/r/1", "c")]);
    assert_eq!(full.errors, BTreeMap::from([("full".to_owned(), 2)]));
    let there = told(RateLimiter::builder().store(MemoryStore::new(10)), &[("/open", "k")]);
    assert_eq!((there.errors.len(), there.is_up), (0, Some(true)));
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
