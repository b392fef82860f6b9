//! Tests against denial of service by the limiter itself: hostile clients, crowds of keys, herds, and a Redis that
//! refuses.
//!
//! They assert who passes, what the log says and how much is kept, but never how fast that is.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use axum_rate_limit::{
    BuildError, Builder, Decision, Decisions, Error, ManualClock, OnStoreError, Policy, RateLimiter,
    StoreError, rate_limit,
};
use redis::aio::MultiplexedConnection;
use tests::{App, Log, RedisServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long something that must happen may take; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);

#[rate_limit(name = "judged", per_hour = 2)]
async fn judged(decisions: Decisions) -> String {
    format!("degraded: {}", decisions[0].is_degraded())
}

// ---- A Redis that refuses ----

const CHOICES: [(OnStoreError, &str, [u16; 4], &str); 3] = [
    (OnStoreError::Local, "local:", [200, 200, 503, 503], "degraded: true"),
    (OnStoreError::Allow, "allow:", [200; 4], "degraded: true"),
    (OnStoreError::Deny, "deny:", [503; 4], r#"{"detail":"The rate limit can't be checked at the moment."}"#),
];

/// Serves one application per choice of what to do when the store fails, each with keys of its own.
async fn apps(server: &RedisServer) -> Vec<(RateLimiter, App)> {
    let mut apps = Vec::new();
    for (choice, prefix, ..) in CHOICES {
        let builder = RateLimiter::builder().redis(server.url()).timeout(Duration::from_secs(20));
        let limiter = builder.key_prefix(prefix).on_store_error(choice).build().await.expect("it builds");
        let router = Router::new().route("/", get(judged)).layer(limiter.clone());
        apps.push((limiter, App::serve(router).await));
    }
    apps
}

/// Makes sure that each application does what was chosen.
async fn all_do_as_chosen(apps: &[(RateLimiter, App)]) {
    for ((choice, _, statuses, body), (_, app)) in CHOICES.into_iter().zip(apps) {
        for (index, status) in statuses.into_iter().enumerate() {
            let answer = app.get("/").await;
            assert_eq!(answer.status.as_u16(), status, "{choice:?}, request {index}: {}", answer.body);
            assert!(index > 0 || answer.body == body, "{choice:?}: {}", answer.body);
        }
    }
}

/// Waits until each limiter counts in Redis again.
async fn all_recover(apps: &[(RateLimiter, App)]) {
    const OTHER: Policy = Policy::new("other").per_hour(1_000_000);
    for (limiter, _) in apps {
        let start = Instant::now();
        while limiter.check(&OTHER, "x").await.map_or(true, |decision| decision.is_degraded()) {
            assert!(start.elapsed() < PATIENCE, "the limiter did not find its server again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn run(connection: &mut MultiplexedConnection, command: &str) {
    let mut words = command.split(' ');
    let mut call = redis::cmd(words.next().expect("a command"));
    for word in words {
        // `""` stands for an empty word.
        call.arg(word.trim_matches('"'));
    }
    let _: redis::Value = call.query_async(connection).await.expect("it runs");
}

/// Makes sure that each limiter logs this error once, however many requests it refuses.
fn each_complains_once(log: &Log, of: &str) {
    let lines = log.lines_with("ERROR", &["requests can't be counted", of]);
    assert_eq!(lines.len(), CHOICES.len(), "{:?}", log.lines());
    assert!(lines.iter().all(|line| line.len() < 1_000), "{lines:?}");
}

#[tokio::test]
async fn somebody_elses_data_at_our_keys() {
    let (log, _guard) = Log::of_this_thread();
    let server = RedisServer::start().await;
    let apps = apps(&server).await;
    let mut connection = server.connection().await;
    for (_, prefix, ..) in CHOICES {
        let key = format!("{prefix}{{judged::127.0.0.1}}3600000");
        run(&mut connection, &format!("HSET {key} field value")).await;
    }
    all_do_as_chosen(&apps).await;
    each_complains_once(&log, "the store refused");
}

#[tokio::test]
async fn a_redis_without_memory() {
    let (log, _guard) = Log::of_this_thread();
    let server = RedisServer::start().await;
    let apps = apps(&server).await;
    let mut connection = server.connection().await;
    run(&mut connection, "CONFIG SET maxmemory 1").await;
    all_do_as_chosen(&apps).await;
    each_complains_once(&log, "OOM");
    run(&mut connection, "CONFIG SET maxmemory 0").await;
    all_recover(&apps).await;
}

#[tokio::test]
async fn a_redis_that_forbids_scripts_and_transactions() {
    let (log, _guard) = Log::of_this_thread();
    let server = RedisServer::start().await;
    let apps = apps(&server).await;
    let mut connection = server.connection().await;
    run(&mut connection, "ACL SETUSER default -evalsha -exec").await;
    all_do_as_chosen(&apps).await;
    each_complains_once(&log, "no permissions");
    run(&mut connection, "ACL SETUSER default +evalsha +exec").await;
    all_recover(&apps).await;
}

#[tokio::test]
async fn a_redis_that_wants_a_password() {
    let (log, _guard) = Log::of_this_thread();
    let server = RedisServer::start().await;
    let mut connection = server.connection().await;
    run(&mut connection, "CONFIG SET requirepass secret").await;
    let apps = apps(&server).await;
    all_do_as_chosen(&apps).await;
    let lines = log.lines_with("WARN", &["the rate limiter's store is away", "NOAUTH"]);
    assert_eq!(lines.len(), CHOICES.len(), "{lines:?}");
    let required = RateLimiter::builder().redis(server.url()).require_store().build().await;
    let error = told(&required.expect_err("it wants a password")).join(": ");
    assert!(error.contains("NOAUTH"), "{error}");
    run(&mut connection, "CONFIG SET requirepass \"\"").await;
    all_recover(&apps).await;
}

/// Returns the texts of an error and of all its sources.
fn told(error: &BuildError) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        texts.push(error.to_string());
        source = error.source();
    }
    texts
}

/// A server that starts with much data on disk answers for a while, but serves nobody.
#[tokio::test]
async fn a_redis_that_is_loading() {
    let (log, _guard) = Log::of_this_thread();
    // Loading takes 2 ms per key, and the server listens to clients after every 2 MB.
    let slow = ["--key-load-delay", "2000", "--rdbcompression", "no"];
    let mut server = RedisServer::start_with(&[&["--save", ""][..], &slow].concat()).await;
    let apps = apps(&server).await;
    let mut connection = server.connection().await;
    let fill = "for i = 1, 4000 do redis.call('SET', 'filler:' .. i, string.rep('x', 20000)) end";
    let () = redis::cmd("EVAL").arg(fill).arg(0).query_async(&mut connection).await.expect("it fills");
    run(&mut connection, "SAVE").await;
    server.kill();
    let url = server.url();
    let meanwhile = async {
        let start = Instant::now();
        let loading = loop {
            let required = RateLimiter::builder().redis(&url).require_store().build().await;
            let error = told(&required.expect_err("it is loading, or not even there")).join(": ");
            if error.to_uppercase().contains("LOADING") {
                break error;
            }
            assert!(start.elapsed() < PATIENCE, "it never was loading: {error}");
        };
        all_do_as_chosen(&apps).await;
        loading
    };
    let ((), loading) = tokio::join!(server.restart(), meanwhile);
    assert!(loading.contains("the store is required"), "{loading}");
    let away = log.lines_with("WARN", &["the rate limiter's store is away"]).len();
    assert!(away >= CHOICES.len(), "{away}");
    all_recover(&apps).await;
    assert_eq!(log.lines_with("ERROR", &[]), Vec::<String>::new());
}

// ---- Crowds of keys ----

const CROWD: usize = 100_000;

/// Ten policies.
fn policies() -> Vec<Policy> {
    let names = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"];
    names.into_iter().map(|name| Policy::new(name).per_hour(1)).collect()
}

async fn check(limiter: &RateLimiter, policies: &[Policy], number: usize) -> Result<Decision, Error> {
    limiter.check(&policies[number % policies.len()], format!("client-{number}").as_str()).await
}

#[tokio::test]
async fn each_of_a_hundred_thousand_keys_has_its_limit() {
    let (limiter, policies) = (RateLimiter::memory(), policies());
    for allowed in [true, false] {
        for number in 0..CROWD {
            let decision = check(&limiter, &policies, number).await.expect("there is room");
            assert_eq!(decision.is_allowed(), allowed, "{number}");
        }
    }
}

#[tokio::test]
async fn a_crowd_that_fills_the_memory_is_refused_and_pushes_nobody_out() {
    const MAX_KEYS: usize = 20_000;
    let (log, _guard) = Log::of_this_thread();
    let clock = ManualClock::default();
    let limiter =
        |choice| RateLimiter::builder().max_keys(MAX_KEYS).clock(&clock).on_store_error(choice).build();
    let (denying, allowing) = (limiter(OnStoreError::Local).await, limiter(OnStoreError::Allow).await);
    let (denying, allowing) = (denying.expect("it builds"), allowing.expect("it builds"));
    let policies = policies();
    let mut seated = Vec::new();
    for number in 0..CROWD {
        match check(&denying, &policies, number).await {
            Ok(decision) => {
                assert!(decision.is_allowed(), "{number}");
                seated.push(number);
            }
            Err(Error::Store(StoreError::Full { max_keys })) => assert_eq!(max_keys, MAX_KEYS),
            Err(other) => panic!("{other}"),
        }
        assert!(check(&allowing, &policies, number).await.expect("it lets pass").is_allowed());
    }
    // Shards fill unevenly, and their capacity is rounded up.
    let count = seated.len();
    assert!((MAX_KEYS / 2..=MAX_KEYS + MAX_KEYS / 100).contains(&count), "{count} of {MAX_KEYS}");
    let lines = log.lines_with("ERROR", &["requests can't be counted", "raise `max_keys`, now 20000"]);
    assert!((1..20).contains(&lines.len()), "{} lines", lines.len());
    for number in seated {
        let decision = check(&denying, &policies, number).await.expect("it has a counter");
        assert!(!decision.is_allowed(), "{number} was pushed out");
    }
    clock.advance(Duration::from_secs(3_600));
    for number in CROWD..CROWD + MAX_KEYS / 4 {
        assert!(check(&denying, &policies, number).await.expect("there is room again").is_allowed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_leaves_nothing_in_redis_that_stays() {
    const COUNT: usize = 5_000;
    let server = RedisServer::start().await;
    let limiter = server.limiter().await;
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..20 {
        let limiter = limiter.clone();
        tasks.spawn(async move {
            let policies = policies();
            for number in (worker..COUNT).step_by(20) {
                for allowed in [true, false] {
                    let decision = check(&limiter, &policies, number).await.expect("a decision");
                    assert_eq!((decision.is_allowed(), decision.is_degraded()), (allowed, false), "{number}");
                }
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.expect("no check panics");
    }
    let mut connection = server.connection().await;
    let script = "local lasting, all = 0, redis.call('KEYS', '*') \
                  for _, key in ipairs(all) do if redis.call('PTTL', key) < 0 then lasting = lasting + 1 end end \
                  return { #all, lasting }";
    let counts: (usize, usize) =
        redis::cmd("EVAL").arg(script).arg(0).query_async(&mut connection).await.expect("it counts");
    assert_eq!(counts, (COUNT, 0));
}

// ---- Herds ----

const HERD: Policy = Policy::new("herd").per_hour(50);

/// Makes `count` checks at once, with these limiters in turn, and returns how many are allowed.
async fn admitted(limiters: &[RateLimiter], count: usize) -> usize {
    let mut tasks = tokio::task::JoinSet::new();
    for limiter in limiters.iter().cycle().take(count) {
        let limiter = limiter.clone();
        tasks.spawn(async move { limiter.check(&HERD, "all").await.expect("a decision") });
    }
    let mut admitted = 0;
    while let Some(decision) = tasks.join_next().await {
        let decision = decision.expect("no check panics");
        assert!(!decision.is_degraded());
        admitted += usize::from(decision.is_allowed());
    }
    admitted
}

/// Uses up a window, and goes on checking while `end` ends it and afterwards: exactly one more quota may pass.
async fn herd(limiters: &[RateLimiter], end: impl Future<Output = ()> + Send + 'static) {
    assert_eq!(admitted(limiters, 1_000).await, 50);
    let ending = tokio::spawn(end);
    let start = Instant::now();
    let mut sum = 0;
    while sum < 50 {
        assert!(start.elapsed() < PATIENCE, "only {sum} came in");
        sum += admitted(limiters, 500).await;
    }
    ending.await.expect("the window ends");
    sum += admitted(limiters, 2_000).await;
    assert_eq!(sum, 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_herd_at_a_windows_end_in_memory() {
    let clock = ManualClock::default();
    let limiter = RateLimiter::builder().clock(&clock).build().await.expect("it builds");
    for _ in 0..5 {
        clock.advance(Duration::from_secs(3_600));
        let clock = clock.clone();
        herd(std::slice::from_ref(&limiter), async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            clock.advance(Duration::from_secs(3_600));
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_herd_at_a_windows_end_in_redis() {
    let server = RedisServer::start().await;
    let limiters = [server.limiter().await, server.limiter().await];
    for _ in 0..2 {
        let mut connection = server.connection().await;
        herd(&limiters, async move { run(&mut connection, "PEXPIRE rl:{herd::all}3600000 200").await }).await;
        // What is denied may be remembered for a second.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        run(&mut server.connection().await, "FLUSHALL").await;
    }
}

// ---- Hostile clients ----

static WORKED: AtomicUsize = AtomicUsize::new(0);

#[rate_limit(name = "upload", per_hour = 5)]
async fn upload(body: Bytes) -> String {
    WORKED.fetch_add(1, Ordering::SeqCst);
    body.len().to_string()
}

async fn connect(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(text.as_bytes()).await.expect("it takes it");
    stream
}

/// Reads the head of a response.
async fn head(stream: &mut TcpStream) -> String {
    let reading = async {
        let mut bytes = Vec::new();
        while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
            let count = stream.read_buf(&mut bytes).await.expect("it answers");
            assert!(count > 0, "it hangs up: {:?}", String::from_utf8_lossy(&bytes));
        }
        String::from_utf8(bytes).expect("text")
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("it answers in time")
}

/// Clients that stall within the head of a request are charged nothing, clients that hang up are charged no more
/// than there is, and denied clients are told so before their bodies have arrived.
#[tokio::test]
async fn slow_clients_hold_nobody_up() {
    let limiter = RateLimiter::memory();
    let app = App::serve(Router::new().route("/", post(upload)).layer(limiter.clone())).await;
    let url = app.url("/");
    let address: SocketAddr =
        url.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
    let mut begun = Vec::new();
    for _ in 0..100 {
        begun.push(connect(address, "POST / HTTP/1.1\r\nhost: x\r\nx-forwar").await);
    }
    // Two requests wait for their bodies in the handler's extractor: they are counted, and hold nobody up.
    let mut waiting = Vec::new();
    for _ in 0..2 {
        waiting.push(connect(address, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nab").await);
    }
    let upload = axum_rate_limit::policies().into_iter().find(|policy| policy.name() == "upload");
    let (upload, me) = (upload.expect("it is declared"), IpAddr::from([127, 0, 0, 1]));
    let start = Instant::now();
    // The server reads them in its own time.
    while limiter.peek(upload, me).await.expect("a decision").remaining() > 3 {
        assert!(start.elapsed() < PATIENCE, "they are not read");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..3 {
        let mut stream = connect(address, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
    }
    let huge = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4000000000\r\n\r\n";
    let mut denied = connect(address, huge).await;
    let answer = head(&mut denied).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after"), "{answer}");
    for stream in &mut waiting {
        stream.write_all(b"cd").await.expect("it takes it");
        assert!(head(stream).await.starts_with("HTTP/1.1 200"));
    }
    for stream in &mut begun {
        stream.write_all(b"ded-for: 6.6.6.6\r\ncontent-length: 0\r\n\r\n").await.expect("it takes it");
        assert!(head(stream).await.starts_with("HTTP/1.1 503"));
    }
    for _ in 0..100 {
        drop(connect(address, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await);
    }
    assert_eq!(app.send(reqwest::Method::POST, "/").await.status.as_u16(), 503);
    assert_eq!(WORKED.load(Ordering::SeqCst), 5);
}

#[rate_limit(name = "address", per_hour = 2)]
async fn by_address() {}

#[rate_limit(name = "secret", per_hour = 2, key = header("x-api-key"))]
async fn by_header() {}

/// Below the limit of about 400 KB up to which hyper reads a head by default.
const HUGE: usize = 100_000;

#[tokio::test]
async fn huge_headers_gain_nothing() {
    let server = RedisServer::start().await;
    let builder =
        |builder: Builder| builder.redis(server.url()).timeout(Duration::from_secs(20)).require_store();
    let limiter = builder(RateLimiter::builder().trusted_proxies(["127.0.0.1", "10.0.0.0/8"])).build().await;
    let router = Router::new().route("/address", get(by_address)).route("/header", get(by_header));
    let app = App::serve(router.layer(limiter.expect("Redis is there"))).await;
    let forged = [
        "10.0.0.2, ".repeat(HUGE / 10),
        "6.6.6.6, ".repeat(HUGE / 9),
        ",".repeat(HUGE),
        " ".repeat(HUGE),
        "\"\\".repeat(HUGE / 2),
        format!("{}, ", "x".repeat(HUGE)),
    ];
    for (index, sent) in forged.iter().enumerate() {
        let line = format!("{sent},203.0.113.9");
        let status = app.get_with("/address", [("x-forwarded-for", &line)]).await.status.as_u16();
        assert_eq!(status, if index < 2 { 200 } else { 503 }, "{index}");
    }
    // These are more hops than are read: the last proxy that is read counts, whatever comes before it.
    for (first, status) in [("1.1.1.1", 200), ("2.2.2.2", 200), ("3.3.3.3", 503)] {
        let line = format!("{first}{}", ", 10.0.0.2".repeat(HUGE / 10));
        assert_eq!(app.get_with("/address", [("x-forwarded-for", &line)]).await.status.as_u16(), status);
    }
    for last in ["a", "b"] {
        let value = format!("{}{last}", "k".repeat(HUGE));
        for status in [200, 200, 503] {
            assert_eq!(app.get_with("/header", [("x-api-key", &value)]).await.status.as_u16(), status);
        }
    }
    let keys = server.keys().await;
    assert_eq!(keys.len(), 4, "{keys:?}");
    assert!(keys.iter().all(|key| key.len() < 100), "{keys:?}");
}
