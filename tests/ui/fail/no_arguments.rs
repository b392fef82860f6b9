//! An attribute that says nothing names what it must say.

use axum_rate_limit::rate_limit;

#[rate_limit]
async fn bare() {}

#[rate_limit()]
async fn empty_parentheses() {}

#[rate_limit(,)]
async fn a_comma() {}

#[axum_rate_limit::rate_limit]
async fn by_its_path() {}

fn main() {}
