//! The attribute stands beside those of axum, tracing and utoipa, and beside others of its kind.
#![deny(warnings, missing_docs, missing_debug_implementations, unused_qualifications, rust_2018_idioms)]
#![forbid(unsafe_code)]

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use axum_rate_limit::rate_limit;
use serde_json::Value;
use tracing::instrument;
use utoipa::OpenApi;

#[rate_limit(name = "debug_handler", per_minute = 5)]
#[axum::debug_handler]
async fn debug_handler(Path(id): Path<u32>) -> String {
    id.to_string()
}

#[rate_limit(name = "debug_handler_with_state", per_minute = 5)]
#[axum::debug_handler(state = u32)]
async fn debug_handler_with_state(State(state): State<u32>) -> String {
    state.to_string()
}

#[instrument(skip(body), ret)]
#[rate_limit(name = "instrument_above", per_minute = 5)]
async fn instrument_above(Path(id): Path<u32>, body: String) -> String {
    format!("{id}{body}")
}

#[rate_limit(name = "instrument_below", per_minute = 5)]
#[instrument(fields(kind = "below"), err)]
async fn instrument_below(Path(id): Path<u32>, body: String) -> Result<String, String> {
    Ok(format!("{id}{body}"))
}

/// Is described above.
#[utoipa::path(get, path = "/utoipa_above/{id}", params(("id" = u32, Path)), responses((status = 200, body = Value)))]
#[rate_limit(name = "utoipa_above", per_minute = 5)]
async fn utoipa_above(Path(id): Path<u32>) -> Json<Value> {
    Json(id.into())
}

/// Is described below.
#[rate_limit(name = "utoipa_below", per_minute = 5)]
#[utoipa::path(get, path = "/utoipa_below/{id}", responses((status = 200, body = Value)))]
async fn utoipa_below(Path(id): Path<u32>) -> Json<Value> {
    Json(id.into())
}

/// Has all of them.
#[utoipa::path(get, path = "/all", responses((status = 200)))]
#[rate_limit(name = "all", per_minute = 5)]
#[rate_limit(name = "all_too", per_hour = 50)]
#[instrument]
#[axum::debug_handler]
async fn all() {}

#[rate_limit(name = "one", per_minute = 5)]
#[instrument]
#[axum_rate_limit::rate_limit(name = "two", per_hour = 50)]
#[::axum_rate_limit::rate_limit(name = "three", per_day = 500)]
async fn stacked() {}

#[instrument]
#[rate_limit(name = "router_one", per_minute = 5)]
#[rate_limit(name = "router_two", per_hour = 50)]
fn router() -> Router<u32> {
    Router::new().route("/stacked", get(stacked))
}

#[derive(OpenApi)]
#[openapi(paths(utoipa_above, utoipa_below, all))]
struct Api;

fn main() {
    let _: Router = router()
        .route("/debug_handler/{id}", get(debug_handler))
        .route("/debug_handler_with_state", get(debug_handler_with_state))
        .route("/instrument_above/{id}", get(instrument_above))
        .route("/instrument_below/{id}", get(instrument_below))
        .route("/utoipa_above/{id}", get(utoipa_above))
        .route("/utoipa_below/{id}", get(utoipa_below))
        .route("/all", get(all))
        .with_state(5);
    let api = Api::openapi();
    assert_eq!(api.paths.paths.len(), 3);
    let below = api.paths.paths["/utoipa_below/{id}"].get.as_ref().unwrap();
    assert_eq!(below.summary.as_deref(), Some("Is described below."));
    assert_eq!(below.parameters.as_ref().map(Vec::len), Some(1));
}
