//! Items that can't be limited.

use axum::Router;
use axum_rate_limit::rate_limit;

#[rate_limit(name = "x", per_minute = 5)]
struct Struct {
    field: u32,
}

#[rate_limit(name = "x", per_minute = 5)]
pub enum Enum {
    Variant,
}

#[rate_limit(name = "x", per_minute = 5)]
union Union {
    field: u32,
}

#[rate_limit(name = "x", per_minute = 5)]
impl Struct {
    fn router() -> Router {
        Router::new()
    }
}

#[rate_limit(name = "x", per_minute = 5)]
trait Trait {
    fn router() -> Router;
}

#[rate_limit(name = "x", per_minute = 5)]
pub use std::collections::HashMap;

#[rate_limit(name = "x", per_minute = 5)]
const CONSTANT: u32 = 5;

#[rate_limit(name = "x", per_minute = 5)]
static STATIC: u32 = 5;

#[rate_limit(name = "x", per_minute = 5)]
type Alias = Router;

#[rate_limit(name = "x", per_minute = 5)]
unsafe impl Send for Struct {}

#[rate_limit(name = "x", per_minute = 5)]
unsafe extern "C" {}

#[rate_limit(name = "x", per_minute = 5)]
macro_rules! routes {
    () => {};
}

fn main() {
    routes!();
}
