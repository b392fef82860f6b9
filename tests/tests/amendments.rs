//! Tests of policies that are amended, at start-up and while requests are served: the same on both stores.

use std::net::{IpAddr, Ipv4Addr};

use axum::Router;
use axum::routing::get;
use axum_rate_limit::{Amendment, Key, KeyPart, Policy, Quota, Quotas, RateLimiter, rate_limit};
use tests::{App, Instances, on_both_stores};

on_both_stores!(
    a_policy_is_amended_while_requests_are_served,
    an_amendment_keeps_what_is_counted_or_how_long_a_bucket_takes,
);

#[rate_limit(name = "raised", per_minute = 1)]
async fn raised() {}

#[rate_limit(name = "put-in-shadow", per_minute = 4)]
async fn put_in_shadow() {}

#[tokio::test]
async fn an_amended_policy_replaces_the_declared_one() {
    let builder = RateLimiter::builder()
        .amend("raised", |policy| policy.per_minute(3).status(429))
        .amend("put-in-shadow", |policy| policy.shadow(true).per_minute(1));
    let limiter = builder.build().await.expect("it builds");
    let router = Router::new().route("/raised", get(raised)).route("/shadow", get(put_in_shadow));
    let app = App::serve(router.layer(limiter)).await;
    assert_eq!(app.statuses("/raised", 4).await, [200, 200, 200, 429]);
    assert_eq!(app.statuses("/shadow", 4).await, [200; 4]);
}

#[rate_limit(name = "changing", per_minute = 1)]
async fn changing() {}

async fn a_policy_is_amended_while_requests_are_served(limiter: Instances) {
    let app = App::serve(Router::new().route("/changing", get(changing)).layer(limiter.clone())).await;
    let amend = |change: fn(Amendment) -> Amendment| {
        limiter.each(|limiter| limiter.amend("changing", change).expect("it is sound"));
    };
    assert_eq!(app.statuses("/changing", 2).await, [200, 503]);
    amend(|policy| policy.per_minute(3).status(429));
    assert_eq!(app.statuses("/changing", 3).await, [200, 200, 429]);
    // An amendment changes the policy as it was built, not as it was amended last.
    amend(|policy| policy.per_hour(100));
    assert_eq!(app.statuses("/changing", 1).await, [503]);
    amend(|policy| policy.shadow(true));
    assert_eq!(app.statuses("/changing", 2).await, [200; 2]);
    // Nothing has been charged to an hourly quota so far, so this one begins anew.
    amend(|policy| policy.without_quotas().per_hour(2));
    assert_eq!(app.statuses("/changing", 3).await, [200, 200, 503]);
    amend(|policy| policy);
    assert_eq!(app.statuses("/changing", 1).await, [503]);
}

const OF_ONE_CLIENT: Policy = Policy::new("of-one-client")
    .per_hour(1)
    .quotas_by(|_| Some(Quotas::of(Quota::per_hour(9))))
    .with_quotas(Quotas::of(Quota::per_hour(2)));

#[rate_limit(policy = OF_ONE_CLIENT)]
async fn of_one_client() {}

#[tokio::test]
async fn the_quotas_of_a_certain_client_come_before_those_of_a_function() {
    let app = App::serve(Router::new().route("/", get(of_one_client)).layer(RateLimiter::memory())).await;
    assert_eq!(app.statuses("/", 3).await, [200, 200, 503]);
}

#[rate_limit(name = "counted", per_day = 10, cost = 5)]
async fn counted() {}

#[rate_limit(name = "poured", per_day = 10, cost = 5, algorithm = token_bucket)]
async fn poured() {}

async fn an_amendment_keeps_what_is_counted_or_how_long_a_bucket_takes(limiter: Instances) {
    let routes = Router::new().route("/counted", get(counted)).route("/poured", get(poured));
    let app = App::serve(routes.layer(limiter.clone())).await;
    let left = async |policy: &str| {
        let policy = limiter.policy(policy).expect("it is declared");
        limiter.peek(&policy, IpAddr::from(Ipv4Addr::LOCALHOST)).await.expect("a decision").remaining()
    };
    for policy in ["counted", "poured"] {
        assert_eq!(app.statuses(&format!("/{policy}"), 1).await, [200]);
        assert_eq!(left(policy).await, 5);
        limiter.each(|limiter| limiter.amend(policy, |policy| policy.per_day(100)).expect("it is sound"));
    }
    assert_eq!(left("counted").await, 95);
    assert_eq!(left("poured").await, 50, "half of it is used");
    // Half a day until it is full, which is what fifty take.
    limiter.each(|limiter| {
        limiter.amend("poured", |policy| policy.per_day(100).burst(40)).expect("it is sound");
    });
    assert_eq!(left("poured").await, 0, "it is in debt");
    limiter.each(|limiter| limiter.amend("counted", |policy| policy.per_hour(7)).expect("it is sound"));
    let counted = limiter.policy("counted").expect("it is declared");
    let decision = limiter.peek(&counted, IpAddr::from(Ipv4Addr::LOCALHOST)).await.expect("a decision");
    let mut left: Vec<u32> = decision.quotas().iter().map(|quota| quota.remaining).collect();
    left.sort_unstable();
    assert_eq!(left, [5, 7], "the new window begins at zero");
}

#[tokio::test]
async fn an_amendment_of_a_running_limiter_that_can_not_be_leaves_it_as_it_is() {
    const MAILS: Policy = Policy::new("mails").per_hour(1);
    let builder = RateLimiter::builder().declare([MAILS, Policy::new("mails.2").per_hour(1)]);
    let limiter = builder.amend("mails", |policy| policy.per_hour(2)).build().await.expect("it builds");
    let refused = |change: fn(Amendment) -> Amendment| {
        limiter.amend("mails", change).expect_err("it can not be").to_string()
    };
    let zero = refused(|policy| policy.per_hour(9).per_minute(0));
    assert!(zero.starts_with("amend: `mails`: ") && zero.contains("write a count from 1 to"), "{zero}");
    let pointless = refused(|policy| policy.per_minute(2));
    assert!(pointless.contains("can never bind"), "{pointless}");
    let none = refused(Amendment::without_quotas);
    assert!(none.contains("at least one quota"), "{none}");
    let taken = refused(|policy| policy.per_minute(1));
    assert!(taken.contains("`mails.2`"), "{taken}");
    let unknown = limiter.amend("mail", |policy| policy).expect_err("there is none").to_string();
    assert!(unknown.contains("did you mean `mails`?"), "{unknown}");
    let in_force = |name: &str| {
        let policies = limiter.policies();
        assert!(policies.iter().map(Policy::name).is_sorted());
        policies.iter().find(|policy| policy.name() == name).map(|policy| policy.quotas().to_vec())
    };
    assert_eq!(in_force("mails"), Some(vec![Quota::per_hour(2)]));
    assert_eq!(in_force("mails.2"), Some(vec![Quota::per_hour(1)]));
    assert_eq!(in_force("changing"), Some(vec![Quota::per_minute(1)]));
    for allowed in [true, true, false] {
        assert_eq!(limiter.check(&MAILS, "me").await.expect("a decision").is_allowed(), allowed);
    }
}

#[tokio::test]
async fn an_amendment_that_can_not_be_is_refused() {
    const MAILS: Policy = Policy::new("mails").per_hour(10);
    let refused = |name: &'static str, limit| async move {
        let builder =
            RateLimiter::builder().declare([MAILS]).amend(name, move |policy| policy.per_minute(limit));
        builder.build().await.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(refused("mails", 5).await, Ok(()));
    let unknown = refused("changin", 5).await.expect_err("there is none");
    assert_eq!(
        unknown,
        "amend: `changin`: there is no policy of that name: did you mean `changing`? \
         (`Builder::declare` adds those that no attribute declares)"
    );
    let zero = refused("mails", 0).await.expect_err("nothing would pass");
    assert!(zero.contains("write a count from 1 to"), "{zero}");
    let pointless = refused("mails", 10).await.expect_err("the hour is stricter");
    assert!(pointless.contains("can never bind"), "{pointless}");
}

const ENTITLED: Policy =
    Policy::new("entitled").per_hour(1).key(&[KeyPart::Global]).with_quotas(Quotas::of(Quota::per_hour(3)));

#[rate_limit(policy = ENTITLED)]
async fn entitled() {}

#[tokio::test]
async fn a_policy_with_quotas_of_somebody_has_them_in_a_handler_too() {
    let limiter = RateLimiter::memory();
    let app = App::serve(Router::new().route("/", get(entitled)).layer(limiter.clone())).await;
    assert_eq!(app.statuses("/", 2).await, [200; 2]);
    assert_eq!(limiter.peek(&ENTITLED, Key::global()).await.expect("a decision").remaining(), 1);
    assert_eq!(app.statuses("/", 2).await, [200, 503]);
}

/// Otherwise an operator would be told of quotas that nobody enforces.
#[tokio::test]
async fn quotas_of_somebody_are_not_amended() {
    for change in [|policy: Amendment| policy.per_hour(2), Amendment::without_quotas] {
        let error = RateLimiter::builder().amend("entitled", change).build().await.map(|_| ());
        let told = error.expect_err("nobody would enforce it").to_string();
        assert!(told.contains("`with_quotas` has set the quotas"), "{told}");
    }
    let shadowed = RateLimiter::builder().amend("entitled", |policy| policy.shadow(true)).build().await;
    let policy = shadowed.expect("it is valid").policy("entitled").expect("it is declared");
    assert_eq!((policy.quotas(), policy.is_shadow()), (&[Quota::per_hour(3)][..], true));
}
