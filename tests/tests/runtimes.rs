//! Programs of several Tokio runtimes, of which the one that serves the connection does not run.

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

/// Each check keeps its deadline, and after a few the connection is one of a runtime that runs.
async fn holds_up_no_check((runtime, limiter): (Runtime, RateLimiter)) {
    let first = tokio::time::timeout(PATIENCE, limiter.check(&MANY, "x")).await.expect("it is not held up");
    assert!(first.expect("a decision").is_degraded());
    let _ =
        tokio::time::timeout(PATIENCE, recovered(&limiter, &MANY, "x")).await.expect("it is served again");
    runtime.shutdown_background();
    let last = limiter.check(&MANY, "x").await.expect("a decision");
    assert!(!last.is_degraded(), "the current runtime serves it");
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

/// A runtime that only runs for each check may not get to take over, or may do so and then not run.
#[test]
fn a_runtime_that_runs_briefly_takes_nothing_from_one_that_runs() {
    let helper = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = helper.block_on(RedisServer::start());
    let (main, limiter) = helper.block_on(built_elsewhere(redis(&server)));
    for _ in 0..5 {
        assert!(helper.block_on(limiter.check(&MANY, "z")).expect("a decision").is_allowed());
    }
    let again =
        main.block_on(async { tokio::time::timeout(PATIENCE, recovered(&limiter, &MANY, "z")).await });
    assert!(!again.expect("it serves again").is_degraded());
}

/// The task that probes was begun by a runtime that has not run since.
#[tokio::test]
async fn a_store_is_probed_by_another_runtime_once_the_first_is_silent() {
    let mut server = RedisServer::start().await;
    let url = server.url();
    server.kill();
    let build = move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let limiter = runtime.block_on(RateLimiter::builder().redis(url).build()).expect("it builds");
        (runtime, limiter)
    };
    let (runtime, limiter) = tokio::task::spawn_blocking(build).await.expect("it builds");
    server.restart().await;
    let _ = tokio::time::timeout(PATIENCE, recovered(&limiter, &MANY, "w")).await.expect("it is found");
    runtime.shutdown_background();
}
