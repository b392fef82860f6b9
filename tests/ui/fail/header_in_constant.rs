//! A constant that is no name of a header.

use axum::http::request::Parts;
use axum_rate_limit::rate_limit;

const SPACED: &str = "x api-key";

fn user(_: &Parts) -> Option<String> {
    None
}

#[rate_limit(name = "x", per_minute = 5, key = header(SPACED))]
async fn alone() {}

#[rate_limit(name = "x", per_minute = 5, key = (ip, header(SPACED)))]
async fn last() {}

#[rate_limit(name = "x", per_minute = 5, key = (header(concat!("x ", "y")), user))]
async fn first() {}

fn main() {}
