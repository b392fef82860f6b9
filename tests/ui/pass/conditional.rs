//! `#[cfg]` on a limited item, or on an argument of it, takes away what it would without the limit.
#![deny(warnings, missing_docs, missing_debug_implementations, unused_qualifications, rust_2018_idioms)]
#![forbid(unsafe_code)]

use axum::Router;
use axum::http::Method;
use axum::routing::get;
use axum_rate_limit::rate_limit;

#[rate_limit(name = "present", per_minute = 5)]
#[cfg(not(any()))]
async fn item() {}

#[cfg(any())]
#[rate_limit(name = "absent", per_minute = 5)]
async fn item(_: Missing) {}

#[rate_limit(name = "absent_below", per_minute = 5)]
#[cfg(any())]
async fn absent(_: Missing) {}

#[rate_limit(name = "argument", per_minute = 5)]
async fn argument(#[cfg(any())] _: Missing, #[cfg(not(any()))] method: Method) -> String {
    method.to_string()
}

#[cfg_attr(not(any()), rate_limit(name = "attribute", per_minute = 5))]
#[cfg_attr(not(any()), rate_limit(name = "attribute_too", per_hour = 50))]
#[cfg_attr(any(), rate_limit(nonsense))]
async fn attribute() {}

#[rate_limit(name = "router", per_minute = 5)]
fn router(#[cfg(any())] _: Missing) -> Router {
    Router::new().route("/router", get(item))
}

#[rate_limit(name = "module", per_minute = 5)]
mod module {
    use axum::Router;
    use axum::routing::get;
    use axum_rate_limit::rate_limit;

    #[cfg(not(any()))]
    #[rate_limit(name = "own", per_minute = 5)]
    #[cfg_attr(not(any()), must_use)]
    pub(super) fn router() -> Router {
        Router::new().route("/in_a_module", get(handler))
    }

    #[cfg_attr(not(any()), rate_limit(name = "handler", per_minute = 5))]
    async fn handler() {}

    #[cfg(any())]
    pub(super) fn router() -> Router {
        missing()
    }
}

fn main() {
    let _: Router = router()
        .merge(module::router())
        .route("/item", get(item))
        .route("/argument", get(argument))
        .route("/attribute", get(attribute));
    let mut names: Vec<_> = axum_rate_limit::policies().iter().map(|policy| policy.name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["argument", "attribute", "attribute_too", "handler", "module", "own", "present", "router"]);
}
