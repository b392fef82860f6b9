//! What to do when the store fails, and shadows, written wrongly.

use axum_rate_limit::rate_limit;

#[rate_limit(name = "open", per_minute = 5, on_store_error = open)]
async fn open() {}

#[rate_limit(name = "retry", per_minute = 5, on_store_error = retry)]
async fn retry() {}

#[rate_limit(name = "nothing", per_minute = 5, on_store_error)]
async fn nothing() {}

#[rate_limit(name = "shadow", per_minute = 5, shadow = true)]
async fn shadow() {}

#[rate_limit(name = "words", per_minute = 5, fail_open = true, dry_run, exempt_when = health, deduct_when = failed)]
async fn words() {}

fn main() {}
