//! Every argument of a rich policy, as a literal, a constant and a function.
#![deny(warnings)]
#![forbid(unsafe_code)]

use axum::Router;
use axum::routing::get;
use axum_rate_limit::{Algorithm, KeyPart, OnStoreError, Policy, Quota, Quotas, RateLimiter, rate_limit};
use http::request::Parts;
use http::response;

const BURST: u32 = 10;
const COST: u32 = 2;
const GOLD: Quotas = Quotas::of(Quota::per_second(50)).and(Quota::per_day(100_000));

mod keys {
    pub(super) fn customer(parts: &super::Parts) -> Option<String> {
        parts.extensions.get::<String>().cloned()
    }
}

fn tier(parts: &Parts) -> Option<Quotas> {
    match parts.headers.get("x-tier")?.as_bytes() {
        b"gold" => Some(GOLD),
        b"internal" => Some(Quotas::UNLIMITED),
        _ => None,
    }
}

fn weight(parts: &Parts) -> u32 {
    u32::try_from(parts.uri.path().len()).unwrap_or(u32::MAX)
}

fn is_probe(parts: &Parts) -> bool {
    parts.uri.path() == "/health"
}

fn succeeded(answer: &response::Parts) -> bool {
    answer.status.is_success()
}

#[rate_limit(
    name = "all",
    per_second = 5,
    per_minute = 100,
    algorithm = token_bucket,
    burst = BURST,
    key = (header("x-api-key"), keys::customer, ip),
    cost = weight,
    quotas_by = tier,
    skip_if = is_probe,
    give_back_if = succeeded,
    status = 429,
    message = "Slow down.",
    on_store_error = deny,
    shadow
)]
async fn all() {}

#[rate_limit(name = "log", per_minute = 100, algorithm = sliding_log, key = global, cost = COST)]
async fn log() {}

#[rate_limit(name = "window", per_minute = 100, algorithm = sliding_window, key = keys::customer, cost = 0)]
async fn window() {}

#[rate_limit(name = "closures", per_minute = 100, algorithm = fixed_window, key = |parts| Some(parts.uri.to_string()), cost = |_| 1, skip_if = |_| false, give_back_if = |answer| answer.status.is_success())]
async fn closures() {}

// Of another quota it may be less.
#[rate_limit(name = "dear", per_minute = 5, cost = 6, quotas_by = tier)]
async fn dear() {}

#[rate_limit(name = "free", per_minute = 5, cost = 0u32, key = header("x.api!key"))]
async fn free() {}

trait Keyed {
    fn key(parts: &Parts) -> Option<String>;

    fn cost(parts: &Parts) -> u32 {
        weight(parts)
    }
}

struct Customers;

impl Keyed for Customers {
    fn key(parts: &Parts) -> Option<String> {
        keys::customer(parts)
    }
}

#[rate_limit(name = "qualified", per_minute = 100, key = (<Customers as Keyed>::key, ip), cost = <Customers as Keyed>::cost, skip_if = move |_| false)]
async fn qualified() {}

const LIKE_ALL: Policy = Policy::new("like-all")
    .per_second(5)
    .per_minute(100)
    .algorithm(Algorithm::TokenBucket { burst: None })
    .burst(BURST)
    .key(&[KeyPart::Header("x-api-key"), KeyPart::By(keys::customer), KeyPart::Ip])
    .cost_by(weight)
    .quotas_by(tier)
    .skip_if(is_probe)
    .give_back_if(succeeded)
    .status(429)
    .message("Slow down.")
    .on_store_error(OnStoreError::Deny)
    .shadow();

#[rate_limit(policy = LIKE_ALL)]
async fn like_all() {}

#[rate_limit(policy = LIKE_ALL)]
async fn like_all_too() {}

fn main() {
    let app = Router::new().route("/all", get(all)).route("/log", get(log)).route("/window", get(window));
    let app = app.route("/closures", get(closures)).route("/qualified", get(qualified));
    let app = app.route("/dear", get(dear)).route("/free", get(free));
    let app = app.route("/like-all", get(like_all).post(like_all_too));
    // A conflict would panic.
    let _: Router = app.layer(RateLimiter::memory());
}
