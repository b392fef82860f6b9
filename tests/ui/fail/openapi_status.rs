//! What is described as a denial has the status of an error.

use axum_rate_limit::openapi::{RateLimited, RateLimitedProblem};
use utoipa::OpenApi;

#[utoipa::path(get, path = "/", responses(RateLimited<200>))]
async fn ok() {}

#[utoipa::path(get, path = "/problem", responses(RateLimitedProblem<600>))]
async fn problem() {}

#[derive(OpenApi)]
#[openapi(paths(ok, problem))]
struct Api;

fn main() {
    Api::openapi();
}
