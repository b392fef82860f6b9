//! A message that is empty or no string.

use axum_rate_limit::rate_limit;

#[rate_limit(name = "x", per_minute = 5, message = "")]
async fn empty() {}

#[rate_limit(name = "x", per_minute = 5, message = "  ")]
async fn blank() {}

#[rate_limit(name = "x", per_minute = 5, message = 5)]
async fn a_number() {}

#[rate_limit(name = "x", per_minute = 5, message = -5)]
async fn a_negative_number() {}

#[rate_limit(name = "x", per_minute = 5, message)]
async fn no_value() {}

#[rate_limit(name = "x", per_minute = 5, message("Slow down."))]
async fn parentheses() {}

fn main() {}
