//! `#[debug_handler]` goes below, where it sees the finished signature.

use axum_rate_limit::rate_limit;

#[axum::debug_handler]
#[rate_limit(name = "x", per_minute = 5)]
async fn calculate() -> &'static str {
    "done"
}

fn main() {}
