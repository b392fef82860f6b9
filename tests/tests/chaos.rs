//! Tests of two instances under constant load, while everything that can happen to their server happens to it.
//!
//! Afterwards:
//!
//! * Every request has been answered.
//! * The store has counted what it has decided. Decisions without the store are marked as such; they may have been
//!   counted, but never twice.
//! * The decisions of the store exceed no limit.
//! * The instances have found the store again by themselves.

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use axum_rate_limit::{Builder, Decisions, RateLimiter, rate_limit};
use tests::{App, Fault, FaultProxy, Loss, RedisServer, Storm, Tally, built};

/// How long all is well before and after a fault, in milliseconds.
const CALM: u64 = 300;
/// How long a fault lasts, in milliseconds: longer than the limiters wait for an answer.
const FAULT: u64 = 600;

fn on(server: &RedisServer) -> impl Fn() -> Builder {
    let url = server.url();
    move || RateLimiter::builder().redis(&url)
}

/// Ends a storm after the limiters have recovered.
async fn end(storm: Storm, server: &RedisServer, loss: Option<Loss>) -> Tally {
    storm.recovered().await;
    storm.last(CALM).await;
    let tally = storm.end(&server.limiter().await, loss).await;
    println!("{tally:?}");
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_stopped_and_goes_on() {
    let server = RedisServer::start().await;
    let storm = Storm::begin(on(&server)).await;
    storm.last(CALM).await;
    server.signal("STOP");
    storm.last(FAULT).await;
    server.signal("CONT");
    end(storm, &server, None).await.assert_right_with_degraded();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_killed_and_comes_back_empty() {
    let mut server = RedisServer::start().await;
    let from = Instant::now();
    let storm = Storm::begin(on(&server)).await;
    storm.last(CALM).await;
    server.kill();
    storm.last(FAULT).await;
    server.restart().await;
    let loss = Loss { from, to: Instant::now() };
    end(storm, &server, Some(loss)).await.assert_right_with_degraded();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_paused() {
    let server = RedisServer::start().await;
    let storm = Storm::begin(on(&server)).await;
    storm.last(CALM).await;
    let () = server.call(&["CLIENT", "PAUSE", &FAULT.to_string(), "ALL"]).await;
    storm.last(FAULT).await;
    end(storm, &server, None).await.assert_right_with_degraded();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_becomes_a_replica_for_a_while() {
    let server = RedisServer::start().await;
    let storm = Storm::begin(on(&server)).await;
    storm.last(CALM).await;
    let () = server.call(&["REPLICAOF", "127.0.0.1", "1"]).await;
    storm.last(FAULT).await;
    let () = server.call(&["REPLICAOF", "NO", "ONE"]).await;
    end(storm, &server, None).await.assert_right_with_degraded();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_misses_its_replicas_for_a_while() {
    let server = RedisServer::start().await;
    let storm = Storm::begin(on(&server)).await;
    storm.last(CALM).await;
    let () = server.call(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    storm.last(FAULT).await;
    let () = server.call(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    end(storm, &server, None).await.assert_right_with_degraded();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_runs_out() {
    let server = RedisServer::start().await;
    let storm = Storm::begin(on(&server)).await;
    storm.last(CALM).await;
    let () = server.call(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    let () = server.call(&["CONFIG", "SET", "maxmemory", "1"]).await;
    storm.last(FAULT).await;
    let () = server.call(&["CONFIG", "SET", "maxmemory", "0"]).await;
    end(storm, &server, None).await.assert_right_with_degraded();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_are_flushed_all_the_time() {
    let server = RedisServer::start().await;
    let storm = Storm::begin(on(&server)).await;
    for _ in 0..30 {
        let () = server.call(&["SCRIPT", "FLUSH"]).await;
        storm.last(20).await;
    }
    end(storm, &server, None).await.assert_right();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_killed_all_the_time() {
    let server = RedisServer::start().await;
    let storm = Storm::begin(on(&server)).await;
    for _ in 0..30 {
        storm.last(30).await;
        let _: u64 = server.call(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    }
    end(storm, &server, None).await.assert_right_with_degraded();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_room_for_connections() {
    let server = RedisServer::start().await;
    let storm = Storm::begin(on(&server)).await;
    storm.last(CALM).await;
    let mut own = server.connection().await;
    let config = |value: &str| redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(value).to_owned();
    let () = config("1").query_async(&mut own).await.expect("it is set");
    let kill = redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").to_owned();
    let _: u64 = kill.query_async(&mut own).await.expect("they are killed");
    storm.last(FAULT).await;
    let () = config("1000").query_async(&mut own).await.expect("it is set");
    end(storm, &server, None).await.assert_right_with_degraded();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_set_that_nobody_knows() {
    let server = RedisServer::start().await;
    let storm = Storm::begin(on(&server)).await;
    storm.last(CALM).await;
    let mut own = server.connection().await;
    let config = |value: &str| redis::cmd("CONFIG").arg("SET").arg("requirepass").arg(value).to_owned();
    let () = config("hush").query_async(&mut own).await.expect("it is set");
    let kill = redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").to_owned();
    let _: u64 = kill.query_async(&mut own).await.expect("they are killed");
    storm.last(FAULT).await;
    let () = config("").query_async(&mut own).await.expect("it is set");
    end(storm, &server, None).await.assert_right_with_degraded();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_and_transactions_are_forbidden_for_a_while() {
    let server = RedisServer::start().await;
    let storm = Storm::begin(on(&server)).await;
    storm.last(CALM).await;
    let () = server.call(&["ACL", "SETUSER", "default", "-@scripting", "-@transaction"]).await;
    storm.last(FAULT).await;
    let () = server.call(&["ACL", "SETUSER", "default", "+@all"]).await;
    end(storm, &server, None).await.assert_right_with_degraded();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_fails() {
    let server = RedisServer::start().await;
    let () = server.call(&["CONFIG", "SET", "save", "3600 1000000"]).await;
    let storm = Storm::begin(on(&server)).await;
    storm.last(CALM).await;
    std::fs::remove_dir_all(server.directory()).expect("it is there");
    let _: String = server.call(&["BGSAVE"]).await;
    server.until(&["INFO", "persistence"], |info| info.contains("rdb_last_bgsave_status:err")).await;
    storm.last(FAULT).await;
    let () = server.call(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]).await;
    end(storm, &server, None).await.assert_right_with_degraded();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_script_does_not_end() {
    // Since version 7, this is also called `busy-reply-threshold`.
    let server = RedisServer::start_with(&["--save", "", "--lua-time-limit", "50"]).await;
    let storm = Storm::begin(on(&server)).await;
    storm.last(CALM).await;
    let mut own = server.connection().await;
    let endless = tokio::spawn(async move {
        let script = redis::cmd("EVAL").arg("while true do end").arg(0).to_owned();
        script.query_async::<()>(&mut own).await
    });
    storm.last(FAULT).await;
    let () = server.call(&["SCRIPT", "KILL"]).await;
    endless.await.expect("it does not panic").expect_err("it is killed");
    end(storm, &server, None).await.assert_right_with_degraded();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_line_is_slow_loses_replies_and_breaks_in_the_middle_of_them() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.port());
    let storm = Storm::begin(|| RateLimiter::builder().redis(proxy.url())).await;
    let slow = Fault::Delay(Duration::from_millis(300));
    for fault in [slow, Fault::Swallow, Fault::Cut(3), Fault::Cut(0), Fault::HangUp] {
        storm.last(CALM).await;
        proxy.set(fault);
        if fault == Fault::HangUp {
            proxy.cut();
        }
        storm.last(FAULT).await;
        proxy.set(Fault::None);
        storm.recovered().await;
    }
    end(storm, &server, None).await.assert_right_with_degraded();
}

/// However long its timeout is, a limiter does not repeat a call that may have been executed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_charged_twice_however_patient_a_limiter_is() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.port());
    let settings = || RateLimiter::builder().redis(proxy.url()).timeout(Duration::from_secs(10));
    let storm = Storm::begin(settings).await;
    for _ in 0..20 {
        storm.last(50).await;
        proxy.set(Fault::CutOnce);
        storm.recovered().await;
    }
    end(storm, &server, None).await.assert_right_with_degraded();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_line_is_a_little_slow() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.port());
    proxy.set(Fault::Delay(Duration::from_millis(20)));
    let storm = Storm::begin(|| RateLimiter::builder().redis(proxy.url())).await;
    storm.last(2 * CALM).await;
    proxy.cut();
    end(storm, &server, None).await.assert_right();
}

#[rate_limit(name = "hundred", per_hour = 100)]
async fn hundred(decisions: Decisions) -> String {
    decisions[0].is_degraded().to_string()
}

/// The same over HTTP, where impatient clients hang up in the middle of a request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_answered_over_http() {
    let server = RedisServer::start().await;
    let mut load = Vec::new();
    let mut apps = Vec::new();
    for _ in 0..2 {
        let limiter = built(on(&server)).await;
        let app = App::serve(Router::new().route("/", get(hundred)).layer(limiter)).await;
        for task in 0..8 {
            let client = (*app).clone();
            load.push(tokio::spawn(async move {
                let mut answers = Vec::new();
                for request in 0..60 {
                    if (request + task) % 9 == 0 {
                        let impatience = Duration::from_micros(1_500);
                        let _ = tokio::time::timeout(impatience, client.get("/")).await;
                    } else {
                        let answer = client.get("/").await;
                        answers.push((answer.status.as_u16(), answer.body));
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                answers
            }));
        }
        apps.push(app);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..2 {
        server.signal("STOP");
        tokio::time::sleep(Duration::from_millis(FAULT)).await;
        server.signal("CONT");
        tokio::time::sleep(Duration::from_millis(FAULT)).await;
    }
    let mut admitted = 0;
    for task in load {
        for (status, body) in task.await.expect("every request is answered") {
            assert!(matches!(status, 200 | 503), "{status}: {body}");
            admitted += u32::from(status == 200 && body == "false");
        }
    }
    assert!(0 < admitted && admitted <= 100, "{admitted} of 100");
}
