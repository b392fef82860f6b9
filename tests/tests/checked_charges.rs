//! Tests of what a handler's own checks are charged, and given back.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post};
use axum_rate_limit::store::{Counter, MemoryStore, Operation, Outcome, Store};
use axum_rate_limit::{
    Charge, Decision, Denial, Error, Key, ManualClock, OnStoreError, Policy, Quota, Quotas, RateLimiter,
    RequestLimiter, StoreError,
};
use http::StatusCode;
use tests::{App, Away, RedisServer, send};

const MAILS: Policy = Policy::new("mails").per_hour(10);

const FAILURES: Policy =
    Policy::new("failures").per_hour(2).give_back_if(|response| response.status.is_success());

async fn log_in_as(limiter: RequestLimiter, form: String) -> Result<StatusCode, Denial> {
    let (user, password) = form.split_once('&').expect("both are there");
    limiter.check(&FAILURES, user).await?;
    Ok(if password == "sesame" { StatusCode::OK } else { StatusCode::UNAUTHORIZED })
}

async fn only_failures_count(limiter: RateLimiter) {
    let app = Router::new().route("/", post(log_in_as)).layer(limiter);
    let attempts =
        [("x", 401), ("sesame", 200), ("sesame", 200), ("x", 401), ("sesame", 503), ("sesame", 503)];
    for (password, status) in attempts {
        assert_eq!(send(&app, "POST", "/", &format!("ada&{password}")).await.status, status, "{password}");
    }
    assert_eq!(send(&app, "POST", "/", "bob&sesame").await.status, 200);
}

#[tokio::test]
async fn a_charge_is_given_back_for_some_responses() {
    only_failures_count(RateLimiter::memory()).await;
    let server = RedisServer::start().await;
    only_failures_count(server.limiter().await).await;
}

async fn used(limiter: &RateLimiter, key: impl Into<Key>) -> u32 {
    10 - limiter.peek(&MAILS, key).await.expect("a decision").remaining()
}

#[tokio::test]
async fn each_check_is_charged_and_can_be_corrected() {
    async fn mail(limiter: RequestLimiter, charge: Charge) -> Result<(), Denial> {
        for key in ["bob", "ada", "ada", "ada"] {
            limiter.check(&MAILS, key).await?;
        }
        // Once for each key, whatever has been checked how often.
        charge.of("mails").add(4).await.expect("it is charged");
        charge.of("mails").give_back(2).await.expect("it is given back");
        let unknown = charge.of("males").give_back(1).await.expect_err("there is none");
        assert!(matches!(unknown, Error::Build(_)), "{unknown}");
        let left: Vec<u32> = limiter.decisions().iter().map(Decision::remaining).collect();
        assert_eq!(left, [7, 5]);
        assert_eq!(limiter.decisions().get("mails").map(Decision::remaining), Some(5));
        Ok(())
    }
    let server = RedisServer::start().await;
    for limiter in [RateLimiter::memory(), server.limiter().await] {
        let app = Router::new().route("/", get(mail)).layer(limiter.clone());
        let answer = send(&app, "GET", "/", "").await;
        assert_eq!(answer.status, 200);
        assert_eq!((used(&limiter, "ada").await, used(&limiter, "bob").await), (5, 3));
        // Of two keys of a policy, the one that binds first.
        assert!(answer.field("ratelimit").starts_with(r#""mails";r=5;t="#), "{}", answer.field("ratelimit"));
        assert_eq!(answer.field("ratelimit").matches("mails").count(), 1);
    }
}

#[tokio::test]
async fn no_more_is_given_back_than_was_charged() {
    async fn gives_back(limiter: RequestLimiter, charge: Charge) -> Result<(), Denial> {
        limiter.check(&MAILS, "carl").await?;
        limiter.check(&MAILS, "carl").await?;
        charge.give_back(100).await.expect("it is given back");
        Ok(())
    }
    let limiter = RateLimiter::memory();
    let _ = limiter.add(&MAILS, "carl", 5).await.expect("it is charged");
    let app = Router::new().route("/", get(gives_back)).layer(limiter.clone());
    assert_eq!(send(&app, "GET", "/", "").await.status, 200);
    assert_eq!(used(&limiter, "carl").await, 5);
}

/// Were each check compared with all others, this would take minutes.
#[tokio::test]
async fn a_handler_may_check_very_many_keys() {
    const MANY: Policy = Policy::new("many").per_hour(3).give_back_if(|response| response.status == 204);
    async fn many(limiter: RequestLimiter, charge: Charge) -> Result<StatusCode, Denial> {
        for key in 0..5_000_u64 {
            limiter.check(&MANY, key).await?;
        }
        charge.add(2).await.expect("it is charged");
        charge.give_back(1).await.expect("it is given back");
        Ok(StatusCode::NO_CONTENT)
    }
    let server = RedisServer::start().await;
    for limiter in [RateLimiter::memory(), server.limiter().await] {
        let app = Router::new().route("/", get(many)).layer(limiter.clone());
        let answer = send(&app, "GET", "/", "").await;
        assert_eq!((answer.status, answer.field("ratelimit").matches("many").count()), (204, 1));
        for key in [0, 31, 32, 2_500, 4_999_u64] {
            let left = limiter.peek(&MANY, key).await.expect("a decision").remaining();
            assert_eq!(left, 3, "{key}");
        }
    }
}

/// Each quota gets back what was taken from it.
#[tokio::test]
async fn quotas_that_change_within_a_request_are_not_mixed_up() {
    const TIERED: Policy = Policy::new("tiered").per_minute(10);
    const GOLD: Quotas = Quotas::of(Quota::per_minute(10)).and(Quota::per_day(100));
    async fn tiered(limiter: RequestLimiter, charge: Charge) -> Result<(), Denial> {
        for _ in 0..4 {
            limiter.check(&TIERED, "x").await?;
        }
        limiter.check(&TIERED.with_quotas(GOLD), "x").await?;
        charge.give_back(5).await.expect("it is given back");
        Ok(())
    }
    let limiter = RateLimiter::memory();
    let gold = TIERED.with_quotas(GOLD);
    let _ = limiter.add(&gold, "x", 4).await.expect("it is charged");
    let app = Router::new().route("/", get(tiered)).layer(limiter.clone());
    assert_eq!(send(&app, "GET", "/", "").await.status, 200);
    let decision = limiter.peek(&gold, "x").await.expect("a decision");
    let used: Vec<u32> =
        decision.quotas().iter().map(|state| state.quota.limit() - state.remaining).collect();
    assert_eq!(used, [4, 4]);
}

#[tokio::test]
async fn nothing_is_added_under_a_key_that_was_denied() {
    async fn falls_back(limiter: RequestLimiter, charge: Charge) -> Result<(), Denial> {
        if limiter.check(&MAILS, "full").await.is_err() {
            limiter.check(&MAILS, "fallback").await?;
        }
        charge.of("mails").add(4).await.expect("it is charged");
        Ok(())
    }
    let limiter = RateLimiter::memory();
    let _ = limiter.add(&MAILS, "full", 10).await.expect("it is charged");
    let app = Router::new().route("/", get(falls_back)).layer(limiter.clone());
    assert_eq!(send(&app, "GET", "/", "").await.status, 200);
    let _ = limiter.give_back(&MAILS, "full", 1).await.expect("it is given back");
    assert_eq!((used(&limiter, "full").await, used(&limiter, "fallback").await), (9, 5));
}

#[tokio::test]
async fn a_cost_that_the_handler_knows_counts_whatever_is_amended() {
    const WEIGHED: Policy = Policy::new("weighed").per_minute(10).status(429);
    async fn weighed(limiter: RequestLimiter, cost: String) -> Result<(), Denial> {
        limiter.check_with_cost(&WEIGHED, "x", cost.parse().expect("a number")).await
    }
    let clock = ManualClock::default();
    let builder = RateLimiter::builder().memory().clock(&clock).declare([WEIGHED]);
    let limiter = builder.build().await.expect("it builds");
    let app = Router::new().route("/", post(weighed)).layer(limiter.clone());
    assert_eq!(send(&app, "POST", "/", "4").await.status, 200);
    limiter.amend("weighed", |policy| policy.per_minute(20)).expect("it is declared");
    assert_eq!(send(&app, "POST", "/", "4").await.status, 200);
    assert_eq!(limiter.peek(&WEIGHED, "x").await.expect("a decision").remaining(), 12);
    let denied = send(&app, "POST", "/", "13").await;
    assert_eq!((denied.status, denied.field("retry-after")), (429, "60"));
    let never = send(&app, "POST", "/", "21").await;
    assert_eq!((never.status, never.field("retry-after")), (429, ""));
    assert!(never.body.contains("costs 21"), "{}", never.body);
    let decision = limiter.check_with_cost(&WEIGHED, "x", 12).await.expect("a decision");
    assert_eq!((decision.is_allowed(), decision.remaining()), (true, 0));
}

const SENDERS: Policy = Policy::new("senders").per_hour(2);
const RECIPIENTS: Policy = Policy::new("recipients").per_day(2).status(429).message("Too many to this one.");

async fn send_mail(
    limiter: RequestLimiter,
    Path((sender, recipient)): Path<(String, String)>,
) -> Result<(), Denial> {
    limiter.check_all([(&SENDERS, sender), (&RECIPIENTS, recipient)]).await
}

#[tokio::test]
async fn several_checks_are_all_or_nothing() {
    let server = RedisServer::start().await;
    for limiter in [RateLimiter::memory(), server.limiter().await] {
        let app = Router::new().route("/{sender}/{recipient}", post(send_mail)).layer(limiter.clone());
        for (path, status) in [("/ada/bob", 200), ("/cleo/bob", 200), ("/ada/bob", 429), ("/ada/dan", 200)] {
            assert_eq!(send(&app, "POST", path, "").await.status, status, "{path}");
        }
        let left = limiter.peek(&SENDERS, "cleo").await.expect("a decision").remaining();
        assert_eq!(left, 1);
        // Both deny; the one with the longer wait is told of.
        for recipient in ["eve", "eve"] {
            let _ = limiter.add(&RECIPIENTS, recipient, 1).await.expect("it is charged");
        }
        let denied = send(&app, "POST", "/ada/eve", "").await;
        assert_eq!((denied.status, denied.body.as_str()), (429, r#"{"detail":"Too many to this one."}"#));
        for policy in ["senders", "recipients"] {
            let exhausted = format!(r#""{policy}";r=0;"#);
            assert!(denied.field("ratelimit").contains(&exhausted), "{}", denied.field("ratelimit"));
        }
    }
}

/// The same without a request.
#[tokio::test]
async fn several_checks_of_a_job_are_all_or_nothing() {
    let server = RedisServer::start().await;
    for limiter in [RateLimiter::memory(), server.limiter().await] {
        let check = async |sender: &str, recipient: &str| {
            let checks = [(&SENDERS, sender), (&RECIPIENTS, recipient)];
            let decisions = limiter.check_all(checks).await.expect("they are decided");
            decisions.iter().map(|decision| (decision.is_allowed(), decision.remaining())).collect::<Vec<_>>()
        };
        assert_eq!(check("ada", "bob").await, [(true, 1), (true, 1)]);
        assert_eq!(check("cleo", "bob").await, [(true, 1), (true, 0)]);
        assert_eq!(check("cleo", "bob").await, [(true, 1), (false, 0)]);
        let none: [(&Policy, &str); 0] = [];
        assert!(limiter.check_all(none).await.expect("there is nothing to decide").is_empty());
    }
    let away = RateLimiter::builder().store(Away).on_store_error(OnStoreError::Deny).build().await;
    let away = away.expect("it builds");
    let refused = away.check_all([(&SENDERS, "ada")]).await.expect_err("the store is away");
    assert!(matches!(refused, Error::Store(_)), "{refused}");
}

#[tokio::test]
async fn checks_of_the_same_add_up() {
    async fn same(limiter: RequestLimiter) -> Result<(), Denial> {
        limiter.check_all([(&SENDERS, "x"), (&SENDERS, "x"), (&SENDERS, "x")]).await
    }
    let limiter = RateLimiter::memory();
    let app = Router::new().route("/", get(same)).layer(limiter.clone());
    let denied = send(&app, "GET", "/", "").await;
    assert_eq!(denied.status, 503);
    assert!(denied.body.contains("costs 3"), "{}", denied.body);
    assert_eq!(limiter.peek(&SENDERS, "x").await.expect("a decision").remaining(), 2);
}

#[tokio::test]
async fn a_policy_that_skips_the_request_is_charged_nothing() {
    const SKIPPING: Policy = Policy::new("skipping").per_hour(1).skip_if(|_| true);
    async fn skipped(limiter: RequestLimiter, charge: Charge) -> Result<String, Denial> {
        limiter.check(&SKIPPING, "x").await?;
        limiter.check(&SKIPPING, "x").await?;
        Ok(format!("{:?}", charge.of("skipping").add(4).await))
    }
    let app = Router::new().route("/", get(skipped)).layer(RateLimiter::memory());
    assert_eq!(send(&app, "GET", "/", "").await.body, "Ok(())");
}

/// Each is given back by the function of its own policy, and denies as it says.
#[tokio::test]
async fn a_name_may_stand_for_two_policies_that_nobody_has_declared() {
    async fn several(limiter: RequestLimiter) -> Result<(), Denial> {
        let returned = MAILS.give_back_if(|_| true);
        limiter.check(&MAILS, "kept").await?;
        limiter.check(&returned, "given back").await?;
        limiter.check(&MAILS, "one of each").await?;
        limiter.check(&returned, "one of each").await?;
        limiter.check(&MAILS, "one of each").await?;
        limiter.check_all([(&MAILS.shadow(), "full"), (&MAILS, "full")]).await
    }
    let limiter = RateLimiter::memory();
    let _ = limiter.add(&MAILS, "full", 10).await.expect("it is charged");
    let app = Router::new().route("/", get(several)).layer(limiter.clone());
    assert_eq!(send(&app, "GET", "/", "").await.status, 503);
    for (key, expected) in [("kept", 1), ("given back", 0), ("one of each", 2), ("full", 10)] {
        assert_eq!(used(&limiter, key).await, expected, "{key}");
    }
}

/// A store whose first give-back fails.
struct FailsOnce {
    store: MemoryStore,
    has_failed: AtomicBool,
}

impl Store for FailsOnce {
    async fn apply(&self, operation: Operation, counters: &[Counter<'_>]) -> Result<Outcome, StoreError> {
        if operation == Operation::GiveBack && !self.has_failed.swap(true, Ordering::Relaxed) {
            return Err(StoreError::Refused("not now".into()));
        }
        self.store.apply(operation, counters).await
    }
}

#[tokio::test]
async fn one_give_back_that_fails_does_not_keep_others_from_theirs() {
    async fn many(limiter: RequestLimiter, charge: Charge) -> Result<String, Denial> {
        for key in 0..100_u64 {
            limiter.check(&MAILS, key).await?;
        }
        Ok(charge.give_back(1).await.is_err().to_string())
    }
    for on_store_error in [OnStoreError::Deny, OnStoreError::Local] {
        let store = FailsOnce { store: MemoryStore::new(1_000), has_failed: AtomicBool::default() };
        let builder = RateLimiter::builder().store(store).on_store_error(on_store_error);
        let limiter = builder.build().await.expect("it builds");
        let app = Router::new().route("/", get(many)).layer(limiter.clone());
        let failed = on_store_error == OnStoreError::Deny;
        assert_eq!(send(&app, "GET", "/", "").await.body, failed.to_string());
        let mut kept = 0;
        for key in 0..100_u64 {
            kept += used(&limiter, key).await;
        }
        assert_eq!(kept, 32, "those of the call that failed");
    }
}

#[tokio::test]
async fn the_latest_quotas_of_a_key_are_told() {
    async fn changes(limiter: RequestLimiter, charge: Charge) -> Result<(), Denial> {
        let more = MAILS.with_quotas(Quotas::of(Quota::per_hour(20)));
        for _ in 0..3 {
            limiter.check(&MAILS, "x").await?;
            limiter.check(&more, "x").await?;
        }
        charge.give_back(3).await.expect("it is given back");
        Ok(())
    }
    let limiter = RateLimiter::memory();
    let app = Router::new().route("/", get(changes)).layer(limiter.clone());
    let answer = send(&app, "GET", "/", "").await;
    assert!(answer.field("ratelimit").starts_with(r#""mails";r=17;"#), "{}", answer.field("ratelimit"));
    assert_eq!(used(&limiter, "x").await, 3);
}

#[tokio::test]
async fn over_http_concurrent_log_ins_are_exact() {
    async fn name(limiter: RequestLimiter) -> Result<(), Denial> {
        const EXACT: Policy = Policy::new("exact").per_hour(7);
        limiter.check(&EXACT, "all").await
    }
    let server = RedisServer::start().await;
    for limiter in [RateLimiter::memory(), server.limiter().await] {
        let app = App::serve(Router::new().route("/", get(name)).layer(limiter)).await;
        assert_eq!(app.admitted_at_once("/", 50).await, 7);
    }
}
