//! Costs that are none, or never pass; functions of another type.

use axum_rate_limit::rate_limit;
use http::request::Parts;

#[rate_limit(name = "negative", per_minute = 5, cost = -1)]
async fn negative() {}

#[rate_limit(name = "half", per_minute = 5, cost = 0.5)]
async fn half() {}

#[rate_limit(name = "text", per_minute = 5, cost = "2")]
async fn text() {}

#[rate_limit(name = "never", per_minute = 5, cost = 6)]
async fn never_passes() {}

#[rate_limit(name = "burst", per_minute = 50, algorithm = token_bucket, burst = 5, cost = 6)]
async fn never_passes_at_once() {}

#[rate_limit(name = "type", per_minute = 5, cost = path_of)]
async fn of_another_type() {}

#[rate_limit(name = "skip", per_minute = 5, skip_if = path_of)]
async fn skipped() {}

#[rate_limit(name = "given-back", per_minute = 5, give_back_if = path_of)]
async fn given_back() {}

#[rate_limit(name = "tiers", per_minute = 5, quotas_by = path_of)]
async fn tiers() {}

#[rate_limit(name = "call", per_minute = 5, skip_if = 5, give_back_if = "succeeded")]
async fn no_function() {}

#[rate_limit(name = "arguments", per_minute = 5, skip_if = has_role("admin"))]
async fn a_function_with_arguments() {}

fn path_of(parts: &Parts) -> String {
    parts.uri.path().to_owned()
}

fn main() {}
