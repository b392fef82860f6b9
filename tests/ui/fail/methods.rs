//! Methods can't be limited.

use axum::Router;
use axum_rate_limit::rate_limit;

struct App;

impl App {
    #[rate_limit(name = "x", per_minute = 5)]
    async fn handler(&self) {}

    #[rate_limit(name = "x", per_minute = 5)]
    async fn by_value(self) {}

    #[rate_limit(name = "x", per_minute = 5)]
    fn router(self: Box<Self>) -> Router {
        Router::new()
    }
}

trait Routes {
    #[rate_limit(name = "x", per_minute = 5)]
    fn router() -> Router;

    #[rate_limit(name = "x", per_minute = 5)]
    async fn handler();
}

fn main() {}
