//! The import of an attribute that is decided together with another one is used.
#![deny(warnings, missing_docs, missing_debug_implementations, rust_2018_idioms)]
#![forbid(unsafe_code)]
#![no_implicit_prelude]

use ::axum::Router;
use ::axum::routing::get;
use ::std::assert_eq;

#[::axum_rate_limit::rate_limit(name = "module", per_minute = 5)]
mod module {
    use ::axum::Router;
    use ::axum_rate_limit::rate_limit;

    #[rate_limit(name = "own", per_minute = 5)]
    pub(super) fn router() -> Router {
        Router::new()
    }
}

#[::axum_rate_limit::rate_limit(name = "conditional", per_minute = 5)]
mod conditional {
    use ::axum::Router;
    #[cfg(any())]
    use ::axum_rate_limit::rate_limit;

    #[cfg(any())]
    #[rate_limit(name = "absent", per_minute = 5)]
    pub(super) fn router() -> Router {
        Router::new()
    }

    #[cfg(not(any()))]
    pub(super) fn router() -> Router {
        Router::new()
    }
}

mod stacked {
    use ::axum_rate_limit::rate_limit;

    #[::axum_rate_limit::rate_limit(name = "handler", per_minute = 5)]
    #[rate_limit(name = "handler_too", per_hour = 50)]
    pub(super) async fn handler() {}
}

mod stacked_modules {
    use ::axum_rate_limit::rate_limit;

    #[::axum_rate_limit::rate_limit(name = "stacked", per_minute = 5)]
    #[rate_limit(name = "stacked_too", per_hour = 50)]
    pub(super) mod routes {
        pub(in super::super) fn router() -> ::axum::Router {
            ::axum::Router::new()
        }
    }
}

struct App;

mod associated {
    use ::axum::Router;
    use ::axum_rate_limit::rate_limit;

    impl super::App {
        #[::axum_rate_limit::rate_limit(name = "associated", per_minute = 5)]
        #[rate_limit(name = "associated_too", per_hour = 50)]
        pub(super) fn router() -> Router {
            Router::new()
        }
    }
}

macro_rules! limited {
    ($handler:ident) => {
        #[::axum_rate_limit::rate_limit(name = "made", per_minute = 5)]
        #[$crate::prelude::rate_limit(name = "made_too", per_hour = 50)]
        async fn $handler() {}
    };
}

mod prelude {
    pub(crate) use ::axum_rate_limit::rate_limit;
}

limited!(made);

fn main() {
    use ::axum_rate_limit::rate_limit;

    #[::axum_rate_limit::rate_limit(name = "local", per_minute = 5)]
    #[rate_limit(name = "local_too", per_hour = 50)]
    async fn local() {}

    #[::axum_rate_limit::rate_limit(name = "local_router", per_minute = 5)]
    #[rate_limit(name = "local_router_too", per_hour = 50)]
    async fn local_router() -> Router {
        Router::new()
    }

    let _ = local_router();
    let _: Router = module::router()
        .merge(conditional::router())
        .merge(stacked_modules::routes::router())
        .merge(App::router())
        .route("/handler", get(stacked::handler))
        .route("/made", get(made))
        .route("/local", get(local));
    assert_eq!(::axum_rate_limit::policies().len(), 15);
}
