//! A name alone is no `Policy`.

use axum_rate_limit::Policy;

const NO_QUOTA: Policy = Policy::new("login");
const NO_QUOTA_BUT_A_STATUS: Policy = Policy::new("login").status(429);

fn main() {}
