//! Programs whose threads are blocked for a while: the others serve, and a store is not taken for one that is away.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use axum_rate_limit::{Charge, Key, KeyPart, Policy, RateLimiter, rate_limit};
use tests::{RedisCluster, RedisServer, built, send};

const MANY: Policy = Policy::new("many").per_hour(1_000_000);
/// How long a thread is blocked at most: far longer than the others take, but not so long that the connection is
/// pinged in the meantime.
const BLOCKED: Duration = Duration::from_secs(4);
/// So long that no check is late.
const TIMEOUT: Duration = Duration::from_secs(120);
/// So many that the task of the connection lets others run before it goes on.
const CHECKS: u32 = 16;

/// Makes checks at the same time. The first that has its answer blocks its thread until all others have checked once
/// more. Returns whether they could.
async fn others_are_served(limiter: &RateLimiter) -> bool {
    let is_blocked = Arc::new(AtomicBool::new(false));
    let left = Arc::new(AtomicU32::new(CHECKS - 1));
    let (done, blocking) = mpsc::channel::<()>();
    let blocking = Arc::new(Mutex::new(blocking));
    let check = |client: u32| {
        let (limiter, is_blocked, left) = (limiter.clone(), Arc::clone(&is_blocked), Arc::clone(&left));
        let (done, blocking) = (done.clone(), Arc::clone(&blocking));
        async move {
            let decision = limiter.check(&MANY, client).await.expect("a decision");
            assert!(!decision.is_degraded());
            if !is_blocked.swap(true, Ordering::SeqCst) {
                return blocking.lock().expect("only this one").recv_timeout(BLOCKED).is_ok();
            }
            let again = limiter.check(&MANY, client).await.expect("a decision");
            assert!(!again.is_degraded());
            if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                let _ = done.send(());
            }
            true
        }
    };
    let tasks: Vec<_> = (0..CHECKS).map(|client| tokio::spawn(check(client))).collect();
    let mut are_served = true;
    for task in tasks {
        are_served &= task.await.expect("it does not fail");
    }
    are_served
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thread_that_a_handler_blocks_holds_up_no_check() {
    let server = RedisServer::start().await;
    let builder = RateLimiter::builder().redis(server.url()).timeout(TIMEOUT).require_store();
    let limiter = builder.build().await.expect("Redis is there");
    // While a thread is blocked that has looked after the sockets so far, Tokio has no idle one do it. So one is kept
    // awake.
    let awake = tokio::spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    let mut held_up = 0;
    for _ in 0..200 {
        held_up += u32::from(!others_are_served(&limiter).await);
    }
    awake.abort();
    // Once, the machine may be that slow.
    assert!(held_up < 3, "{held_up} of 200");
}

/// So short that a blocked thread keeps a check from being sent in time.
const SHORT: Duration = Duration::from_secs(4);

/// Blocks the only thread for longer than the timeout, before the check can be sent.
async fn decided_by_the_store(limiter: &RateLimiter, policies: &[Policy]) {
    let blocks = async { thread::sleep(SHORT + Duration::from_millis(100)) };
    // The check waits for a task, which has no thread to run on.
    let (decisions, ()) =
        tokio::join!(limiter.check_all(policies.iter().map(|policy| (policy, "x"))), blocks);
    for decision in decisions.expect("a decision") {
        assert!(!decision.is_degraded());
    }
}

/// That does not mean that Redis is away.
#[tokio::test]
async fn a_check_that_a_blocked_thread_kept_back_is_sent_afterwards() {
    let server = RedisServer::start().await;
    let limiter = built(|| RateLimiter::builder().redis(server.url()).timeout(SHORT)).await;
    decided_by_the_store(&limiter, &[MANY]).await;
}

#[tokio::test]
async fn so_is_one_of_several_policies_on_a_cluster() {
    let cluster = RedisCluster::start().await;
    let limiter = built(|| cluster.settings().timeout(SHORT)).await;
    decided_by_the_store(&limiter, &[MANY]).await;
    decided_by_the_store(&limiter, &[MANY, Policy::new("more").per_hour(1_000_000)]).await;
}

const WINDOW: Duration = Duration::from_secs(2);
const BRIEF: Policy = Policy::new("brief").quota(10, WINDOW).key(&[KeyPart::Global]);

/// Gives back what soon no longer counts, and blocks the only thread before that can be sent.
#[rate_limit(policy = BRIEF)]
async fn gives_back(charge: Charge) {
    tokio::time::sleep(WINDOW * 9 / 10).await;
    let blocks = async { thread::sleep(WINDOW * 7 / 10) };
    let _ = tokio::join!(charge.give_back(1), blocks);
}

/// It would be taken from the charges of others, and as many more would pass.
#[tokio::test]
async fn what_a_blocked_thread_keeps_back_is_not_given_back_to_the_next_window() {
    let server = RedisServer::start().await;
    let limiter = server.limiter().await;
    let app = Router::new().route("/", get(gives_back)).layer(limiter.clone());
    for attempt in 0.. {
        let (url, start) = (server.url(), Instant::now());
        // Another instance charges the next window meanwhile.
        let next = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let limiter = built(|| RateLimiter::builder().redis(&url).timeout(TIMEOUT)).await;
                tokio::time::sleep_until((start + WINDOW + WINDOW / 20).into()).await;
                let begun = Instant::now();
                for _ in 0..3 {
                    let decision = limiter.check(&BRIEF, Key::global()).await.expect("a decision");
                    assert!(decision.is_allowed());
                }
                begun
            })
        });
        assert_eq!(send(&app, "GET", "/", "").await.status, 200);
        let next = next.join().expect("no panic");
        let left = limiter.peek(&BRIEF, Key::global()).await.expect("a decision").remaining();
        // On a slow machine, that window has ended, too, or it had not begun when this began.
        if next.elapsed() < WINDOW && next - start < WINDOW * 11 / 10 {
            assert_eq!(left, 7);
            break;
        }
        assert!(attempt < 5, "the machine is too slow");
        tokio::time::sleep(WINDOW).await;
    }
}
