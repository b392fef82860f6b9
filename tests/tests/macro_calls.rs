//! Tests of policies that one macro call declares, all of which have the location of that call.
#![expect(dead_code, reason = "what is declared counts, not what is called")]

use axum::http::request::Parts;
use axum_rate_limit::{BuildError, RateLimiter, policies, rate_limit};

fn header(parts: &Parts, name: &str) -> Option<String> {
    Some(parts.headers.get(name)?.to_str().ok()?.to_owned())
}

fn user(parts: &Parts) -> Option<String> {
    header(parts, "x-user")
}

fn tenant(parts: &Parts) -> Option<String> {
    header(parts, "x-tenant")
}

macro_rules! limited {
    ($name:literal: $($handler:ident $key:path),*) => {
        $(#[rate_limit(name = $name, per_minute = 1, key = $key)] async fn $handler() {})*
    };
}

limited!("agreed": one user, same user);
limited!("quarrel": first user, second tenant);

#[tokio::test]
async fn different_functions_are_different_rules() {
    let error = RateLimiter::builder().build().await.expect_err("they contradict");
    let BuildError::Conflict { first, second } = error else { panic!("{error}") };
    assert_eq!((first.name(), first.location()), ("quarrel", second.location()));
}

#[test]
fn one_function_is_one_rule() {
    let named = |name: &str| policies().into_iter().filter(|policy| policy.name() == name).count();
    assert_eq!(named("agreed"), 1);
    assert_eq!(named("quarrel"), 2);
}
