//! Functions that return neither a future nor a router.

use std::sync::Arc;

use axum::Router;
use axum_rate_limit::rate_limit;

type Routes = Router;

#[rate_limit(name = "x", per_minute = 5)]
fn nothing() {}

#[rate_limit(name = "x", per_minute = 5)]
fn text() -> String {
    String::new()
}

#[rate_limit(name = "x", per_minute = 5)]
fn an_alias() -> Routes {
    Router::new()
}

#[rate_limit(name = "x", per_minute = 5)]
fn fallible() -> Result<Router, String> {
    Ok(Router::new())
}

#[rate_limit(name = "x", per_minute = 5)]
async fn fallible_and_async() -> Result<Router, String> {
    Ok(Router::new())
}

#[rate_limit(name = "x", per_minute = 5)]
fn optional() -> Option<Router> {
    None
}

#[rate_limit(name = "x", per_minute = 5)]
fn a_pair() -> (Router, Arc<str>) {
    (Router::new(), "".into())
}

#[rate_limit(name = "x", per_minute = 5)]
fn borrowed(router: &Router) -> &Router {
    router
}

#[rate_limit(name = "x", per_minute = 5)]
fn a_service() -> impl Clone {
    Router::<()>::new()
}

#[rate_limit(name = "x", per_minute = 5)]
fn a_response() -> impl axum::response::IntoResponse {}

fn main() {}
