//! Whether a limit stands on a router function of a limited module is known too late.

use axum_rate_limit::rate_limit;

#[rate_limit(name = "one", per_minute = 5)]
mod direct {
    use super::*;

    #[cfg_attr(not(any()), rate_limit(name = "two", per_hour = 50))]
    pub fn router() -> axum::Router {
        axum::Router::new()
    }
}

#[rate_limit(name = "one", per_minute = 5)]
mod nested {
    #[cfg_attr(not(any()), must_use, cfg_attr(not(any()), axum_rate_limit::rate_limit(name = "two", per_hour = 50)))]
    pub fn router() -> axum::Router {
        axum::Router::new()
    }
}

fn main() {}
