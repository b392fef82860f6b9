//! Tests of what the attributes of a program declare, and of the refusal of contradicting declarations.
#![expect(dead_code, reason = "what is declared counts, not what is called")]

use axum::http::{Method, Uri};
use axum_rate_limit::{BuildError, Policy, Quota, RateLimiter, policies, rate_limit};

#[rate_limit(name = "agreed", per_minute = 5)]
async fn one() {}

#[rate_limit(name = "agreed", per_minute = 5)]
async fn same() {}

#[rate_limit(name = "quarrel", per_minute = 5)]
async fn first() {}

#[rate_limit(name = "quarrel", per_minute = 6)]
async fn second() {}

const SHARED: Policy = Policy::new("shared").per_hour(1);

#[rate_limit(policy = SHARED)]
#[axum::debug_handler]
async fn uses_shared() {}

#[rate_limit(policy = SHARED)]
async fn uses_shared_too() {}

/// The limit does not add an eighth argument, about which Clippy would complain.
#[rate_limit(name = "many_extractors", per_minute = 5)]
async fn many_extractors(_: Method, _: Method, _: Method, _: Uri, _: Uri, _: Uri, _: String) {}

#[rate_limit(name = "upper", per_minute = 5)]
#[rate_limit(name = "lower", per_minute = 5)]
async fn stacked() {}

#[rate_limit(name = "outer", per_minute = 5)]
mod outer {
    use axum::Router;

    #[super::rate_limit(name = "inner", per_minute = 5)]
    pub(super) fn router() -> Router {
        Router::new()
    }
}

#[test]
fn a_conflict_of_functions_says_that_they_cannot_be_compared() {
    fn named() -> Policy {
        Policy::new("functions").per_minute(1).skip_if(|_| false)
    }
    let (first, second) = (Box::new(named()), Box::new(named()));
    let error = BuildError::Conflict { first, second }.to_string();
    assert!(
        error.ends_with("`const` policy (a program can't tell that their functions are the same)"),
        "{error}"
    );
}

#[test]
fn a_conflict_with_the_quotas_of_a_client_says_what_to_use_instead() {
    let (first, second) = (Box::new(SHARED), Box::new(SHARED.with_quotas(Quota::per_hour(9).into())));
    let error = BuildError::Conflict { first, second }.to_string();
    assert!(error.ends_with("where there is a request, use `quotas_by` instead)"), "{error}");
}

#[test]
fn each_attribute_has_a_place_of_its_own() {
    let line = |name: &str| {
        let policy = policies().into_iter().find(|policy| policy.name() == name);
        policy.expect("it is declared").location().line()
    };
    let upper = line("upper");
    assert_eq!(["lower", "outer", "inner"].map(line), [upper + 1, upper + 4, upper + 8]);
}

#[tokio::test]
async fn policies_are_listed_once_each() {
    let named = |name: &str| policies().into_iter().filter(|policy| policy.name() == name).count();
    assert_eq!(named("agreed"), 2, "two places");
    assert_eq!(named("shared"), 1, "one place");
    let agreed: Vec<u32> = policies()
        .into_iter()
        .filter(|policy| policy.name() == "agreed")
        .map(|policy| policy.location().line())
        .collect();
    assert_eq!(agreed, [7, 10]);
}

#[tokio::test]
async fn contradicting_declarations_are_refused_with_their_places() {
    let error = RateLimiter::builder().build().await.expect_err("they contradict");
    assert!(matches!(error, BuildError::Conflict { .. }));
    assert_eq!(
        error.to_string(),
        "two different policies are named `quarrel`: one at tests/tests/registry.rs:13:21, one at \
         tests/tests/registry.rs:16:21; give one of them another name, or make them the same `const` policy"
    );
}

#[test]
#[should_panic(expected = "two different policies are named `quarrel`")]
fn the_short_way_panics() {
    drop(RateLimiter::memory());
}
