//! A message that is not known when the program is compiled.

use axum_rate_limit::rate_limit;

const NUMBER: u32 = 5;

#[rate_limit(name = "x", per_minute = 5, message = NUMBER)]
async fn a_number() {}

#[rate_limit(name = "x", per_minute = 5, message = format!("Slow down."))]
async fn made_at_run_time() {}

fn main() {}
