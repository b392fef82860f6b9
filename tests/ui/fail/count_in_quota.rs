//! Counts of `quota(N, per = "…")` that are no whole number from 1 to `u32::MAX`.

use axum_rate_limit::rate_limit;

#[rate_limit(name = "x", quota(0, per = "90s"))]
async fn zero() {}

#[rate_limit(name = "x", quota(-5, per = "90s"))]
async fn negative() {}

#[rate_limit(name = "x", quota(1.5, per = "90s"))]
async fn fractional() {}

#[rate_limit(name = "x", quota(4_294_967_296, per = "90s"))]
async fn too_large() {}

#[rate_limit(name = "x", quota("5", per = "90s"))]
async fn a_string() {}

#[rate_limit(name = "x", quota(5u8, per = "90s"))]
async fn suffixed() {}

#[rate_limit(name = "x", quota(0, per = "0s"))]
async fn both_faulty() {}

#[rate_limit(name = "x", quota(5, per = "90s"), quota(0, per = "2h"))]
async fn the_second() {}

fn main() {}
