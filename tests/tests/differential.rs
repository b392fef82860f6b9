//! Sends the same random requests to this limiter and to one in Python (`tests/python/incr_expire.py`), which
//! counts with `INCR` and `EXPIRE`.
//!
//! Statuses and bodies must be the same. The two differ on purpose in the following ways, which do not show here:
//!
//! * The limiter in Python also counts what it denies. A window ends by its age in both, so the same requests pass:
//!   once a count is over the limit, counting on changes nothing.
//! * If the limiter in Python is killed between its two commands, a key is left without its TTL of 60 seconds.
//!   It is not killed here.
//! * `HEAD` counts as `GET` here and separately there, where FastAPI's routes do not answer it. None is sent.
//! * A method that a route lacks (405) is counted by a limited router here, and not at all there. None is sent.
//! * Of an IPv6 address, the first 56 bits count here, and all of them there. Clients have IPv4 addresses.
//! * A path is normalised here. There it is what Starlette makes of it: the percent-encoding is undone, and the
//!   paths that are sent have nothing else to normalise.

use std::cell::Cell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use axum_rate_limit::{RateLimiter, rate_limit};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use redis::aio::MultiplexedConnection;
use reqwest::Method;
use serde_json::{Value, json};
use tests::{App, Client, RedisServer};

/// The unit in which time passes.
const TICK: Duration = Duration::from_secs(10);
/// A history that takes longer is cut short: the real time that passes must be short compared with a tick.
const LONGEST: Duration = Duration::from_secs(4);
/// At least this many requests are compared.
const ENOUGH: usize = 3_000;

fn answer() -> Json<Value> {
    Json(json!({ "answer": 42 }))
}

#[rate_limit(name = "hardwork", per_minute = 5, by_resource)]
async fn calculate() -> Json<Value> {
    answer()
}

#[rate_limit(name = "plain", per_minute = 4)]
fn plain() -> MethodRouter {
    get(|| async { answer() }).post(|| async { answer() })
}

#[rate_limit(name = "resources", per_minute = 3, by_resource)]
mod resources {
    use super::*;

    pub(super) fn router() -> Router {
        let one = get(resource).put(resource).delete(resource);
        Router::new().route("/resources/", get(resource).post(resource)).route("/resources/{id}", one)
    }

    async fn resource() -> Json<Value> {
        answer()
    }
}

fn routes() -> Router {
    Router::new()
        .route("/hardwork/", get(calculate).post(calculate))
        .route("/plain/", plain())
        .route("/plain/{id}", plain())
        .merge(resources::router())
}

#[derive(Clone, Debug)]
enum Step {
    /// A request from the client with this number.
    Request(u8, Method, &'static str),
    /// A number of equal requests at once.
    Herd(u8, Method, &'static str, usize),
    /// A number of ticks that pass.
    Pass(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (read, write) = (Method::GET, Method::POST);
    let requests = [
        (read.clone(), "/hardwork/"),
        (write.clone(), "/hardwork/"),
        (read.clone(), "/hardwork/?query=1"),
        (read.clone(), "/plain/"),
        (write.clone(), "/plain/one"),
        (read.clone(), "/plain/two?three"),
        (read.clone(), "/resources/"),
        (write, "/resources/"),
        (read.clone(), "/resources/1"),
        (read.clone(), "/resources/%31"),
        (read, "/resources/x"),
        (Method::PUT, "/resources/1"),
        (Method::DELETE, "/resources/1?x=y"),
    ];
    let client = || prop_oneof![3 => Just(1_u8), 2 => Just(2), 1 => 3..200_u8];
    let request = || (client(), proptest::sample::select(requests.to_vec()));
    let step = prop_oneof![
        30 => request().prop_map(|(client, (method, path))| Step::Request(client, method, path)),
        1 => (request(), 2..12_usize)
            .prop_map(|((client, (method, path)), count)| Step::Herd(client, method, path, count)),
        2 => (1..8_u32).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..150)
}

/// One of the two limiters: where it is asked, and where it counts.
struct Side {
    http: reqwest::Client,
    address: Client,
    store: MultiplexedConnection,
}

impl Side {
    async fn send(&self, client: Ipv4Addr, method: &Method, path: &str) -> (u16, String) {
        let address = client.to_string();
        let request = self.http.request(method.clone(), self.address.url(path));
        let answer = request.header("x-forwarded-for", address).send().await.expect("there is an answer");
        (answer.status().as_u16(), answer.text().await.expect("it has a body"))
    }

    /// Sends `count` equal requests at once, and returns their statuses and bodies, sorted.
    async fn herd(&self, client: Ipv4Addr, method: &Method, path: &str, count: usize) -> Vec<(u16, String)> {
        let requests = (0..count).map(|_| self.send(client, method, path));
        let mut answers = futures_util::future::join_all(requests).await;
        answers.sort();
        answers
    }

    /// Lets time pass by shortening TTLs: a key that would have no more than half a tick left has expired.
    async fn pass(&self, ticks: u32) {
        let script = "for _, key in ipairs(redis.call('KEYS', '*')) do \
                        local left = redis.call('PTTL', key) - ARGV[1] \
                        if left > ARGV[2] + 0 then redis.call('PEXPIRE', key, left) \
                        else redis.call('DEL', key) end \
                      end";
        let passed = (TICK * ticks).as_millis().to_string();
        let half = (TICK / 2).as_millis().to_string();
        let mut eval = redis::cmd("EVAL");
        let () = eval
            .arg(script)
            .arg(0)
            .arg(passed)
            .arg(half)
            .query_async(&mut self.store.clone())
            .await
            .expect("it passes");
    }
}

/// The server in Python. It is killed when this value is dropped.
struct IncrExpire(Child);

impl IncrExpire {
    fn start(python: &Path, redis: &RedisServer) -> (Self, SocketAddr) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/incr_expire.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(redis.port().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it tells its port");
        let server = Self(child);
        let port: u16 = line.trim().parse().expect("a port");
        (server, SocketAddr::from(([127, 0, 0, 1], port)))
    }
}

impl Drop for IncrExpire {
    fn drop(&mut self) {
        // The process may have ended by itself; what counts is that it is gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns a Python that has redis-py, if need be one in a virtual environment under `target`.
fn python() -> Result<PathBuf, String> {
    let works = |python: &Path| {
        let import = Command::new(python).args(["-c", "import redis"]).stderr(Stdio::null()).status();
        import.is_ok_and(|status| status.success())
    };
    let system = PathBuf::from("python3");
    if works(&system) {
        return Ok(system);
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let python = directory.join("bin/python");
    if works(&python) {
        return Ok(python);
    }
    let run = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("{command:?}: {error}")),
    };
    run(Command::new(&system).args(["-m", "venv"]).arg(&directory))?;
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/requirements.txt");
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(requirements))?;
    Ok(python)
}

#[test]
fn incr_and_expire_answer_the_same() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => {
            // Not into the test's captured output, which is not shown, since a skipped test passes.
            let _ = writeln!(std::io::stderr(), "SKIPPED: no Python with redis-py is here: {reason}");
            return;
        }
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let stores = runtime.block_on(async { [RedisServer::start().await, RedisServer::start().await] });
    let [ours, theirs] = &stores;
    let (_server, address) = IncrExpire::start(&python, theirs);
    let app = |prefix, deny_memory| async move {
        let builder = RateLimiter::builder().redis(ours.url()).timeout(Duration::from_secs(20));
        let builder = builder.trusted_proxies(["127.0.0.1"]).key_prefix(prefix).deny_memory(deny_memory);
        App::serve(routes().layer(builder.require_store().build().await.expect("Redis is there"))).await
    };
    let side = |address: Client, redis: &RedisServer| Side {
        http: reqwest::Client::new(),
        address,
        store: runtime.block_on(redis.connection()),
    };
    let (remembering, plain) =
        runtime.block_on(async { (app("one:", true).await, app("two:", false).await) });
    let (remembering, plain) = (side(remembering.clone(), ours), side(plain.clone(), ours));
    let theirs = side(Client::at(address), theirs);

    let (compared, denied, histories) = (Cell::new(0), Cell::new(0), Cell::new(0));
    while compared.get() < ENOUGH {
        let mut runner = TestRunner::new(ProptestConfig { cases: 1, ..ProptestConfig::default() });
        let run = |steps: Vec<Step>| {
            let number = histories.replace(histories.get() + 1);
            // A limiter that remembers denials does not notice that the test lets time pass in Redis.
            let (ours, steps) = match number % 2 {
                0 => (&plain, steps),
                _ => {
                    (&remembering, steps.into_iter().filter(|step| !matches!(step, Step::Pass(_))).collect())
                }
            };
            let (more, more_denied) = runtime.block_on(history([ours, &theirs], number, &steps))?;
            compared.set(compared.get() + more);
            denied.set(denied.get() + more_denied);
            Ok(())
        };
        runner.run(&steps(), run).expect("both answer the same");
    }
    let (compared, denied) = (compared.get(), denied.get());
    assert!(denied > compared / 20, "of {compared} requests {denied} were denied: nothing has been tried");
}

/// Runs a history, and returns how many requests have been compared, and how many of them both have denied. The
/// `number` of the history gives it clients of its own.
async fn history(
    [ours, theirs]: [&Side; 2],
    number: u16,
    steps: &[Step],
) -> Result<(usize, usize), TestCaseError> {
    let [high, low] = number.to_be_bytes();
    let address = |client: u8| Ipv4Addr::new(203, high, low, client);
    let start = Instant::now();
    let (mut compared, mut denied) = (0, 0);
    for step in steps {
        if start.elapsed() > LONGEST {
            break;
        }
        match step {
            Step::Request(client, method, path) => {
                let answer = ours.send(address(*client), method, path).await;
                let expected = theirs.send(address(*client), method, path).await;
                prop_assert_eq!(&answer, &expected, "{:?} after {} others", step, compared);
                compared += 1;
                denied += usize::from(answer.0 == 503);
            }
            Step::Herd(client, method, path, count) => {
                let answers = ours.herd(address(*client), method, path, *count).await;
                let expected = theirs.herd(address(*client), method, path, *count).await;
                prop_assert_eq!(&answers, &expected, "{:?} after {} others", step, compared);
                compared += count;
                denied += answers.iter().filter(|(status, _)| *status == 503).count();
            }
            Step::Pass(ticks) => {
                ours.pass(*ticks).await;
                theirs.pass(*ticks).await;
            }
        }
    }
    Ok((compared, denied))
}
