//! A handler without `self` in an `impl` block: the compiler refuses the items beside it.

use axum_rate_limit::rate_limit;

struct App;

impl App {
    #[rate_limit(name = "x", per_minute = 5)]
    async fn handler() {}
}

fn main() {}
