//! `policy` stands for all other arguments.

use axum_rate_limit::{Policy, rate_limit};

const LOGIN: Policy = Policy::new("login").per_minute(5);

#[rate_limit(policy = LOGIN, name = "login")]
async fn name() {}

#[rate_limit(per_minute = 5, policy = LOGIN)]
async fn per_minute() {}

#[rate_limit(policy = LOGIN, quota(5, per = "90s"), by_resource, status = 429, message = "Slow down.")]
async fn all_of_them() {}

#[rate_limit(policy = "login")]
async fn a_string() {}

#[rate_limit(policy = LOGIN())]
async fn a_call() {}

#[rate_limit(policy = Policy::new("login").per_minute(5))]
async fn an_expression() {}

#[rate_limit(policy = &LOGIN)]
async fn a_reference() {}

#[rate_limit(policy)]
async fn no_value() {}

#[rate_limit(policy(LOGIN))]
async fn parentheses() {}

fn main() {}
