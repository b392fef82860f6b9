//! Programs of several Tokio runtimes, of which the one that serves the connection does not run.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum_rate_limit::{Builder, Policy, RateLimiter};
use futures_util::future::join_all;
use tests::{RedisCluster, RedisServer, built, recovered};
use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;

/// How long a decision may take at most on a slow machine; the deadline is a fraction of it.
const PATIENCE: Duration = Duration::from_secs(30);
const MANY: Policy = Policy::new("many").per_hour(1_000_000);

/// A limiter that was built in a runtime which is alive, and which nobody drives.
async fn built_elsewhere(settings: impl Fn() -> Builder + Send + 'static) -> (Runtime, RateLimiter) {
    let build = move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let limiter = runtime.block_on(built(|| settings().timeout(Duration::from_millis(300))));
        (runtime, limiter)
    };
    tokio::task::spawn_blocking(build).await.expect("it builds")
}

fn redis(server: &RedisServer) -> impl Fn() -> Builder + Send + 'static {
    let url = server.url();
    move || RateLimiter::builder().redis(&url)
}

/// Each check keeps its deadline, another connection is made where checks are made, and it serves on when the runtime
/// of the first one runs again.
async fn holds_up_no_check((runtime, limiter): (Runtime, RateLimiter)) {
    for _ in 0..3 {
        let checks = join_all(["x", "x", "y", "z"].map(|key| limiter.check(&MANY, key)));
        for decision in tokio::time::timeout(PATIENCE, checks).await.expect("they are not held up") {
            assert!(decision.expect("a decision").is_degraded());
        }
    }
    let served = async || {
        let check = recovered(&limiter, &MANY, "x");
        let _ = tokio::time::timeout(PATIENCE, check).await.expect("it is served again");
    };
    served().await;
    let (thread, stop) = driven(runtime);
    served().await;
    drop(stop);
    thread.join().expect("it ends").shutdown_background();
    served().await;
}

#[tokio::test]
async fn what_a_thread_without_a_runtime_checks_is_decided() {
    let server = RedisServer::start().await;
    let (runtime, limiter) = built_elsewhere(redis(&server)).await;
    // The connection is gone with its runtime, and no other can be made without one.
    runtime.shutdown_background();
    let outside = limiter.clone();
    let thread = std::thread::spawn(move || {
        for _ in 0..3 {
            let mut check = pin!(outside.check(&MANY, "x"));
            let decision = check.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(decision, Poll::Ready(Ok(decision)) if decision.is_degraded()), "at once");
        }
    });
    tokio::task::spawn_blocking(|| thread.join()).await.expect("it runs").expect("no panic");
    let _ = recovered(&limiter, &MANY, "x").await;
}

#[tokio::test]
async fn a_runtime_that_nobody_drives_holds_up_no_check() {
    let server = RedisServer::start().await;
    holds_up_no_check(built_elsewhere(redis(&server)).await).await;
}

#[tokio::test]
async fn nor_does_it_where_a_cluster_counts() {
    let cluster = RedisCluster::start().await;
    let urls: Vec<String> = cluster.nodes().iter().map(RedisServer::url).collect();
    holds_up_no_check(built_elsewhere(move || RateLimiter::builder().redis_cluster(&urls)).await).await;
}

/// A limiter that was built, in a runtime that nobody drives, while its servers were away.
async fn built_without(settings: impl Fn() -> Builder + Send + 'static) -> (Runtime, RateLimiter) {
    let build = move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let limiter = runtime.block_on(settings().build()).expect("it starts degraded");
        (runtime, limiter)
    };
    tokio::task::spawn_blocking(build).await.expect("it builds")
}

#[tokio::test]
async fn a_server_that_comes_later_is_found_where_checks_are_made() {
    let mut server = RedisServer::start().await;
    server.kill();
    let (runtime, limiter) = built_without(redis(&server)).await;
    assert!(limiter.check(&MANY, "x").await.expect("a decision").is_degraded());
    server.restart().await;
    let _ = recovered(&limiter, &MANY, "x").await;
    runtime.shutdown_background();
}

#[tokio::test]
async fn so_is_a_cluster() {
    let mut cluster = RedisCluster::start().await;
    let urls: Vec<String> = cluster.nodes().iter().map(RedisServer::url).collect();
    let ports: Vec<u16> = cluster.nodes().iter().map(RedisServer::port).collect();
    for port in &ports {
        cluster.node(*port).kill();
    }
    let (runtime, limiter) = built_without(move || RateLimiter::builder().redis_cluster(&urls)).await;
    assert!(limiter.check(&MANY, "x").await.expect("a decision").is_degraded());
    for port in &ports {
        cluster.node(*port).restart().await;
    }
    let _ = recovered(&limiter, &MANY, "x").await;
    runtime.shutdown_background();
}

/// Drives `runtime` in a thread of its own until `stop` is dropped.
fn driven(runtime: Runtime) -> (std::thread::JoinHandle<Runtime>, oneshot::Sender<()>) {
    let (stop, stopped) = oneshot::channel();
    let (start, started) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        runtime.block_on(async {
            start.send(()).expect("somebody waits");
            let _ = stopped.await;
        });
        runtime
    });
    started.recv_timeout(PATIENCE).expect("it begins");
    (thread, stop)
}

#[tokio::test]
async fn checks_of_one_runtime_are_answered_by_the_connection_of_another() {
    let server = RedisServer::start().await;
    let (runtime, limiter) = built_elsewhere(redis(&server)).await;
    let (thread, stop) = driven(runtime);
    let decisions = join_all((0..50).map(|_| limiter.check(&MANY, "y"))).await;
    assert!(decisions.iter().all(|decision| decision.as_ref().is_ok_and(|decision| !decision.is_degraded())));
    drop(stop);
    thread.join().expect("it ends").shutdown_background();
}
