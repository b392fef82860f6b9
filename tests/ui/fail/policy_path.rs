//! `policy` is given something else than the path of a constant.

use axum_rate_limit::rate_limit;

#[rate_limit(policy = Of<u32>)]
async fn a_type() {}

#[rate_limit(policy = <u32 as Limits>::POLICY)]
async fn of_a_trait() {}

fn main() {}
