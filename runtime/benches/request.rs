//! Measures a whole request in this process, from the router to its response, against one that is not limited.
//!
//! The services take turns, request by request, so that other load on the machine meets all of them alike, and
//! medians are compared. The requests run once with everything as warm as in a loop, and once after something
//! else has used the caches, as in a server, which reads, parses and writes between two requests.

#![allow(clippy::print_stdout)] // that is what it is for

use std::convert::Infallible;
use std::hint::black_box;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use axum_rate_limit::{BuildError, Headers, RateLimiter, rate_limit};
use tower_service::Service;

/// How many rounds are not measured: the first requests find nothing in place.
const WARM_UP: usize = 2_000;
const ROUNDS: usize = 20_000;
/// How many bytes are written between two requests: more than the private caches of many cores hold. Where they
/// hold more, some of it stays warm.
const EVICTED: usize = 768 * 1024;
const LINE: usize = 64;

#[rate_limit(name = "passes", per_hour = 1_000_000_000)]
async fn passes() -> &'static str {
    "ok"
}

#[rate_limit(name = "denied", per_hour = 1)]
async fn denied() -> &'static str {
    "ok"
}

async fn free() -> &'static str {
    "ok"
}

/// A service, and how long its requests took, in nanoseconds.
struct Candidate {
    name: &'static str,
    ask: Box<dyn FnMut(Request) -> Answer>,
    took: Vec<u64>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>>>>;

fn candidate<S>(name: &'static str, mut service: S) -> Candidate
where
    S: Service<Request, Response = Response, Error = Infallible, Future: 'static> + 'static,
{
    Candidate { name, ask: Box::new(move |request| Box::pin(service.call(request))), took: Vec::new() }
}

async fn candidates() -> Result<Vec<Candidate>, BuildError> {
    let limiter = async |headers| RateLimiter::builder().memory().headers(headers).build().await;
    let passes = Router::new().route("/", get(passes));
    let denied = Router::new().route("/", get(denied));
    let idle = Router::new().route("/", get(async |_: Extension<()>| "ok")).layer(Extension(()));
    // Axum does the same with a router that it serves.
    let served = |router: Router| router.with_state(());
    Ok(vec![
        candidate("bare axum", served(Router::new().route("/", get(free)))),
        candidate("bare axum, an idle layer and argument", served(idle)),
        candidate("fields off", served(passes.clone().layer(limiter(Headers::Off).await?))),
        candidate("fields off, outermost", limiter(Headers::Off).await?.layer(served(passes.clone()))),
        candidate("with fields", served(passes.clone().layer(limiter(Headers::Draft).await?))),
        candidate("with fields, outermost", limiter(Headers::Draft).await?.layer(served(passes))),
        candidate("denied, fields off", served(denied.clone().layer(limiter(Headers::Off).await?))),
        candidate("denied, fields off, outermost", limiter(Headers::Off).await?.layer(served(denied))),
    ])
}

fn request() -> Request {
    let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 1)));
    let request = Request::get("/").header("host", "127.0.0.1:3000").extension(peer).body(Body::empty());
    request.expect("a request")
}

/// Returns the median of each candidate when `evicted` bytes are written before each request.
async fn medians(candidates: &mut [Candidate], evicted: usize) -> Vec<u64> {
    let mut memory = vec![0_u8; evicted];
    for round in 0..WARM_UP + ROUNDS {
        for Candidate { ask, took, .. } in &mut *candidates {
            let request = request();
            for byte in memory.iter_mut().step_by(LINE) {
                *byte = byte.wrapping_add(1);
            }
            black_box(&mut memory);
            let begin = Instant::now();
            let answer = ask(request).await;
            let time = begin.elapsed();
            black_box(answer).expect("infallible");
            if round >= WARM_UP {
                took.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
            }
        }
    }
    let median = |candidate: &mut Candidate| {
        candidate.took.sort_unstable();
        let median = candidate.took[candidate.took.len() / 2];
        candidate.took.clear();
        median
    };
    candidates.iter_mut().map(median).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BuildError> {
    let mut candidates = candidates().await?;
    let warm = medians(&mut candidates, 0).await;
    let cold = medians(&mut candidates, EVICTED).await;
    println!("nanoseconds of a request, medians of {ROUNDS}, and how many more than bare axum's\n");
    println!("| | warm | more | caches evicted | more |");
    println!("|---|--:|--:|--:|--:|");
    for ((candidate, warm_one), cold_one) in candidates.iter().zip(&warm).zip(&cold) {
        let (warm_more, cold_more) = (warm_one.saturating_sub(warm[0]), cold_one.saturating_sub(cold[0]));
        println!("| {} | {warm_one} | {warm_more} | {cold_one} | {cold_more} |", candidate.name);
    }
    Ok(())
}
