//! A zero that hides in a constant is found when the constant is evaluated.

use axum_rate_limit::rate_limit;

mod limits {
    pub const NONE: u32 = 0;

    pub const fn none() -> u32 {
        NONE
    }
}

struct Limits;

impl Limits {
    const NONE: u32 = limits::NONE;
}

#[rate_limit(name = "x", per_minute = limits::NONE)]
async fn a_constant() {}

#[rate_limit(name = "x", per_second = Limits::NONE)]
async fn an_associated_constant() {}

#[rate_limit(name = "x", per_hour = limits::none())]
async fn a_function() {}

#[rate_limit(name = "x", per_day = 2 * 0)]
async fn a_product() {}

#[rate_limit(name = "x", per_day = 2 - 3)]
async fn below_zero() {}

#[rate_limit(name = "x", quota(limits::NONE, per = "90s"))]
async fn in_a_quota() {}

#[rate_limit(name = "x", per_minute = limits::NONE)]
fn on_a_router_function() -> axum::Router {
    axum::Router::new()
}

#[rate_limit(name = "x", per_minute = limits::NONE)]
mod on_a_module {
    pub fn router() -> axum::Router {
        axum::Router::new()
    }
}

fn main() {}
