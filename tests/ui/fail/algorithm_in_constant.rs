//! Constants that an algorithm can't count.

use axum_rate_limit::{Algorithm, Policy, rate_limit};

const MANY: u32 = 20_000;

#[rate_limit(name = "long", per_day = MANY, algorithm = sliding_log)]
async fn long_log() {}

const LATE: Policy = Policy::new("late").per_second(1).burst(5);

const NEVER_FULL: Policy =
    Policy::new("never-full").per_day(1).algorithm(Algorithm::TokenBucket { burst: Some(1_000) });

const BURST: u32 = 20;

#[rate_limit(name = "burst-never", per_second = 5, per_minute = 20, algorithm = token_bucket, burst = BURST)]
async fn no_such_burst() {}

const COST: u32 = 6;

#[rate_limit(name = "never", per_minute = 5, cost = COST)]
async fn never_passes() {}

fn main() {
    let _ = (LATE, NEVER_FULL);
}
