//! Tests of how a limiter's one connection is lost, replaced and closed.

use std::time::{Duration, Instant};

use axum_rate_limit::{Policy, RateLimiter};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tests::{Fault, FaultProxy, RedisServer, built, recovered, refusal};

/// How long a limiter may take to notice that its server is back.
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns the number of connections to the server, including the one that this function opens.
async fn clients(server: &RedisServer) -> usize {
    let mut connection = server.connection().await;
    let clients: String =
        redis::cmd("CLIENT").arg("LIST").query_async(&mut connection).await.expect("CLIENT LIST answers");
    clients.lines().count()
}

/// Returns the ids of the limiters' connections.
async fn connections(server: &RedisServer) -> Vec<String> {
    let clients: String = server.call(&["CLIENT", "LIST"]).await;
    let of_limiters = clients.lines().filter(|line| !line.contains("cmd=client"));
    of_limiters.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// Makes sure that a connection which `lose` breaks while no check is made is replaced before the next check.
async fn is_replaced(lose: impl AsyncFnOnce(&RedisServer)) {
    const TWO: Policy = Policy::new("two").per_hour(2);
    let server = RedisServer::start().await;
    let builder = RateLimiter::builder().redis(server.url()).timeout(Duration::from_secs(1));
    let limiter = builder.build().await.expect("it builds");
    assert!(!limiter.check(&TWO, "x").await.expect("a decision").is_degraded());
    let before = connections(&server).await;
    lose(&server).await;
    let start = Instant::now();
    while connections(&server).await.iter().all(|connection| before.contains(connection)) {
        assert!(start.elapsed() < PATIENCE, "it does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The new connection is there, but may not serve yet.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = limiter.check(&TWO, "x").await.expect("a decision");
    assert_eq!((second.is_degraded(), second.remaining()), (false, 0));
}

/// A server may close connections that have long been idle. No request should be the one to find out.
#[tokio::test]
async fn a_connection_that_is_closed_while_nobody_asks_is_replaced() {
    is_replaced(async |server| {
        let _: i64 = server.call(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    })
    .await;
}

/// The same holds if the server disappears without closing the connection.
#[tokio::test]
async fn a_connection_that_falls_silent_while_nobody_asks_is_replaced() {
    is_replaced(async |server| {
        server.signal("STOP");
        // The limiter pings after five idle seconds, three times, and waits for one second each time.
        tokio::time::sleep(Duration::from_secs(10)).await;
        server.signal("CONT");
    })
    .await;
}

/// A check that waits on a lost connection may learn of the loss long after another connection has taken over.
#[tokio::test]
async fn what_became_of_a_connection_before_says_nothing_of_the_one_that_serves() {
    const MANY: Policy = Policy::new("many").per_hour(1_000_000);
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.port());
    let limiter = built(|| RateLimiter::builder().redis(proxy.url()).timeout(PATIENCE)).await;
    proxy.set(Fault::Swallow);
    let mut late = Box::pin(limiter.check(&MANY, "x"));
    assert!(late.as_mut().now_or_never().is_none(), "it waits");
    // Lets the check be sent before the line is cut.
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.set(Fault::None);
    proxy.cut();
    let _ = recovered(&limiter, &MANY, "x").await;
    assert!(late.await.expect("a decision").is_degraded());
    assert!(!limiter.check(&MANY, "x").await.expect("a decision").is_degraded());
}

#[tokio::test]
async fn a_closed_limiter_holds_no_connection() {
    const TWO: Policy = Policy::new("two").per_hour(2);
    let server = RedisServer::start().await;
    let limiter = server.limiter().await;
    let _ = limiter.check(&TWO, "x").await.expect("a decision");
    limiter.close().await;
    let start = Instant::now();
    while clients(&server).await > 1 {
        assert!(start.elapsed() < PATIENCE, "the connection is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let decision = limiter.check(&TWO, "x").await.expect("a decision");
    assert!(decision.is_degraded(), "what comes late is still limited");
}

#[tokio::test]
async fn a_closed_limiter_asks_its_store_no_more() {
    const ONE: Policy = Policy::new("one").per_hour(1);
    let mut server = RedisServer::start().await;
    let limiter = server.limiter().await;
    server.kill();
    assert!(limiter.check(&ONE, "x").await.expect("a decision").is_degraded(), "it is probed now");
    limiter.close().await;
    server.restart().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(clients(&server).await, 1);
}

/// However far the handshake has come, a silent server is waited for no longer than connecting may take.
#[tokio::test]
async fn a_server_that_falls_silent_while_it_is_met_is_found_later() {
    let served = served_on_bad_lines(Fault::SwallowAfter).await;
    assert!(served.is_sorted(), "the more a server says, the sooner it serves: {served:?}");
    let silent = served.iter().filter(|serves| !**serves).count();
    assert!((3..10).contains(&silent), "greeted, asked for writes, given the scripts: {served:?}");
}

/// The same holds for a connection that is cut at any of these points, up to when it has just begun to serve.
#[tokio::test]
async fn a_connection_that_is_lost_while_it_is_made_is_replaced() {
    served_on_bad_lines(Fault::CutAfter).await;
}

/// Starts limiters on lines with a fault `after` one to nine pieces of the server's replies. Returns for each
/// whether the server decided the first check, and makes sure that it finds its server once the fault is gone.
async fn served_on_bad_lines(after: fn(usize) -> Fault) -> Vec<bool> {
    const MANY: Policy = Policy::new("many").per_hour(1_000);
    let server = RedisServer::start().await;
    join_all((1..10).map(async |pieces| {
        let proxy = FaultProxy::to(server.port());
        proxy.set(after(pieces));
        let limiter = RateLimiter::redis(proxy.url()).await.expect("it starts degraded");
        let first = limiter.check(&MANY, "x").await.expect("a decision");
        proxy.set(Fault::None);
        let _ = recovered(&limiter, &MANY, "x").await;
        !first.is_degraded()
    }))
    .await
}

/// The system may drop what the server has said, when it resets the connection.
#[tokio::test]
async fn a_server_that_has_too_many_clients_says_so() {
    let server = RedisServer::start().await;
    let mut own = server.connection().await;
    let () = redis::cmd("CONFIG")
        .arg(&["SET", "maxclients", "1"])
        .query_async(&mut own)
        .await
        .expect("the server answers");
    for _ in 0..50 {
        let error = refusal(|| RateLimiter::builder().redis(server.url())).await;
        if error.contains("closed the connection: ERR max number of clients reached") {
            return;
        }
        assert!(error.contains("reset by peer"), "{error}");
    }
    panic!("it never says so");
}
