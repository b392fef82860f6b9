//! `crate` names a module that is not the runtime.

use axum_rate_limit::rate_limit;

mod elsewhere {}

#[rate_limit(name = "x", per_minute = 5, crate = elsewhere)]
async fn calculate() {}

fn main() {}
