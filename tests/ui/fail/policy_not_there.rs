//! `policy` names nothing.

use axum_rate_limit::rate_limit;

mod policies {}

#[rate_limit(policy = LOGIN)]
async fn not_there() {}

#[rate_limit(policy = policies::LOGIN)]
async fn not_in_the_module() {}

fn main() {}
