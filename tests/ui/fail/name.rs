//! A name that is missing, empty, ill-formed, too long or no literal.

use axum_rate_limit::rate_limit;

const NAME: &str = "login";

#[rate_limit(per_minute = 5)]
async fn missing() {}

#[rate_limit(name = "", per_minute = 5)]
async fn empty() {}

#[rate_limit(name = "log in", per_minute = 5)]
async fn a_space() {}

#[rate_limit(name = "rl:login", per_minute = 5)]
async fn a_colon() {}

#[rate_limit(name = "größe", per_minute = 5)]
async fn no_ascii() {}

#[rate_limit(name = "two\nlines", per_minute = 5)]
async fn a_line_break() {}

#[rate_limit(name = "a-name-of-sixty-five-characters-is-one-more-than-a-name-may-have-", per_minute = 5)]
async fn too_long() {}

#[rate_limit(name = NAME, per_minute = 5)]
async fn a_constant() {}

#[rate_limit(name = concat!("log", "in"), per_minute = 5)]
async fn a_macro() {}

#[rate_limit(name = "log" + "in", per_minute = 5)]
async fn a_sum() {}

#[rate_limit(name = login, per_minute = 5)]
async fn no_quotes() {}

#[rate_limit(name = 'l', per_minute = 5)]
async fn a_character() {}

#[rate_limit(name = b"login", per_minute = 5)]
async fn bytes() {}

#[rate_limit(name = 5, per_minute = 5)]
async fn a_number() {}

#[rate_limit(name, per_minute = 5)]
async fn no_value() {}

#[rate_limit(name = , per_minute = 5)]
async fn nothing_after_the_sign() {}

#[rate_limit(name("login"), per_minute = 5)]
async fn parentheses() {}

#[rate_limit(name: "login", per_minute = 5)]
async fn a_colon_for_the_sign() {}

#[rate_limit("login", per_minute = 5)]
async fn no_argument_name() {}

fn main() {}
