//! Routers by names that come from elsewhere: only their types tell what they are.

use axum::Router;
use axum::routing::MethodRouter as Methods;
use axum_rate_limit::rate_limit;

type App = Router;

#[rate_limit(name = "resources", per_minute = 10)]
mod resources {
    use super::{App, Methods, Router};

    pub fn router() -> Router {
        Router::new()
    }

    pub fn app() -> App {
        Router::new()
    }

    pub async fn late() -> super::App {
        Router::new()
    }

    pub fn methods() -> Methods<(), String> {
        Methods::new()
    }
}

fn main() {}
