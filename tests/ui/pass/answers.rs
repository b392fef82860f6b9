//! An answer whose type happens to be called `Router` makes no router function of a handler.
#![deny(warnings, missing_docs, missing_debug_implementations, rust_2018_idioms)]
#![forbid(unsafe_code)]

use std::future::ready;

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum_rate_limit::rate_limit;
use serde_json::Value as Router;

#[rate_limit(name = "answer", per_minute = 5)]
async fn answer() -> Json<Router> {
    Json(Router::Null)
}

#[rate_limit(name = "fallible", per_minute = 5)]
async fn fallible() -> Result<Json<Router>, StatusCode> {
    Ok(Json(Router::Null))
}

#[rate_limit(name = "future", per_minute = 5)]
fn future() -> impl Future<Output = Json<Router>> {
    ready(Json(Router::Null))
}

#[rate_limit(name = "module", per_minute = 5)]
mod module {
    use super::*;

    pub(super) fn router() -> axum::Router {
        axum::Router::new()
            .route("/answer", get(answer))
            .route("/with_status", get(with_status))
            .route("/many", get(many))
            .route("/future", get(future))
            .route("/response", get(response))
    }

    async fn answer() -> Json<Router> {
        super::answer_of(Router::Null)
    }

    async fn with_status() -> (StatusCode, Json<Router>) {
        (StatusCode::CREATED, Json(Router::Null))
    }

    async fn many() -> Json<Vec<Router>> {
        Json(vec![Router::Null])
    }

    fn future() -> impl Future<Output = (StatusCode, Json<Router>)> {
        with_status()
    }

    async fn response() -> impl IntoResponse {
        length()(&Router::Null).to_string()
    }

    fn length() -> impl Fn(&Router) -> usize {
        |router| router.to_string().len()
    }
}

fn answer_of(router: Router) -> Json<Router> {
    Json(router)
}

fn main() {
    let _: axum::Router = module::router()
        .route("/a", get(answer))
        .route("/b", get(fallible))
        .route("/c", get(future));
}
