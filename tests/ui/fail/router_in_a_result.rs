//! A function of a limited module that returns a router in something else.

use axum_rate_limit::rate_limit;

#[rate_limit(name = "limited", per_minute = 5)]
mod limited {
    use axum::Router;

    pub fn plain() -> Router {
        Router::new()
    }

    pub fn fallible() -> Result<Router, String> {
        Ok(Router::new())
    }
}

fn main() {}
