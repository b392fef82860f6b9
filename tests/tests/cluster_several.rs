//! Tests of several policies on different nodes of a cluster, which no script can span: what one of them denies
//! is in the end charged by none.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::response;
use axum::routing::get;
use axum_rate_limit::{
    Algorithm, Charge, Error, Key, KeyPart, ManualClock, OnStoreError, Policy, RateLimiter, rate_limit,
};
use futures_util::future::join_all;
use http::Method;
use tests::{App, Fault, RedisCluster, built};
use tokio::sync::Notify;

/// How long anything may take; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of two policies on different nodes, the second may be told so late that the window of the first has ended.
#[tokio::test]
async fn what_was_charged_to_a_window_is_not_given_back_to_the_next() {
    const WINDOW: Duration = Duration::from_secs(4);
    let few = Policy::new("few").quota(3, WINDOW);
    let uses_next_window_up = async |limiter: &RateLimiter, few: &Policy, clock: &ManualClock| {
        let over = WINDOW + Duration::from_millis(100);
        tokio::time::sleep(over).await;
        clock.advance(over);
        use_up(limiter, few).await;
    };
    charged_too_early(&few, "4000", WINDOW + Duration::from_secs(2), uses_next_window_up).await;
}

/// Of a sliding window, what was charged before its current part began counts a whole window longer.
#[tokio::test]
async fn what_was_charged_before_a_window_slid_is_not_given_back_to_what_came_after() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let few = Policy::new("sliding").quota(3, HOUR).algorithm(Algorithm::SlidingWindow);
    let slides_and_uses_up = async |limiter: &RateLimiter, few: &Policy, clock: &ManualClock| {
        clock.advance(Duration::from_secs(10));
        use_up(limiter, few).await;
    };
    charged_too_early(&few, "3600000s", Duration::from_secs(2), slides_and_uses_up).await;
}

async fn use_up(limiter: &RateLimiter, policy: &Policy) {
    while limiter.check(policy, "x").await.expect("a decision").is_allowed() {}
}

/// Charges `few` and then, after a pause, a policy on another node that denies, and asserts that the charge stays if
/// what happens `meanwhile` has used `few` up. `suffix` is the end of its key.
async fn charged_too_early(
    few: &Policy,
    suffix: &str,
    pause: Duration,
    meanwhile: impl AsyncFn(&RateLimiter, &Policy, &ManualClock),
) {
    let cluster = RedisCluster::start().await;
    let key = format!("rl:{{{}::x}}{suffix}", few.name());
    let keeper = cluster.keeper(&key).await;
    let (used, other) = used_elsewhere(&cluster, keeper).await;
    let clock = ManualClock::default();
    // Just before the next part of an hourly sliding window.
    clock.advance(Duration::from_secs(3_595));
    // It would deny without a call otherwise.
    let limiter = built(|| cluster.settings().timeout(PATIENCE).deny_memory(false).clock(&clock)).await;
    let () = cluster.nodes()[other].call(&["CLIENT", "PAUSE", &pause.as_millis().to_string(), "ALL"]).await;
    let denied = limiter.check_all([(few, "x"), (&used, "x")]);
    // The last of the numbers is what has been taken from the current window, or part of it.
    let counted = async || -> Option<String> {
        let value: Option<String> = cluster.nodes()[keeper].call(&["GET", &key]).await;
        value?.rsplit(' ').next().map(str::to_owned)
    };
    let is_used_up = async {
        while counted().await.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        meanwhile(&limiter, few, &clock).await;
        counted().await
    };
    let (denied, used_up) = tokio::join!(denied, is_used_up);
    assert!(!denied.expect("a decision")[1].is_allowed());
    // Its task may still be at work.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(counted().await, used_up);
}

/// Returns a policy that is used up for `x`, on another node than `keeper`, and that node.
async fn used_elsewhere(cluster: &RedisCluster, keeper: usize) -> (Policy, usize) {
    for name in ["used-1", "used-2", "used-3", "used-4", "used-5", "used-6"] {
        let node = cluster.keeper(&format!("rl:{{{name}::x}}3600000")).await;
        if node != keeper {
            let used = Policy::new(name).per_hour(1);
            assert!(cluster.limiter().await.check(&used, "x").await.expect("a decision").is_allowed());
            return (used, node);
        }
    }
    panic!("one of them is kept elsewhere");
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

#[rate_limit(name = "held-here", per_hour = 10, by_resource, give_back_if = succeeded)]
#[rate_limit(name = "held-there", per_hour = 10, by_resource, give_back_if = succeeded)]
async fn adds(charge: Charge, State(goes_on): State<Arc<Notify>>) {
    goes_on.notified().await;
    charge.add(3).await.expect("it is counted here");
}

fn succeeded(answer: &response::Parts) -> bool {
    answer.status.is_success()
}

/// What one node has no answer to is counted by this process, and what the other has added is given back there.
#[tokio::test]
async fn what_is_added_is_given_back_though_the_node_of_another_policy_was_silent() {
    let cluster = RedisCluster::start().await;
    let limiter = built(|| cluster.settings().timeout(Duration::from_secs(1))).await;
    let goes_on = Arc::new(Notify::new());
    let router = Router::new().route("/{path}", get(adds)).with_state(Arc::clone(&goes_on));
    let app = App::serve(router.layer(limiter)).await;
    let (path, silent) = path_across(&cluster, "held-there", "held-here").await;
    let direct = cluster.limiter().await;
    let left = async |name| {
        let policy = Policy::new(name).per_hour(10).by_resource();
        let key = Key::from(IpAddr::from(Ipv4Addr::LOCALHOST)).resource(&Method::GET, &path);
        direct.peek(&policy, key).await.expect("a decision").remaining()
    };
    let silencing = async {
        while left("held-here").await + left("held-there").await > 18 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cluster.nodes()[silent].signal("STOP");
        goes_on.notify_one();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        cluster.nodes()[silent].signal("CONT");
    };
    let (answer, ()) = tokio::join!(app.get(&path), silencing);
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
    let start = Instant::now();
    while left("held-here").await + left("held-there").await < 20 {
        assert!(start.elapsed() < Duration::from_secs(10), "{}", left("held-there").await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
