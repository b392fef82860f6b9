//! Each fault of attributes that are stacked is reported once.

use axum::Router;
use axum_rate_limit::rate_limit;

#[rate_limit(name = "one", per_minute = 0)]
#[rate_limit(name = "two", per_hour = 0)]
async fn both() {}

#[rate_limit(name = "one", per_minute = 5)]
#[rate_limit(name = "two", per_hour = 0)]
async fn the_second() {}

#[rate_limit(name = "one", per_minute = 0)]
#[rate_limit(name = "two", per_hour = 5)]
async fn the_first() {}

#[rate_limit(name = "one", per_minute = 5)]
#[rate_limit]
async fn nothing_in_the_second() {}

#[rate_limit(name = "one", per_minute = 5)]
#[axum_rate_limit::rate_limit(name = "two")]
async fn by_its_path() {}

#[rate_limit(name = "one", per_minute = 5)]
#[rate_limit = "two"]
async fn a_value() {}

#[rate_limit(name = "one", per_minute = 0)]
#[rate_limit(name = "two", per_hour = 0)]
fn router() -> Router {
    Router::new()
}

#[rate_limit(name = "one", per_minute = 0)]
mod module {
    use super::*;

    #[rate_limit(name = "two", per_hour = 0)]
    pub fn router() -> Router {
        Router::new().route("/", axum::routing::get(handler))
    }

    #[rate_limit(name = "three", per_day = 0)]
    async fn handler() {}
}

#[rate_limit(name = "one", per_minute = 5)]
mod sound_module {
    use super::*;

    #[rate_limit(name = "two", per_hour = 0)]
    pub fn router() -> Router {
        both_scopes().route("/", axum::routing::get(handler))
    }

    #[rate_limit(name = "two", per_hour = 5, by_resource, by_route)]
    fn both_scopes() -> Router {
        status().merge(never_binds()).merge(silent())
    }

    #[rate_limit(name = "two", per_hour = 5, status = 200)]
    fn status() -> Router {
        Router::new()
    }

    #[rate_limit(name = "two", per_hour = 5, per_minute = 10)]
    fn never_binds() -> Router {
        Router::new()
    }

    #[rate_limit(name = "two", per_hour = 5, message = "")]
    #[rate_limit(name = "three", per_hour = 5)]
    fn silent() -> Router {
        Router::new()
    }

    #[rate_limit(name = "three", per_day = 0)]
    async fn handler() {}
}

fn main() {
    let _: Router = router().merge(module::router()).merge(sound_module::router());
}
