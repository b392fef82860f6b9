//! Shows how to roll out a stricter limit: first in shadow, beside the one that is enforced.
//!
//! ```text
//! RUST_LOG=info,axum_rate_limit=debug cargo run --bin shadow    # logs each decision
//! RATE_LIMIT_NEW_LIMIT_SHADOW=false cargo run --bin shadow       # the same program, with the new limit enforced
//! REDIS_URL=redis://127.0.0.1/ cargo run --bin shadow            # counters in Redis, not in this process
//! ```
//!
//! 1. Deploy the new limit with `shadow`, beside the old one. It counts and reports, but denies nobody.
//!    Clients see nothing of it.
//! 2. For a week, look at whom it would have denied: in this handler's warnings, in the library's log at level
//!    debug, or in the metric `rate_limit_decisions_total{policy="new-limit", outcome="shadow_denied"}`
//!    (feature `metrics`). If the number is wrong, set `RATE_LIMIT_NEW_LIMIT_PER_MINUTE=4` and restart.
//! 3. Enforce it without a deploy: set `RATE_LIMIT_NEW_LIMIT_SHADOW=false` and restart. If that was a mistake,
//!    remove the variable again.
//! 4. With the next deploy, remove the word `shadow` from the attribute, and the old limit as well.

use std::error::Error;

use axum::routing::get;
use axum::{Json, Router};
use axum_rate_limit::{Decisions, RateLimiter, rate_limit};
use serde_json::{Value, json};

/// Two limits on one handler are decided together, in one call of the store. `old-limit` is enforced. Requests
/// beyond `new-limit` pass all the same, as long as it is in shadow.
///
/// A policy in shadow counts as if it were enforced: requests that it would have denied are not counted. It
/// therefore reports what clients would have met. Since a restart leaves the counters in Redis as they are,
/// they are right from the moment at which the limit is enforced.
#[rate_limit(name = "old-limit", per_minute = 6, status = 429)]
#[rate_limit(name = "new-limit", per_minute = 3, status = 429, shadow)]
async fn search(decisions: Decisions) -> Json<Value> {
    // The library can log that a limit is exceeded, and by whom. What the client was doing is known only here.
    // `is_exceeded` is about the quota, `is_allowed` about the outcome, which is always true in shadow.
    //
    // Once the limit is enforced, a request that exceeds it is denied before it gets here, so this code has no
    // effect.
    let would_be_denied = decisions.get("new-limit").is_some_and(|decision| {
        if decision.is_exceeded() {
            let binding = decision.binding();
            tracing::warn!(
                policy = decision.policy(),
                quota = ?binding.map(|state| state.quota),
                wait = ?binding.and_then(|state| state.retry_after),
                "would be denied"
            );
        }
        decision.is_exceeded()
    });
    // This is in the answer so that you can see it. Clients of a real service need not know.
    Json(json!({ "found": ["this", "that"], "would_be_denied": would_be_denied }))
}

/// Commands to try, within a minute.
const TRIES: &str = "
    curl -i http://ADDRESS/search    # `ratelimit` reports the enforced limit only
    for i in 2 3 4 5 6 7; do curl -s -w ' %{http_code}\\n' http://ADDRESS/search; done    # from the fourth on `would_be_denied`; the seventh: 429
    RATE_LIMIT_NEW_LIMIT_SHADOW=false cargo run --bin shadow    # enforced: the fourth is denied
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();

    // Reads RATE_LIMIT_NEW_LIMIT_SHADOW, and logs what it has changed.
    let limiter = RateLimiter::from_env().await?;
    let app = Router::new().route("/search", get(search)).layer(limiter.clone());

    Ok(examples::serve(app, limiter, TRIES).await?)
}
