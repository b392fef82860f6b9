//! The word that makes nothing of an item does so of one that limits nothing, and of no other.

use axum_rate_limit::rate_limit;

#[rate_limit(__used)]
async fn handler() {}

#[rate_limit(__used)]
const _: u32 = 5;

#[rate_limit(name = "x", per_minute = 5)]
#[rate_limit(__used)]
async fn stacked() {}

fn main() {}
