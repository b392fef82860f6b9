//! Shows requests of unequal weight: a cost that is known beforehand, and one that the work tells.
//!
//! ```text
//! cargo run --bin charges
//! PORT=3001 cargo run --bin charges
//! REDIS_URL=redis://127.0.0.1/ cargo run --bin charges    # counters in Redis, not in this process
//! ```

use std::error::Error;

use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use axum_rate_limit::{Charge, RateLimiter, rate_limit};
use serde_json::{Value, json};

/// How many bytes of a document cost one.
const UNIT: u32 = 10_000;
/// How many units the largest document has.
const MOST_UNITS: u32 = 10;

/// A cost that is known beforehand: one for each 10 kB that the request says it is long.
///
/// The server reads no more of a body than that, so nobody can pay for less than they send. Who does
/// not say it (`transfer-encoding: chunked`) pays for the longest that is accepted. And no cost is 0,
/// since that is free: an empty document takes a look at the quota, too.
///
/// A cost above the quota would never pass, however long the client waits; the denial says so, and has no
/// `retry-after`. Here it can't be: what is too long is refused by `DefaultBodyLimit` with 413, and costs
/// what the longest does.
fn by_length(request: &Parts) -> u32 {
    let length = request.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    length.map_or(MOST_UNITS, |length: u32| length.div_ceil(UNIT)).clamp(1, MOST_UNITS)
}

/// Twenty units a minute: two long documents, or twenty short ones.
///
/// The limit is asked before the body is read, so what is denied costs the server nothing.
#[rate_limit(name = "documents", per_minute = 20, cost = by_length, status = 429)]
async fn store(document: Bytes) -> Json<Value> {
    Json(json!({ "stored": document.len() }))
}

/// A cost that is known afterwards: how many tokens the answer has. A hundred a minute.
///
/// One is paid at the door (the default cost), so who has nothing left is turned away before the model does
/// any work. The others are added when they have been made. That can't be denied any more, as the work is
/// done: the last answer of a minute may take more than is left, and whoever comes next waits for it.
///
/// A client that asks ten things at once passes the door ten times before the first answer is charged. Where
/// that is too much, turn it round: let `cost = 50` be what an answer may cost at most, and
/// `charge.give_back(50 - tokens)` when it is there.
#[rate_limit(name = "tokens", per_minute = 100, status = 429, message = "A hundred tokens a minute, please.")]
async fn complete(charge: Charge, prompt: String) -> Result<Json<Value>, StatusCode> {
    let answer = model(&prompt);
    let tokens = u32::try_from(answer.len()).unwrap_or(u32::MAX);

    // It fails only if the limiter is built with `OnStoreError::Deny` (or the attribute says
    // `on_store_error = deny`) and the store is away.
    charge.add(tokens.saturating_sub(1)).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;

    // The answer's `ratelimit` field tells what is left after that.
    Ok(Json(json!({ "answer": answer.concat(), "tokens": tokens })))
}

/// A language model of little wit: ten tokens for each word.
fn model(prompt: &str) -> Vec<&'static str> {
    const MURMUR: [&str; 4] = ["so ", "it ", "goes ", "on "];
    let words = prompt.split_whitespace().count();
    MURMUR.into_iter().cycle().take(10 * words).collect()
}

/// Only log-ins that fail count: each pays one, and one that is answered with success has it back.
///
/// It is not the other way round (look first, charge when it has failed), since many tries at once would all
/// see a quota that is still whole. Here five are under way at most.
///
/// It is not `reset` either: an attacker who has an account could log in to it after every four tries
/// at another. What succeeds here gives back what it took, and no more.
///
/// * The default key, the client's address, suits a guesser who tries many accounts. One whose tries come
///   from many addresses is found by a second limit, with the account as its key: if that stands
///   in a header or the path, as an attribute beside this; if in the body, by [`RateLimiter::check`].
/// * `on_store_error = deny`: with Redis away, each instance would give five tries of its own.
#[rate_limit(
    name = "failed-log-ins",
    per_hour = 5,
    give_back_if = |answer| answer.status.is_success(),
    on_store_error = deny,
    status = 429,
    message = "Too many failed log-ins. Try again later."
)]
async fn log_in(headers: HeaderMap) -> StatusCode {
    // In earnest the password would come in the body, and be compared to a hash.
    let is_right = headers.get("x-password").is_some_and(|password| password == "sesame");
    if is_right { StatusCode::OK } else { StatusCode::UNAUTHORIZED }
}

/// Commands to try, within a minute.
const TRIES: &str = "
    head -c 25000 /dev/zero | curl -i --data-binary @- http://ADDRESS/documents      # costs 3 of 20
    head -c 25000 /dev/zero | curl -i -X POST -T - http://ADDRESS/documents          # does not say how long it is: 10
    head -c 90000 /dev/zero | curl -i --data-binary @- http://ADDRESS/documents      # 7 are left, 9 are too many: 429
    curl -i -d 'a short one' http://ADDRESS/documents                                # but one more is not: 6 are left
    for i in 1 2 3 4; do curl -i -d 'tell me everything' http://ADDRESS/complete; echo; done    # 30 each, the last on credit
    curl -i -d hm http://ADDRESS/complete               # 429
    for i in $(seq 8); do curl -s -o /dev/null -w '%{http_code} ' -H 'x-password: sesame' -X POST http://ADDRESS/log-in; done; echo
    for i in $(seq 6); do curl -s -o /dev/null -w '%{http_code} ' -X POST http://ADDRESS/log-in; done; echo    # the sixth failure: 429
    curl -i -H 'x-password: sesame' -X POST http://ADDRESS/log-in                    # too late for the right one
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();

    let limiter = RateLimiter::from_env().await?;
    let longest = (MOST_UNITS * UNIT) as usize;
    let app = Router::new()
        .route("/documents", post(store).layer(DefaultBodyLimit::max(longest)))
        .route("/complete", post(complete))
        .route("/log-in", post(log_in))
        .layer(limiter.clone());

    Ok(examples::serve(app, limiter, TRIES).await?)
}
