//! What `#[debug_handler]` finds below the attribute, it tells of the user's arguments.

use axum_rate_limit::rate_limit;

#[rate_limit(name = "bodies", per_minute = 5)]
#[axum::debug_handler]
async fn two_bodies(first: String, second: String) -> String {
    first + &second
}

#[rate_limit(name = "order", per_minute = 5)]
#[axum::debug_handler]
async fn body_first(body: String, uri: http::Uri) -> String {
    body + uri.path()
}

fn main() {}
