//! Shows requests of unequal cost, which is known beforehand, or only after the work.
//!
//! ```text
//! cargo run --bin charges
//! PORT=3001 cargo run --bin charges
//! REDIS_URL=redis://127.0.0.1/ cargo run --bin charges    # counters in Redis, not in this process
//! ```

use std::error::Error;

use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use axum::routing::post;
use axum::{Json, Router};
use axum_rate_limit::{Charge, RateLimiter, rate_limit};
use serde_json::{Value, json};

/// How many bytes of a document cost one unit.
const UNIT: u32 = 10_000;
/// How many units the largest document costs.
const MOST_UNITS: u32 = 10;

/// Returns a cost that is known beforehand: one unit per 10 kB of the declared length.
///
/// The server reads no more of a body than its declared length, so nobody can pay for less than they send.
/// A request that declares no length (`transfer-encoding: chunked`) pays for the longest document. The cost
/// is at least 1, since a cost of 0 is free: an empty document must find room in the quota, too.
///
/// A request that costs more than the quota never passes, however long the client waits; its denial says so,
/// and has no `retry-after`. That can't happen here: a document that is too long costs as much as the
/// longest, and `DefaultBodyLimit` refuses it with 413.
fn by_length(request: &Parts) -> u32 {
    let length = request.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    length.map_or(MOST_UNITS, |length: u32| length.div_ceil(UNIT)).clamp(1, MOST_UNITS)
}

/// Twenty units per minute: two long documents, or twenty short ones.
///
/// The limit is checked before the body is read, so a denied document costs the server nothing.
#[rate_limit(name = "documents", per_minute = 20, cost = by_length, status = 429)]
async fn store(document: Bytes) -> Json<Value> {
    Json(json!({ "stored": document.len() }))
}

/// A cost that is known afterwards: the number of tokens in the answer, a hundred per minute.
///
/// One token is charged up front (the default cost), so a client with nothing left is denied before the
/// model does any work. The others are charged when the answer is complete. That can't be denied any more,
/// since the work is done: the last answer of a minute may take more than is left, and the next request has
/// to wait.
///
/// A client that sends ten prompts at once gets all of them admitted before the first answer is charged. If
/// that is too much, do it the other way round: let `cost = 50` be the most that an answer may cost, and
/// call `charge.give_back(50 - tokens)` when it is complete.
#[rate_limit(name = "tokens", per_minute = 100, status = 429, message = "A hundred tokens a minute, please.")]
async fn complete(charge: Charge, prompt: String) -> Result<Json<Value>, StatusCode> {
    let answer = model(&prompt);
    let tokens = u32::try_from(answer.len()).unwrap_or(u32::MAX);

    // `add` fails if the store is away and the limiter is built with `OnStoreError::Deny` (or the attribute
    // says `on_store_error = deny`).
    charge.add(tokens.saturating_sub(1)).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;

    // The answer's `ratelimit` field says what is left after that.
    Ok(Json(json!({ "answer": answer.concat(), "tokens": tokens })))
}

/// A language model of little wit: ten tokens per word of the prompt.
fn model(prompt: &str) -> Vec<&'static str> {
    const MURMUR: [&str; 4] = ["so ", "it ", "goes ", "on "];
    let words = prompt.split_whitespace().count();
    MURMUR.into_iter().cycle().take(10 * words).collect()
}

/// Commands to try, within a minute.
const TRIES: &str = "
    head -c 25000 /dev/zero | curl -i --data-binary @- http://ADDRESS/documents      # costs 3 of 20
    head -c 25000 /dev/zero | curl -i -X POST -T - http://ADDRESS/documents          # no content-length: costs 10
    head -c 90000 /dev/zero | curl -i --data-binary @- http://ADDRESS/documents      # costs 9, 7 are left: 429
    curl -i -d 'a short one' http://ADDRESS/documents                                # costs 1: 6 are left
    for i in 1 2 3 4; do curl -i -d 'tell me everything' http://ADDRESS/complete; echo; done    # 30 each, the last on credit
    curl -i -d hm http://ADDRESS/complete               # 429
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();

    let limiter = RateLimiter::from_env().await?;
    let longest = (MOST_UNITS * UNIT) as usize;
    let app = Router::new()
        .route("/documents", post(store).layer(DefaultBodyLimit::max(longest)))
        .route("/complete", post(complete))
        .layer(limiter.clone());

    Ok(examples::serve(app, limiter, TRIES).await?)
}
