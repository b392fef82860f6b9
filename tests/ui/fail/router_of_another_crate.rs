//! A type that is named `Router` but is not axum's.

use axum_rate_limit::rate_limit;

struct Router;

#[rate_limit(name = "x", per_minute = 5)]
fn router() -> Router {
    Router
}

#[rate_limit(name = "x", per_minute = 5)]
async fn late() -> Router {
    Router
}

#[rate_limit(name = "x", per_minute = 5)]
mod module {
    pub fn router() -> super::Router {
        super::Router
    }
}

fn main() {}
