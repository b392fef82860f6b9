//! A module in which nothing would be limited.

use axum_rate_limit::rate_limit;

#[rate_limit(name = "x", per_minute = 5)]
mod empty {}

#[rate_limit(name = "x", per_minute = 5)]
mod handlers {
    pub async fn list() {}
}

#[rate_limit(name = "x", per_minute = 5)]
pub mod nested {
    pub mod inner {
        pub fn router() -> axum::Router {
            axum::Router::new()
        }
    }
}

#[rate_limit(name = "x", per_minute = 5)]
mod fallible {
    pub fn router() -> Result<axum::Router, String> {
        Ok(axum::Router::new())
    }
}

fn main() {}
