//! Quotas that another one makes pointless, once the constants in them are evaluated.

use axum_rate_limit::rate_limit;

const FAST: u32 = 10;
const SLOW: u32 = 5;

#[rate_limit(name = "x", per_second = FAST, per_minute = SLOW)]
async fn more_in_less_time() {}

#[rate_limit(name = "x", per_minute = SLOW, per_second = 10)]
async fn whichever_comes_first() {}

#[rate_limit(name = "x", per_minute = 5, quota(FAST, per = "30s"))]
async fn in_a_quota() {}

fn main() {}
