//! Tests of the ways to reach a server: users, databases, protocols, sockets, credentials that change.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum_rate_limit::{
    Algorithm, BuildError, Decision, Error, OnStoreError, Policy, RateLimiter, RedisCredentials,
};
use tests::{RedisServer, built, counts, recovered, refusal};

/// How long anything may take; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);

async fn keys_of(server: &RedisServer, database: i64) -> Vec<String> {
    let mut connection = server.connection().await;
    let ((), keys): ((), Vec<String>) = redis::pipe()
        .cmd("SELECT")
        .arg(database)
        .cmd("KEYS")
        .arg("*")
        .query_async(&mut connection)
        .await
        .expect("it has databases");
    keys
}

#[tokio::test]
async fn a_user_and_a_database_are_taken_from_the_url_in_both_protocols() {
    let server = RedisServer::start().await;
    // A user with only the permissions that the README asks for.
    let rules =
        ["~rl:*", "+@read", "+@write", "+@connection", "+@transaction", "+@scripting", "+select", "+time"];
    let () = server.call(&[&["ACL", "SETUSER", "a@b", "on", ">p/w:1"][..], &rules].concat()).await;
    for (database, protocol) in [(3, ""), (4, "?protocol=resp2"), (5, "?protocol=resp3"), (6, "?protocol=3")]
    {
        let url = format!("redis://a%40b:p%2Fw%3A1@127.0.0.1:{}/{database}{protocol}", server.port());
        counts(|| RateLimiter::builder().redis(&url)).await;
        assert_eq!(keys_of(&server, database).await, ["rl:{two::x}3600000"]);
    }
    assert_eq!(keys_of(&server, 0).await, [""; 0]);
    let url = format!("redis://a%40b:p%2Fw%3A1@127.0.0.1:{}/7", server.port());
    all_is_done(&built(|| RateLimiter::builder().redis(&url)).await).await;
}

/// The user may only touch keys that begin with the prefix of the service.
#[tokio::test]
async fn a_server_that_takes_no_writes_is_refused_whatever_the_prefix() {
    let server = RedisServer::start().await;
    let () = server.call(&["REPLICAOF", "127.0.0.1", "1"]).await;
    for prefix in ["rl:", "own:"] {
        let keys = format!("~{prefix}*");
        let () = server.call(&["ACL", "SETUSER", "app", "reset", "on", ">p", &keys, "+@all"]).await;
        let url = format!("redis://app:p@127.0.0.1:{}", server.port());
        let error = refusal(|| RateLimiter::builder().redis(&url).key_prefix(prefix)).await;
        assert!(error.contains("127.0.0.1:") && error.contains("takes no writes"), "{prefix}: {error}");
    }
}

/// Makes sure that Redis serves every operation of a limiter, under each algorithm.
async fn all_is_done(limiter: &RateLimiter) {
    let bucket = Algorithm::TokenBucket { burst: None };
    for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::SlidingLog, bucket] {
        let policy = Policy::new("all").per_hour(4).algorithm(algorithm);
        let left = async |decided: Result<Decision, Error>| {
            let decision = decided.expect("a decision");
            assert!(!decision.is_degraded(), "{algorithm:?}");
            decision.remaining()
        };
        assert_eq!(left(limiter.check(&policy, "x").await).await, 3);
        assert_eq!(left(limiter.add(&policy, "x", 5).await).await, 0);
        assert_eq!(left(limiter.check(&policy, "x").await).await, 0);
        assert_eq!(left(limiter.give_back(&policy, "x", 5).await).await, 3);
        limiter.reset(&policy, "x").await.expect("it is forgotten");
        assert_eq!(left(limiter.peek(&policy, "x").await).await, 4);
    }
}

#[tokio::test]
async fn a_password_alone_and_the_other_names_of_the_scheme_are_understood() {
    let server = RedisServer::start().await;
    let () = server.call(&["CONFIG", "SET", "requirepass", "hush"]).await;
    let url = format!("redis://:hush@127.0.0.1:{}", server.port());
    counts(|| RateLimiter::builder().redis(&url)).await;
    for scheme in ["valkey", "redis"] {
        let url = format!("{scheme}://default:hush@localhost:{}/1", server.port());
        counts(|| RateLimiter::builder().redis(&url).key_prefix(format!("{scheme}:"))).await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_told() {
    let server = RedisServer::start().await;
    let () = server.call(&["CONFIG", "SET", "requirepass", "hush"]).await;
    for protocol in ["resp2", "resp3"] {
        let url = format!("redis://:blurt@127.0.0.1:{}/?protocol={protocol}", server.port());
        let error = refusal(|| RateLimiter::builder().redis(&url)).await;
        assert!(error.contains("uthentication") || error.contains("WRONGPASS"), "{error}");
        assert!(!error.contains("blurt"), "{error}");
        assert!(error.contains(&format!("127.0.0.1:{}: ", server.port())), "it is told where: {error}");
    }
    let error = refusal(|| RateLimiter::builder().redis(server.url())).await;
    assert!(error.contains("NOAUTH"), "{error}");
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_told() {
    let server = RedisServer::start().await;
    let url = format!("redis://127.0.0.1:{}/99", server.port());
    let error = refusal(|| RateLimiter::builder().redis(&url)).await;
    assert!(error.contains("switch database"), "{error}");
    assert!(error.contains(&format!("127.0.0.1:{}: ", server.port())), "{error}");
}

#[tokio::test]
async fn where_nobody_listens_is_told() {
    for (url, address) in [
        ("redis://user:secret@127.0.0.1:1/2", "127.0.0.1:1: "),
        ("redis://user:secret@[::1]:1", "[::1]:1: "),
        #[cfg(unix)]
        ("redis+unix:///nowhere/redis.sock?user=user&pass=secret", "/nowhere/redis.sock: "),
    ] {
        let error = refusal(|| RateLimiter::builder().redis(url)).await;
        assert!(error.contains("not reachable") && error.contains(address), "{error}");
        assert!(!error.contains("secret") && !error.contains("user"), "{error}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_is_reached() {
    let server = RedisServer::start_with(&["--save", "", "--unixsocket", "redis.sock"]).await;
    let path = server.directory().join("redis.sock");
    let path = path.to_str().expect("it is a plain path");
    for (url, database) in [
        (format!("redis+unix://{path}"), 0),
        (format!("unix://{path}?db=2"), 2),
        (format!("redis+unix://{path}?db=3&protocol=resp3"), 3),
    ] {
        counts(|| RateLimiter::builder().redis(&url)).await;
        assert_eq!(keys_of(&server, database).await, ["rl:{two::x}3600000"]);
    }
}

#[tokio::test]
async fn credentials_are_asked_for_at_each_connection() {
    const MANY: Policy = Policy::new("many").per_hour(1_000);
    let server = RedisServer::start().await;
    let set = async |password: &str| {
        let password = format!(">{password}");
        let () = server.call(&["ACL", "SETUSER", "app", "reset", "on", &password, "~*", "+@all"]).await;
    };
    set("first").await;
    let password = Arc::new(Mutex::new(Some("first")));
    let settings = || {
        let known = Arc::clone(&password);
        RateLimiter::builder().redis(server.url()).timeout(PATIENCE).redis_credentials(move || {
            let password = *known.lock().expect("nobody panics");
            async move { Ok(RedisCredentials::new("app", password.ok_or("the vault is closed")?)) }
        })
    };
    let limiter = built(settings).await;
    assert!(!limiter.check(&MANY, "x").await.expect("a decision").is_degraded());

    set("second").await;
    *password.lock().expect("nobody panics") = None;
    let _: u64 = server.call(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(limiter.check(&MANY, "x").await.expect("a decision").is_degraded(), "nobody is let in");
    }
    *password.lock().expect("nobody panics") = Some("second");
    let decision = recovered(&limiter, &MANY, "x").await;
    assert_eq!(decision.remaining(), 998, "it counts where it did");
}

#[tokio::test]
async fn credentials_that_are_not_to_be_had_are_told() {
    let server = RedisServer::start().await;
    let redis = || RateLimiter::builder().redis(server.url());
    let closed = || redis().redis_credentials(|| async { Err("the vault is closed".into()) });
    let error = refusal(closed).await;
    assert!(error.contains("the vault is closed"), "{error}");
    let silent = redis().redis_credentials(std::future::pending).require_store();
    silent.build().await.expect_err("it does not wait for ever");
}

#[tokio::test]
async fn a_provider_that_panics_is_asked_ever_more_rarely() {
    const MANY: Policy = Policy::new("many").per_hour(1_000_000);
    let server = RedisServer::start().await;
    let (asked, is_there) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(true)));
    let settings = || {
        let (asked, is_there) = (Arc::clone(&asked), Arc::clone(&is_there));
        RateLimiter::builder().redis(server.url()).redis_credentials(move || {
            asked.fetch_add(1, Ordering::SeqCst);
            let secret = is_there.load(Ordering::SeqCst).then(|| RedisCredentials::new("default", ""));
            async move { Ok(secret.expect("the secret is mounted")) }
        })
    };
    let limiter = built(settings).await;
    is_there.store(false, Ordering::SeqCst);
    asked.store(0, Ordering::SeqCst);
    let _: u64 = server.call(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        let _ = limiter.check(&MANY, "x").await.expect("a decision");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let asked = asked.load(Ordering::SeqCst);
    assert!((1..=30).contains(&asked), "as often as an error, not with each check: {asked}");
    is_there.store(true, Ordering::SeqCst);
    let _ = recovered(&limiter, &MANY, "x").await;
}

#[tokio::test]
async fn the_users_password_overrides_that_of_the_url() {
    let server = RedisServer::start().await;
    let () = server.call(&["CONFIG", "SET", "requirepass", "hush"]).await;
    let url = format!("redis://someone:else@127.0.0.1:{}/1", server.port());
    let redis = || RateLimiter::builder().redis(&url);
    counts(|| redis().redis_credentials(|| async { Ok(RedisCredentials::password("hush")) })).await;
}

#[tokio::test]
async fn what_is_wrong_with_an_address_is_told() {
    for url in
        ["localhost:6379", "http://localhost", "redis://h/first", "redis://secret@h", "rediss://h#insecure"]
    {
        let built = RateLimiter::builder().redis(url).build().await;
        assert!(matches!(built, Err(BuildError::Setting { setting: "redis", .. })), "{url}: {built:?}");
    }
}

/// As for all keys: whoever may not set a TTL takes nothing.
#[tokio::test]
async fn a_log_takes_nothing_that_would_never_expire() {
    const LOG: Policy = Policy::new("log").per_hour(4).algorithm(Algorithm::SlidingLog);
    let server = RedisServer::start().await;
    let () = server.call(&["ACL", "SETUSER", "app", "on", ">p", "~*", "+@all", "-pexpire"]).await;
    let url = format!("redis://app:p@127.0.0.1:{}/", server.port());
    let settings = || RateLimiter::builder().redis(&url).on_store_error(OnStoreError::Deny);
    let limiter = built(|| settings().timeout(Duration::from_secs(30))).await;
    limiter.check(&LOG, "x").await.expect_err("it is refused");
    assert!(server.keys().await.is_empty());
}
