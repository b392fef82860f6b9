//! An algorithm that is none, or that can't count the quotas.

use axum_rate_limit::{Quotas, rate_limit};
use http::request::Parts;

#[rate_limit(name = "unknown", per_minute = 5, algorithm = fancy)]
async fn unknown() {}

#[rate_limit(name = "foreign", per_minute = 5, algorithm = gcra)]
#[rate_limit(name = "quoted", per_minute = 5, algorithm = "moving-window")]
async fn foreign() {}

#[rate_limit(name = "text", per_minute = 5, algorithm = "token_bucket")]
async fn text() {}

#[rate_limit(name = "burst", per_minute = 5, burst = 10)]
async fn burst() {}

#[rate_limit(name = "burst-0", per_minute = 5, algorithm = token_bucket, burst = 0)]
async fn no_burst() {}

#[rate_limit(name = "burst-type", per_minute = 5, algorithm = token_bucket, burst = 1.5)]
async fn half_a_burst() {}

#[rate_limit(name = "burst-never", per_second = 5, per_minute = 20, algorithm = token_bucket, burst = 20)]
async fn no_such_burst() {}

#[rate_limit(name = "long", per_day = 10_001, algorithm = sliding_log)]
async fn long_log() {}

#[rate_limit(name = "fast", per_second = 1_000_001, algorithm = token_bucket)]
async fn fast_bucket() {}

#[rate_limit(name = "tiers", per_minute = 5, algorithm = sliding_log, quotas_by = tiers)]
async fn log_of_tiers() {}

fn tiers(_: &Parts) -> Option<Quotas> {
    None
}

fn main() {}
