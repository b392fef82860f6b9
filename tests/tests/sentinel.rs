//! Tests of a master that sentinels announce: it is found, followed, and not mistaken for another.

use std::time::{Duration, Instant};

use axum_rate_limit::{BuildError, Policy, RateLimiter, RedisCredentials};
use tests::{Loss, RedisServer, Sentinels, Storm, built, recovered, refusal};

const MANY: Policy = Policy::new("many").per_hour(1_000_000);

/// How long anything may take; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_master_is_found_and_followed() {
    let mut group = Sentinels::start(1).await;
    let limiter = built(|| group.limiter()).await;
    let _ = recovered(&limiter, &MANY, "x").await;
    let old = group.master().await.port();
    assert_eq!(group.server(old).keys().await, ["rl:{many::x}3600000"]);

    // The sentinels fail over on request, with no server lost.
    group.fail_over().await;
    let new = group.master_other_than(old).await.port();
    let start = Instant::now();
    loop {
        let _ = recovered(&limiter, &MANY, "y").await;
        let keys = group.server(new).keys().await;
        if keys.contains(&"rl:{many::y}3600000".to_owned()) {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "it does not count on the new master: {keys:?}");
    }

    // The master is killed, and comes back after another has taken over.
    group.server(old).until(&["INFO", "replication"], |info| info.contains("master_link_status:up")).await;
    group.server(new).kill();
    assert!(limiter.check(&MANY, "x").await.expect("a decision").is_degraded());
    group.master_other_than(new).await;
    let _ = recovered(&limiter, &MANY, "z").await;
    assert!(group.server(old).keys().await.contains(&"rl:{many::z}3600000".to_owned()));
    group.server(new).restart().await;
    group.server(new).until(&["INFO", "replication"], |info| info.contains("role:slave")).await;
    assert!(!recovered(&limiter, &MANY, "z").await.is_degraded());
}

#[tokio::test]
async fn sentinels_that_are_down_or_silent_hold_nobody_up() {
    let mut group = Sentinels::start(0).await;
    group.sentinels()[0].signal("STOP");
    group.sentinels()[1].kill();
    // The remaining sentinel is enough. One that never existed is no worse than one that is down.
    let mut urls = group.urls();
    urls.push("redis://127.0.0.1:1".to_owned());
    let builder = RateLimiter::builder().redis_sentinel(Sentinels::NAME, urls);
    let limiter = builder.build().await.expect("it builds");
    let _ = recovered(&limiter, &MANY, "x").await;
    group.sentinels()[0].signal("CONT");
}

#[tokio::test]
async fn a_master_is_greeted_by_its_own_user_in_its_own_database() {
    let mut group = Sentinels::start(0).await;
    let master = group.master().await;
    let () = master.call(&["ACL", "SETUSER", "app", "on", ">p/w", "~*", "&*", "+@all"]).await;
    let sentinel = &group.sentinels()[0];
    let () = sentinel.call(&["ACL", "SETUSER", "watcher", "on", ">w", "allchannels", "+@all"]).await;
    let urls: Vec<String> = group.urls().iter().map(|url| url.replace("://", "://watcher:w@")).collect();
    for master in ["redis://app:p%2Fw@main/2", "redis://app:p%2Fw@main/2?protocol=resp3"] {
        let limiter = built(|| RateLimiter::builder().redis_sentinel(master, &urls[..1])).await;
        let _ = recovered(&limiter, &MANY, "x").await;
    }
    // The credentials of `redis_credentials` are for the master, not for the sentinels.
    let settings = || RateLimiter::builder().redis_sentinel("redis://main/2", &urls[..1]);
    let settings = || settings().redis_credentials(|| async { Ok(RedisCredentials::new("app", "p/w")) });
    let _ = recovered(&built(settings).await, &MANY, "x").await;
    let mut connection = group.master().await.connection().await;
    let ((), keys): ((), Vec<String>) = redis::pipe()
        .cmd("SELECT")
        .arg(2)
        .cmd("KEYS")
        .arg("*")
        .query_async(&mut connection)
        .await
        .expect("it has databases");
    assert_eq!(keys, ["rl:{many::x}3600000"]);
}

#[tokio::test]
async fn the_sentinel_is_believed_who_has_heard_of_the_latest_failover() {
    let mut group = Sentinels::start(1).await;
    group.fail_over().await;
    let stale = RedisServer::start().await;
    let stranger = Sentinels::stranger(&stale).await;
    // The stranger is the first in the list, and often the first to answer.
    let urls = [vec![stranger.url()], group.urls()].concat();
    for round in 0..10 {
        let settings = || RateLimiter::builder().redis_sentinel(Sentinels::NAME, &urls);
        let _ = recovered(&built(settings).await, &MANY, &round.to_string()).await;
    }
    assert_eq!(stale.keys().await, [""; 0]);
    assert_eq!(group.master().await.keys().await.len(), 10);
}

/// A master that is cut off from its replicas and the sentinels refuses writes, if so configured. A limiter
/// on its side of the cut must ask where the new master is.
#[tokio::test]
async fn a_master_that_has_lost_its_replicas_is_left_for_the_new_one() {
    let mut group = Sentinels::start(0).await;
    let limiter = built(|| group.limiter()).await;
    let _ = recovered(&limiter, &MANY, "x").await;
    let new = RedisServer::start().await;
    let old = group.master().await;
    let () = old.call(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    group.appoint(&new).await;
    let _ = recovered(&limiter, &MANY, "y").await;
    assert_eq!(new.keys().await, ["rl:{many::y}3600000"]);
}

/// A master that is cut off from the sentinels may still be reachable from here, and accept writes. What it
/// counts is counted apart from everybody else.
#[tokio::test]
async fn a_master_that_was_replaced_is_left_though_it_still_answers() {
    let mut group = Sentinels::start(0).await;
    let limiter = built(|| group.limiter()).await;
    let _ = recovered(&limiter, &MANY, "x").await;
    let old = group.master().await.port();
    let mut new = RedisServer::start().await;
    // A new master that can't be reached is no better than the old one.
    new.kill();
    group.appoint(&new).await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(8) {
        assert!(!limiter.check(&MANY, "y").await.expect("a decision").is_degraded());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    new.restart().await;
    let start = Instant::now();
    while new.keys().await.is_empty() {
        assert!(start.elapsed() < PATIENCE, "it still counts on the old master");
        assert!(!limiter.check(&MANY, "y").await.expect("a decision").is_degraded(), "nothing was lost");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(group.server(old).keys().await, ["rl:{many::x}3600000", "rl:{many::y}3600000"]);
}

/// As where some sentinels know the master by its name, and others by its address.
#[tokio::test]
async fn a_master_with_two_names_is_one_master() {
    let server = RedisServer::start_with(&["--save", "", "--bind", "127.0.0.1", "127.0.0.2"]).await;
    let mut urls = Vec::new();
    let mut sentinels = Vec::new();
    for host in ["127.0.0.1", "127.0.0.2"] {
        let sentinel = Sentinels::stranger_at(host, &server).await;
        urls.push(sentinel.url());
        sentinels.push(sentinel);
    }
    let settings = || RateLimiter::builder().redis_sentinel(Sentinels::NAME, &urls);
    let limiter = built(settings).await;
    let _ = recovered(&limiter, &MANY, "x").await;
    // Sentinels give their connections names.
    let unnamed = async || -> Vec<String> {
        let clients: String = server.call(&["CLIENT", "LIST"]).await;
        let unnamed = clients.lines().filter(|client| client.contains(" name= "));
        unnamed.filter_map(|client| client.split(' ').next()).map(str::to_owned).collect()
    };
    let before = unnamed().await;
    // Longer than it takes to ask the sentinels again, which is up to 6.25 seconds.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let after = unnamed().await;
    assert!(before.iter().any(|client| after.contains(client)), "it has reconnected: {before:?} {after:?}");
}

/// Sentinels call a server the master for a while after it has become a replica, and that may take writes, of which the
/// other instances never learn.
#[tokio::test]
async fn a_replica_is_not_taken_for_the_master() {
    let (mut master, replica) = (RedisServer::start().await, RedisServer::start().await);
    let () = replica.call(&["CONFIG", "SET", "replica-read-only", "no"]).await;
    let sentinel = Sentinels::stranger(&replica).await;
    let settings = || RateLimiter::builder().redis_sentinel(Sentinels::NAME, [sentinel.url()]);
    let _ = recovered(&built(settings).await, &MANY, "x").await;
    let () = replica.call(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]).await;
    let error = refusal(settings).await;
    assert!(
        error.contains(&format!("127.0.0.1:{}: ", replica.port())) && error.contains("a replica"),
        "{error}"
    );
    // Its own master may be gone, and it is still none.
    master.kill();
    let error = refusal(settings).await;
    assert!(error.contains("a replica"), "{error}");
    let () = replica.call(&["REPLICAOF", "NO", "ONE"]).await;
    let _ = recovered(&built(settings).await, &MANY, "x").await;
}

#[tokio::test]
async fn what_is_wrong_is_told() {
    let group = Sentinels::start(0).await;
    let refusal = async |master: &str, urls: Vec<String>| {
        refusal(|| RateLimiter::builder().redis_sentinel(master, urls.clone())).await
    };
    let error = refusal("other", group.urls()).await;
    assert!(error.contains("`other`") && error.contains("unknown"), "{error}");
    let nobody = ["redis://u:p@127.0.0.1:1", "redis://127.0.0.1:2"].map(str::to_owned);
    let error = refusal("main", nobody.to_vec()).await;
    assert!(error.contains("no sentinel tells") && error.contains("refused"), "{error}");
    assert!(error.contains("`main`, as asked of 127.0.0.1:1, 127.0.0.1:2: "), "{error}");
    let mut server = RedisServer::start().await;
    let error = refusal("main", vec![server.url()]).await;
    assert!(error.contains("no sentinel tells") && error.contains("SENTINEL"), "{error}");
    // As if the sentinels announced an address that only they can reach.
    server.kill();
    group.appoint(&server).await;
    let error = refusal("main", group.urls()).await;
    assert!(
        error.contains(&format!("127.0.0.1:{}: ", server.port())) && error.contains("refused"),
        "{error}"
    );
    let built = RateLimiter::builder().redis_sentinel("main", [""; 0]).build().await;
    assert!(matches!(built, Err(BuildError::Setting { setting: "redis_sentinel", .. })), "{built:?}");
}

/// Under load, as in `chaos.rs`: what the old master had counted but not replicated is lost with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_under_load_admits_no_more_than_was_lost() {
    let mut group = Sentinels::start(2).await;
    let storm = Storm::begin(|| group.limiter()).await;
    storm.last(300).await;
    let old = group.master().await;
    let (port, from) = (old.port(), old.kept(2).await);
    old.kill();
    group.master_other_than(port).await;
    storm.recovered().await;
    let loss = Loss { from, to: Instant::now() };
    storm.last(300).await;
    let master = group.master_other_than(port).await.limiter().await;
    let tally = storm.end(&master, Some(loss)).await;
    println!("{tally:?}");
    tally.assert_right_with_degraded();
}
