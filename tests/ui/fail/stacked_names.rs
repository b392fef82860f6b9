//! Attributes of one item with one name: what they ask for together has to stand in one of them.

use axum::Router;
use axum_rate_limit::rate_limit;

const LIMIT: u32 = 5;

#[rate_limit(name = "one", per_minute = 5)]
#[rate_limit(name = "one", per_hour = 50)]
#[rate_limit(name = "two", per_day = 500)]
async fn two_quotas() {}

#[rate_limit(name = "one", per_minute = 5)]
#[rate_limit(name = "two", per_hour = 50, key = ip)]
#[rate_limit(name = "two", per_hour = 50, key = global)]
fn router() -> Router {
    Router::new()
}

// The same twice is no fault.
#[rate_limit(name = "three", per_minute = LIMIT, by_resource)]
#[rate_limit(by_resource, name = "three", per_minute = LIMIT)]
async fn the_same() {}

fn main() {}
