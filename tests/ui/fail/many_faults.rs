//! All faults of one attribute are reported at once, and nothing that merely follows from them.

use axum::Router;
use axum_rate_limit::rate_limit;

#[rate_limit(
    name = "log in",
    per_second = 0,
    per_minute = -5,
    per_minut = 5,
    quota(5, per = "soon"),
    by_resource,
    by_route,
    status = 200,
    status = 429,
    message = ""
)]
async fn handler(missing: u32) -> u32 {
    missing
}

#[rate_limit(per_second = 10, per_minute = 5, message = 5)]
async fn nameless() {}

#[rate_limit(name = "x", per_minute = 0)]
struct OnAStruct;

#[rate_limit(per_minute = 5, per_hour = "50")]
fn router() -> Router {
    Router::new()
}

#[rate_limit(name = "", by_resource)]
mod module {
    use super::*;

    pub fn router() -> Router {
        Router::new()
    }
}

fn main() {
    let _: Router = router().merge(module::router()).route("/", axum::routing::get(nameless));
    let _ = OnAStruct;
}
