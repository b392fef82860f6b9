//! A status that does not tell a client of an error.

use axum_rate_limit::rate_limit;

#[rate_limit(name = "x", per_minute = 5, status = 200)]
async fn success() {}

#[rate_limit(name = "x", per_minute = 5, status = 399)]
async fn one_too_few() {}

#[rate_limit(name = "x", per_minute = 5, status = 600)]
async fn one_too_many() {}

#[rate_limit(name = "x", per_minute = 5, status = 0)]
async fn zero() {}

#[rate_limit(name = "x", per_minute = 5, status = -429)]
async fn negative() {}

#[rate_limit(name = "x", per_minute = 5, status = 70_000)]
async fn too_large() {}

#[rate_limit(name = "x", per_minute = 5, status = 429.5)]
async fn fractional() {}

#[rate_limit(name = "x", per_minute = 5, status = "429")]
async fn a_string() {}

#[rate_limit(name = "x", per_minute = 5, status = 429u32)]
async fn suffixed() {}

#[rate_limit(name = "x", per_minute = 5, status = StatusCode::TOO_MANY_REQUESTS)]
async fn of_http() {}

#[rate_limit(name = "x", per_minute = 5, status)]
async fn no_value() {}

#[rate_limit(name = "x", per_minute = 5, status(429))]
async fn parentheses() {}

fn main() {}
