//! A status that tells of no error, once the constant is evaluated.

use axum_rate_limit::rate_limit;

const OK: u16 = 200;

#[rate_limit(name = "x", per_minute = 5, status = OK)]
async fn success() {}

fn main() {}
