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

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use axum_rate_limit::{Amendment, Policy, Quotas, RateLimiter, rate_limit};
use serde::Deserialize;
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
            "quotas": policy.quotas(),
            "shadow": policy.is_shadow(),
            "declared": policy.location().to_string(),
        })
    };
    limiter.policies().iter().map(describe).collect::<Value>().into()
}

/// What to change in a policy.
#[derive(Deserialize)]
struct Change {
    /// All its quotas, such as `20 per minute, 100 per hour`.
    quotas: Option<Quotas>,
    /// Whether it only counts, and denies nobody.
    shadow: Option<bool>,
}

/// Amends a policy. An amendment that is refused changes nothing, and the answer says why.
///
/// Each amendment starts from the policy that the program was started with, so this one undoes the one before.
async fn amend(
    State(limiter): State<RateLimiter>,
    Path(name): Path<String>,
    Query(Change { quotas, shadow }): Query<Change>,
) -> Result<&'static str, Refusal> {
    limiter.amend(&name, |policy| {
        let policy = quotas.into_iter().fold(policy, Amendment::quotas);
        shadow.into_iter().fold(policy, Amendment::shadow)
    })?;
    Ok("amended\n")
}

/// Restores the policy that the program was started with.
async fn restore(
    State(limiter): State<RateLimiter>,
    Path(name): Path<String>,
) -> Result<&'static str, Refusal> {
    limiter.amend(&name, |policy| policy)?;
    Ok("restored\n")
}

/// Tells how much a client has left.
///
/// A client is an address here, which fits the policies of this program. For others, see [`Policy::key_parts`],
/// [`Policy::scope`] and [`Policy::has_quotas_by`]: a client that has quotas of its own is looked up by
/// [`Policy::with_quotas`].
async fn peek(
    State(limiter): State<RateLimiter>,
    Path((name, client)): Path<(String, IpAddr)>,
) -> Result<String, Refusal> {
    let decision = limiter.peek(&limiter.policy(&name)?, client).await?;
    Ok(format!("{} left\n", decision.remaining()))
}

/// Resets what a client has used.
async fn forget(
    State(limiter): State<RateLimiter>,
    Path((name, client)): Path<(String, IpAddr)>,
) -> Result<&'static str, Refusal> {
    limiter.reset(&limiter.policy(&name)?, client).await?;
    Ok("forgotten\n")
}

/// An error of the limiter that an operator may read.
struct Refusal(axum_rate_limit::Error);

impl<E: Into<axum_rate_limit::Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.0 {
            axum_rate_limit::Error::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        (status, format!("{}\n", self.0)).into_response()
    }
}

/// Commands to try, within a minute.
const TRIES: &str = "
    for i in 1 2 3 4; do curl -s -o /dev/null -w '%{http_code}\\n' http://ADDRESS/search; done    # the fourth: 503
    curl http://127.0.0.1:3001/policies    # what is in force
    curl http://127.0.0.1:3001/policies/search/clients/127.0.0.1    # how much is left
    curl -X DELETE http://127.0.0.1:3001/policies/search/clients/127.0.0.1    # forgotten: three more pass
    curl -X PUT 'http://127.0.0.1:3001/policies/search?quotas=20+per+minute,100+per+hour'    # from now on
    curl -X PUT 'http://127.0.0.1:3001/policies/search?shadow=true'    # three again, but nobody is denied
    curl -X PUT 'http://127.0.0.1:3001/policies/search?quotas=0+per+minute'    # refused, with the reason
    curl -X DELETE http://127.0.0.1:3001/policies/search    # back to three
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();

    let limiter = RateLimiter::from_env().await?;
    let app = Router::new().route("/search", get(search)).layer(limiter.clone());

    // A separate listener that no proxy leads to: whoever reaches it can lift every limit.
    let operations = Router::new()
        .route("/policies", get(list))
        .route("/policies/{name}", put(amend).delete(restore))
        .route("/policies/{name}/clients/{address}", get(peek).delete(forget))
        .with_state(limiter.clone());
    let listener = TcpListener::bind("127.0.0.1:3001").await?;
    tokio::spawn(async move { axum::serve(listener, operations).await });

    Ok(examples::serve(app, limiter, TRIES).await?)
}
