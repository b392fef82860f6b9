//! A policy without a quota.

use axum_rate_limit::rate_limit;

#[rate_limit(name = "login")]
async fn a_name_alone() {}

#[rate_limit(name = "login", by_resource, status = 429, message = "Slow down.")]
async fn all_but_a_quota() {}

fn main() {}
