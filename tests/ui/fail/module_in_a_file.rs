//! A module in a file of its own: the compiler itself refuses attributes there, on this toolchain.

use axum_rate_limit::rate_limit;

#[rate_limit(name = "x", per_minute = 5)]
#[path = "module_in_a_file/routes.rs"]
mod routes;

fn main() {}
