//! Shows what to have at hand when a limit turns out to be wrong at night: private routes that list the policies
//! in force, amend one without a restart, and show or reset what a client has used.
//!
//! ```text
//! cargo run --bin operations                                   # the service on port 3000, its operations on 3001
//! RUST_LOG=info,axum_rate_limit=trace cargo run --bin operations    # the log says who is denied
//! REDIS_URL=redis://127.0.0.1/ cargo run --bin operations      # a reset applies to all instances
//! ```
//!
//! An amendment applies to this instance alone, and ends with it. Amend each instance, and put the change into
//! the environment (`RATE_LIMIT_SEARCH_PER_MINUTE`) or into the attribute before the next deploy.

use std::error::Error;
use std::net::IpAddr;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use axum_rate_limit::{Amendment, Policy, RateLimiter, rate_limit};
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[rate_limit(name = "search", per_minute = 3)]
async fn search() -> &'static str {
    "found"
}

/// Lists the policies in force: name, quotas, whether in shadow, and where in the program each is declared.
async fn list(State(limiter): State<RateLimiter>) -> Json<Value> {
    let describe = |policy: &Policy| {
        json!({
            "name": policy.name(),
            "quotas": policy.quotas().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "shadow": policy.is_shadow(),
            "declared": policy.location().to_string(),
        })
    };
    limiter.policies().iter().map(describe).collect::<Value>().into()
}

async fn per_minute(
    State(limiter): State<RateLimiter>,
    Path((name, limit)): Path<(String, u32)>,
) -> Response {
    amend(&limiter, &name, |policy| policy.per_minute(limit))
}

/// Puts a policy in shadow: it goes on counting, but denies nobody.
async fn shadow(State(limiter): State<RateLimiter>, Path(name): Path<String>) -> Response {
    amend(&limiter, &name, |policy| policy.shadow(true))
}

/// Restores the policy that the program was started with.
async fn restore(State(limiter): State<RateLimiter>, Path(name): Path<String>) -> Response {
    amend(&limiter, &name, |policy| policy)
}

/// Amends a policy. An amendment that is refused changes nothing, and the answer says why.
fn amend(limiter: &RateLimiter, name: &str, change: impl FnOnce(Amendment) -> Amendment) -> Response {
    match limiter.amend(name, change) {
        Ok(()) => "amended\n".into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

/// Tells how much a client has left.
async fn peek(State(limiter): State<RateLimiter>, Path((name, client)): Path<(String, IpAddr)>) -> Response {
    let Some(policy) = named(&limiter, &name) else { return StatusCode::NOT_FOUND.into_response() };
    match limiter.peek(&policy, client).await {
        Ok(decision) => format!("{} left\n", decision.remaining()).into_response(),
        Err(error) => error.into_response(),
    }
}

/// Resets what a client has used.
async fn forget(
    State(limiter): State<RateLimiter>,
    Path((name, client)): Path<(String, IpAddr)>,
) -> Response {
    let Some(policy) = named(&limiter, &name) else { return StatusCode::NOT_FOUND.into_response() };
    match limiter.reset(&policy, client).await {
        Ok(()) => "forgotten\n".into_response(),
        Err(error) => error.into_response(),
    }
}

fn named(limiter: &RateLimiter, name: &str) -> Option<Policy> {
    limiter.policies().into_iter().find(|policy| policy.name() == name)
}

/// Commands to try, within a minute.
const TRIES: &str = "
    for i in 1 2 3 4; do curl -s -o /dev/null -w '%{http_code}\\n' http://ADDRESS/search; done    # the fourth: 503
    curl http://127.0.0.1:3001/policies    # what is in force
    curl http://127.0.0.1:3001/policies/search/clients/127.0.0.1    # how much is left
    curl -X DELETE http://127.0.0.1:3001/policies/search/clients/127.0.0.1    # forgotten: three more pass
    curl -X POST http://127.0.0.1:3001/policies/search/per_minute/20    # twenty from now on
    curl -X POST http://127.0.0.1:3001/policies/search/per_minute/0    # refused, with the reason
    curl -X POST http://127.0.0.1:3001/policies/search/restore    # back to three
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();

    let limiter = RateLimiter::from_env().await?;
    let app = Router::new().route("/search", get(search)).layer(limiter.clone());

    // A separate listener that no proxy leads to: whoever reaches it can lift every limit.
    let operations = Router::new()
        .route("/policies", get(list))
        .route("/policies/{name}/per_minute/{limit}", post(per_minute))
        .route("/policies/{name}/shadow", post(shadow))
        .route("/policies/{name}/restore", post(restore))
        .route("/policies/{name}/clients/{address}", get(peek).delete(forget))
        .with_state(limiter.clone());
    let listener = TcpListener::bind("127.0.0.1:3001").await?;
    tokio::spawn(async move { axum::serve(listener, operations).await });

    Ok(examples::serve(app, limiter, TRIES).await?)
}
