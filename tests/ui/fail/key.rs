//! Keys that are none.

use axum_rate_limit::rate_limit;
use http::request::Parts;

#[rate_limit(name = "nothing", per_minute = 5, key)]
async fn nothing() {}

#[rate_limit(name = "empty", per_minute = 5, key = ())]
async fn empty() {}

#[rate_limit(name = "text", per_minute = 5, key = "x-api-key")]
async fn text() {}

#[rate_limit(name = "bare", per_minute = 5, key = header)]
async fn bare_header() {}

#[rate_limit(name = "blank", per_minute = 5, key = (ip, header("x api key")))]
async fn blank_header() {}

#[rate_limit(name = "type", per_minute = 5, key = length)]
async fn of_another_type() {}

fn length(parts: &Parts) -> usize {
    parts.uri.path().len()
}

#[rate_limit(name = "unquoted", per_minute = 5, key = header(x-api-key), bogus = 1)]
async fn unquoted_header() {}

#[rate_limit(name = "two", per_minute = 5, key = header("a", "b"), bogus = 1)]
async fn two_headers() {}

#[rate_limit(name = "no-header", per_minute = 5, key = header())]
async fn no_header() {}

#[rate_limit(name = "builders", per_minute = 5, key = KeyPart::Ip)]
async fn of_the_builder() {}

#[rate_limit(name = "capital", per_minute = 5, key = (Ip, global))]
async fn in_capitals() {}

#[rate_limit(name = "capital", per_minute = 5, key = Global)]
async fn global_in_capitals() {}

#[rate_limit(name = "list", per_minute = 5, key = [ip, header("x-api-key")])]
async fn a_list() {}

#[rate_limit(name = "twice", per_minute = 5, key = (ip, header("a"), header("b"), header("A")))]
async fn a_header_twice() {}

#[rate_limit(name = "both", per_minute = 5, key = (ip, global))]
async fn one_and_all() {}

#[rate_limit(name = "called", per_minute = 5, key = (ip, users::by_id()), skip_if = is_internal())]
async fn functions_that_are_called() {}

#[rate_limit(name = "arguments", per_minute = 5, key = headers("x-api-key"))]
async fn headers_for_header() {}

#[rate_limit(name = "arguments", per_minute = 5, key = (ip, cookie("session")), bogus = 1)]
async fn a_function_with_arguments() {}

macro_rules! by_header {
    ($handler:ident, $header:literal) => {
        #[rate_limit(name = "made", per_minute = 5, key = header($header))]
        async fn $handler() {}
    };
}

by_header!(made_by_a_macro, "x api key");

fn main() {}
