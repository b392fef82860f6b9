//! In an `impl`, the arguments are not seen from the type that it is of.

use axum::Router;
use axum_rate_limit::rate_limit;

struct App;

impl App {
    const LIMIT: u32 = 5;

    #[rate_limit(name = "x", per_minute = Self::LIMIT)]
    fn router() -> Router {
        Router::new()
    }
}

fn main() {
    let _ = (App, App::LIMIT);
}
