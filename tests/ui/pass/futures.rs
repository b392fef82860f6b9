//! A `fn` that returns a future is a handler, too.
#![deny(warnings, missing_docs, missing_debug_implementations, rust_2018_idioms)]
#![forbid(unsafe_code)]

use std::future::{Future, Ready, ready};
use std::pin::Pin;

use axum::Router;
use axum::routing::post;
use axum_rate_limit::rate_limit;

#[rate_limit(name = "future", per_minute = 5)]
fn future(body: String) -> impl Future<Output = String> + Send {
    async move { body }
}

#[rate_limit(name = "by_its_path", per_minute = 5)]
fn by_its_path() -> impl Send + core::future::Future<Output = &'static str> {
    let answer: Ready<&'static str> = ready("done");
    answer
}

#[rate_limit(name = "pinned", per_minute = 5)]
fn pinned(body: String) -> Pin<Box<dyn Future<Output = String> + Send>> {
    Box::pin(async move { body })
}

#[rate_limit(name = "pinned_by_its_path", per_minute = 5)]
fn pinned_by_its_path() -> std::pin::Pin<std::boxed::Box<dyn Future<Output = ()> + Send + 'static>> {
    Box::pin(async {})
}

fn main() {
    let _: Router = Router::new()
        .route("/future", post(future))
        .route("/by_its_path", post(by_its_path))
        .route("/pinned", post(pinned))
        .route("/pinned_by_its_path", post(pinned_by_its_path));
}
