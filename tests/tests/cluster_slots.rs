//! Tests of a cluster whose slots move, or belong to nobody: keys are followed, and charged once.

use std::time::{Duration, Instant};

use axum_rate_limit::{ManualClock, Policy, RateLimiter};
use tests::{Log, RedisCluster, RedisServer, built, recovered};

/// How long anything may take; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// The data is there, and so is the node: nothing is to be decided without it, and nothing stays charged.
#[tokio::test]
async fn a_node_that_takes_over_by_plan_is_waited_for() {
    const HELD: Policy = Policy::new("held").per_hour(5);
    let cluster = RedisCluster::start_replicated().await;
    let limiter = cluster.limiter().await;
    let key = "rl:{held::x}3600000";
    for round in 0..2 {
        let charged = limiter.check(&HELD, "x").await.expect("a decision");
        assert_eq!((charged.remaining(), charged.is_degraded()), (4, false), "{round}");
        cluster.hand_over(cluster.nodes()[cluster.keeper(key).await].port()).await;
        if round == 0 {
            let _ = limiter.give_back(&HELD, "x", 1).await.expect("the node is there");
        } else {
            assert_eq!(limiter.check(&HELD, "x").await.expect("the node is there").remaining(), 3, "{round}");
            let _ = limiter.give_back(&HELD, "x", 2).await.expect("the node is there");
        }
        let left = cluster.limiter().await.peek(&HELD, "x").await.expect("a decision");
        assert_eq!(left.remaining(), 5, "{round}");
    }
}

/// Gives all slots of the first node to the second one, and removes the first from the cluster, as `redis-cli` does. It
/// goes on running.
async fn remove_first(cluster: &RedisCluster) {
    let [removed, heir, other] = cluster.nodes() else { panic!("it has three masters") };
    let nodes: String = removed.call(&["CLUSTER", "NODES"]).await;
    let own = nodes.lines().find(|node| node.contains("myself")).expect("it knows itself");
    let (id, range) = (own.split(' ').next().unwrap_or_default(), own.rsplit(' ').next().unwrap_or_default());
    let (first, last) = range.split_once('-').expect("it has one range of slots");
    let (first, last): (u16, u16) = (first.parse().expect("a slot"), last.parse().expect("a slot"));
    let slots: Vec<String> = (first..=last).map(|slot| slot.to_string()).collect();
    let change = |how: &'static str| -> Vec<&str> {
        ["CLUSTER", how].into_iter().chain(slots.iter().map(String::as_str)).collect()
    };
    for node in [removed, heir, other] {
        let () = node.call(&change("DELSLOTS")).await;
    }
    let () = heir.call(&change("ADDSLOTS")).await;
    for node in [heir, other] {
        node.until(&["CLUSTER", "INFO"], |info| info.contains("cluster_state:ok")).await;
        let () = node.call(&["CLUSTER", "FORGET", id]).await;
    }
    let () = removed.call(&["CLUSTER", "RESET", "HARD"]).await;
}

/// Such a node says that nobody has its former slots, and not who has them now.
#[tokio::test]
async fn a_node_that_was_removed_is_left_though_it_goes_on_running() {
    const MANY: Policy = Policy::new("many").per_hour(1_000_000);
    let cluster = RedisCluster::start().await;
    let limiter = built(|| cluster.settings().timeout(PATIENCE)).await;
    remove_first(&cluster).await;
    for key in 0..60 {
        let _ = recovered(&limiter, &MANY, &key.to_string()).await;
    }
    let [_, heir, other] = cluster.nodes() else { panic!("it has three masters") };
    assert_eq!(heir.keys().await.len() + other.keys().await.len(), 60);
    assert!(!limiter.is_degraded());
}

/// Such a node redirects to nodes of its new cluster.
#[tokio::test]
async fn a_node_that_has_joined_another_cluster_is_not_followed_there() {
    const MANY: Policy = Policy::new("many").per_hour(1_000_000);
    let (cluster, another) = (RedisCluster::start().await, RedisCluster::start().await);
    // The seed is a node that stays.
    let [removed, heir, other] = cluster.nodes() else { panic!("it has three masters") };
    let limiter = built(|| RateLimiter::builder().redis_cluster([heir.url()]).timeout(PATIENCE)).await;
    remove_first(&cluster).await;
    let port = another.nodes()[0].port().to_string();
    let () = removed.call(&["CLUSTER", "MEET", "127.0.0.1", &port]).await;
    removed.until(&["CLUSTER", "INFO"], |info| info.contains("cluster_state:ok")).await;
    let start = Instant::now();
    for round in 0.. {
        for key in 0..60 {
            let _ = recovered(&limiter, &MANY, &format!("{round}.{key}")).await;
        }
        let keys = [heir.keys().await, other.keys().await].concat();
        let counted = keys.iter().filter(|key| key.contains(&format!("{{many::{round}.")));
        // Some may be counted in the other cluster before the slots have been asked for again.
        if counted.count() == 60 {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "it counts in the other cluster");
        tokio::time::sleep(Duration::from_millis(100)).await;
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
