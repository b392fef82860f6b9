//! Attributes under another name can't be decided together.

use axum::Router;
use axum_rate_limit::rate_limit as limit;

#[limit(name = "one", per_minute = 5)]
#[limit(name = "two", per_hour = 50)]
async fn handler() {}

#[limit(name = "one", per_minute = 5)]
#[limit(name = "two", per_hour = 50)]
fn router() -> Router {
    Router::new()
}

#[limit(name = "one", per_minute = 5)]
#[limit(name = "two", per_hour = 50)]
async fn late_router() -> Router {
    Router::new()
}

#[limit(name = "one", per_minute = 5)]
#[limit(name = "two", per_hour = 50)]
mod module {
    pub fn router() -> axum::Router {
        axum::Router::new()
    }
}

#[limit(name = "one", per_minute = 5)]
mod with_a_limited_router {
    use super::*;

    #[limit(name = "two", per_hour = 50)]
    pub fn router() -> Router {
        Router::new()
    }
}

fn main() {}
