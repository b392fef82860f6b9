//! Counts, statuses and messages may be constant expressions.
#![deny(warnings, missing_docs, missing_debug_implementations, unused_qualifications, rust_2018_idioms)]
#![forbid(unsafe_code)]

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use axum_rate_limit::{Policy, Quota, policies, rate_limit};

mod limits {
    pub(crate) const SLOW: u32 = 5;

    pub(crate) const fn twice(count: u32) -> u32 {
        2 * count
    }
}

const TEXT: &str = "Slow down.";

static ANSWER: (&u16, &&str) = (&429, &TEXT);

struct Limits;

impl Limits {
    const FAST: u32 = 50;
}

trait Limit {
    const COUNT: u32;
}

impl Limit for Limits {
    const COUNT: u32 = 60;
}

#[rate_limit(name = "literal", per_minute = 0x05, per_hour = 5_0u32, per_day = 5_00)]
async fn literal() {}

#[rate_limit(name = "path", per_minute = limits::SLOW, status = 400 + 29, message = TEXT)]
async fn path() {}

#[rate_limit(name = "reference", per_minute = 5, status = *ANSWER.0, message = *ANSWER.1)]
async fn reference() {}

#[rate_limit(name = "product", per_minute = 2 * 30)]
async fn product() {}

#[rate_limit(name = "associated", per_minute = Limits::FAST, per_hour = <Limits as Limit>::COUNT)]
async fn associated() {}

#[rate_limit(name = "call", per_minute = limits::twice(limits::SLOW), status = StatusCode::TOO_MANY_REQUESTS.as_u16())]
async fn call() {}

#[rate_limit(name = "block", per_minute = { let count = 5; 2 * count })]
async fn block() {}

#[rate_limit(name = "cast", per_minute = 5u64 as u32, message = concat!("Slow", " ", "down."))]
async fn cast() {}

#[rate_limit(name = "greatest", per_second = u32::MAX)]
async fn greatest() {}

#[rate_limit(
    name = "quotas",
    quota(1, per = "1ms"),
    quota(limits::SLOW, per = "1h 30m"),
    quota(Limits::FAST, per = "366d",)
)]
async fn quotas() {}

#[rate_limit(name = "Names.have_these-66", per_second = 1, per_minute = 2, per_hour = 3, per_day = 4)]
async fn named() {}

/// A constant of this name is the user's own.
const POLICIES: u32 = 5;

#[rate_limit(name = "own_names", per_minute = POLICIES)]
async fn own_names() {}

macro_rules! limited {
    ($(#[$attr:meta])* $handler:ident, $name:literal, $count:expr, $status:literal, $ty:ty) => {
        $(#[$attr])*
        #[rate_limit(name = $name, per_minute = $count, status = $status)]
        async fn $handler() -> $ty {
            <$ty>::default()
        }
    };
}

limited!(
    /// Made by a macro.
    made,
    "made",
    limits::SLOW + 1,
    429,
    Vec<u8>
);

fn main() {
    const LOCAL: u32 = 5;

    #[rate_limit(name = "local", per_minute = LOCAL)]
    async fn local() {}

    let _: Router = Router::new()
        .route("/literal", get(literal))
        .route("/path", get(path))
        .route("/reference", get(reference))
        .route("/product", get(product))
        .route("/associated", get(associated))
        .route("/call", get(call))
        .route("/block", get(block))
        .route("/cast", get(cast))
        .route("/greatest", get(greatest))
        .route("/quotas", get(quotas))
        .route("/named", get(named))
        .route("/own_names", get(own_names))
        .route("/made", get(made))
        .route("/local", get(local));

    let policies = policies();
    let find = |name: &str| -> &Policy { policies.iter().find(|policy| policy.name() == name).unwrap() };
    let counts = |name: &str| find(name).quotas().iter().map(Quota::limit).collect::<Vec<_>>();
    assert_eq!(counts("literal"), [5, 50, 500]);
    assert_eq!(counts("path"), [5]);
    assert_eq!(find("path").denial_status(), Some(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(find("path").denial_message(), TEXT);
    assert_eq!(find("reference").denial_status(), Some(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(find("reference").denial_message(), TEXT);
    assert_eq!(counts("product"), [60]);
    assert_eq!(counts("associated"), [50, 60]);
    assert_eq!(counts("call"), [10]);
    assert_eq!(find("call").denial_status(), Some(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(counts("cast"), [5]);
    assert_eq!(counts("greatest"), [u32::MAX]);
    assert_eq!(counts("quotas"), [1, 5, 50]);
    assert_eq!(counts("made"), [6]);
    assert_eq!(counts("local"), [5]);
}
