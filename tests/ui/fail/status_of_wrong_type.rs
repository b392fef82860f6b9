//! A status that is a constant of another type than `u16`.

use axum_rate_limit::rate_limit;

const WIDE: u32 = 429;

#[rate_limit(name = "x", per_minute = 5, status = WIDE)]
async fn wide() {}

fn main() {}
