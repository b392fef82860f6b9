//! Tests of the types in which settings and keys may be given, and of the orders.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum_rate_limit::{Algorithm, Builder, KeyPart, Policy, RateLimiter, Scope, Store};

const RESOURCES: Policy = Policy::new("resources").by_resource().per_minute(10);
const LOG: Policy =
    Policy::new("log").algorithm(Algorithm::SlidingLog).key(&[KeyPart::Ip]).status(429).per_hour(5);
static BUCKET: Policy = Policy::new("bucket")
    .algorithm(Algorithm::TokenBucket { burst: None })
    .burst(20)
    .shadow()
    .per_second(5)
    .per_hour(99);

#[test]
fn quotas_may_come_after_what_else_a_policy_has() {
    assert_eq!((RESOURCES.scope(), RESOURCES.quotas().len()), (Scope::Resource, 1));
    assert_eq!(LOG.quotas().len(), 1);
    assert_eq!(BUCKET.quotas().len(), 2);
    // It is checked all the same.
    assert!(std::panic::catch_unwind(|| Policy::new("dear").cost(6).per_minute(5)).is_err());
    assert!(std::panic::catch_unwind(|| Policy::new("both").by_route().by_resource()).is_err());
}

#[tokio::test]
async fn proxies_are_texts_or_addresses() {
    const PROXIES: &[&str] = &["10.0.0.0/8", "::1"];
    let builder = RateLimiter::builder;
    for builder in [
        builder().trusted_proxies(PROXIES),
        builder().trusted_proxies(["10.0.0.0/8"]),
        builder().trusted_proxies(vec!["10.0.0.0/8".to_owned()]),
        builder().trusted_proxies([IpAddr::from(Ipv4Addr::LOCALHOST)]),
    ] {
        assert!(builder.build().await.is_ok());
    }
}

#[tokio::test]
async fn a_prefix_and_nodes_may_be_borrowed() {
    const NODES: &[&str] = &["redis://127.0.0.1:7000"];
    let prefix = "shop:".to_owned();
    for builder in
        [RateLimiter::builder().key_prefix(&prefix), RateLimiter::builder().key_prefix(&prefix[..4])]
    {
        assert!(builder.build().await.is_ok());
    }
    let _: Builder = RateLimiter::builder().redis_cluster(NODES).redis_sentinel("main", NODES);
}

#[tokio::test]
async fn a_key_is_any_text_or_address() {
    let limiter = RateLimiter::memory();
    let left = async |key: axum_rate_limit::Key| {
        limiter.check(&RESOURCES, key).await.expect("it is decided").remaining()
    };
    for (left_after, name) in [(9, &"ada"), (9, &"bob")] {
        assert_eq!(left(name.into()).await, left_after);
    }
    assert_eq!(left(Arc::<str>::from("ada").into()).await, 8);
    assert_eq!(left(Box::<str>::from("ada").into()).await, 7);
    assert_eq!(left(Cow::from("ada").into()).await, 6);
    let ip = IpAddr::from(Ipv6Addr::LOCALHOST);
    assert_eq!(left((&ip).into()).await, 9);
    assert_eq!(left(Ipv6Addr::LOCALHOST.into()).await, 8);
}

/// What a program of several stores would write.
#[tokio::test]
async fn a_store_is_a_trait_of_the_crate() {
    fn of(store: impl Store) -> Builder {
        RateLimiter::builder().store(store)
    }
    assert!(of(tests::Away).build().await.is_ok());
}
