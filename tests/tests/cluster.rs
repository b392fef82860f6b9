//! Tests of the same limits on a real Redis Cluster, where no script can span several nodes.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use axum_rate_limit::{
    Charge, Decision, Decisions, Error, Key, KeyPart, ManualClock, OnStoreError, Policy, RateLimiter,
    rate_limit,
};
use futures_util::future::join_all;
use http::Method;
use tests::{App, Fault, Log, RedisCluster, RedisServer, built, recovered, refusal};
use tokio::sync::Notify;

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

/// Of two policies on different nodes, the second may be told so late that the window of the first has ended.
#[tokio::test]
async fn what_was_charged_to_a_window_is_not_given_back_to_the_next() {
    const WINDOW: Duration = Duration::from_secs(4);
    const FEW: Policy = Policy::new("few").quota(3, WINDOW);
    let cluster = RedisCluster::start().await;
    let limiter = cluster.limiter().await;
    let keeper =
        async |policy: &str, window: u64| cluster.keeper(&format!("rl:{{{policy}::x}}{window}")).await;
    let few = keeper("few", 4_000).await;
    let mut names = ["used-1", "used-2", "used-3", "used-4", "used-5", "used-6"].into_iter();
    let (used, other) = loop {
        let name = names.next().expect("one of them is kept elsewhere");
        let node = keeper(name, 3_600_000).await;
        if node != few {
            break (Policy::new(name).per_hour(1), node);
        }
    };
    assert!(limiter.check(&used, "x").await.expect("a decision").is_allowed());
    // It would deny without a call otherwise.
    let limiter = built(|| cluster.settings().timeout(PATIENCE).deny_memory(false)).await;
    let pause = (WINDOW + Duration::from_secs(2)).as_millis().to_string();
    let () = cluster.nodes()[other].call(&["CLIENT", "PAUSE", &pause, "ALL"]).await;
    let denied = limiter.check_all([(&FEW, "x"), (&used, "x")]);
    let uses_next_window_up = async {
        let left = loop {
            if let Ok(left @ 1..) = u64::try_from(cluster.nodes()[few].pttl("rl:{few::x}4000").await) {
                break left;
            }
        };
        tokio::time::sleep(Duration::from_millis(left + 100)).await;
        for _ in 0..3 {
            assert!(limiter.check(&FEW, "x").await.expect("a decision").is_allowed());
        }
    };
    let (denied, ()) = tokio::join!(denied, uses_next_window_up);
    assert!(!denied.expect("a decision")[1].is_allowed());
    // Its task may still be at work.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(limiter.peek(&FEW, "x").await.expect("a decision").remaining(), 0);
}

/// If a cluster serves although some slots are unassigned, a node that reports such a slot is not at fault.
#[tokio::test]
async fn a_slot_that_nobody_has_is_no_matter_of_the_others() {
    const MANY: Policy = Policy::new("many").per_hour(1_000_000);
    let (log, _guard) = Log::of_this_thread();
    let cluster = RedisCluster::start().await;
    for node in cluster.nodes() {
        let () = node.call(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]).await;
    }
    let limiter = built(|| cluster.settings().timeout(PATIENCE)).await;
    let stored = |key: &str| format!("rl:{{many::{key}}}3600000");
    let keeper = cluster.keeper(&stored("x")).await;
    let mut other = 0;
    while cluster.keeper(&stored(&other.to_string())).await != keeper {
        other += 1;
    }
    let node = &cluster.nodes()[keeper];
    let slot: i64 = node.call(&["CLUSTER", "KEYSLOT", &stored("x")]).await;
    let () = node.call(&["CLUSTER", "DELSLOTS", &slot.to_string()]).await;
    node.until(&["CLUSTER", "INFO"], |info| info.contains("cluster_state:ok")).await;
    for _ in 0..50 {
        assert!(limiter.check(&MANY, "x").await.expect("a decision").is_degraded());
        assert!(!limiter.check(&MANY, other.to_string()).await.expect("a decision").is_degraded());
    }
    assert_eq!(log.lines_with("ERROR", &["requests can't be counted", "slot not served"]).len(), 1);
    assert_eq!(log.lines_with("WARN", &[]), [""; 0]);
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

#[rate_limit(name = "outer", per_hour = 10, key = header("x-key"))]
#[rate_limit(name = "inner", per_hour = 1, key = header("x-key"))]
async fn nested() {}

/// This holds however many requests come at once, and are charged by `outer` before `inner` denies them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_policy_denies_is_in_the_end_charged_by_none() {
    let cluster = RedisCluster::start().await;
    let mut apps = Vec::new();
    for _ in 0..3 {
        let limiter = built(|| cluster.settings().timeout(PATIENCE).deny_memory(false)).await;
        apps.push(Arc::new(App::serve(Router::new().route("/", get(nested)).layer(limiter)).await));
    }
    for key in 0..60 {
        let asked = (0..24).map(|number: usize| {
            let (app, key) = (Arc::clone(&apps[number % 3]), key.to_string());
            tokio::spawn(
                async move { app.get_with("/", [("x-key", key.as_str())]).await.status.is_success() },
            )
        });
        let passed = join_all(asked).await.into_iter().filter(|passed| *passed.as_ref().expect("no panic"));
        assert!(passed.count() <= 1);
    }
    let start = Instant::now();
    loop {
        let mut used = Vec::new();
        for node in cluster.nodes() {
            for key in node.keys().await.iter().filter(|key| key.contains("{outer::")) {
                used.push(node.call::<i64>(&["GET", key]).await);
            }
        }
        if used.iter().all(|used| *used <= 1) {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "not all is given back: {used:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
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

#[rate_limit(name = "charged", per_hour = 10, by_resource)]
#[rate_limit(name = "tried", per_hour = 10, by_resource, shadow)]
async fn tried() -> &'static str {
    "ok"
}

#[rate_limit(name = "once", per_hour = 1, by_resource)]
#[rate_limit(name = "often", per_hour = 10, by_resource)]
async fn once() -> &'static str {
    "ok"
}

/// Returns a path whose requests the policies `one` and `other` count on different nodes, and the node of
/// `other`.
async fn path_across(cluster: &RedisCluster, one: &str, other: &str) -> (String, usize) {
    for path in 0.. {
        let key = |policy: &str| format!("rl:{{{policy}::127.0.0.1::GET:/{path}}}3600000");
        let (one, other) = (cluster.keeper(&key(one)).await, cluster.keeper(&key(other)).await);
        if one != other {
            return (format!("/{path}"), other);
        }
    }
    unreachable!("there are paths without end")
}

#[tokio::test]
async fn a_policy_in_shadow_on_a_silent_node_denies_nothing() {
    let cluster = RedisCluster::start().await;
    let settings = || cluster.settings().timeout(Duration::from_secs(5)).on_store_error(OnStoreError::Deny);
    let app = App::serve(Router::new().route("/{path}", get(tried)).layer(built(settings).await)).await;
    let (path, silent) = path_across(&cluster, "charged", "tried").await;
    cluster.nodes()[silent].signal("STOP");
    let answer = app.get(&path).await;
    cluster.nodes()[silent].signal("CONT");
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
    let limits = answer.field("ratelimit");
    assert!(limits.contains(r#""charged";r=9;"#), "{limits}");
}

#[tokio::test]
async fn what_one_policy_denies_is_denied_though_the_node_of_another_is_silent() {
    let cluster = RedisCluster::start().await;
    let settings = || cluster.settings().timeout(Duration::from_secs(5)).on_store_error(OnStoreError::Allow);
    let app = App::serve(Router::new().route("/{path}", get(once)).layer(built(settings).await)).await;
    let (path, silent) = path_across(&cluster, "once", "often").await;
    assert_eq!(app.get(&path).await.status.as_u16(), 200);
    cluster.nodes()[silent].signal("STOP");
    let answer = app.get(&path).await;
    cluster.nodes()[silent].signal("CONT");
    assert_eq!(answer.status.as_u16(), 503);
    let limits = answer.field("ratelimit");
    assert!(limits.contains(r#""once";r=0;"#), "{limits}");
}

const A: Policy = Policy::new("a").per_hour(10).key(&[KeyPart::Global]);
const B: Policy = Policy::new("b").per_hour(10).key(&[KeyPart::Global]);
const C: Policy = Policy::new("c").per_hour(10).key(&[KeyPart::Global]);
const D: Policy = Policy::new("d").per_hour(10).key(&[KeyPart::Global]);
const E: Policy = Policy::new("e").per_hour(10).key(&[KeyPart::Global]);

#[rate_limit(policy = A)]
#[rate_limit(policy = B)]
async fn two() -> &'static str {
    "ok"
}

#[rate_limit(policy = C)]
#[rate_limit(policy = D)]
#[rate_limit(policy = E)]
async fn three() -> &'static str {
    "ok"
}

/// All that was charged is given back, whether or not the policy that is too late is the last one.
#[tokio::test]
async fn who_is_told_that_it_took_too_long_is_charged_nothing() {
    let cluster = RedisCluster::start_behind_lines().await;
    // The timeout allows for one answer over these lines, but not for two in a row.
    let settings =
        || cluster.settings().timeout(Duration::from_millis(3_500)).on_store_error(OnStoreError::Deny);
    let router = Router::new().route("/two", get(two)).route("/three", get(three));
    let app = App::serve(router.layer(built(settings).await)).await;
    for path in ["/two", "/three"] {
        assert_eq!(app.get(path).await.status.as_u16(), 200);
    }
    // Connecting runs transactions, so it must come before the calls are counted.
    let limiter = cluster.limiter().await;
    let before = cluster.calls().await;
    for path in ["/two", "/three"] {
        cluster.set(Fault::Delay(Duration::from_secs(2)));
        assert_eq!(app.get(path).await.status.as_u16(), 503);
        cluster.set(Fault::None);
    }
    let (start, mut peeks) = (Instant::now(), 0);
    for policy in [A, B, C, D, E] {
        loop {
            peeks += 1;
            if limiter.peek(&policy, Key::global()).await.expect("a decision").remaining() == 9 {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{} is still charged", policy.name());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    // For each path, two policies are charged, and both are given back.
    assert_eq!(cluster.calls().await - before, 8 + peeks, "what is too late is not begun");
}

#[rate_limit(name = "roomy", per_hour = 1_000, key = global)]
#[rate_limit(policy = TIGHT)]
#[rate_limit(name = "each", per_hour = 1_000, by_resource)]
async fn flooded() -> &'static str {
    "ok"
}

const TIGHT: Policy = Policy::new("tight").per_hour(1).key(&[KeyPart::Global]);

#[tokio::test]
async fn a_flood_of_what_several_policies_deny_does_not_reach_the_nodes() {
    let (cluster, clock) = (RedisCluster::start().await, ManualClock::default());
    let limiter = built(|| cluster.settings().timeout(PATIENCE).clock(&clock)).await;
    let app = App::serve(Router::new().route("/{path}", get(flooded)).layer(limiter.clone())).await;
    assert_eq!(app.statuses("/a", 2).await, [200, 503]);
    let denied = app.get("/a").await.field("ratelimit");
    for limits in [r#""roomy";r=999;"#, r#""tight";r=0;"#, r#""each";r=999;"#] {
        assert!(denied.contains(limits), "{denied}");
    }

    let before = cluster.calls().await;
    assert_eq!(app.statuses("/a", 100).await, [503; 100]);
    assert_eq!(cluster.calls().await - before, 0);

    // A request for another resource only peeks at the other two policies.
    assert_eq!(app.get("/b").await.status.as_u16(), 503);
    assert_eq!(cluster.calls().await - before, 2, "none takes, and none gives back");

    // A denial by Redis is remembered for a second. Then Redis is asked again.
    clock.advance(Duration::from_secs(2));
    let before = cluster.calls().await;
    assert_eq!(app.statuses("/a", 2).await, [503, 503]);
    assert!(cluster.calls().await > before);

    limiter.reset(&TIGHT, Key::global()).await.expect("it is forgotten");
    assert_eq!(app.statuses("/a", 2).await, [200, 503], "it is known at once");
    let _ = limiter.give_back(&TIGHT, Key::global(), 1).await.expect("a decision");
    assert_eq!(app.statuses("/a", 2).await, [200, 503], "it is known at once");
}

/// Notified when the handler [`dear`] may go on.
static KNOWN: Notify = Notify::const_new();

#[rate_limit(name = "here", per_hour = 10, by_resource)]
#[rate_limit(name = "there", per_hour = 10, by_resource)]
async fn dear(charge: Charge) -> Result<(), Error> {
    KNOWN.notified().await;
    charge.add(3).await
}

#[tokio::test]
async fn what_is_charged_later_is_charged_though_the_node_of_another_policy_is_silent() {
    let cluster = RedisCluster::start().await;
    let settings = || cluster.settings().timeout(Duration::from_secs(5)).on_store_error(OnStoreError::Deny);
    let limiter = built(settings).await;
    let app = App::serve(Router::new().route("/{path}", get(dear)).layer(limiter)).await;
    let (path, silent) = path_across(&cluster, "there", "here").await;
    let asking = async {
        let keys = async || {
            [
                cluster.nodes()[0].keys().await,
                cluster.nodes()[1].keys().await,
                cluster.nodes()[2].keys().await,
            ]
            .concat()
        };
        while keys().await.len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cluster.nodes()[silent].signal("STOP");
        KNOWN.notify_one();
    };
    let (answer, ()) = tokio::join!(app.get(&path), asking);
    cluster.nodes()[silent].signal("CONT");
    assert_eq!(answer.status.as_u16(), 503, "one of them has no answer");
    let there = Policy::new("there").per_hour(10).by_resource();
    let key = Key::from(IpAddr::from(Ipv4Addr::LOCALHOST)).resource(&Method::GET, &path);
    let left = cluster.limiter().await.peek(&there, key).await.expect("a decision").remaining();
    assert_eq!(left, 6);
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

/// The move of a key's slot from the node that keeps the key to another.
struct Move<'c> {
    from: &'c RedisServer,
    to: &'c RedisServer,
    slot: String,
    ids: [String; 2],
}

impl<'c> Move<'c> {
    /// Returns a move to the next node.
    async fn of(cluster: &'c RedisCluster, key: &str) -> Self {
        let next = cluster.keeper(key).await + 1;
        Self::to(cluster, next % cluster.nodes().len(), key).await
    }

    async fn to(cluster: &'c RedisCluster, node: usize, key: &str) -> Self {
        let (from, to) = (&cluster.nodes()[cluster.keeper(key).await], &cluster.nodes()[node]);
        let slot: u64 = from.call(&["CLUSTER", "KEYSLOT", key]).await;
        let ids = [from.call(&["CLUSTER", "MYID"]).await, to.call(&["CLUSTER", "MYID"]).await];
        Self { from, to, slot: slot.to_string(), ids }
    }

    /// Begins the move: from now on, the old node redirects commands for keys that it lacks to the new one.
    async fn begin(&self) {
        let [from, to] = &self.ids;
        let () = self.to.call(&["CLUSTER", "SETSLOT", &self.slot, "IMPORTING", from]).await;
        let () = self.from.call(&["CLUSTER", "SETSLOT", &self.slot, "MIGRATING", to]).await;
    }

    async fn end(&self) {
        for node in [self.to, self.from] {
            let () = node.call(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &self.ids[1]]).await;
        }
    }
}

#[tokio::test]
async fn who_asks_for_keys_that_are_about_to_move_waits_until_they_have() {
    const PAIR: Policy = Policy::new("pair").per_hour(1_000).per_day(2_000);
    let cluster = RedisCluster::start().await;
    let limiter = cluster.limiter().await;
    let moved = Move::of(&cluster, "rl:{pair::x}3600000").await;
    moved.begin().await;

    // The new node has neither of the two keys yet, so it asks to try again later.
    let check = tokio::spawn(async move { limiter.check(&PAIR, "x").await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!check.is_finished(), "{:?}", check.await);
    moved.end().await;
    let decision = check.await.expect("it does not panic").expect("a decision");
    assert!(decision.is_allowed() && !decision.is_degraded());
}

/// A node without slots becomes known only by a redirection to it.
#[tokio::test]
async fn a_node_without_slots_is_asked_for_keys_that_move_there() {
    const MANY: Policy = Policy::new("many").per_hour(1_000);
    let mut cluster = RedisCluster::start().await;
    let limiter = cluster.limiter().await;
    cluster.join().await;
    let key = "rl:{many::x}3600000";
    let moved = Move::to(&cluster, 3, key).await;
    moved.begin().await;
    // The limiter has to connect to the node first.
    assert_eq!(recovered(&limiter, &MANY, "x").await.remaining(), 999);
    assert_eq!(limiter.check(&MANY, "x").await.expect("a decision").remaining(), 998);
    moved.end().await;
    assert_eq!(limiter.check(&MANY, "x").await.expect("a decision").remaining(), 997);
    assert_eq!(cluster.nodes()[3].keys().await, [key]);
}

/// A node that prefers to announce no hosts means the host at which it was asked.
#[tokio::test]
async fn keys_that_move_are_followed_though_no_host_is_told() {
    const MANY: Policy = Policy::new("many").per_hour(1_000);
    let cluster = RedisCluster::start().await;
    for node in cluster.nodes() {
        let preferred = ["CONFIG", "SET", "cluster-preferred-endpoint-type", "unknown-endpoint"];
        // Before version 7, nodes always announce hosts.
        if node.try_call::<()>(&preferred).await.is_err() {
            return;
        }
    }
    let limiter = cluster.limiter().await;
    let key = "rl:{many::x}3600000";
    let moved = Move::of(&cluster, key).await;
    moved.begin().await;
    assert_eq!(limiter.check(&MANY, "x").await.expect("a decision").remaining(), 999);
    moved.end().await;
    assert_eq!(limiter.check(&MANY, "x").await.expect("a decision").remaining(), 998);
    assert_eq!(moved.to.keys().await, [key]);
}

/// If a command of a transaction is refused because the key has moved, nothing of the transaction is executed.
#[tokio::test]
async fn a_counter_that_moves_while_it_has_much_room_is_charged_once() {
    const MANY: Policy = Policy::new("many").per_hour(1_000);
    let cluster = RedisCluster::start().await;
    let clock = ManualClock::default();
    let limiter = built(|| cluster.settings().timeout(PATIENCE).clock(&clock)).await;
    let key = "rl:{many::x}3600000";
    let moved = Move::of(&cluster, key).await;
    let Move { from, to, .. } = moved;
    let mut remaining = 1_000;
    let mut charged = async || {
        let decision = limiter.check(&MANY, "x").await.expect("a decision");
        remaining -= 1;
        assert_eq!((decision.remaining(), decision.is_degraded()), (remaining, false));
    };
    charged().await;
    // The counter is known to have plenty of room, so it is charged by transactions. Once it has moved, the first
    // of them is refused.
    for (phase, charges, transactions) in
        [("before", 1, 1), ("moving", 1, 1), ("moved", 1, 1), ("after", 3, 4)]
    {
        match phase {
            "moving" => moved.begin().await,
            "moved" => {
                let port = to.port().to_string();
                let () = from.call(&["MIGRATE", "127.0.0.1", &port, key, "0", "10000"]).await;
            }
            "after" => moved.end().await,
            _ => {}
        }
        let before = from.runs("multi").await + to.runs("multi").await;
        for _ in 0..charges {
            charged().await;
        }
        let begun = from.runs("multi").await + to.runs("multi").await - before;
        assert_eq!(begun, transactions, "{phase}");
    }
    let used: u64 = to.call(&["GET", key]).await;
    assert_eq!(used, 7);
    assert!(to.pttl(key).await > 0);
}
