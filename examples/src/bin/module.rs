//! Shows an attribute on a module, which limits all its routes, and a handler that is limited more strictly.
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

/// The attribute applies to every function directly inside that returns a `Router` (or a
/// `MethodRouter`), here [`router`](api::router). The handlers need no attribute.
///
/// * **Two quotas**: a client may make five requests per second, but at most twenty per minute. A
///   request passes if both quotas have something left. A denied request takes from neither.
/// * **`by_route`**: each method and *template* has its own quotas. `GET /api/users/1` and
///   `GET /api/users/2` are both `GET:/api/users/{id}` and share them. (With `by_resource` they
///   would not, because it goes by the path as requested.)
///
/// # What counts
///
/// | request | counted? |
/// |---|---|
/// | `GET /api/users` | yes, for `GET:/api/users` |
/// | `HEAD /api/users` | yes, for the same: `HEAD` counts as `GET` |
/// | `DELETE /api/users`, answered with 405 | yes, for `DELETE:/api/users`: the route lacks only the method |
/// | `GET /api/users/seven`, answered with 400 | yes: the limit is checked before the id is parsed |
/// | `GET /api/nothing`, answered with 404 | no: there is no route that could have a limit |
/// | `GET /health` | no: the route is not in the module |
#[rate_limit(name = "api", per_second = 5, per_minute = 20, by_route)]
mod api {
    use axum::extract::Path;
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use axum_rate_limit::rate_limit;
    use serde_json::{Value, json};

    /// The router does not know where it will be nested, but the quotas do: they are kept for the whole
    /// template, `/api/users/{id}`.
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

    /// A handler may be stricter than its module. Limits are checked from the outside in: first the
    /// module's, then `router`'s (if it had one), then this one. All of them must allow.
    ///
    /// A limit that denies ends the request: the limits inside it are neither checked nor charged, but
    /// those outside it have been charged already. The third export in a minute is denied here, and the
    /// module has counted it all the same. (Several attributes on *one* item are checked together, and a
    /// denial by one takes nothing from any.)
    ///
    /// The module sets no status, so its denials have the limiter's: 503. This limit sets 429.
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

/// Commands to try. The first one is answered with these fields:
///
/// ```text
/// ratelimit-policy: "api";q=5;w=1, "api.2";q=20;w=60
/// ratelimit: "api";r=4;t=1, "api.2";r=19;t=60
/// ```
///
/// The first field lists the quotas: `q` requests per `w` seconds. The second says what is left of each:
/// `r` requests now, and the whole quota in `t` seconds. The quotas of a policy are numbered in the order
/// of the attribute. An export shows the quotas of `api`, followed by that of `api-export`.
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

    // `nest` and `merge` keep a router's limits. Add the layer last: it serves only the routes that are
    // already there. Routes without a limit are not affected by it.
    let app = Router::new().nest("/api", api::router()).merge(health()).layer(limiter.clone());

    Ok(examples::serve(app, limiter, TRIES).await?)
}

/// No attribute, no limit: monitoring may ask as often as it likes.
fn health() -> Router {
    Router::new().route("/health", get(|| async { "healthy" }))
}
