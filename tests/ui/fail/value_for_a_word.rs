//! `by_resource` and `by_route` take no value.

use axum_rate_limit::rate_limit;

#[rate_limit(name = "x", per_minute = 5, by_resource = true)]
async fn by_resource() {}

#[rate_limit(name = "x", per_minute = 5, by_route = false)]
async fn by_route() {}

#[rate_limit(name = "x", per_minute = 5, by_resource("GET:/"))]
async fn parentheses() {}

fn main() {}
