//! Shows a limit that several handlers share, and a handler that reports how much of it is left.
//!
//! ```text
//! cargo run --bin shared_policy
//! PORT=3001 cargo run --bin shared_policy
//! REDIS_URL=redis://127.0.0.1/ cargo run --bin shared_policy    # counters in Redis, not in this process
//! ```

use std::error::Error;

use axum::extract::Path;
use axum::routing::{get, put};
use axum::{Json, Router};
use axum_rate_limit::{Decisions, Policy, RateLimiter, rate_limit};
use serde_json::{Value, json};

/// The contents of an attribute as a named constant: five writes per minute for each client, whatever it
/// writes.
///
/// The compiler checks it as it checks an attribute: `.per_minute(0)` does not compile.
///
/// Without `.status(429)`, denials have the status of the limiter, by default 503.
const WRITES: Policy =
    Policy::new("writes").per_minute(5).status(429).message("Five writes a minute, please. Reading is free.");

/// An attribute without `policy` makes a policy of its own, here for reads.
#[rate_limit(name = "reads", per_second = 10, per_minute = 100)]
async fn list() -> Json<Value> {
    Json(json!([{ "id": 1 }, { "id": 2 }]))
}

/// `policy = WRITES` uses the constant. [`create`], [`update`] and [`remove`] share its quota, since a
/// quota is kept per policy name and client: of two requests to each, the sixth is denied.
///
/// With `.by_resource()` or `.by_route()`, each of them would have five writes of its own again.
///
/// The extractor `Decisions` holds what the limits in front of this handler have decided, the outermost
/// first. `get` finds a decision by the policy's name. (It returns `None` if the policy was not asked, for
/// example because of a `skip_if`.) A denied request never gets here, so `remaining` is what is left after
/// this one. Clients find the same number in the `ratelimit` field of each answer.
#[rate_limit(policy = WRITES)]
async fn create(decisions: Decisions) -> Json<Value> {
    let writes = decisions.get(WRITES.name()).map(|decision| {
        json!({
            "remaining": decision.remaining(),
            "all_back_in": format!("{:.1?}", decision.reset()),
        })
    });
    Json(json!({ "created": 3, "writes": writes }))
}

/// Shares the quota of [`WRITES`].
#[rate_limit(policy = WRITES)]
async fn update(Path(id): Path<u32>) -> Json<Value> {
    Json(json!({ "updated": id }))
}

/// Shares the quota of [`WRITES`].
#[rate_limit(policy = WRITES)]
async fn remove(Path(id): Path<u32>) -> Json<Value> {
    Json(json!({ "removed": id }))
}

/// Commands to try, within a minute.
const TRIES: &str = "
    curl -i -X POST http://ADDRESS/notes             # says how much is left
    curl -i -X PUT http://ADDRESS/notes/1
    curl -i -X DELETE http://ADDRESS/notes/2         # `ratelimit`: one less
    for i in 1 2 3; do curl -i -X POST http://ADDRESS/notes; echo; done    # the last one is the sixth: 429
    curl -i http://ADDRESS/notes                     # reads have a limit of their own
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();

    // The policies of all attributes in the program are known before the first request. One that several
    // handlers share is listed once. `location` is where it is declared.
    println!("Limits of this program:");
    for policy in axum_rate_limit::policies() {
        let quotas: Vec<String> = policy.quotas().iter().map(ToString::to_string).collect();
        println!("  {:8}{:32}{}", policy.name(), quotas.join(", "), policy.location());
    }
    println!();

    let limiter = RateLimiter::from_env().await?;
    let app = Router::new()
        .route("/notes", get(list).post(create))
        .route("/notes/{id}", put(update).delete(remove))
        .layer(limiter.clone());

    Ok(examples::serve(app, limiter, TRIES).await?)
}
