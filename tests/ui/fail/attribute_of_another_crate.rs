//! Attributes of another crate that are called `rate_limit`, too: none may take a limit away.

use axum::Router;
use axum_rate_limit::rate_limit;

#[rate_limit(name = "module", per_minute = 1)]
mod module {
    use super::*;

    #[tests::rate_limit(5, "minute")]
    pub fn router() -> Router {
        Router::new()
    }
}

#[rate_limit(name = "handler", per_minute = 1)]
#[tests::rate_limit(5, "minute")]
async fn handler() {}

fn main() {}
