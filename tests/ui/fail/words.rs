//! Words that are written as strings, or as the runtime's types: what is meant is suggested, and nothing else.

use axum_rate_limit::rate_limit;

#[rate_limit(name = "string", per_minute = 5, on_store_error = "deny")]
async fn string() {}

#[rate_limit(name = "variant", per_minute = 5, on_store_error = OnStoreError::Deny)]
async fn variant() {}

#[rate_limit(name = "algorithm", per_minute = 5, algorithm = Algorithm::SlidingLog)]
async fn algorithm() {}

#[rate_limit(name = "struct", per_minute = 5, algorithm = Algorithm::TokenBucket { burst: None })]
async fn struct_variant() {}

#[rate_limit(name = "unknown", per_minute = 5, on_store_error = "open")]
async fn unknown() {}

#[rate_limit(name = "global", per_minute = 5, key = "global")]
async fn global() {}

#[rate_limit(name = "capitals", per_minute = 5, key = ("IP", "x-api-key"))]
async fn capitals() {}

#[rate_limit(name = "path", per_minute = 5, key = "users::of")]
async fn path() {}

#[rate_limit(name = "empty", per_minute = 5, key = "")]
async fn empty() {}

#[rate_limit(name = "text", per_minute = 5, key = "the user's id")]
async fn text() {}

#[rate_limit(name = "imported", per_minute = 5, algorithm = SlidingLog)]
async fn imported() {}

#[rate_limit(name = "ip", per_minute = 5, by_ip)]
async fn ip() {}

#[rate_limit(name = "by", per_minute = 5, by = ip)]
async fn by() {}

fn main() {}
