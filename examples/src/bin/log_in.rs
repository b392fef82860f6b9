//! Shows limits on failed log-ins: for each address that they come from, and for each account that they try.
//!
//! ```text
//! cargo run --bin log_in
//! PORT=3001 cargo run --bin log_in
//! REDIS_URL=redis://127.0.0.1/ cargo run --bin log_in    # counters in Redis, not in this process
//! ```

use std::error::Error;

use axum::http::{StatusCode, response};
use axum::routing::post;
use axum::{Json, Router};
use axum_rate_limit::{Denial, OnStoreError, Policy, RateLimiter, RequestLimiter, rate_limit};
use serde::Deserialize;

#[derive(Deserialize)]
struct LogIn {
    account: String,
    password: String,
}

/// Ten failed log-ins an hour to each account.
///
/// This catches an attacker who tries one account from many addresses. Whoever knows the name of an account can use
/// this limit up, and so keep its owner out for an hour. Where that is worse than a guess, leave the owner another
/// way in, such as a link sent by mail.
///
/// The account is in the body, which no attribute reads, so the handler checks this policy by itself.
const BY_ACCOUNT: Policy = Policy::new("failed-log-ins-to-account")
    .per_hour(10)
    .give_back_if(has_succeeded)
    .on_store_error(OnStoreError::Deny)
    .status(429)
    .message("Too many failed log-ins to this account. Try again later.");

/// Only failed log-ins count: each attempt is charged one unit, and a successful one gets it back.
///
/// The other way round (check first, charge on failure) would not work, since many concurrent attempts would
/// all see a quota that is still whole. Here, at most five are in flight.
///
/// Calling `reset` on success would not work either: an attacker who has an account could log in to it after
/// every four attempts on another. Here, a success gives back only what it was charged.
fn has_succeeded(response: &response::Parts) -> bool {
    response.status.is_success()
}

/// Five failed log-ins an hour from each address, which catches an attacker who tries many accounts, and ten to each
/// account.
///
/// An attempt that the account's limit denies was a failure of the address, too, so it counts here.
///
/// With `on_store_error = deny` nobody can log in while Redis is away. Otherwise, each instance would allow five
/// attempts of its own.
#[rate_limit(
    name = "failed-log-ins",
    per_hour = 5,
    give_back_if = has_succeeded,
    on_store_error = deny,
    status = 429,
    message = "Too many failed log-ins. Try again later."
)]
async fn log_in(limiter: RequestLimiter, Json(log_in): Json<LogIn>) -> Result<StatusCode, Denial> {
    // Accounts that differ only in capitals are the same here, so they must not have a quota each.
    limiter.check(&BY_ACCOUNT, log_in.account.to_lowercase()).await?;

    // A real service would compare the password with a hash.
    let is_right = log_in.password == "sesame";
    Ok(if is_right { StatusCode::OK } else { StatusCode::UNAUTHORIZED })
}

/// Commands to try, within an hour.
const TRIES: &str = r#"
    log_in() { curl -s -o /dev/null -w '%{http_code} ' --interface $1 --json "{\"account\": \"$2\", \"password\": \"$3\"}" http://ADDRESS/log-in; }
    for i in $(seq 8); do log_in 127.0.0.1 ada sesame; done; echo        # successes don't count
    for i in $(seq 6); do log_in 127.0.0.1 ada guess; done; echo         # the sixth failure from one address: 429
    for i in $(seq 6); do log_in 127.0.0.2 ada guess; done; echo         # from another one: ten failures for ada
    log_in 127.0.0.3 ada sesame; log_in 127.0.0.3 bob sesame; echo       # from a third: ada is 429, bob is 200
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();

    // Without `declare`, the policy would be enforced just the same, but it could not be amended.
    let limiter = RateLimiter::builder().from_env().declare([BY_ACCOUNT]).build().await?;
    let app = Router::new().route("/log-in", post(log_in)).layer(limiter.clone());

    Ok(examples::serve(app, limiter, TRIES).await?)
}
