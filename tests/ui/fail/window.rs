//! Windows that are none.

use axum_rate_limit::rate_limit;

#[rate_limit(name = "x", quota(5, per = "90"))]
async fn no_unit() {}

#[rate_limit(name = "x", quota(5, per = "0s"))]
async fn zero() {}

#[rate_limit(name = "x", quota(5, per = ""))]
async fn empty() {}

#[rate_limit(name = "x", quota(5, per = "400d"))]
async fn too_long() {}

#[rate_limit(name = "x", quota(5, per = "99999999999999999999y"))]
async fn far_too_long() {}

#[rate_limit(name = "x", quota(5, per = "1500us"))]
async fn no_whole_milliseconds() {}

#[rate_limit(name = "x", quota(5, per = "1ns"))]
async fn too_short() {}

#[rate_limit(name = "x", quota(5, per = "soon"))]
async fn no_number() {}

#[rate_limit(name = "x", quota(5, per = "90 parsecs"))]
async fn unknown_unit() {}

#[rate_limit(name = "x", quota(5, per = "-1s"))]
async fn negative() {}

#[rate_limit(name = "x", quota(5, per = "minute"))]
async fn a_unit_alone() {}

#[rate_limit(name = "x", quota(5, per = 90))]
async fn a_number() {}

#[rate_limit(name = "x", quota(5, per = WINDOW))]
async fn a_constant() {}

#[rate_limit(name = "x", quota(5))]
async fn no_window() {}

#[rate_limit(name = "x", quota(5,))]
async fn nothing_after_the_comma() {}

#[rate_limit(name = "x", quota(5, "90s"))]
async fn no_word() {}

#[rate_limit(name = "x", quota(5, every = "90s"))]
async fn another_word() {}

#[rate_limit(name = "x", quota(5, per "90s"))]
async fn no_sign() {}

#[rate_limit(name = "x", quota(5 per = "90s"))]
async fn no_comma() {}

#[rate_limit(name = "x", quota(per = "90s"))]
async fn no_count() {}

#[rate_limit(name = "x", quota(per = "90s", 5))]
async fn the_other_way_round() {}

#[rate_limit(name = "x", quota(5, per = "90s", burst = 10))]
async fn one_more() {}

#[rate_limit(name = "x", quota())]
async fn nothing() {}

#[rate_limit(name = "x", quota)]
async fn no_parentheses() {}

#[rate_limit(name = "x", quota = 5)]
async fn a_sign() {}

#[rate_limit(name = "x", quota[5, per = "90s"])]
async fn brackets() {}

#[rate_limit(name = "x", quota(5, per = "1M"))]
async fn a_month() {}

#[rate_limit(name = "x", quota(5, per = "1 year"))]
async fn a_year() {}

fn main() {}
