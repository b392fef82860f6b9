//! A message that is empty, once the constant is evaluated.

use axum_rate_limit::rate_limit;

const EMPTY: &str = "";

#[rate_limit(name = "x", per_minute = 5, message = EMPTY)]
async fn empty() {}

fn main() {}
