//! Shows everything together: a limited handler, a limited router module, Redis or memory, a graceful shutdown.
//!
//! ```text
//! cargo run --bin hardwork
//! REDIS_URL=redis://127.0.0.1/ PORT=3001 cargo run --bin hardwork    # shares its limits with other instances
//! ```

use std::error::Error;
use std::net::SocketAddr;

use axum::routing::get;
use axum::{Json, Router};
use axum_rate_limit::{RateLimiter, rate_limit};
use serde_json::{Value, json};

/// Five requests per minute for each client. With `by_resource`, each method and path has its own five,
/// should the handler serve more than one.
#[rate_limit(name = "hardwork", per_minute = 5, by_resource)]
async fn calculate() -> Json<Value> {
    Json(json!({ "answer": 42 }))
}

/// The attribute on a module applies to all routes of the routers that its functions return.
#[rate_limit(name = "resources", per_minute = 10, by_resource)]
mod resources {
    use axum::routing::get;
    use axum::{Json, Router};
    use serde_json::{Value, json};

    pub(super) fn router() -> Router {
        Router::new().route("/resources/", get(list).post(create).patch(update))
    }

    async fn list() -> Json<Value> {
        Json(json!([{ "id": 1 }, { "id": 2 }]))
    }

    async fn create() -> Json<Value> {
        Json(json!({ "created": 3 }))
    }

    async fn update() -> Json<Value> {
        Json(json!({ "updated": 1 }))
    }
}

/// Commands to try, within a minute.
const TRIES: &str = "
    for i in 1 2 3 4 5 6 7; do curl -i http://ADDRESS/hardwork/; echo; done
    for i in $(seq 11); do curl -s -o /dev/null -w '%{http_code} ' http://ADDRESS/resources/; done; echo
    curl -i -X POST http://ADDRESS/resources/    # POST has a quota of its own
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();

    // Redis if REDIS_URL is set, otherwise this process's memory; the log says which.
    let limiter = RateLimiter::from_env().await?;

    // Add the layer after the routes: it wraps only those that are already there.
    let app =
        Router::new().route("/hardwork/", get(calculate)).merge(resources::router()).layer(limiter.clone());

    let listener = examples::listen(TRIES).await?;

    // The limiter tells clients apart by their address, which `with_connect_info` puts into each request.
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(examples::shutdown())
        .await?;

    // No more requests arrive, so the connection to the store can be closed.
    limiter.close().await;
    println!("Bye.");
    Ok(())
}
