//! Keys that are none.

use axum_rate_limit::rate_limit;
use http::request::Parts;

#[rate_limit(name = "nothing", per_minute = 5, key)]
async fn nothing() {}

#[rate_limit(name = "empty", per_minute = 5, key = ())]
async fn empty() {}

#[rate_limit(name = "text", per_minute = 5, key = "x-api-key")]
async fn text() {}

#[rate_limit(name = "bare", per_minute = 5, key = header)]
async fn bare_header() {}

#[rate_limit(name = "blank", per_minute = 5, key = (ip, header("x api key")))]
async fn blank_header() {}

#[rate_limit(name = "type", per_minute = 5, key = length)]
async fn of_another_type() {}

fn length(parts: &Parts) -> usize {
    parts.uri.path().len()
}

fn main() {}
