//! Shows how to roll out a stricter limit: in shadow first, beside the one that is in force.
//!
//! ```text
//! RUST_LOG=info,axum_rate_limit=debug cargo run --bin shadow    # the log tells each decision
//! RATE_LIMIT_NEW_LIMIT_SHADOW=false cargo run --bin shadow       # the same program: now the new limit is in force
//! REDIS_URL=redis://127.0.0.1/ cargo run --bin shadow            # counters in Redis, not in this process
//! ```
//!
//! 1. Deploy the new limit with `shadow`, beside the old one. It counts and reports, and denies nobody;
//!    clients see nothing of it.
//! 2. Look for a week at whom it would have denied: here in the log, at level debug in that of the library, or
//!    in the metric `rate_limit_decisions_total{policy="new-limit", outcome="shadow_denied"}` (feature
//!    `metrics`). Wrong number? `RATE_LIMIT_NEW_LIMIT_PER_MINUTE=4` and a restart try another one.
//! 3. Enforce it without a deploy: `RATE_LIMIT_NEW_LIMIT_SHADOW=false` and a restart. If that was a
//!    mistake, take the variable away again.
//! 4. With the next deploy take the word `shadow` out of the attribute, and the old limit as well.

use std::error::Error;

use axum::routing::get;
use axum::{Json, Router};
use axum_rate_limit::{Decisions, RateLimiter, rate_limit};
use serde_json::{Value, json};

/// Two limits on one handler are decided together, in one call of the store. `old-limit` is in force. What is
/// beyond `new-limit` passes all the same, as long as that is in shadow.
///
/// A shadow keeps its counter as if it were in force: what it would have denied is not counted. So what it
/// reports is what clients would have met; and since a restart leaves the counters in Redis as they are, they
/// are right at once when it is enforced.
#[rate_limit(name = "old-limit", per_minute = 6, status = 429)]
#[rate_limit(name = "new-limit", per_minute = 3, status = 429, shadow)]
async fn search(decisions: Decisions) -> Json<Value> {
    // The library has no more to tell than that a limit is exceeded. Who it was, and what they were at,
    // is known here. `is_exceeded` looks at the quota, `is_allowed` at the outcome: true for any shadow.
    //
    // Once the limit is enforced, what exceeds it is denied and never comes here: this is of no effect then.
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
    // It is in the answer so that you can see it. Clients of a real service need not know.
    Json(json!({ "found": ["this", "that"], "would_be_denied": would_be_denied }))
}

/// Commands to try, within a minute.
const TRIES: &str = "
    curl -i http://ADDRESS/search    # `ratelimit` tells of one limit, not of that in shadow
    for i in 2 3 4 5 6 7; do curl -s -w ' %{http_code}\\n' http://ADDRESS/search; done    # from the fourth on `would_be_denied`; the seventh is: 429
    RATE_LIMIT_NEW_LIMIT_SHADOW=false cargo run --bin shadow    # instead of this one: the fourth is denied
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();

    // Reads RATE_LIMIT_NEW_LIMIT_SHADOW, and says in the log what it has changed.
    let limiter = RateLimiter::from_env().await?;
    let app = Router::new().route("/search", get(search)).layer(limiter.clone());

    Ok(examples::serve(app, limiter, TRIES).await?)
}
