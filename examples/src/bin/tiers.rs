//! Shows quotas that depend on the client: an API key has those of its tier, and everyone else has few.
//!
//! ```text
//! cargo run --bin tiers
//! RATE_LIMIT_SEARCH_PER_MINUTE=20 cargo run --bin tiers         # the declared quota, changed without a deploy
//! PORT=3001 REDIS_URL=redis://127.0.0.1/ cargo run --bin tiers    # counters in Redis, not in this process
//! ```
//!
//! The variable works because [`RateLimiter::from_env`] reads it. A name that no policy has, or an invalid
//! number, is an error at start-up, not a limit that silently stays as it was. The same in code, for example
//! with a number from a configuration file:
//!
//! ```text
//! RateLimiter::builder().from_env().amend("search", |policy| policy.per_minute(20)).build().await?
//! ```
//!
//! Both change what the attribute *declares*. The tiers are what [`tier`] returns, whatever is amended.

use std::error::Error;

use axum::extract::Request;
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Json, Router};
use axum_rate_limit::{Decisions, Quota, Quotas, RateLimiter, rate_limit};
use serde_json::{Value, json};

/// The header that carries an API key.
const API_KEY: &str = "x-api-key";

/// What a customer pays for.
#[derive(Clone, Copy, Debug)]
enum Tier {
    Free,
    Gold,
    Internal,
}

/// The API keys. A real service would have a table in a database, with hashes of the keys instead of the keys.
const KEYS: [(&str, Tier); 4] = [
    ("free-ada", Tier::Free),
    ("free-ben", Tier::Free),
    ("gold-cleo", Tier::Gold),
    ("internal-batch", Tier::Internal),
];

impl Tier {
    /// The quotas of the tier. Evaluated in `const` blocks, so that quotas of which one can never bind are a compile
    /// error, as in an attribute.
    const fn quotas(self) -> Quotas {
        match self {
            Self::Free => const { Quotas::of(Quota::per_minute(5)) },
            // Both must allow: a hundred per minute, but not all at once.
            Self::Gold => const { Quotas::of(Quota::per_second(10)).and(Quota::per_minute(100)) },
            // Not counted and never denied.
            Self::Internal => Quotas::UNLIMITED,
        }
    }
}

/// Finds the tier of the request's API key, before any limit is checked.
///
/// # Why a key must be authenticated before it identifies a client
///
/// A limit with `key = header("x-api-key")` takes the header's value as an identity: each value has its own
/// quota. If any value would do, a client could make one up for each request and never be limited, while
/// every value takes up the memory of a counter. So an unknown key is removed from the request here. If the
/// header is missing, the limit uses the client's address instead: whoever guesses keys is limited like a
/// client that has none.
///
/// (A service for customers only would answer 401 instead. Guessing is then unlimited, unless the guesses
/// have a limit of their own, by address.)
async fn authenticate(mut request: Request, next: Next) -> Response {
    let tier = request.headers().get(API_KEY).and_then(|value| {
        let (_, tier) = KEYS.iter().find(|(key, _)| value == key)?;
        Some(*tier)
    });
    match tier {
        // Only code in this process can put an extension into a request, so it can be trusted.
        Some(tier) => _ = request.extensions_mut().insert(tier),
        None => _ = request.headers_mut().remove(API_KEY),
    }
    next.run(request).await
}

/// Returns the client's quotas; `None` stands for those that the attribute declares.
///
/// This runs for each request, so it only looks up what [`authenticate`] has found.
fn tier(request: &Parts) -> Option<Quotas> {
    request.extensions.get().map(|tier: &Tier| tier.quotas())
}

/// Three requests per minute for each address without a known key; otherwise the quotas of the key's tier.
///
/// Of the header, only a hash becomes part of the counter's name. To let two keys of one customer share a quota, let
/// `authenticate` put the customer's number into the extensions, and write `key = customer` with a function
/// `fn customer(request: &Parts) -> Option<String>` that reads it. Here, too, `None` stands for the address.
#[rate_limit(
    name = "search",
    per_minute = 3,
    quotas_by = tier,
    key = header("x-api-key"),
    status = 429,
    message = "That is all for now. An API key gives you more."
)]
async fn search(tier: Option<Extension<Tier>>, decisions: Decisions) -> Json<Value> {
    // An unlimited tier has no quota that could bind.
    let left = decisions.get("search").and_then(|decision| Some(decision.binding()?.remaining));
    let tier = tier.map(|Extension(tier)| format!("{tier:?}"));
    Json(json!({ "found": ["this", "that"], "tier": tier, "left": left }))
}

/// Commands to try, within a minute.
const TRIES: &str = "
    for i in 1 2 3 4; do curl -i http://ADDRESS/search; echo; done                   # no key: three pass
    curl -i -H 'x-api-key: made-up' http://ADDRESS/search                            # a made-up key: still the address's quota
    for i in 1 2 3 4 5 6; do curl -i -H 'x-api-key: free-ada' http://ADDRESS/search; echo; done    # free: five pass
    curl -i -H 'x-api-key: free-ben' http://ADDRESS/search                           # another free key: five of its own
    curl -i -H 'x-api-key: gold-cleo' http://ADDRESS/search                          # gold: two quotas in `ratelimit`
    for i in $(seq 30); do curl -s -o /dev/null -w '%{http_code} ' -H 'x-api-key: internal-batch' http://ADDRESS/search; done; echo
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt::init();

    let limiter = RateLimiter::from_env().await?;

    // Each layer wraps those above it. A request passes `authenticate` first, then the limiter, and then the
    // handler, whose attribute checks the quota of the key, if it is still there.
    let app = Router::new()
        .route("/search", get(search))
        .layer(limiter.clone())
        .layer(middleware::from_fn(authenticate));

    Ok(examples::serve(app, limiter, TRIES).await?)
}
