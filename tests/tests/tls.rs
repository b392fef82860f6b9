//! Tests of Redis over TLS, with certificates that the tests make themselves.

use std::time::Duration;

use axum_rate_limit::{Builder, Policy, RateLimiter, RedisTls};
use tests::{Authority, RedisCluster, TlsServer, built, counts, recovered, refusal};

const TWO: Policy = Policy::new("two").per_hour(2);

/// How long anything may take; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_server_is_trusted_whose_authority_is() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority, false).await;
    // There may be several authorities.
    let roots = Authority::new().certificate() + &authority.certificate();
    let tls = RedisTls::new().root_certificates(roots);
    let redis = |url: &str| RateLimiter::builder().redis(url).redis_tls(tls.clone());
    counts(|| redis(&server.url("localhost"))).await;
    let by_address = server.url("127.0.0.1") + "/1?protocol=resp3";
    counts(|| redis(&by_address)).await;
}

/// Returns settings that trust another authority.
fn elsewhere() -> RedisTls {
    RedisTls::new().root_certificates(Authority::new().certificate())
}

#[tokio::test]
async fn a_server_is_refused_whose_authority_is_unknown() {
    let server = TlsServer::start(&Authority::new(), false).await;
    let error =
        refusal(|| RateLimiter::builder().redis(server.url("localhost")).redis_tls(elsewhere())).await;
    assert!(error.contains("required") && error.contains("certificate"), "{error}");
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn a_server_is_refused_whose_authority_the_system_does_not_know() {
    let server = TlsServer::start(&Authority::new(), false).await;
    for settings in [|builder: Builder| builder, |builder: Builder| builder.redis_tls(RedisTls::new())] {
        let error = refusal(|| settings(RateLimiter::builder().redis(server.url("localhost")))).await;
        // Some systems trust no authority at all.
        assert!(
            error.contains("UnknownIssuer") || error.contains("trusts no certificate authority"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_server_is_refused_that_has_another_name() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority, false).await;
    let tls = RedisTls::new().root_certificates(authority.certificate());
    let settings = || RateLimiter::builder().redis(server.url("127.0.0.2")).redis_tls(tls.clone());
    let error = refusal(settings).await;
    // Where loopback has only one address, the connection is refused.
    assert!(error.contains("not valid for name") || error.contains("refused"), "{error}");
}

#[tokio::test]
async fn tls_where_there_is_none_is_told_and_the_reverse() {
    let authority = Authority::new();
    let mut server = TlsServer::start(&authority, false).await;
    let tls = RedisTls::new().root_certificates(authority.certificate());
    let plain = server.plain().port();
    let error = refusal(|| {
        let url = format!("rediss://127.0.0.1:{plain}");
        RateLimiter::builder().redis(url).redis_tls(tls.clone())
    })
    .await;
    assert!(error.contains("the server is there, but has") && error.contains("write `redis://`"), "{error}");
    let url = server.url("127.0.0.1").replace("rediss://", "redis://");
    let error = refusal(|| RateLimiter::builder().redis(&url)).await;
    assert!(error.contains("before it was greeted; if it wants TLS, write `rediss://`"), "{error}");
}

#[tokio::test]
async fn a_client_shows_its_certificate_where_one_is_asked_for() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority, true).await;
    let redis = |tls: &RedisTls| RateLimiter::builder().redis(server.url("localhost")).redis_tls(tls.clone());
    let tls = RedisTls::new().root_certificates(authority.certificate());
    let error = refusal(|| redis(&tls)).await;
    assert!(error.to_lowercase().contains("certificate"), "{error}");
    let certified = |by: &Authority| {
        let own = by.certify(&["app"]);
        tls.clone().client_certificate(own.certificate, own.key)
    };
    let stranger = certified(&Authority::new());
    let error = refusal(|| redis(&stranger)).await;
    assert!(error.contains("UnknownCA") || error.contains("reset"), "{error}");
    let own = certified(&authority);
    counts(|| redis(&own)).await;
}

#[tokio::test]
async fn a_server_that_restarts_is_found_again() {
    let authority = Authority::new();
    let mut server = TlsServer::start(&authority, false).await;
    let tls = RedisTls::new().root_certificates(authority.certificate());
    let redis = || RateLimiter::builder().redis(server.url("localhost")).redis_tls(tls.clone());
    let limiter = built(|| redis().timeout(PATIENCE)).await;
    assert_eq!(limiter.check(&TWO, "x").await.expect("a decision").remaining(), 1);
    server.plain().kill();
    assert!(limiter.check(&TWO, "x").await.expect("a decision").is_degraded());
    server.plain().restart().await;
    let _ = recovered(&limiter, &TWO, "y").await;
}

/// A server without a session cache refuses clients that try to resume a session.
#[tokio::test]
async fn a_server_that_keeps_no_sessions_is_connected_to_again() {
    let authority = Authority::new();
    let mut server = TlsServer::start(&authority, true).await;
    let _: String = server.plain().call(&["CONFIG", "SET", "tls-session-caching", "no"]).await;
    let own = authority.certify(&["app"]);
    let tls = RedisTls::new().root_certificates(authority.certificate());
    let tls = tls.client_certificate(own.certificate, own.key);
    for protocol in ["TLSv1.2", "TLSv1.3"] {
        let _: String = server.plain().call(&["CONFIG", "SET", "tls-protocols", protocol]).await;
        let redis = || RateLimiter::builder().redis(server.url("localhost")).redis_tls(tls.clone());
        let limiter = built(|| redis().timeout(PATIENCE)).await;
        for turn in 0..4 {
            let _: i64 = server.plain().call(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
            let _ = recovered(&limiter, &TWO, &format!("{protocol} {turn}")).await;
        }
    }
}

#[tokio::test]
async fn a_master_and_its_sentinels_are_reached() {
    let authority = Authority::new();
    let master = TlsServer::start(&authority, false).await;
    let sentinel = TlsServer::sentinel(&authority, "main", &master).await;
    let tls = RedisTls::new().root_certificates(authority.certificate());
    // A master that is given by its name alone is reached over TLS if the sentinels are.
    for master in ["main", "rediss://main/1"] {
        let builder = || RateLimiter::builder().redis_sentinel(master, [sentinel.url("localhost")]);
        counts(|| builder().redis_tls(tls.clone())).await;
    }
    let redis = || RateLimiter::builder().redis_sentinel("main", [sentinel.url("localhost")]);
    let error = refusal(|| redis().redis_tls(elsewhere())).await;
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn a_cluster_is_reached() {
    let authority = Authority::new();
    let cluster = RedisCluster::start_tls(&authority).await;
    let tls = RedisTls::new().root_certificates(authority.certificate());
    let limiter = built(|| cluster.settings().redis_tls(tls.clone()).timeout(PATIENCE)).await;
    for key in 0..50 {
        let key = key.to_string();
        for allowed in [true, true, false] {
            let decision = limiter.check(&TWO, key.as_str()).await.expect("a decision");
            assert_eq!((decision.is_allowed(), decision.is_degraded()), (allowed, false));
        }
    }
    let error = refusal(|| cluster.settings().redis_tls(elsewhere())).await;
    assert!(error.contains("UnknownIssuer") || error.contains("connect"), "{error}");
}

#[tokio::test]
async fn certificates_that_are_none_are_refused_at_once() {
    let authority = Authority::new();
    let own = authority.certify(&["app"]);
    let other = authority.certify(&["other"]);
    let root = authority.certificate();
    let trusting = || RedisTls::new().root_certificates(root.clone());
    for (tls, words) in [
        (
            RedisTls::new().root_certificates("none"),
            "`root_certificates` of `redis_tls` holds no certificate",
        ),
        (
            RedisTls::new().root_certificates(own.key.clone()),
            "`root_certificates` of `redis_tls` holds no certificate",
        ),
        (
            trusting().client_certificate("none", own.key.clone()),
            "`client_certificate` of `redis_tls` holds no",
        ),
        (trusting().client_certificate(root.clone(), "none"), "has no private key"),
        (trusting().client_certificate(own.certificate, other.key), "its own key"),
    ] {
        let error = RateLimiter::builder().redis("rediss://localhost").redis_tls(tls.clone()).build().await;
        let error = error.expect_err("it is no certificate").to_string();
        assert!(error.contains(words), "{error}");
    }
}
