//! An argument that is given twice, or with one that excludes it.

use axum_rate_limit::rate_limit;

#[rate_limit(name = "x", name = "y", per_minute = 5)]
async fn name() {}

#[rate_limit(name = "x", per_minute = 5, per_minute = 10)]
async fn per_minute() {}

#[rate_limit(name = "x", per_minute = 5, per_minute = 5, per_minute = 5)]
async fn thrice() {}

#[rate_limit(name = "x", per_minute = 5, by_resource, by_resource)]
async fn by_resource() {}

#[rate_limit(name = "x", per_minute = 5, status = 429, status = 503)]
async fn status() {}

#[rate_limit(name = "x", per_minute = 5, message = "Slow", message = "down")]
async fn message() {}

#[rate_limit(policy = ONE, policy = OTHER)]
async fn policy() {}

#[rate_limit(name = "x", per_minute = 5, crate = axum_rate_limit, crate = axum_rate_limit)]
async fn the_crate() {}

#[rate_limit(name = "x", per_minute = 5, by_resource, by_route)]
async fn by_resource_and_by_route() {}

#[rate_limit(name = "x", by_route, per_minute = 5, by_resource)]
async fn by_route_and_by_resource() {}

fn main() {}
