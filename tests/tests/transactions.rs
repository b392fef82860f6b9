//! Tests of counters that a transaction charges instead of a script, since they seem to have plenty of room.

use std::time::Duration;

use axum::Router;
use axum::http::request::Parts;
use axum::routing::get;
use axum_rate_limit::{
    Algorithm, Decision, Error, ManualClock, OnStoreError, Policy, Quota, Quotas, RateLimiter, StoreError,
    rate_limit,
};
use futures_util::future::join_all;
use tests::{App, Fault, FaultProxy, RedisServer, built, recovered};

const TEN: Policy = Policy::new("ten").per_hour(10);
const HUNDRED: Policy = Policy::new("hundred").per_hour(100);
const DEAR: Policy = HUNDRED.cost(2);
const HOUR: i64 = 3_600_000;

/// Returns a limiter whose clock stands still, so that nothing it remembers becomes too old.
async fn limiter(server: &RedisServer) -> RateLimiter {
    limiter_at(&server.url(), Duration::from_secs(30), &ManualClock::default()).await
}

async fn limiter_at(url: &str, timeout: Duration, clock: &ManualClock) -> RateLimiter {
    let builder = || RateLimiter::builder().redis(url).timeout(timeout).clock(clock);
    built(|| builder().on_store_error(OnStoreError::Deny)).await
}

/// Returns how many scripts a server has run, and how many transactions.
async fn runs(server: &RedisServer) -> (u64, u64) {
    (server.runs("evalsha").await, server.runs("exec").await)
}

#[tokio::test]
async fn what_has_room_for_half_of_the_limit_needs_no_script() {
    let server = RedisServer::start().await;
    let limiter = limiter(&server).await;
    for (turn, expected) in
        [(1, (0, 1)), (2, (0, 1)), (3, (0, 1)), (4, (0, 1)), (5, (0, 1)), (6, (1, 0)), (7, (1, 0))]
    {
        let before = runs(&server).await;
        let decision = limiter.check(&TEN, "x").await.expect("a decision");
        assert_eq!((decision.is_allowed(), decision.remaining()), (true, 10 - turn));
        assert!(!decision.is_degraded() && decision.reset().as_secs() > 3_500);
        let after = runs(&server).await;
        assert_eq!((after.0 - before.0, after.1 - before.1), expected, "turn {turn}");
    }
    let before = server.runs("exec").await;
    for _ in 0..3 {
        assert!(limiter.check(&DEAR, "x").await.expect("a decision").is_allowed());
    }
    assert_eq!(server.runs("exec").await, before, "it takes more than a unit");
}

#[tokio::test]
async fn a_counter_that_is_gone_begins_anew_and_ends() {
    let server = RedisServer::start().await;
    let limiter = limiter(&server).await;
    for remaining in [9, 8] {
        assert_eq!(limiter.check(&TEN, "x").await.expect("a decision").remaining(), remaining);
    }
    let _: i64 = server.call(&["UNLINK", "rl:{ten::x}3600000"]).await;
    let before = runs(&server).await;
    for remaining in [9, 8] {
        assert_eq!(limiter.check(&TEN, "x").await.expect("a decision").remaining(), remaining);
        let left = server.pttl("rl:{ten::x}3600000").await;
        assert!((HOUR - 60_000..=HOUR).contains(&left), "{left}");
    }
    assert_eq!(runs(&server).await, (before.0, before.1 + 2));
}

#[tokio::test]
async fn of_what_others_have_left_so_much_passes_and_no_more_is_taken() {
    for (taken, passes) in [(97, 2), (98, 1), (99, 0), (150, 0)] {
        for flush in [false, true] {
            let server = RedisServer::start().await;
            let limiter = limiter(&server).await;
            let _ = limiter.check(&HUNDRED, "x").await.expect("a decision");
            let _: i64 = server.call(&["INCRBY", "rl:{hundred::x}3600000", &taken.to_string()]).await;
            if flush {
                let () = server.call(&["SCRIPT", "FLUSH"]).await;
            }
            // On one thread, all of them are enqueued before any is sent.
            let before = server.runs("exec").await;
            let decisions = join_all((0..5).map(|_| limiter.check(&HUNDRED, "x"))).await;
            let decisions = decisions.into_iter().map(|decision| decision.expect("a decision"));
            for (index, decision) in decisions.enumerate() {
                assert_eq!(decision.is_allowed(), index < passes, "{index} after {taken}");
                assert_eq!(decision.remaining() as usize, passes.saturating_sub(index + 1));
                assert!(!decision.is_degraded() && decision.reset().as_secs() > 3_500);
            }
            assert_eq!(server.runs("exec").await, before + 1);
            let expected = 100.max(1 + taken).to_string();
            server.until(&["GET", "rl:{hundred::x}3600000"], |used| used == expected).await;
            let left = server.pttl("rl:{hundred::x}3600000").await;
            assert!((HOUR - 60_000..=HOUR).contains(&left), "{left}");
        }
    }
}

/// Units that are charged beyond one limit would be missing for checks under a higher one.
#[tokio::test]
async fn two_limits_of_one_counter_are_decided_in_the_order_of_the_checks() {
    const MORE: Policy = Policy::new("hundred").per_hour(120);
    let server = RedisServer::start().await;
    let limiter = limiter(&server).await;
    let _ = limiter.check(&HUNDRED, "x").await.expect("a decision");
    let _: i64 = server.call(&["INCRBY", "rl:{hundred::x}3600000", "98"]).await;
    let passed = async |policy: &Policy, checks: u32| {
        let decisions = join_all((0..checks).map(|_| limiter.check(policy, "x"))).await;
        let passed =
            decisions.into_iter().filter(|decision| decision.as_ref().is_ok_and(Decision::is_allowed));
        passed.count()
    };
    let passed = tokio::join!(passed(&HUNDRED, 40), passed(&MORE, 3));
    assert_eq!(passed, (1, 3), "one to a hundred, and then three more");
    server.until(&["GET", "rl:{hundred::x}3600000"], |used| used == "103").await;
}

#[rate_limit(name = "tiers", per_hour = 100, key = global, quotas_by = tier)]
async fn tiers() {}

fn tier(parts: &Parts) -> Option<Quotas> {
    parts.headers.contains_key("x-gold").then(|| Quotas::of(Quota::per_hour(120)))
}

#[tokio::test]
async fn who_may_have_another_limit_than_others_is_asked_by_a_script() {
    let server = RedisServer::start().await;
    let app = App::serve(Router::new().route("/", get(tiers)).layer(limiter(&server).await)).await;
    let before = runs(&server).await;
    assert_eq!(app.get("/").await.parameter("r"), Some(99));
    assert_eq!(app.get_with("/", [("x-gold", "1")]).await.parameter("r"), Some(118));
    let after = runs(&server).await;
    assert_eq!((after.0 - before.0, after.1 - before.1), (2, 0));
}

/// The call consists of a transaction, which decides, and of a script, which is refused.
#[tokio::test]
async fn what_is_decided_is_told_though_the_rest_of_the_call_is_refused() {
    const BUCKET: Algorithm = Algorithm::TokenBucket { burst: None };
    const OTHER: Policy = Policy::new("other").per_hour(10).algorithm(BUCKET);
    let server = RedisServer::start().await;
    let limiter = limiter(&server).await;
    let _ = limiter.check(&HUNDRED, "x").await.expect("a decision");
    let () = server.call(&["SCRIPT", "FLUSH"]).await;
    let () = server.call(&["ACL", "SETUSER", "default", "-eval"]).await;
    let (decided, refused) = tokio::join!(limiter.check(&HUNDRED, "x"), limiter.check(&OTHER, "x"));
    let refused = refused.expect_err("there is no script");
    assert!(matches!(refused, Error::Store(StoreError::Refused(_))), "{refused:?}");
    assert!(refused.to_string().contains("permissions to run the 'eval"), "it is told why: {refused}");
    let decided = decided.expect("a decision");
    assert_eq!((decided.is_allowed(), decided.remaining()), (true, 98));
    // The refusal does not make the limiter give up transactions.
    let before = server.runs("exec").await;
    assert!(limiter.check(&HUNDRED, "x").await.expect("a decision").is_allowed());
    assert_eq!(server.runs("exec").await, before + 1);
}

/// A check of a counter that this instance has not asked for lately, or ever, also asks when its window ends.
#[tokio::test]
async fn what_is_not_known_is_told() {
    let server = RedisServer::start().await;
    for (holds, allowed, remaining) in [(3, true, 6), (9, true, 0), (10, false, 0), (11, false, 0)] {
        let () = server.call(&["SET", "rl:{ten::x}3600000", &holds.to_string(), "PX", "1800000"]).await;
        let limiter = limiter(&server).await;
        let before = runs(&server).await;
        let decision = limiter.check(&TEN, "x").await.expect("a decision");
        assert_eq!((decision.is_allowed(), decision.remaining()), (allowed, remaining));
        assert!((1_700..=1_800).contains(&decision.reset().as_secs()), "{decision:?}");
        server
            .until(&["GET", "rl:{ten::x}3600000"], |used| used == (holds + u32::from(allowed)).to_string())
            .await;
        let after = runs(&server).await;
        // Only the units of this check are given back, even if the counter was above its limit before.
        assert_eq!((after.0 - before.0, after.1 - before.1), (u64::from(!allowed), 1));
    }

    let clock = ManualClock::default();
    let limiter = limiter_at(&server.url(), Duration::from_secs(30), &clock).await;
    for _ in 0..2 {
        assert!(limiter.check(&TEN, "y").await.expect("a decision").is_allowed());
    }
    let _: i64 = server.call(&["PEXPIRE", "rl:{ten::y}3600000", "1800000"]).await;
    clock.advance(Duration::from_secs(2));
    let before = server.runs("exec").await;
    let decision = limiter.check(&TEN, "y").await.expect("a decision");
    assert!((1_700..=1_800).contains(&decision.reset().as_secs()), "it was told too long ago: {decision:?}");
    assert_eq!(server.runs("exec").await, before + 1);
}

#[tokio::test]
async fn a_counter_that_never_ends_is_made_to() {
    ends_with_its_window(&["SET", "rl:{ten::x}3600000", "1"]).await;
}

/// This is what a counter looks like after the server's clock has gone back, as it may in a failover.
#[tokio::test]
async fn a_counter_that_would_outlast_its_window_ends_with_it() {
    ends_with_its_window(&["SET", "rl:{ten::x}3600000", "1", "PX", "36000000"]).await;
}

/// Makes sure that a counter which begins like this ends with its window, whatever decides: that depends on the
/// policy, on how much is used, and on what else is asked.
async fn ends_with_its_window(begin: &[&str]) {
    for (policy, checks) in [(TEN, 2), (TEN, 6), (TEN, 12), (TEN.cost(2), 1), (TEN.per_day(1_000), 1)] {
        let server = RedisServer::start().await;
        let limiter = limiter(&server).await;
        let () = server.call(begin).await;
        let decisions = join_all((0..checks).map(|_| limiter.check(&policy, "x"))).await;
        for decision in decisions {
            assert!((3_500..=3_600).contains(&decision.expect("a decision").reset().as_secs()));
        }
        let assert_right = |left: &str| left.parse().is_ok_and(|left| (HOUR - 60_000..=HOUR).contains(&left));
        server.until(&["PTTL", "rl:{ten::x}3600000"], assert_right).await;
    }
}

/// The answer does not wait for the excess to be given back.
#[tokio::test]
async fn who_is_denied_is_told_before_what_was_too_much_is_given_back() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.port());
    let limiter = limiter_at(&proxy.url(), Duration::from_secs(7), &ManualClock::default()).await;
    let _ = limiter.check(&TEN, "x").await.expect("a decision");
    let _: i64 = server.call(&["INCRBY", "rl:{ten::x}3600000", "9"]).await;
    // The timeout allows for one answer over this line, but not for two in a row.
    proxy.set(Fault::Delay(Duration::from_secs(4)));
    let decision = limiter.check(&TEN, "x").await.expect("a decision");
    assert!(!decision.is_allowed());
    assert!(decision.retry_after().is_some_and(|wait| wait.as_secs() > 3_500), "{decision:?}");
    proxy.set(Fault::None);
    server.until(&["GET", "rl:{ten::x}3600000"], |used| used == "10").await;
    assert_eq!(server.runs("decrby").await, 1);
}

/// A fault of one of the counters that share a transaction does not affect the others.
#[tokio::test]
async fn a_few_share_a_transaction_and_many_a_script() {
    let server = RedisServer::start().await;
    let limiter = limiter(&server).await;
    let ask = async |count: usize| {
        let keys = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let told = join_all(keys[..count].iter().map(|key| limiter.check(&TEN, *key))).await;
        told.into_iter().map(|told| Some(told.ok()?.remaining())).collect::<Vec<_>>()
    };
    for (count, expected, remaining) in
        [(9, (1, 0), [9; 9]), (8, (0, 1), [8; 9]), (9, (1, 0), [7, 7, 7, 7, 7, 7, 7, 7, 8])]
    {
        let before = runs(&server).await;
        assert_eq!(ask(count).await, remaining.map(Some)[..count]);
        let after = runs(&server).await;
        assert_eq!((after.0 - before.0, after.1 - before.1), expected, "{count} keys");
    }
    let _: i64 = server.call(&["UNLINK", "rl:{ten::a}3600000"]).await;
    let _: i64 = server.call(&["INCRBY", "rl:{ten::b}3600000", "7"]).await;
    let () = server.call(&["SET", "rl:{ten::d}3600000", "text", "KEEPTTL"]).await;
    let before = runs(&server).await;
    assert_eq!(ask(5).await, [Some(9), Some(0), Some(6), None, Some(6)]);
    let after = runs(&server).await;
    assert_eq!((after.0 - before.0, after.1 - before.1), (2, 1));
    server.until(&["GET", "rl:{ten::b}3600000"], |used| used == "10").await;
}

/// This holds however many of them find out at once that the others have taken the rest.
#[tokio::test]
async fn all_instances_together_let_no_more_through_than_the_limit() {
    const MANY: Policy = Policy::new("many").per_hour(200);
    let server = RedisServer::start().await;
    let instances = join_all((0..4).map(|_| limiter(&server))).await;
    // How many checks are charged without finding room depends on the machine: usually a few in each turn.
    for turn in 0..50 {
        let key = &format!("{turn}");
        let asked = instances.iter().map(|limiter| async move {
            let mut passed = 0;
            for count in [1, 10, 60] {
                let decisions = join_all((0..count).map(|_| limiter.check(&MANY, key.as_str()))).await;
                let decisions = decisions.into_iter().map(|decision| decision.expect("a decision"));
                passed +=
                    decisions.filter(|decision| decision.is_allowed() && !decision.is_degraded()).count();
            }
            passed
        });
        assert_eq!(join_all(asked).await.into_iter().sum::<usize>(), 200);
        server.until(&["GET", &format!("rl:{{many::{turn}}}3600000")], |used| used == "200").await;
    }
    assert!(server.runs("exec").await > 50 && server.runs("decrby").await > 0);
}

/// A denial that was decided before somebody gave something back is not remembered, even if its own excess is
/// given back only afterwards.
#[tokio::test]
async fn what_is_given_back_before_what_was_too_much_is_known_at_once() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::to(server.port());
    let limiter = limiter_at(&proxy.url(), Duration::from_secs(8), &ManualClock::default()).await;
    let _ = limiter.check(&TEN, "x").await.expect("a decision");
    let _: i64 = server.call(&["INCRBY", "rl:{ten::x}3600000", "9"]).await;
    // With this timeout, another call may follow an unanswered one after a second.
    proxy.set(Fault::Delay(Duration::from_secs(2)));
    let (denied, given_back) = tokio::join!(limiter.check(&TEN, "x"), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        limiter.give_back(&TEN, "x", 5).await
    });
    assert!(!denied.expect("a decision").is_allowed());
    let _ = given_back.expect("it is given back");
    proxy.set(Fault::None);
    for remaining in [4, 3] {
        // By then, the excess has been given back.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let decision = limiter.check(&TEN, "x").await.expect("a decision");
        assert_eq!((decision.is_allowed(), decision.remaining()), (true, remaining));
    }
}

/// The excess is given back to the window that was charged, and to no other.
#[tokio::test]
async fn no_window_that_may_be_another_is_left_with_less_than_its_limit() {
    const TAKE: &str = include_str!("../../runtime/src/store/redis/take.lua");
    let server = RedisServer::start().await;
    for (holds, charged, asked, leaves) in [
        ("105", "105", "8", "100"),
        ("105", "105", "3", "102"),
        ("120", "105", "8", "115"),
        ("102", "105", "8", "100"),
        ("100", "105", "8", "100"),
        ("4", "105", "8", "4"),
        ("text", "105", "8", "text"),
    ] {
        // Without a TTL it is not known which window this is. It is given one, since it has to end.
        for (millis, is_the_same) in [("60000", true), ("90000", false), ("", true)] {
            let () = server.call(&["SET", "x", holds]).await;
            if !millis.is_empty() {
                let _: i64 = server.call(&["PEXPIRE", "x", millis]).await;
            }
            let asked = format!("-{asked}");
            let words = ["EVAL", TAKE, "1", "x", &asked, "100", "1", "90000", charged, "60000", "0"];
            let (used, ends): (i64, i64) = server.call(&words).await;
            let left: String = server.call(&["GET", "x"]).await;
            assert_eq!((used, left.as_str()), (-105, if is_the_same { leaves } else { holds }), "{holds}");
            assert_eq!(ends > 0, is_the_same, "{ends} after {millis}");
            assert!(server.pttl("x").await > 0);
        }
    }
    let _: i64 = server.call(&["UNLINK", "x"]).await;
    let words =
        |holds: &'static str| ["EVAL", TAKE, "1", "x", "-8", "100", "1", "60000", "105", "60000", holds];
    assert_eq!(server.call::<(i64, i64)>(&words("0")).await, (-105, 0));
    assert_eq!(server.keys().await, [""; 0]);
    // A window that can't have ended holds less than its limit only because others have been given units back.
    for (holds, leaves) in [("105", "100"), ("102", "97"), ("4", "0")] {
        let () = server.call(&["SET", "x", holds, "PX", "60000"]).await;
        let _: (i64, i64) = server.call(&words("1")).await;
        assert_eq!(server.call::<String>(&["GET", "x"]).await, leaves);
    }
}

/// This holds however many checks are charged without finding room in the meantime.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_given_back_is_there_for_others() {
    let server = RedisServer::start().await;
    let instances = join_all((0..3).map(|_| server.limiter_without_deny_memory())).await;
    for key in 0..300 {
        let key = format!("{key}");
        let taken = (0..24).map(|number: usize| {
            let (limiter, key) = (instances[number % 3].clone(), key.clone());
            tokio::spawn(async move {
                if limiter.check(&TEN, key.as_str()).await.expect("a decision").is_allowed() {
                    let _ = limiter.give_back(&TEN, key.as_str(), 1).await.expect("it is given back");
                }
            })
        });
        join_all(taken).await.into_iter().for_each(|taken| taken.expect("no panic"));
        let key = format!("rl:{{ten::{key}}}3600000");
        server.until(&["GET", &key], |used| used.is_empty() || used == "0").await;
    }
    assert!(server.runs("decrby").await > 0, "none had charged too much");
}

/// A server that knows `MULTI` but not `EXEC` would take everything that follows for a part of the transaction.
#[tokio::test]
async fn a_server_without_exec_is_asked_by_scripts() {
    let server = RedisServer::start_with(&["--save", "", "--rename-command", "EXEC", ""]).await;
    let limiter = limiter(&server).await;
    for remaining in (0..10).rev() {
        let decision = limiter.check(&TEN, "x").await.expect("a decision");
        assert_eq!((decision.remaining(), decision.is_degraded()), (remaining, false));
    }
    assert!(!limiter.check(&TEN, "x").await.expect("a decision").is_allowed());
}

#[tokio::test]
async fn what_someone_else_keeps_there_is_left_alone() {
    for words in [&["SET", "rl:{ten::x}3600000", "text"][..], &["RPUSH", "rl:{ten::x}3600000", "text"]] {
        let server = RedisServer::start().await;
        let limiter = limiter(&server).await;
        let _ = limiter.check(&TEN, "x").await.expect("a decision");
        let _: i64 = server.call(&["UNLINK", "rl:{ten::x}3600000"]).await;
        let _: redis::Value = server.call(words).await;
        let before = server.runs("exec").await;
        let error = limiter.check(&TEN, "x").await.expect_err("it is no counter");
        assert!(error.to_string().contains("is the key prefix used by someone else?"), "{error}");
        assert_eq!(server.runs("exec").await, before + 1);
        assert_eq!(server.pttl("rl:{ten::x}3600000").await, -1);
    }
}

#[tokio::test]
async fn who_may_have_no_transactions_is_asked_by_scripts() {
    for command in ["-multi", "-exec"] {
        let server = RedisServer::start().await;
        let () = server.call(&["ACL", "SETUSER", "default", command]).await;
        let limiter = limiter(&server).await;
        let before = runs(&server).await;
        for remaining in (0..10).rev() {
            let decision = limiter.check(&TEN, "x").await.expect("a decision");
            assert_eq!((decision.remaining(), decision.is_degraded()), (remaining, false));
        }
        assert!(!limiter.check(&TEN, "x").await.expect("a decision").is_allowed());
        assert_eq!(runs(&server).await, (before.0 + 11, before.1));
    }
}

/// The check that finds out that transactions are forbidden counts at most once.
#[tokio::test]
async fn who_may_have_no_transactions_any_longer_is_asked_by_scripts() {
    for command in ["-multi", "-exec", "-set"] {
        let server = RedisServer::start().await;
        let limiter = limiter(&server).await;
        for _ in 0..2 {
            assert!(!limiter.check(&TEN, "x").await.expect("a decision").is_degraded());
        }
        let () = server.call(&["ACL", "SETUSER", "default", command]).await;
        limiter.check(&TEN, "x").await.expect_err("it is forbidden");
        for turn in 0..2 {
            let decision = recovered(&limiter, &TEN, "x").await;
            assert!((6..=7).contains(&(decision.remaining() + turn)), "{command}: {decision:?}");
        }
    }
}
