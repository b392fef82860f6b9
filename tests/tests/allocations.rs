//! Counts the allocations of a limited request: what can be promised about its speed on any machine.
//!
//! The numbers below are upper bounds. Whoever lowers one updates it here; whoever raises one gives the reason.

use std::convert::Infallible;
use std::net::SocketAddr;

use allocation_counter::measure;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use axum::routing::get;
use axum_rate_limit::store::{Counter, MemoryStore, Operation};
use axum_rate_limit::{Algorithm, Headers, Quota, RateLimiter, rate_limit};
use futures_util::FutureExt as _;
use http::Request;
use tower::Service;
use tower::ServiceExt as _;
use tower::layer::util::Identity;

/// What the limiter's layer adds to a layer that does nothing. (Any layer costs axum one more boxed service to
/// clone and one more boxed future.)
///
/// These are the record of the request, its box among the request's extensions, and a larger table for the
/// extensions: in a server there are four, with the peer's address, the matched path and the original URI.
const LAYER: u64 = 3;
/// The labels of each policy's metric, which `metrics` collects in a `Vec`. Only with that feature, as here.
const LABELS: u64 = 1;
/// A second policy does not fit into the record.
const SECOND_POLICY: u64 = 1 + LABELS;
/// The guard of a router clones its route, and boxes a future of its own.
const GUARD: u64 = 2;
/// The values of two fields.
const DRAFT: u64 = 2;
/// The values of three fields.
const LEGACY: u64 = 3;

async fn free() {}

#[rate_limit(name = "one", per_hour = 1_000_000)]
async fn one() {}

#[rate_limit(name = "two-quotas", per_second = 1_000_000, per_hour = 900_000_000)]
async fn two_quotas() {}

#[rate_limit(name = "upper", per_hour = 1_000_000)]
#[rate_limit(name = "lower", per_hour = 1_000_000)]
async fn stacked() {}

#[rate_limit(name = "resource", per_hour = 1_000_000, by_resource)]
async fn by_resource() {}

#[rate_limit(name = "router", per_hour = 1_000_000)]
fn router() -> Router {
    Router::new().route("/router", get(free))
}

fn app() -> Router {
    Router::new()
        .route("/free", get(free))
        .route("/one", get(one))
        .route("/two-quotas", get(two_quotas))
        .route("/stacked", get(stacked))
        .route("/by-resource", get(by_resource))
        .merge(router())
}

async fn limiter(headers: Headers) -> RateLimiter {
    RateLimiter::builder().headers(headers).build().await.expect("a limiter")
}

async fn limited(headers: Headers) -> Router {
    app().layer(limiter(headers).await)
}

fn request(path: &str) -> Request<Body> {
    let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 1)));
    Request::get(path).extension(peer).body(Body::empty()).expect("a request")
}

/// Returns the number of allocations that a request takes, from the router on, after it has been made before.
fn allocations<S>(app: &S, path: &str) -> u64
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone,
{
    let send = |request| {
        let mut response: Option<Response> = None;
        let mut app = Some(app.clone());
        let info = measure(|| {
            let app = app.take().expect("it is called once");
            response = app.oneshot(request).now_or_never().and_then(Result::ok);
        });
        let response = response.expect("memory answers at once");
        assert!(response.status().is_success(), "{path}: {}", response.status());
        info.count_total
    };
    for _ in 0..3 {
        send(request(path));
    }
    let counts = [(); 5].map(|()| send(request(path)));
    assert!(counts.iter().all(|count| *count == counts[0]), "{path}: {counts:?}");
    counts[0]
}

/// A limiter around the router clones and boxes nothing, so it is compared with a router without a layer.
#[tokio::test]
async fn a_limiter_around_the_router_adds_its_record_alone() {
    let bare = allocations(&Router::new().route("/free", get(free)), "/free");
    let limited = limiter(Headers::Off).await.layer(app());
    for (path, decided) in [("/free", 0), ("/one", LABELS)] {
        let added = allocations(&limited, path).saturating_sub(bare);
        assert!(added <= LAYER + decided, "{path}: {added}");
    }
}

#[tokio::test]
async fn a_limited_request_adds_few_to_one_that_is_not() {
    let bare = Router::new().route("/free", get(free));
    let layered = allocations(&bare.clone().layer(Identity::new()), "/free");
    let routed = allocations(&bare.route_layer(Identity::new()).layer(Identity::new()), "/free");
    let (off, draft, legacy) =
        (limited(Headers::Off).await, limited(Headers::Draft).await, limited(Headers::Legacy).await);
    for (path, without, decided, told) in [
        ("/free", layered, 0, [0, 0]),
        // The key, the question, the answer and all counts are stored inline.
        ("/one", layered, LABELS, [DRAFT, LEGACY]),
        ("/by-resource", layered, LABELS, [DRAFT, LEGACY]),
        ("/two-quotas", layered, LABELS, [DRAFT, LEGACY]),
        ("/stacked", layered, LABELS + SECOND_POLICY, [DRAFT, LEGACY]),
        ("/router", routed, LABELS + GUARD, [DRAFT, LEGACY]),
    ] {
        let added = |app| allocations(app, path).saturating_sub(without);
        let bounds = [0, told[0], told[1]].map(|told| LAYER + decided + told);
        let counts = [&off, &draft, &legacy].map(added);
        println!("{path}: without fields, with the draft's, with the legacy ones: {counts:?}");
        assert!(
            counts.iter().zip(&bounds).all(|(count, bound)| count <= bound),
            "{path}: {counts:?} {bounds:?}"
        );
    }
}

#[test]
fn the_memory_store_takes_from_what_it_knows_without_any() {
    let algorithms =
        [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::TokenBucket { burst: None }];
    let store = MemoryStore::new(10_000);
    for algorithm in algorithms {
        let counter = |key, limit| Counter::new(key, Quota::per_hour(limit)).algorithm(algorithm);
        let (one, other) = (counter("one", 1_000), counter("other", 2));
        let apply = |operation, counters: &[Counter<'_>]| {
            store.apply_now(operation, counters).expect("there is room").taken()
        };
        assert!(apply(Operation::Take, &[one, other]));
        // The two keys are usually in different shards.
        let info = measure(|| {
            assert!(apply(Operation::Take, &[one]));
            assert!(apply(Operation::Take, &[one, other]));
            assert!(!apply(Operation::Take, &[other]), "what is denied, too");
            assert!(!apply(Operation::Take, &[one, other]));
            apply(Operation::Peek, &[one, other]);
            apply(Operation::Add, &[one, other]);
            apply(Operation::GiveBack, &[one, other]);
        });
        assert_eq!(info.count_total, 0, "{algorithm:?}");
    }
}
