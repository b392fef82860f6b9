//! Lints that the compiler allows by default find nothing in what the attribute adds.
#![deny(
    warnings,
    absolute_paths_not_starting_with_crate,
    elided_lifetimes_in_paths,
    explicit_outlives_requirements,
    let_underscore_drop,
    meta_variable_misuse,
    missing_copy_implementations,
    missing_debug_implementations,
    missing_docs,
    non_ascii_idents,
    redundant_imports,
    redundant_lifetimes,
    single_use_lifetimes,
    trivial_casts,
    trivial_numeric_casts,
    unit_bindings,
    unnameable_types,
    unreachable_pub,
    unused_import_braces,
    unused_lifetimes,
    unused_qualifications,
    unused_results,
    variant_size_differences
)]
#![forbid(unsafe_code)]

use axum::Router;
use axum::routing::get;
use axum_rate_limit::rate_limit;

#[rate_limit(name = "handler", per_minute = 5, quota(1, per = "5s"), by_route, status = 429, message = "No.")]
async fn handler() {}

#[rate_limit(name = "router", per_minute = 5)]
fn router() -> Router {
    Router::new().route("/handler", get(handler))
}

#[rate_limit(name = "late", per_minute = 5)]
#[rustfmt::skip]
async fn late() -> Router { router() }

#[rate_limit(name = "module", per_minute = 5)]
mod module {
    use axum::Router;

    pub(crate) fn router() -> Router {
        super::router()
    }

    #[rustfmt::skip]
    pub(crate) async fn late() -> Router { super::late().await }
}

fn main() {
    let _router: Router = module::router();
    let _future = module::late();
}
