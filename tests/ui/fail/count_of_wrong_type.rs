//! A count that is a constant of another type than `u32`.

use axum_rate_limit::rate_limit;

const LONG: u64 = 5;
const SIGNED: i32 = 5;
const TEXT: &str = "5";

#[rate_limit(name = "x", per_minute = LONG)]
async fn long() {}

#[rate_limit(name = "x", per_minute = SIGNED)]
async fn signed() {}

#[rate_limit(name = "x", per_minute = TEXT)]
async fn text() {}

#[rate_limit(name = "x", quota(LONG, per = "90s"))]
async fn in_a_quota() {}

#[rate_limit(name = "x", per_minute = MISSING)]
async fn not_there() {}

#[rate_limit(name = "x", per_minute = limit())]
async fn not_constant() {}

fn limit() -> u32 {
    5
}

fn main() {}
