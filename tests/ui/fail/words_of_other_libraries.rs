//! The words of other libraries are answered with ours.

use axum_rate_limit::rate_limit;

// fastapi-limiter
#[rate_limit(name = "x", times = 5, seconds = 60)]
async fn times_and_seconds() {}

#[rate_limit(name = "x", times = 5, minutes = 1)]
async fn times_and_minutes() {}

// slowapi, flask-limiter
#[rate_limit(limit = "5/minute", key_func = address, error_message = "Slow down.")]
async fn slowapi() {}

// express-rate-limit, and attributes of that kind
#[rate_limit(name = "x", limit_per_minutes = 5)]
async fn limit_per_minutes() {}

#[rate_limit(name = "x", requests_per_second = 5)]
async fn requests_per_second() {}

#[rate_limit(name = "x", max = 5, window_ms = 60_000)]
async fn express_rate_limit() {}

#[rate_limit(name = "x", max = 5, windowMS = 60_000, keyGenerator = address)]
async fn in_camel_case() {}

#[rate_limit("10/second;200/hour", name = "x")]
async fn limits_as_a_string() {}

#[rate_limit(name = "x", 5 per minute)]
async fn limits_in_words() {}

#[rate_limit("hardwork", per_minute = 5)]
async fn a_name_without_argument() {}

#[rate_limit(HARDWORK_2)]
async fn a_policy_without_argument() {}

#[rate_limit(name = "x", PER_MINUTE = 5)]
async fn in_capitals() {}

#[rate_limit(name = "x", quota(limit = 5, per = "90s"))]
async fn named_count() {}

// governor, tower_governor
#[rate_limit(name = "x", per_second = 5, burst_size = 10)]
async fn burst_size() {}

#[rate_limit(name = "x", per_second = 5, burst = 10)]
async fn burst() {}

#[rate_limit(name = "x", period = "1s", key_extractor = SmartIp)]
async fn period() {}

// resilience4j, bucket4j, nginx, ASP.NET
#[rate_limit(name = "x", limit_for_period = 5, limit_refresh_period = "1s")]
async fn resilience4j() {}

#[rate_limit(name = "x", capacity = 5, refill_tokens = 5)]
async fn bucket4j() {}

#[rate_limit(zone = "x", rate = "5r/m")]
async fn nginx() {}

#[rate_limit(name = "x", permit_limit = 5, window = "1m", queue_limit = 2)]
async fn aspnet() {}

#[rate_limit(name = "x", rate = 5, interval = 60)]
async fn rate() {}

#[rate_limit(name = "x", per_minute = 5, status_code = 429, detail = "Slow down.")]
async fn status_code_and_detail() {}

#[rate_limit(name = "x", per_minute = 5, prefix = "x", by_path, per_ip)]
async fn what_is_counted() {}

#[rate_limit(name = "x", per_minute = 5, key = ip, scope = "path")]
async fn key_and_scope() {}

// Any of them.
#[rate_limit(name = "x", per_month = 5)]
async fn per_month() {}

#[rate_limit(name = "x", per_5_minutes = 100)]
async fn per_5_minutes() {}

#[rate_limit(name = "x", minute = 5, week = 100)]
async fn no_per() {}

#[rate_limit(name = "x", per_minute = 5, methods = [POST])]
async fn methods() {}

#[rate_limit(name = "x", per_minute = 5, per_user)]
async fn per_user() {}

#[rate_limit(name = "x", per_minute = 5, token_bucket)]
async fn token_bucket() {}

#[rate_limit(name = "x", per_minute = 5, trusted_proxies = ["10.0.0.0/8"])]
async fn setting_of_the_limiter() {}

#[rate_limit(name = "x", per_minute = 5, when = busy, quotas = tier, key_fn = user)]
async fn functions() {}

fn main() {}
