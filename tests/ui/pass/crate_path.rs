//! `crate = path` leads to the runtime where it is re-exported or has another name.
#![deny(warnings, missing_docs, missing_debug_implementations, rust_2018_idioms)]
#![forbid(unsafe_code)]

use axum::Router;
use axum::routing::get;

mod my {
    pub(crate) use axum_rate_limit;
    pub(crate) use axum_rate_limit as limits;
}

#[my::axum_rate_limit::rate_limit(name = "relative", per_minute = 5, crate = my::axum_rate_limit)]
async fn relative() {}

#[my::limits::rate_limit(name = "from_the_root", per_minute = 5, crate = crate::my::limits)]
async fn from_the_root() {}

#[axum_rate_limit::rate_limit(crate = self::my::limits, name = "from_here", quota(5, per = "90s"))]
async fn from_here() {}

#[axum_rate_limit::rate_limit(name = "absolute", per_minute = 5, crate = ::axum_rate_limit)]
async fn absolute() {}

#[my::limits::rate_limit(name = "stacked", per_minute = 5)]
#[my::limits::rate_limit(name = "stacked_too", per_hour = 50, crate = my::limits)]
async fn stacked() {}

#[my::limits::rate_limit(name = "router", per_minute = 5, crate = my::limits)]
fn router() -> Router {
    Router::new()
        .route("/relative", get(relative))
        .route("/from_the_root", get(from_the_root))
        .route("/from_here", get(from_here))
        .route("/absolute", get(absolute))
        .route("/stacked", get(stacked))
}

#[my::limits::rate_limit(name = "module", per_minute = 5, crate = crate::my::limits)]
mod module {
    use axum::Router;

    #[crate::my::limits::rate_limit(name = "in_a_module", per_minute = 5, crate = super::my::limits)]
    pub(super) fn router() -> Router {
        super::router()
    }
}

#[my::limits::rate_limit(name = "relative_module", per_minute = 5, crate = my::limits)]
mod relative_module {
    pub(super) fn router() -> axum::Router {
        super::module::router()
    }
}

#[my::limits::rate_limit(name = "module_from_here", per_minute = 5, crate = self::my::limits)]
mod module_from_here {
    use super::my::limits;

    #[limits::rate_limit(name = "in_a_relative_module", per_minute = 5, crate = limits)]
    pub(super) async fn router() -> axum::Router {
        super::relative_module::router()
    }
}

mod imported {
    use super::my::limits;

    #[limits::rate_limit(name = "imported_module", per_minute = 5, crate = limits)]
    pub(super) mod routes {
        pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> axum::Router<S> {
            axum::Router::new()
        }
    }
}

mod shadowed {
    //! Names like those of the runtime mean nothing to the attribute.
    #![allow(dead_code, clippy::module_inception)]

    mod axum_rate_limit {}
    mod std {}
    mod core {}
    struct Policy;

    #[::axum_rate_limit::rate_limit(name = "shadowed", quota(5, per = "90s"))]
    pub(super) async fn handler() {}
}

fn main() {
    #[my::limits::rate_limit(name = "local_module", per_minute = 5, crate = my::limits)]
    mod local {
        pub(super) fn router() -> axum::Router {
            axum::Router::new()
        }
    }

    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _: Router = runtime
        .block_on(module_from_here::router())
        .merge(imported::routes::router())
        .merge(local::router())
        .route("/shadowed", get(shadowed::handler));
}
