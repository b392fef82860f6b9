//! A comma that is missing between two arguments, or one too many.

use axum_rate_limit::rate_limit;

#[rate_limit(name = "x" per_minute = 5)]
async fn after_a_name() {}

#[rate_limit(name = "x", per_minute = 5 by_resource)]
async fn after_a_count() {}

#[rate_limit(name = "x", by_resource per_minute = 5)]
async fn after_a_word() {}

#[rate_limit(name = "x", quota(5, per = "90s") by_resource)]
async fn after_a_quota() {}

#[rate_limit(policy = LOGIN crate = axum_rate_limit)]
async fn after_a_policy() {}

#[rate_limit(name = "x", per_minute = 5 status = 200)]
async fn before_a_fault() {}

#[rate_limit(name = "x" per_minute = 5 by_resource status = 429)]
async fn all_of_them() {}

#[rate_limit(name = "x"; per_minute = 5)]
async fn a_semicolon() {}

#[rate_limit(name = "x", , per_minute = 5)]
async fn one_too_many() {}

fn main() {}
