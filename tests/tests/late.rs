//! Tests of checks that Redis answers after their deadline: what it has charged them is given back, if the request
//! was not admitted, or gives back its charge.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use axum_rate_limit::{
    Algorithm, Builder, Charge, Decision, Denial, Error, Key, KeyPart, OnStoreError, Policy, RateLimiter,
    RequestLimiter, StoreError, rate_limit,
};
use futures_util::future::join_all;
use http::StatusCode;
use tests::{App, Fault, FaultProxy, Log, RedisCluster, RedisServer, built, recovered};
use tokio::sync::Notify;

/// How long anything may take at most.
const PATIENCE: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_millis(300);
/// Later than the deadline, but soon enough to be listened for.
const LATE: Duration = Duration::from_millis(900);

const PROBE: Policy = Policy::new("probe").per_hour(1_000_000);

/// Where the limiters count, and the lines by which they reach it.
enum Store {
    Server(RedisServer, FaultProxy),
    Cluster(RedisCluster),
}

impl Store {
    fn set(&self, fault: Fault) {
        match self {
            Self::Server(_, proxy) => proxy.set(fault),
            Self::Cluster(cluster) => cluster.set(fault),
        }
    }
}

/// A store, and two limiters that count in it.
struct Setup {
    store: Store,
    /// The one whose checks are late.
    limiter: RateLimiter,
    /// The one that tells what is charged.
    direct: RateLimiter,
}

impl Setup {
    async fn new(on_store_error: OnStoreError) -> Self {
        let server = RedisServer::start().await;
        let proxy = FaultProxy::to(server.port());
        let settings = || RateLimiter::builder().redis(proxy.url());
        let limiter = built(|| hurried(settings(), on_store_error)).await;
        let direct = server.limiter().await;
        Self { store: Store::Server(server, proxy), limiter, direct }
    }

    async fn on_cluster(on_store_error: OnStoreError) -> Self {
        let cluster = RedisCluster::start_behind_lines().await;
        let limiter = built(|| hurried(cluster.settings(), on_store_error)).await;
        let direct = cluster.limiter().await;
        Self { store: Store::Cluster(cluster), limiter, direct }
    }

    /// Lets the answers to what `work` asks come late, and returns once answers are in time again.
    ///
    /// Until the late ones have come, nothing else is asked: its answer would be behind them, and so late as well, and
    /// a connection with three late calls in a row is given up.
    async fn late<T>(&self, work: impl Future<Output = T>) -> T {
        let done = self.answered_late(work).await;
        let _ = recovered(&self.limiter, &PROBE, "probe").await;
        done
    }

    /// Lets the answers to what `work` asks come late, and returns once they have come.
    async fn answered_late<T>(&self, work: impl Future<Output = T>) -> T {
        self.store.set(Fault::Delay(LATE));
        let done = work.await;
        self.store.set(Fault::None);
        tokio::time::sleep(LATE).await;
        done
    }

    /// Waits until `used` units of the policy are charged on the server.
    async fn expect_used(&self, policy: &Policy, key: impl Into<Key>, used: u32) {
        let (key, start) = (key.into(), Instant::now());
        loop {
            let decision = self.direct.peek(policy, key.clone()).await.expect("a decision");
            let charged = policy.quotas()[0].limit() - decision.remaining();
            if charged == used {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{}: {charged} are charged, not {used}", policy.name());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn hurried(settings: Builder, on_store_error: OnStoreError) -> Builder {
    settings.timeout(TIMEOUT).local_share(0.1).on_store_error(on_store_error)
}

/// Charged by a transaction; of these three, only two fit, by a script; and others by the other script.
const POLICIES: [(Policy, u32); 5] = [
    (Policy::new("roomy").per_hour(10), 1),
    (Policy::new("full").per_hour(2), 1),
    (Policy::new("dear").per_hour(10).cost(3), 3),
    (Policy::new("bucket").per_day(10).algorithm(Algorithm::TokenBucket { burst: None }), 1),
    (Policy::new("log").per_hour(10).algorithm(Algorithm::SlidingLog), 1),
];

#[tokio::test]
async fn what_is_refused_for_being_late_is_given_back() {
    given_back(&Setup::new(OnStoreError::Deny).await).await;
}

#[tokio::test]
async fn what_is_refused_for_being_late_is_given_back_on_a_cluster() {
    given_back(&Setup::on_cluster(OnStoreError::Deny).await).await;
}

/// A check that a node sends on to another has what is left of its time there.
#[tokio::test]
async fn what_is_charged_too_late_where_it_was_redirected_to_is_given_back() {
    let setup = Setup::on_cluster(OnStoreError::Deny).await;
    let Store::Cluster(cluster) = &setup.store else { return };
    let policy = &POLICIES[0].0;
    for (key, first, second) in [
        ("a", Duration::ZERO, LATE),
        // In time for the node that it was redirected to, but not for the check.
        ("b", TIMEOUT * 2 / 3, TIMEOUT * 2 / 3),
    ] {
        let to = cluster.move_slot(&format!("rl:{{roomy::{key}}}3600000")).await;
        cluster.set(Fault::Delay(first));
        cluster.set_one(to, Fault::Delay(second));
        let error = setup.limiter.check(policy, key).await.expect_err("it is late");
        assert!(matches!(error, Error::Store(StoreError::Timeout(_))), "{error}");
        tokio::time::sleep(second).await;
        cluster.set(Fault::None);
        setup.expect_used(policy, key, 0).await;
    }
}

/// A key that is about to move is charged where it moves to, and only who says so is served there.
#[tokio::test]
async fn what_is_charged_too_late_where_its_key_moves_to_is_given_back() {
    let setup = Setup::on_cluster(OnStoreError::Deny).await;
    let Store::Cluster(cluster) = &setup.store else { return };
    let policy = &POLICIES[0].0;
    let stored = "rl:{roomy::a}3600000";
    let from = cluster.keeper(stored).await;
    let to = (from + 1) % 3;
    let (old, new) = (&cluster.nodes()[from], &cluster.nodes()[to]);
    let slot: u64 = old.call(&["CLUSTER", "KEYSLOT", stored]).await;
    let slot = slot.to_string();
    let ids: [String; 2] = [old.call(&["CLUSTER", "MYID"]).await, new.call(&["CLUSTER", "MYID"]).await];
    let () = new.call(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]).await;
    let () = old.call(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]).await;
    // In time, what is charged there is given back there.
    assert!(setup.limiter.check(policy, "a").await.expect("in time").is_allowed());
    let _ = setup.limiter.give_back(policy, "a", 1).await.expect("in time");
    setup.expect_used(policy, "a", 0).await;
    cluster.set_one(to, Fault::Delay(LATE));
    let error = setup.limiter.check(policy, "a").await.expect_err("it is late");
    assert!(matches!(error, Error::Store(StoreError::Timeout(_))), "{error}");
    setup.expect_used(policy, "a", 1).await;
    tokio::time::sleep(LATE).await;
    cluster.set(Fault::None);
    setup.expect_used(policy, "a", 0).await;
}

async fn given_back(setup: &Setup) {
    for (policy, cost) in &POLICIES {
        setup.expect_used(policy, "x", 0).await;
        let check = || setup.limiter.check(policy, "x");
        let (first, second, third) = setup.late(async { tokio::join!(check(), check(), check()) }).await;
        for decision in [first, second, third] {
            let error = decision.expect_err("it is late");
            assert!(matches!(error, Error::Store(StoreError::Timeout(_))), "{}: {error}", policy.name());
        }
        setup.expect_used(policy, "x", 0).await;
        // It is remembered who was denied, until the limiter hears that it has been given back.
        let start = Instant::now();
        while !check().await.expect("it is in time").is_allowed() {
            assert!(start.elapsed() < Duration::from_secs(1), "{}", policy.name());
        }
        setup.expect_used(policy, "x", *cost).await;
    }
}

#[tokio::test]
async fn an_addition_that_fails_for_being_late_is_given_back() {
    let setup = Setup::new(OnStoreError::Deny).await;
    for (policy, _) in &POLICIES {
        let added = setup.late(async { setup.limiter.add(policy, "x", 7).await }).await;
        assert!(added.is_err(), "{}", policy.name());
        setup.expect_used(policy, "x", 0).await;
    }
}

/// A late call of which one check is refused is no reason to leave the store alone.
#[tokio::test]
async fn what_is_refused_late_says_nothing_of_the_connection() {
    let (log, _guard) = Log::of_this_thread();
    let setup = Setup::new(OnStoreError::Deny).await;
    let policy = &POLICIES[0].0;
    let Store::Server(server, _) = &setup.store else { return };
    let _: i64 = server.call(&["SADD", "rl:{roomy::b}3600000", "somebody else's"]).await;
    let check = |key| setup.limiter.check(policy, key);
    let (a, b, c) = setup.late(async { tokio::join!(check("a"), check("b"), check("c")) }).await;
    assert!([a, b, c].iter().all(Result::is_err));
    for key in ["a", "c"] {
        setup.expect_used(policy, key, 0).await;
    }
    assert!(log.lines_with("WARN", &["store is away"]).is_empty(), "{:?}", log.lines());
}

/// Three calls in a row without an answer in time are the end of a connection, but Redis may charge them all the same.
#[tokio::test]
async fn what_is_refused_for_being_late_is_given_back_though_the_connection_is_given_up() {
    let (log, _guard) = Log::of_this_thread();
    for (setup, is_lost) in [
        (Setup::new(OnStoreError::Deny).await, "store is away"),
        (Setup::on_cluster(OnStoreError::Deny).await, "cluster is lost"),
    ] {
        let policy = &POLICIES[0].0;
        let check = || setup.limiter.check(policy, "x");
        setup.store.set(Fault::Delay(2 * LATE));
        for _ in 0..2 {
            check().await.expect_err("it is late");
        }
        let soon_before = async {
            tokio::time::sleep(TIMEOUT / 2).await;
            check().await
        };
        let (third, fourth) = tokio::join!(check(), soon_before);
        assert!(third.is_err() && fourth.is_err());
        assert_eq!(log.lines_with("WARN", &[is_lost]).len(), 1, "{:?}", log.lines());
        setup.expect_used(policy, "x", 4).await;
        setup.store.set(Fault::None);
        setup.expect_used(policy, "x", 0).await;
    }
}

/// A busy thread may learn only then that its check was late.
#[tokio::test]
async fn what_is_known_to_be_charged_late_while_there_is_no_connection_is_given_back_through_the_next() {
    let setup = Setup::new(OnStoreError::Deny).await;
    let policy = &POLICIES[0].0;
    let check = |key| setup.limiter.check(policy, key);
    setup.store.set(Fault::Delay(2 * LATE));
    let mut unaware = pin!(check("x"));
    assert!(poll_fn(|context| Poll::Ready(unaware.as_mut().poll(context).is_pending())).await);
    for key in ["a", "b", "c"] {
        check(key).await.expect_err("it is late");
    }
    for key in ["x", "a", "b", "c"] {
        setup.expect_used(policy, key, 1).await;
    }
    setup.store.set(Fault::HangUp);
    // The connection that was given up has heard the answers.
    setup.expect_used(policy, "a", 0).await;
    assert!(setup.limiter.is_degraded());
    unaware.await.expect_err("it was late");
    setup.store.set(Fault::None);
    setup.expect_used(policy, "x", 0).await;
}

/// Without an answer in time to the last call, checks that could not be sent in time are not sent any more. What is
/// given back with them is.
#[tokio::test]
async fn what_could_not_be_given_back_in_time_is_given_back_late() {
    let setup = Setup::new(OnStoreError::Deny).await;
    let policy = &POLICIES[0].0;
    assert!(setup.limiter.check_with_cost(policy, "x", 3).await.expect("it is in time").is_allowed());
    // A late answer says nothing of the next one.
    let peeked = setup.answered_late(setup.limiter.peek(policy, "y")).await;
    assert!(peeked.is_err());
    let blocks = async { std::thread::sleep(TIMEOUT + Duration::from_millis(100)) };
    let (checked, given_back, ()) =
        tokio::join!(setup.limiter.check(policy, "y"), setup.limiter.give_back(policy, "x", 2), blocks);
    assert!(checked.is_err() && given_back.is_err(), "they were not answered in time");
    setup.expect_used(policy, "x", 1).await;
    setup.expect_used(policy, "y", 0).await;
}

/// The connection belongs to a runtime whose thread is blocked.
#[test]
fn what_another_runtime_gives_back_is_sent_though_its_deadline_has_passed() {
    let runtime = || {
        let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
        built.expect("a runtime")
    };
    let (own, other) = (runtime(), runtime());
    let policy = &POLICIES[0].0;
    let setup = own.block_on(Setup::new(OnStoreError::Deny));
    own.block_on(async {
        let checked = setup.limiter.check_with_cost(policy, "x", 3).await;
        assert!(checked.expect("it is in time").is_allowed());
    });
    // Nobody drives that runtime now.
    other.block_on(async {
        let (checked, given_back) =
            tokio::join!(setup.limiter.check(policy, "y"), setup.limiter.give_back(policy, "x", 2));
        assert!(checked.is_err() && given_back.is_err(), "they were not answered in time");
    });
    own.block_on(async {
        setup.expect_used(policy, "x", 1).await;
        setup.expect_used(policy, "y", 0).await;
    });
}

/// A thousand checks share a call, and so does what they give back.
#[tokio::test]
async fn a_crowd_that_is_refused_for_being_late_is_given_back() {
    const CROWD: Policy = Policy::new("crowd").per_hour(10_000);
    let setup = Setup::new(OnStoreError::Deny).await;
    let decisions = setup.late(join_all((0..1_000).map(|_| setup.limiter.check(&CROWD, "x")))).await;
    assert!(decisions.iter().all(Result::is_err));
    setup.expect_used(&CROWD, "x", 0).await;
}

/// What was charged to a window that has ended must not be given back to the next one.
#[tokio::test]
async fn what_has_ended_is_not_given_back() {
    const WINDOW: Duration = Duration::from_secs(3);
    const SHORT: Policy = Policy::new("short").quota(10, WINDOW);
    let setup = Setup::new(OnStoreError::Deny).await;
    for attempt in 0.. {
        let key = attempt.to_string();
        let late = WINDOW + Duration::from_secs(1);
        setup.store.set(Fault::Delay(late));
        let start = Instant::now();
        setup.limiter.check(&SHORT, key.as_str()).await.expect_err("it is late");
        setup.store.set(Fault::None);
        tokio::time::sleep_until((start + WINDOW + Duration::from_millis(300)).into()).await;
        let next = Instant::now();
        for _ in 0..3 {
            assert!(setup.direct.check(&SHORT, key.as_str()).await.expect("a decision").is_allowed());
        }
        // Until the answer arrives, nothing else is asked, so that the connection is not given up.
        tokio::time::sleep_until((start + late + Duration::from_millis(200)).into()).await;
        // Whatever is given back comes before this.
        let _ = recovered(&setup.limiter, &PROBE, "probe").await;
        let left = setup.direct.peek(&SHORT, key.as_str()).await.expect("a decision").remaining();
        // On a slow machine, that window has ended, too.
        if next.elapsed() < WINDOW {
            assert_eq!(left, 7);
            break;
        }
        assert!(attempt < 5, "the machine is too slow");
    }
}

/// This process's share of the limit is one request.
#[tokio::test]
async fn what_this_process_denies_instead_is_given_back() {
    let setup = Setup::new(OnStoreError::Local).await;
    let policy = &POLICIES[0].0;
    let check = || setup.limiter.check(policy, "x");
    let decisions = setup.late(async { tokio::join!(check(), check(), check()) }).await;
    let decisions = [decisions.0, decisions.1, decisions.2].map(|decision| decision.expect("a decision"));
    assert_eq!(decisions.iter().filter(|decision| decision.is_allowed()).count(), 1);
    assert!(decisions.iter().all(Decision::is_degraded));
    setup.expect_used(policy, "x", 1).await;
}

const LOG_INS: Policy = Policy::new("log-ins")
    .per_hour(10)
    .key(&[KeyPart::Global])
    .give_back_if(|answer| answer.status.is_success());
const PARTS: Policy = Policy::new("parts").per_hour(50).cost(5).key(&[KeyPart::Global]);
const OTHERS: Policy = Policy::new("others").per_hour(40).key(&[KeyPart::Global]);

const TRIED: Policy = Policy::new("tried")
    .per_hour(10)
    .key(&[KeyPart::Global])
    .shadow()
    .give_back_if(|answer| answer.status.is_success());

#[rate_limit(policy = LOG_INS)]
#[rate_limit(policy = TRIED)]
async fn log_in() {}

#[rate_limit(policy = PARTS)]
#[rate_limit(policy = OTHERS)]
async fn gives_part_back(charge: Charge) {
    charge.of("parts").give_back(2).await.expect("it is given back");
}

const TWICE: Policy = Policy::new("twice").per_hour(50).give_back_if(|answer| answer.status.is_success());

const TOKENS: Policy = Policy::new("tokens")
    .per_hour(100)
    .key(&[KeyPart::Global])
    .give_back_if(|answer| answer.status.is_success());

const TOKENS_TOO: Policy = Policy::new("tokens-too")
    .per_hour(100)
    .key(&[KeyPart::Global])
    .give_back_if(|answer| answer.status.is_success());

#[rate_limit(policy = TOKENS)]
#[rate_limit(policy = TOKENS_TOO)]
async fn adds(charge: Charge, State(goes_on): State<Arc<Notify>>) {
    goes_on.notified().await;
    charge.add(40).await.expect("it is counted here");
}

/// Charged twice, and both times too late: at once, since a connection with several late calls in a row is given up.
async fn checks_twice(limiter: RequestLimiter) -> Result<(), Denial> {
    let (one, other) = tokio::join!(limiter.check(&TWICE, "x"), limiter.check(&TWICE, "x"));
    one.and(other)
}

#[tokio::test]
async fn what_gives_its_charge_back_gives_it_back_to_both() {
    for (setup, parts, others) in [
        (Setup::new(OnStoreError::Local).await, 3, 1),
        (Setup::new(OnStoreError::Allow).await, 3, 1),
        // Of several policies, none is charged on a cluster if one has no answer in time.
        (Setup::on_cluster(OnStoreError::Local).await, 0, 0),
    ] {
        let goes_on = Arc::new(Notify::new());
        let router = Router::new()
            .route("/log-in", get(log_in))
            .route("/part", get(gives_part_back))
            .route("/add", get(adds))
            .route("/twice", get(checks_twice))
            .with_state(Arc::clone(&goes_on));
        let app = Arc::new(App::serve(router.layer(setup.limiter.clone())).await);
        for path in ["/log-in", "/part", "/twice"] {
            assert_eq!(setup.late(app.get(path)).await.status, StatusCode::OK);
        }
        let adding = tokio::spawn({
            let app = Arc::clone(&app);
            async move { app.get("/add").await.status }
        });
        setup.expect_used(&TOKENS, Key::global(), 1).await;
        // Only what is added is late.
        let adding = async {
            goes_on.notify_one();
            adding.await
        };
        assert_eq!(setup.late(adding).await.expect("no panic"), StatusCode::OK);
        setup.expect_used(&LOG_INS, Key::global(), 0).await;
        setup.expect_used(&TRIED, Key::global(), 0).await;
        setup.expect_used(&TOKENS, Key::global(), 0).await;
        setup.expect_used(&TOKENS_TOO, Key::global(), 0).await;
        setup.expect_used(&TWICE, "x", 0).await;
        setup.expect_used(&PARTS, Key::global(), parts).await;
        setup.expect_used(&OTHERS, Key::global(), others).await;
    }
}

/// The server is slow, and loses its scripts between a late charge and its being given back.
#[tokio::test]
async fn what_is_charged_too_late_is_given_back_though_the_scripts_are_lost() {
    for then in [TIMEOUT * 2 / 5, TIMEOUT * 6 / 5] {
        let setup = Setup::new(OnStoreError::Deny).await;
        let Store::Server(server, _) = &setup.store else { return };
        for (policy, _) in &POLICIES {
            setup.store.set(Fault::Delay(LATE));
            setup.limiter.check(policy, "x").await.expect_err("it is late");
            let () = server.call(&["SCRIPT", "FLUSH"]).await;
            setup.store.set(Fault::Delay(then));
            // Nobody else may load the scripts meanwhile.
            tokio::time::sleep(LATE + 4 * then).await;
            setup.store.set(Fault::None);
            let _ = recovered(&setup.limiter, &PROBE, "probe").await;
            setup.expect_used(policy, "x", 0).await;
        }
    }
}

/// What a call is to give back is given back although it is late itself, and the scripts are lost.
#[tokio::test]
async fn what_is_given_back_late_is_given_back_though_the_scripts_are_lost() {
    let setup = Setup::new(OnStoreError::Deny).await;
    let Store::Server(server, _) = &setup.store else { return };
    for (policy, cost) in &POLICIES {
        assert!(setup.limiter.check(policy, "x").await.expect("in time").is_allowed());
        let () = server.call(&["SCRIPT", "FLUSH"]).await;
        let given_back = setup.late(setup.limiter.give_back(policy, "x", *cost)).await;
        assert!(matches!(given_back, Err(Error::Store(StoreError::Timeout(_)))));
        setup.expect_used(policy, "x", 0).await;
    }
}

/// A call that is to be asked again, since its script is lost, does not end the wait for the answer to a late one.
#[tokio::test]
async fn what_is_charged_too_late_is_given_back_though_another_call_misses_its_script() {
    let setup = Setup::new(OnStoreError::Deny).await;
    let Store::Server(server, _) = &setup.store else { return };
    let (roomy, bucket) = (&POLICIES[0].0, &POLICIES[3].0);
    let () = server.call(&["SCRIPT", "FLUSH"]).await;
    setup.store.set(Fault::Delay(TIMEOUT * 2 / 3));
    let charged_late = async {
        tokio::time::sleep(TIMEOUT / 3).await;
        setup.store.set(Fault::Delay(LATE));
        setup.limiter.check(roomy, "x").await.expect_err("it is late");
    };
    let _ = tokio::join!(setup.limiter.check(bucket, "x"), charged_late);
    tokio::time::sleep(LATE).await;
    setup.store.set(Fault::None);
    let _ = recovered(&setup.limiter, &PROBE, "probe").await;
    setup.expect_used(roomy, "x", 0).await;
}
