//! Tests of proxy setups that look wrong, which are logged once, with the line to write; and of a peer that has no
//! address.

use std::net::{IpAddr, SocketAddr};

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::MockConnectInfo;
use axum::routing::get;
use axum_rate_limit::{RateLimiter, client_ip, rate_limit};
use http::Request;
use http::request::Parts;
use tests::Log;
use tower::ServiceExt as _;

#[rate_limit(name = "twice", per_hour = 2)]
async fn twice() {}

/// Sends a request from `peer` for each list of fields, and returns the statuses.
async fn statuses(limiter: RateLimiter, peer: [u8; 4], requests: &[&[(&str, &str)]]) -> Vec<u16> {
    let peer = MockConnectInfo(SocketAddr::from((peer, 1234)));
    let router: Router = Router::new().route("/", get(twice)).layer(limiter).layer(peer);
    let mut statuses = Vec::new();
    for fields in requests {
        let mut request = Request::get("/");
        for (name, value) in *fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        let answer = router.clone().oneshot(request).await.expect("infallible");
        statuses.push(answer.status().as_u16());
    }
    statuses
}

async fn trusting(networks: &[&str]) -> RateLimiter {
    let builder = RateLimiter::builder().trusted_proxies(networks.iter().copied());
    builder.build().await.expect("it builds")
}

#[tokio::test]
async fn a_proxy_may_be_named_as_a_socket_for_both_families_says_it() {
    let (one, two) = ([("x-forwarded-for", "192.0.2.11")], [("x-forwarded-for", "192.0.2.12")]);
    for network in ["::ffff:10.0.0.1", "::ffff:10.0.0.0/104", "::10.0.0.1", "::ffff:10.0.0.1/128"] {
        let limiter = trusting(&[network]).await;
        assert_eq!(
            statuses(limiter, [10, 0, 0, 1], &[&one, &one, &two, &one]).await,
            [200, 200, 200, 503],
            "{network}"
        );
    }
}

fn is_monitoring(request: &Parts) -> bool {
    client_ip(request) == Some(IpAddr::from([192, 0, 2, 1]))
}

#[rate_limit(name = "watched", per_hour = 1, skip_if = is_monitoring)]
async fn watched() {}

/// They do not see the proxy, behind which all clients would look alike.
#[tokio::test]
async fn functions_of_policies_see_the_client_behind_a_proxy() {
    let router: Router = Router::new().route("/", get(watched)).layer(trusting(&["10.0.0.0/8"]).await);
    let router = router.layer(MockConnectInfo(SocketAddr::from(([10, 0, 0, 1], 1234))));
    for (client, expected) in [("192.0.2.1", [200, 200]), ("192.0.2.2", [200, 503])] {
        for status in expected {
            let request = Request::get("/").header("x-forwarded-for", client);
            let request = request.body(Body::empty()).expect("a request");
            let answer = router.clone().oneshot(request).await.expect("infallible");
            assert_eq!(answer.status().as_u16(), status, "{client}");
        }
    }
    let (elsewhere, ()) = Request::new(()).into_parts();
    assert_eq!(client_ip(&elsewhere), None);
}

// This is a single test, since each of these warnings is logged once per process.
#[tokio::test]
async fn what_looks_wrong_is_told_once() {
    let (log, _guard) = Log::of_this_thread();
    let field = |value| [("x-forwarded-for", value)];
    let (one, two, three) = (field("192.0.2.1"), field("192.0.2.2"), field("192.0.2.3"));
    let by_three: [&[(&str, &str)]; 3] = [&one, &two, &three];

    // All is well.
    assert_eq!(statuses(trusting(&["10.0.0.0/8"]).await, [10, 0, 0, 1], &by_three).await, [200; 3]);
    assert_eq!(statuses(trusting(&[]).await, [192, 0, 2, 9], &[&[]]).await, [200]);
    assert_eq!(log.lines(), Vec::<String>::new());

    // No proxy is trusted, or not this one: three clients share one quota.
    for networks in [&[][..], &["10.0.0.0/8"]] {
        assert_eq!(statuses(trusting(networks).await, [172, 16, 0, 9], &by_three).await, [200, 200, 503]);
    }
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("WARN") && lines[0].contains(".trusted_proxies([\"172.16.0.9\"])"),
        "{lines:?}"
    );

    // A trusted proxy does not write the header that is read.
    let other = [("cf-connecting-ip", "192.0.2.1")];
    let silent: [&[(&str, &str)]; 2] = [&other, &[]];
    assert_eq!(statuses(trusting(&["10.0.0.0/8"]).await, [10, 0, 0, 1], &silent).await, [200; 2]);
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[1].contains("ClientIpHeader::Single(HeaderName::from_static(\"cf-connecting-ip\"))"),
        "{lines:?}"
    );

    // A trusted proxy writes something else than an address.
    let nonsense = format!("{}unknown", "x".repeat(5_000));
    let nonsense = field(&nonsense);
    assert_eq!(
        statuses(trusting(&["10.0.0.0/8"]).await, [10, 0, 0, 1], &[&nonsense, &nonsense, &nonsense]).await,
        [200, 200, 503]
    );
    let lines = log.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[2].contains("xunknown`") && lines[2].len() < 600, "{lines:?}");
}

/// Everyone can choose who they are then.
#[tokio::test]
async fn trust_in_everyone_is_doubted_when_the_limiter_is_built() {
    let (log, _guard) = Log::of_this_thread();
    for everyone in ["0.0.0.0/0", "::/0"] {
        let limiter = trusting(&["10.0.0.0/8", everyone]).await;
        let lines = log.lines();
        assert!(lines.last().is_some_and(|line| line.contains("everyone is a trusted proxy")), "{lines:?}");
        drop(limiter);
    }
    assert_eq!(log.lines().len(), 2);
}

/// As in the guide for a Unix socket: a layer outside the limiter supplies an address.
#[tokio::test]
async fn a_peer_without_an_address_may_be_given_one() {
    let (one, two) = ([("x-forwarded-for", "6.6.6.6, 192.0.2.1")], [("x-forwarded-for", "192.0.2.2")]);
    let requests: [&[(&str, &str)]; 4] = [&one, &one, &two, &one];
    let limiter = trusting(&["127.0.0.1"]).await;
    assert_eq!(statuses(limiter, [127, 0, 0, 1], &requests).await, [200, 200, 200, 503]);
}
