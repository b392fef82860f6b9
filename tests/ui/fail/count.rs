//! Counts that are no whole number from 1 to `u32::MAX`.

use axum_rate_limit::rate_limit;

#[rate_limit(name = "x", per_second = 0)]
async fn zero() {}

#[rate_limit(name = "x", per_minute = (0))]
async fn zero_in_parentheses() {}

#[rate_limit(name = "x", per_minute = 0x0)]
async fn zero_in_hexadecimal() {}

#[rate_limit(name = "x", per_minute = -5)]
async fn negative() {}

#[rate_limit(name = "x", per_hour = 0.5)]
async fn fractional() {}

#[rate_limit(name = "x", per_hour = 5.0)]
async fn whole_but_a_float() {}

#[rate_limit(name = "x", per_hour = 1e3)]
async fn an_exponent() {}

#[rate_limit(name = "x", per_day = 4_294_967_296)]
async fn one_too_many() {}

#[rate_limit(name = "x", per_day = 99999999999999999999999999999999999999999)]
async fn far_too_many() {}

#[rate_limit(name = "x", per_minute = "5")]
async fn a_string() {}

#[rate_limit(name = "x", per_minute = "5/minute")]
async fn a_rate() {}

#[rate_limit(name = "x", per_minute = true)]
async fn a_truth() {}

#[rate_limit(name = "x", per_minute = 5u64)]
async fn suffixed() {}

#[rate_limit(name = "x", per_minute = 5_i32)]
async fn signed() {}

#[rate_limit(name = "x", per_minute = 0u64)]
async fn suffixed_zero() {}

#[rate_limit(name = "x", per_minute = 5_000_000_000u64)]
async fn suffixed_and_too_large() {}

#[rate_limit(name = "x", per_minute = 5f32)]
async fn suffixed_as_a_float() {}

#[rate_limit(name = "x", per_minute = 5k)]
async fn thousands() {}

#[rate_limit(name = "x", per_minute)]
async fn no_value() {}

#[rate_limit(name = "x", per_minute =)]
async fn nothing_after_the_sign() {}

#[rate_limit(name = "x", per_minute(5))]
async fn parentheses() {}

#[rate_limit(name = "x", per_minute: 5)]
async fn a_colon() {}

#[rate_limit(name = "x", 5)]
async fn no_window() {}

fn main() {}
