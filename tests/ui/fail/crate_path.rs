//! `crate` is no path, or not one to the runtime.

use axum_rate_limit::rate_limit;

#[rate_limit(name = "x", per_minute = 5, crate)]
async fn no_value() {}

#[rate_limit(name = "x", per_minute = 5, crate = "axum_rate_limit")]
async fn a_string() {}

#[rate_limit(name = "x", per_minute = 5, crate = axum_rate_limit::<u8>)]
async fn generic() {}

#[rate_limit(name = "x", per_minute = 5, crate = axum_rate_limit())]
async fn a_call() {}

fn main() {}
