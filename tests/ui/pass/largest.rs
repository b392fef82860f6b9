//! The most that the attribute lets through, the runtime takes, too.

use axum_rate_limit::{Algorithm, Policy, Quota, rate_limit};

#[rate_limit(
    name = "a-name-of-64-characters-is-the-longest-and-this-one-has-so-many.",
    quota(4_294_967_295, per = "366d")
)]
async fn name_count_and_window() {}

#[rate_limit(name = "log", quota(10_000, per = "1ms"), algorithm = sliding_log)]
async fn log() {}

#[rate_limit(
    name = "quotas",
    per_second = 1,
    per_minute = 2,
    per_hour = 3,
    per_day = 4,
    quota(5, per = "2d"),
    quota(6, per = "3d"),
    quota(7, per = "4d"),
    quota(8, per = "5d"),
    status = 599
)]
async fn quotas() {}

fn main() {
    let _: axum::Router = axum::Router::new()
        .route("/name", axum::routing::get(name_count_and_window))
        .route("/log", axum::routing::get(log))
        .route("/quotas", axum::routing::get(quotas));
    let policies = axum_rate_limit::RateLimiter::memory().policies();
    let find = |name: &str| -> Policy { *policies.iter().find(|policy| policy.name() == name).expect("it is declared") };
    assert_eq!(find("log").counted_by(), Algorithm::SlidingLog);
    assert_eq!(find("log").quotas()[0].limit(), Quota::MAX_LOG);
    assert_eq!(find("quotas").quotas().len(), Quota::MAX_PER_POLICY);
}
