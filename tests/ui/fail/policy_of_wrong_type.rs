//! `policy` names something else than a `Policy`.

use axum_rate_limit::{PolicyWithoutQuota, Policy, rate_limit};

const NUMBER: u32 = 5;
const NAMED: PolicyWithoutQuota = Policy::new("login");
static REFERENCE: &Policy = &Policy::new("login").per_minute(5);

fn function() -> Policy {
    Policy::new("login").per_minute(5)
}

#[rate_limit(policy = NUMBER)]
async fn a_number() {}

#[rate_limit(policy = NAMED)]
async fn without_a_quota() {}

#[rate_limit(policy = REFERENCE)]
async fn a_reference() {}

#[rate_limit(policy = function)]
async fn a_function() {}

#[rate_limit(policy = Policy)]
async fn the_type() {}

fn main() {}
