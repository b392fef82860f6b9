//! A crate that forbids lints may use the attribute: it relaxes none of them.
#![deny(warnings)]
#![forbid(
    dead_code,
    missing_copy_implementations,
    missing_debug_implementations,
    missing_docs,
    non_camel_case_types,
    unnameable_types,
    unreachable_pub,
    unsafe_code,
    unused,
    unused_qualifications
)]

use axum::Router;
use axum::routing::get;

/// Has docs.
pub mod handlers {
    use axum_rate_limit::rate_limit;

    /// Has docs.
    #[rate_limit(name = "handler", per_minute = 5)]
    pub async fn handler() {}

    #[rate_limit(name = "hidden", per_minute = 5)]
    pub(super) async fn hidden() {}
}

mod routes {
    use axum::Router;
    use axum_rate_limit::rate_limit;

    #[rate_limit(name = "router", per_minute = 5)]
    pub(crate) fn router() -> Router {
        Router::new()
    }

    #[rate_limit(name = "module", per_minute = 5)]
    pub(crate) mod module {
        use axum::Router;

        pub(crate) fn router() -> Router {
            super::router()
        }
    }
}

/// Has docs.
#[axum_rate_limit::rate_limit(name = "public", per_minute = 5)]
pub mod public {
    /// Has docs.
    pub fn router() -> axum::Router {
        axum::Router::new()
    }
}

fn main() {
    let _router: Router = routes::module::router()
        .merge(public::router())
        .route("/handler", get(handlers::handler))
        .route("/hidden", get(handlers::hidden));
}
