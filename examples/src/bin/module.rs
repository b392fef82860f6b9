//! Shows one attribute on a module: all its routes are limited, and one of them more strictly.
//!
//! ```text
//! cargo run --bin module
//! PORT=3001 cargo run --bin module
//! REDIS_URL=redis://127.0.0.1/ cargo run --bin module    # counters in Redis, not in this process
//! ```

use std::error::Error;

use axum::Router;
use axum::routing::get;
use axum_rate_limit::{RateLimiter, rate_limit};

/// The attribute stands for every function directly inside that returns a `Router` (or a
/// `MethodRouter`), here [`router`](api::router). The handlers need nothing.
///
/// * **Two quotas**: a client may have five answers a second, but not more than twenty a minute. A
///   request passes if both have something left; what is denied is taken from neither.
/// * **`by_route`**: each method and *template* has quotas of its own. `GET /api/users/1` and
///   `GET /api/users/2` are both `GET:/api/users/{id}` and share one. (With `by_resource` they
///   would not: that goes by the path as asked for.)
///
/// # What counts
///
/// | request | counted? |
/// |---|---|
/// | `GET /api/users` | yes, for `GET:/api/users` |
/// | `HEAD /api/users` | yes, for the same: `HEAD` counts as `GET` |
/// | `DELETE /api/users`, which is answered with 405 | yes, for `DELETE:/api/users`: the route is there, and only the method is missing |
/// | `GET /api/users/seven`, which is answered with 400 | yes: the limit is asked before the id is read |
/// | `GET /api/nothing`, which is answered with 404 | no: there is no route that could have a limit |
/// | `GET /health` | no: it is not in the module |
#[rate_limit(name = "api", per_second = 5, per_minute = 20, by_route)]
mod api {
    use axum::extract::Path;
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use axum_rate_limit::rate_limit;
    use serde_json::{Value, json};

    /// Does not know where it will be nested. The quotas do: they are kept for the whole template,
    /// `/api/users/{id}`.
    pub(super) fn router() -> Router {
        Router::new()
            .route("/users", get(users))
            .route("/users/{id}", get(user).put(rename))
            .route("/export", post(export))
    }

    async fn users() -> Json<Value> {
        Json(json!([{ "id": 1 }, { "id": 2 }]))
    }

    async fn user(Path(id): Path<u32>) -> Json<Value> {
        Json(json!({ "id": id }))
    }

    async fn rename(Path(id): Path<u32>) -> Json<Value> {
        Json(json!({ "renamed": id }))
    }

    /// A handler may be stricter than its module. The outermost limit is asked first: that of the
    /// module, then (if there were one) that of `router`, then this one. All of them must allow.
    ///
    /// A limit that denies ends the request there: what is inside is neither asked nor charged. The
    /// other way round, what is outside has been charged already: the third export in a minute is
    /// denied here, and the module has counted it all the same. (Where several attributes stand on
    /// *one* item they are asked together, and a denial by one takes nothing from any.)
    ///
    /// The module says no status, so its denials have that of the limiter: 503. This one says 429.
    #[rate_limit(
        name = "api-export",
        per_minute = 2,
        status = 429,
        message = "Two exports a minute, please."
    )]
    async fn export() -> Json<Value> {
        Json(json!({ "export": "queued" }))
    }
}

/// Commands to try. The response fields of the first are
///
/// ```text
/// ratelimit-policy: "api";q=5;w=1, "api.2";q=20;w=60
/// ratelimit: "api";r=4;t=1, "api.2";r=19;t=60
/// ```
///
/// First the quotas there are: `q` requests in `w` seconds; then what is left: `r` requests, and all
/// of them again in `t` seconds. The quotas of a policy are told apart by a number, in the order in
/// which the attribute has them. An export shows those of `api` and after them that of `api-export`.
const TRIES: &str = "
    curl -i http://ADDRESS/api/users
    for i in 1 2 3 4 5 6 7; do curl -s -o /dev/null -w '%{http_code} ' http://ADDRESS/api/users/$i; done; echo
    for i in 1 2 3; do curl -i -X POST http://ADDRESS/api/export; echo; done
    curl -I http://ADDRESS/api/users              # HEAD counts as GET
    curl -i -X DELETE http://ADDRESS/api/users    # 405, and counted
    curl -i http://ADDRESS/api/nothing            # 404, not counted: no `ratelimit` field
    curl -i http://ADDRESS/health                 # not limited
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();

    let limiter = RateLimiter::from_env().await?;

    // `nest` and `merge` keep the limits that a router brings along. The layer comes last: it serves
    // the routes that are there when it is added, and those without a limit do not notice.
    let app = Router::new().nest("/api", api::router()).merge(health()).layer(limiter.clone());

    Ok(examples::serve(app, limiter, TRIES).await?)
}

/// No attribute, no limit: what watches the service may ask as often as it likes.
fn health() -> Router {
    Router::new().route("/health", get(|| async { "healthy" }))
}
