//! A limited handler keeps its docs, visibility, generics, where clause, patterns and return type.
#![deny(warnings, missing_docs, missing_debug_implementations, unused_qualifications, rust_2018_idioms)]
#![forbid(unsafe_code)]

use std::collections::HashMap;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum_rate_limit::rate_limit;

/// Has docs.
///
/// And `code` in them.
#[rate_limit(name = "documented", per_minute = 5)]
pub async fn documented() {}

#[rustfmt::skip] // the comma at the end
#[rate_limit(name = "in_the_crate", per_minute = 5, by_resource,)]
pub(crate) async fn in_the_crate() -> &'static str {
    "done"
}

/// Generic over the state.
#[rate_limit(name = "generic", per_minute = 5)]
pub async fn generic<S: Clone + Send + Sync + 'static>(State(state): State<S>) {
    let _: S = state;
}

#[rate_limit(name = "where_clause", per_minute = 5)]
async fn where_clause<S, const N: usize>(State(_): State<S>) -> [u8; N]
where
    S: Clone + Send + Sync + 'static,
    [u8; N]: IntoResponse,
{
    [0; N]
}

#[rate_limit(name = "patterns", per_minute = 5)]
async fn patterns(
    Path((first, second)): Path<(u32, u32)>,
    Path(mut all): Path<HashMap<String, String>>,
    mut headers: HeaderMap,
    _: Method,
    _uri: Uri,
    mut request: Request,
) -> String {
    all.clear();
    headers.clear();
    request.headers_mut().clear();
    format!("{first}{second}")
}

#[rate_limit(name = "into_response", per_minute = 5)]
async fn into_response() -> impl IntoResponse {
    (StatusCode::ACCEPTED, "later")
}

#[rate_limit(name = "fallible", per_minute = 5)]
async fn fallible(body: String) -> Result<String, (StatusCode, &'static str)> {
    if body.is_empty() {
        return Err((StatusCode::BAD_REQUEST, "empty"));
    }
    let length: usize = body.parse().map_err(|_| (StatusCode::BAD_REQUEST, "no number"))?;
    Ok(length.to_string())
}

#[allow(clippy::unused_async)]
#[rate_limit(name = "among_others", per_minute = 5)]
#[must_use]
async fn among_others() -> String {
    String::new()
}

#[rate_limit(name = "raw", per_minute = 5)]
async fn r#match() {}

fn main() {
    #[rate_limit(name = "local", per_minute = 5)]
    async fn local() {}

    let _: Router = Router::new()
        .route("/documented", get(documented))
        .route("/in_the_crate", get(in_the_crate))
        .route("/generic", get(generic::<u32>))
        .route("/where_clause", get(where_clause::<u32, 3>))
        .route("/patterns/{a}/{b}", post(patterns))
        .route("/into_response", get(into_response))
        .route("/fallible", post(fallible))
        .route("/among_others", get(among_others))
        .route("/match", get(r#match))
        .route("/local", get(local))
        .with_state(5);
}
