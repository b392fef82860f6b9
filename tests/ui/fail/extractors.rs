//! The limit is one of the 16 extractors that a handler may have.

use axum::http::Method;
use axum_rate_limit::rate_limit;

#[rate_limit(name = "x", per_minute = 5)]
async fn sixteen(
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
) {
}

fn main() {}
