//! Tests of the same limits on a real Redis Cluster.

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use axum_rate_limit::{Decision, Decisions, OnStoreError, Policy, RateLimiter, rate_limit};
use tests::{App, Log, RedisCluster, RedisServer, built, recovered, refusal};

#[rate_limit(name = "hundred", per_hour = 100, per_day = 1_000)]
async fn hundred() -> &'static str {
    "ok"
}

#[rate_limit(name = "wide", per_minute = 10, key = global)]
#[rate_limit(name = "narrow", per_minute = 2, by_resource, algorithm = sliding_log)]
#[rate_limit(name = "trial", per_minute = 1, shadow)]
async fn stacked(decisions: Decisions) -> String {
    decisions.get("trial").is_some_and(Decision::is_exceeded).to_string()
}

/// How long anything may take; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

const ONE: Policy = Policy::new("one").per_hour(1);

#[tokio::test]
async fn limits_hold_on_a_cluster() {
    let cluster = RedisCluster::start().await;
    let limiter = cluster.limiter().await;
    let router = Router::new().route("/hundred", get(hundred)).route("/{path}", get(stacked));
    let app = App::serve(router.layer(limiter.clone())).await;

    assert_eq!(app.admitted_at_once("/hundred", 200).await, 100);

    for exceeded in ["false", "true"] {
        assert_eq!(app.get("/a").await.body, exceeded, "the shadow is charged for what passes");
    }
    for _ in 0..5 {
        let denied = app.get("/a").await;
        assert_eq!(denied.status.as_u16(), 503);
        let limits = denied.field("ratelimit");
        assert!(limits.contains(r#""wide";r=8;"#), "what is denied is given back: {limits}");
        assert!(limits.contains(r#""narrow";r=0;"#), "{limits}");
    }
    assert_eq!(app.statuses("/b", 3).await, [200, 200, 503]);

    for key in 0..500 {
        let key = key.to_string();
        let decision = limiter.check(&ONE, key.as_str()).await.expect("a decision");
        assert!(decision.is_allowed() && !decision.is_degraded());
        assert!(!limiter.check(&ONE, key.as_str()).await.expect("a decision").is_allowed());
    }
    for node in cluster.nodes() {
        let keys = node.keys().await;
        assert!(keys.len() > 100, "{} keys on a node of three", keys.len());
        for key in keys {
            assert!(node.pttl(&key).await > 0, "{key}");
        }
    }
    limiter.reset(&ONE, "7").await.expect("it is forgotten");
    assert!(limiter.check(&ONE, "7").await.expect("a decision").is_allowed());
}

/// Units that are charged and then given back may get other requests denied, but let none pass in excess.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_quota_is_exceeded_while_others_are_given_back() {
    let cluster = RedisCluster::start().await;
    let app = App::serve(Router::new().route("/{path}", get(stacked)).layer(cluster.limiter().await)).await;
    let (one, other, third) = tokio::join!(
        app.admitted_at_once("/a", 40),
        app.admitted_at_once("/b", 40),
        app.admitted_at_once("/c", 40)
    );
    for admitted in [one, other, third] {
        assert!(admitted <= 2, "{admitted} of a quota of 2");
    }
    assert_eq!(app.get("/d").await.status.as_u16(), 200, "what was given back can be taken");
}

/// Like a single server, a node that takes no writes counts as away, and the limiter tries to reconnect until it
/// does. The log says which node it is, and why nothing is counted there.
#[tokio::test]
async fn a_node_that_takes_no_writes_is_away() {
    const MANY: Policy = Policy::new("many").per_hour(1_000_000);
    let (log, _guard) = Log::of_this_thread();
    let cluster = RedisCluster::start().await;
    let limiter = built(|| cluster.settings()).await;
    for replicas in ["1", "0"] {
        for node in cluster.nodes() {
            let () = node.call(&["CONFIG", "SET", "min-replicas-to-write", replicas]).await;
        }
        if replicas == "0" {
            let _ = recovered(&limiter, &MANY, "x").await;
            continue;
        }
        let start = Instant::now();
        let told = || log.lines_with("WARN", &["cluster", "NOREPLICAS"]).len();
        let mut degraded = true;
        while told() == 0 || start.elapsed() < Duration::from_secs(3) {
            assert!(start.elapsed() < PATIENCE, "nothing is told: {:?}", log.lines());
            degraded &= limiter.check(&MANY, "x").await.expect("a decision").is_degraded();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(degraded);
        assert!(told() <= cluster.nodes().len(), "each is told once: {:?}", log.lines());
        let keeper = cluster.keeper("rl:{many::x}3600000").await;
        let address = format!("127.0.0.1:{}: ", cluster.nodes()[keeper].port());
        let lines = log.lines_with("WARN", &["a node of the rate limiter's cluster is lost", &address]);
        assert_eq!(lines.len(), 1, "it is told which one is lost: {:?}", log.lines());
        let refusal = refusal(|| cluster.settings()).await;
        assert!(refusal.contains("NOREPLICAS"), "{refusal}");
    }
    assert!(!log.lines_with("INFO", &["cluster is reachable again"]).is_empty(), "{:?}", log.lines());
}

/// Both checks share a call, and the first must be sent again because the node has lost the scripts. If a
/// transaction charged the second one, it would be decided first.
#[tokio::test]
async fn a_check_is_not_overtaken_by_one_of_its_key_that_takes_no_script() {
    const ALL: Policy = Policy::new("ten").per_hour(10).cost(10);
    const ONE_OF_TEN: Policy = Policy::new("ten").per_hour(10);
    let cluster = RedisCluster::start().await;
    let limiter = cluster.limiter().await;
    for key in 0..20 {
        let key = key.to_string();
        for node in cluster.nodes() {
            let () = node.call(&["SCRIPT", "FLUSH"]).await;
        }
        // On one thread, all three are enqueued before any is sent.
        let (_, all, one) = tokio::join!(
            limiter.check(&ONE, key.as_str()),
            limiter.check(&ALL, key.as_str()),
            limiter.check(&ONE_OF_TEN, key.as_str())
        );
        let allowed = [all, one].map(|decision| decision.expect("a decision").is_allowed());
        assert_eq!(allowed, [true, false]);
    }
}

#[tokio::test]
async fn a_user_who_may_do_no_more_than_the_readme_says_will_do() {
    let cluster = RedisCluster::start().await;
    let rules =
        ["~rl:*", "+@read", "+@write", "+@connection", "+@transaction", "+@scripting", "+select", "+time"];
    let rules = [&["ACL", "SETUSER", "limiter", "on", ">p"][..], &rules, &["+cluster"]].concat();
    for node in cluster.nodes() {
        let () = node.call(&rules).await;
    }
    let urls = || cluster.nodes().iter().map(|node| node.url().replace("://", "://limiter:p@"));
    let limiter = built(|| RateLimiter::builder().redis_cluster(urls()).timeout(PATIENCE)).await;
    for key in 0..30 {
        for allowed in [true, false] {
            let decision = limiter.check(&ONE, key.to_string()).await.expect("a decision");
            assert_eq!((decision.is_allowed(), decision.is_degraded()), (allowed, false));
        }
    }
}

#[tokio::test]
async fn a_node_is_not_taken_for_a_server_of_its_own() {
    let cluster = RedisCluster::start().await;
    for node in cluster.nodes() {
        let error = refusal(|| RateLimiter::builder().redis(node.url())).await;
        assert!(error.contains("node of a cluster") && error.contains("`redis_cluster`"), "{error}");
    }
    // A user who may write the keys of one policy alone learns it when they are charged.
    let node = &cluster.nodes()[0];
    let () = node.call(&["ACL", "SETUSER", "app", "on", ">secret", "~own:{one:*", "+@all"]).await;
    let url = format!("redis://app:secret@127.0.0.1:{}", node.port());
    let settings = || RateLimiter::builder().redis(&url).key_prefix("own:").timeout(PATIENCE);
    let limiter = built(|| settings().on_store_error(OnStoreError::Deny)).await;
    let mut errors = Vec::new();
    for key in 0..50 {
        errors.extend(limiter.check(&ONE, key.to_string()).await.err().map(|error| error.to_string()));
    }
    assert!(!errors.is_empty(), "the other nodes have most of the slots");
    for error in errors {
        assert!(error.contains("node of a cluster") && error.contains("`redis_cluster`"), "{error}");
    }
}

/// As with a cluster behind NAT, the node can be asked, but announces an address that can't be reached.
#[tokio::test]
async fn a_node_that_is_not_where_the_cluster_says_is_told() {
    let arguments = ["--save", "", "--cluster-enabled", "yes", "--cluster-announce-port", "1"];
    let node = RedisServer::start_with(&arguments).await;
    let slots: Vec<String> = (0..16_384).map(|slot| slot.to_string()).collect();
    let assign = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str));
    let () = node.call(&assign.collect::<Vec<_>>()).await;
    node.until(&["CLUSTER", "INFO"], |info| info.contains("cluster_state:ok")).await;
    let error = refusal(|| RateLimiter::builder().redis_cluster([node.url()])).await;
    assert!(error.contains("127.0.0.1:1: ") && error.contains("refused"), "{error}");
}

/// A node that prefers to announce hostnames gives `?` as the host of nodes whose hostname it does not know.
#[tokio::test]
async fn nodes_without_a_hostname_are_found_by_their_address() {
    const MANY: Policy = Policy::new("many").per_hour(1_000);
    let cluster = RedisCluster::start().await;
    for node in cluster.nodes() {
        let preferred = ["CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname"];
        // Before version 7, nodes have no hostnames.
        if node.try_call::<()>(&preferred).await.is_err() {
            return;
        }
    }
    // The node is asked at an address at which none of the others listens.
    let asked = &cluster.nodes()[0];
    let () = asked.call(&["CONFIG", "SET", "bind", "127.0.0.1 127.0.0.2"]).await;
    for protocol in ["resp2", "resp3"] {
        let url = format!("redis://127.0.0.2:{}/?protocol={protocol}", asked.port());
        let limiter = built(|| RateLimiter::builder().redis_cluster([&url]).timeout(PATIENCE)).await;
        for key in 0..100 {
            let decision = limiter.check(&MANY, key.to_string()).await.expect("a decision");
            assert!(!decision.is_degraded(), "{protocol} {key}");
        }
    }
}
