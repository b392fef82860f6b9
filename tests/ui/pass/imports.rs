//! A limited item is used from elsewhere as any other is.
#![deny(warnings, missing_docs, missing_debug_implementations, unused_qualifications, rust_2018_idioms)]
#![forbid(unsafe_code)]

use axum::Router;
use axum::routing::get;

use crate::handlers::{deep::nested as renamed, list};
use crate::routes::router;

mod handlers {
    use axum_rate_limit::rate_limit;

    #[rate_limit(name = "list", per_minute = 5)]
    pub(crate) async fn list() {}

    #[rate_limit(name = "create", per_minute = 5)]
    pub(crate) async fn create() {}

    #[rate_limit(name = "private", per_minute = 5)]
    async fn private() {}

    pub(crate) mod deep {
        use axum_rate_limit::rate_limit;

        #[rate_limit(name = "nested", per_minute = 5)]
        pub(crate) async fn nested() {}
    }

    pub(crate) fn routes() -> axum::Router {
        axum::Router::new().route("/private", axum::routing::get(private))
    }
}

mod everything {
    pub(crate) use super::handlers::*;
}

mod routes {
    use axum::Router;
    use axum_rate_limit::rate_limit as limit;

    #[limit(name = "router", per_minute = 5)]
    pub(crate) fn router() -> Router {
        Router::new().route("/router", axum::routing::get(super::list))
    }
}

fn main() {
    let _: Router = router()
        .merge(handlers::routes())
        .route("/list", get(list))
        .route("/create", get(everything::create))
        .route("/nested", get(renamed));
}
