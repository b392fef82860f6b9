//! A handler may have 15 extractors beside the limit.
#![deny(warnings, missing_docs, missing_debug_implementations, unused_qualifications, rust_2018_idioms)]
#![forbid(unsafe_code)]

use axum::Router;
use axum::http::Method;
use axum::routing::post;
use axum_rate_limit::rate_limit;

#[rate_limit(name = "fifteen", per_minute = 5)]
async fn fifteen(
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    _: Method,
    body: String,
) -> String {
    body
}

fn main() {
    let _: Router = Router::new().route("/", post(fifteen));
}
