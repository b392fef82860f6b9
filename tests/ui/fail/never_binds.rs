//! Quotas that another one makes pointless.

use axum_rate_limit::rate_limit;

const LIMIT: u32 = 5;

#[rate_limit(name = "x", per_second = 10, per_minute = 5)]
async fn more_in_less_time() {}

#[rate_limit(name = "x", per_minute = 5, per_second = 10)]
async fn whichever_comes_first() {}

#[rate_limit(name = "x", per_second = 5, per_minute = 5)]
async fn as_many_in_less_time() {}

#[rate_limit(name = "x", per_minute = 50, quota(100, per = "30s"))]
async fn in_a_quota() {}

#[rate_limit(name = "x", quota(60, per = "2m"), quota(60, per = "1h 30m"))]
async fn of_two_quotas() {}

#[rate_limit(name = "x", per_second = 100, per_minute = 50, per_hour = 10)]
async fn two_of_three() {}

#[rate_limit(name = "x", per_minute = 5, quota(7, per = "60s"))]
async fn the_same_window() {}

#[rate_limit(name = "x", quota(5, per = "90s"), quota(7, per = "1m 30s"))]
async fn the_same_window_twice() {}

#[rate_limit(name = "x", per_minute = LIMIT, quota(2 * LIMIT, per = "1m"))]
async fn the_same_window_whatever_the_counts() {}

#[rate_limit(
    name = "x",
    quota(1, per = "1s"),
    quota(2, per = "2s"),
    quota(3, per = "3s"),
    quota(4, per = "4s"),
    quota(5, per = "5s"),
    quota(6, per = "6s"),
    quota(7, per = "7s"),
    quota(8, per = "8s"),
    quota(9, per = "9s")
)]
async fn nine_quotas() {}

fn main() {}
