//! Tests of a Redis Cluster under constant load, whose nodes die, hand over and are given other slots.
//!
//! Decisions must agree with the counts, as in `chaos.rs`. What a master had counted but not yet replicated when
//! it died is lost with it, and that much may be admitted once more.

use std::time::{Duration, Instant};

use axum_rate_limit::{Policy, RateLimiter};
use tests::{Fault, Loss, RedisCluster, Storm, Tally};

/// How long all is well before and after a fault, in milliseconds.
const CALM: u64 = 300;

/// Ends a storm after the limiters have recovered.
async fn end(storm: Storm, cluster: &RedisCluster, loss: Option<Loss>) -> Tally {
    storm.recovered().await;
    storm.last(CALM).await;
    let tally = storm.end(&cluster.limiter().await, loss).await;
    println!("{tally:?}");
    tally
}

async fn counts_everywhere(limiter: &RateLimiter, keys: std::ops::Range<u32>) {
    const TWO: Policy = Policy::new("two").per_hour(2).per_day(20);
    for key in keys {
        let key = key.to_string();
        for allowed in [true, true, false] {
            let decision = limiter.check(&TWO, key.as_str()).await.expect("a decision");
            assert_eq!((decision.is_allowed(), decision.is_degraded()), (allowed, false), "{key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_dies_and_its_replica_takes_over() {
    let mut cluster = RedisCluster::start_replicated().await;
    counts_everywhere(&cluster.limiter().await, 0..200).await;
    let storm = Storm::begin(|| cluster.settings()).await;
    storm.last(CALM).await;
    let port = cluster.masters().await[1];
    let from = cluster.kill(port).await;
    cluster.taken_over_from(port).await;
    let loss = Loss { from, to: Instant::now() };
    end(storm, &cluster, Some(loss)).await.assert_right_with_degraded();
    counts_everywhere(&cluster.limiter().await, 200..400).await;

    // The old master comes back as the replica of its former replica.
    cluster.node(port).restart().await;
    cluster.node(port).until(&["INFO", "replication"], |info| info.contains("master_link_status:up")).await;
    counts_everywhere(&cluster.limiter().await, 400..600).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_hands_over_to_its_replica() {
    let cluster = RedisCluster::start_replicated().await;
    let storm = Storm::begin(|| cluster.settings()).await;
    storm.last(CALM).await;
    for port in cluster.masters().await {
        cluster.hand_over(port).await;
        storm.last(CALM).await;
    }
    end(storm, &cluster, None).await.assert_right();
    counts_everywhere(&cluster.limiter().await, 0..200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_is_stopped_for_less_than_it_takes_to_replace_it() {
    let mut cluster = RedisCluster::start_replicated().await;
    let storm = Storm::begin(|| cluster.settings()).await;
    storm.last(CALM).await;
    let port = cluster.masters().await[0];
    cluster.node(port).signal("STOP");
    storm.last(600).await;
    cluster.node(port).signal("CONT");
    end(storm, &cluster, None).await.assert_right_with_degraded();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_move_to_another_master_and_back() {
    let cluster = RedisCluster::start_replicated().await;
    let storm = Storm::begin(|| cluster.settings()).await;
    storm.last(CALM).await;
    let masters = cluster.masters().await;
    cluster.move_slots(masters[0], masters[1], 400).await;
    storm.last(CALM).await;
    cluster.move_slots(masters[1], masters[0], 400).await;
    end(storm, &cluster, None).await.assert_right();
    counts_everywhere(&cluster.limiter().await, 0..200).await;
}

/// What a node has executed is executed once, even if the reply is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_are_lost_and_connections_break() {
    let cluster = RedisCluster::start_behind_lines().await;
    let storm = Storm::begin(|| cluster.settings()).await;
    for fault in [Fault::Cut(0), Fault::Cut(3), Fault::Swallow, Fault::HangUp] {
        storm.last(CALM).await;
        cluster.set(fault);
        storm.last(600).await;
        cluster.set(Fault::None);
        storm.recovered().await;
    }
    end(storm, &cluster, None).await.assert_right_with_degraded();
}

/// However long its timeout is, a limiter does not repeat a call that may have been executed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_charged_twice_however_patient_a_limiter_is() {
    let cluster = RedisCluster::start_behind_lines().await;
    let storm = Storm::begin(|| cluster.settings().timeout(Duration::from_secs(10))).await;
    for _ in 0..20 {
        storm.last(50).await;
        cluster.set(Fault::CutOnce);
        storm.recovered().await;
    }
    end(storm, &cluster, None).await.assert_right();
}
