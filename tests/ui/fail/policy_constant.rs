//! A `Policy` in a constant is held to the same rules, when the constant is evaluated.

use std::time::Duration;

use axum_rate_limit::Policy;

const EMPTY_NAME: Policy = Policy::new("").per_minute(5);
const ILL_FORMED_NAME: Policy = Policy::new("rl:login").per_minute(5);
const LONG_NAME: Policy =
    Policy::new("a-name-of-sixty-five-characters-is-one-more-than-a-name-may-have-").per_minute(5);
const ZERO: Policy = Policy::new("login").per_minute(0);
const ZERO_AFTER_ANOTHER: Policy = Policy::new("login").per_minute(5).per_hour(0);
const NO_TIME: Policy = Policy::new("login").quota(5, Duration::ZERO);
const TOO_LONG: Policy = Policy::new("login").quota(5, Duration::from_secs(400 * 86_400));
const NEVER_BINDS: Policy = Policy::new("login").per_minute(5).per_second(10);
const SAME_WINDOW: Policy = Policy::new("login").per_minute(5).per_minute(10);
const BOTH: Policy = Policy::new("login").per_minute(5).by_resource().by_route();
const SUCCESS: Policy = Policy::new("login").per_minute(5).status(200);
static SILENT: Policy = Policy::new("login").per_minute(5).message("");

fn main() {}
