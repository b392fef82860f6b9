//! A `const` or a `static` `Policy` stands for all other arguments.
#![deny(warnings, missing_docs, missing_debug_implementations, rust_2018_idioms)]
#![forbid(unsafe_code)]

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use axum_rate_limit::{Policy, rate_limit};

const CONSTANT: Policy = Policy::new("constant").per_minute(5).by_resource();
static STATIC: Policy = Policy::new("static").quota(5, Duration::from_secs(90)).status(429);

mod shared {
    pub(crate) mod policies {
        use axum_rate_limit::Policy;

        pub(crate) const LOGIN: Policy = Policy::new("login").per_minute(5).message("Slow down.");
    }
}

struct Limits;

impl Limits {
    const LOGIN: Policy = Policy::new("associated").per_minute(5);
}

#[rate_limit(policy = CONSTANT)]
async fn constant() {}

#[rate_limit(policy = STATIC)]
async fn in_a_static() {}

#[rate_limit(policy = shared::policies::LOGIN)]
async fn by_path() {}

#[rate_limit(policy = crate::shared::policies::LOGIN)]
async fn by_path_from_the_root() {}

#[rate_limit(policy = Limits::LOGIN)]
async fn associated() {}

#[rate_limit(policy = CONSTANT)]
#[rate_limit(name = "own", per_hour = 50)]
#[rate_limit(policy = STATIC)]
async fn stacked() {}

#[rate_limit(policy = STATIC)]
fn router() -> Router {
    Router::new().route("/stacked", get(stacked))
}

#[rate_limit(policy = CONSTANT)]
mod module {
    use super::*;

    pub(crate) fn router() -> Router {
        Router::new().route("/associated", get(associated))
    }
}

macro_rules! limited {
    ($handler:ident, $policy:path) => {
        #[rate_limit(policy = $policy)]
        async fn $handler() {}
    };
}

limited!(made, shared::policies::LOGIN);

fn main() {
    let _: Router = router()
        .merge(module::router())
        .route("/constant", get(constant))
        .route("/in_a_static", get(in_a_static))
        .route("/by_path", get(by_path))
        .route("/by_path_from_the_root", get(by_path_from_the_root))
        .route("/made", get(made));
}
