//! A `redis-server` process that a test starts for itself.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum_rate_limit::RateLimiter;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, RedisResult};
use tempfile::TempDir;

use crate::built;

/// How long a server may take to start; a loaded machine is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server on a free port of loopback. It is killed when this value is dropped.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    port: u16,
    directory: TempDir,
    arguments: Vec<String>,
}

impl RedisServer {
    /// Starts an empty server that keeps nothing on disk.
    ///
    /// # Panics
    ///
    /// If it does not start: `tests/run.sh` installs it where it is missing.
    pub async fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"]).await
    }

    /// Starts a server with these arguments.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the server");
        Self::start_in(directory, |_| owned(arguments)).await
    }

    /// Starts a server in a directory that may hold files for it.
    ///
    /// `arguments` is called with the server's port on each attempt, since the arguments may contain other
    /// ports that must be free.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start_in(directory: TempDir, mut arguments: impl FnMut(u16) -> Vec<String>) -> Self {
        // Another process may take the port before the server does.
        for _ in 0..5 {
            let port = free_port();
            let arguments = arguments(port);
            let mut child = spawn(port, &directory, &arguments);
            if is_up(port, &mut child).await {
                return Self { child, port, directory, arguments };
            }
            stop(&mut child);
        }
        panic!("redis-server does not start");
    }

    /// Returns a limiter on this server with a long timeout: a loaded machine may be slow, and most tests are
    /// not about what happens then.
    ///
    /// # Panics
    ///
    /// If it can't be built.
    pub async fn limiter(&self) -> RateLimiter {
        built(|| RateLimiter::builder().redis(self.url()).timeout(PATIENCE)).await
    }

    /// Returns a [`limiter`](Self::limiter) that remembers no denials, and so asks the server every time.
    ///
    /// # Panics
    ///
    /// If it can't be built.
    pub async fn limiter_without_deny_memory(&self) -> RateLimiter {
        built(|| RateLimiter::builder().redis(self.url()).timeout(PATIENCE).deny_memory(false)).await
    }

    /// Returns the URL of the server.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Opens a connection that is not a limiter's.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn connection(&self) -> MultiplexedConnection {
        connect(self.port).await.expect("the server answers")
    }

    /// Runs a command, given as words, and returns the server's answer.
    ///
    /// # Panics
    ///
    /// If the server does not answer, or refuses.
    pub async fn call<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_call(words).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Runs a command, and returns the server's answer, or why there is none.
    pub async fn try_call<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let mut connection = connect(self.port).await?;
        let mut command = redis::Cmd::new();
        command.arg(words);
        command.query_async(&mut connection).await
    }

    /// Repeats a command until the answer is right.
    ///
    /// # Panics
    ///
    /// If it never is. Refusals and silence do not count as answers.
    pub async fn until(&self, words: &[&str], is_right: impl Fn(&str) -> bool) {
        let start = Instant::now();
        let mut last = String::new();
        while start.elapsed() < PATIENCE {
            match self.try_call::<String>(words).await {
                Ok(answer) if is_right(&answer) => return,
                Ok(answer) => last = answer,
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{words:?} of {} is still answered with {last}", self.port);
    }

    /// Waits until this many replicas have received all writes before the instant that is returned.
    ///
    /// # Panics
    ///
    /// If fewer replicas keep up.
    pub async fn kept(&self, replicas: u64) -> Instant {
        let kept = Instant::now();
        // `WAIT` waits for the writes of its own connection, and so for all that came before them.
        let mut connection = self.connection().await;
        let (_, acknowledged): (u64, u64) = redis::pipe()
            .cmd("PUBLISH")
            .arg("tests")
            .arg("kept")
            .cmd("WAIT")
            .arg(replicas)
            .arg(9_000)
            .query_async(&mut connection)
            .await
            .expect("the server answers");
        assert!(acknowledged >= replicas, "{acknowledged} of {replicas} replicas keep up");
        kept
    }

    /// Returns the port of the server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the directory in which the server keeps its files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Returns all keys, sorted.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.call(&["KEYS", "*"]).await;
        keys.sort();
        keys
    }

    /// Returns how many calls of limiters the server has run: scripts and transactions.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn calls(&self) -> u64 {
        self.runs("evalsha").await + self.runs("exec").await
    }

    /// Returns how often the server has run a command.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn runs(&self, command: &str) -> u64 {
        let told: String = self.call(&["INFO", "commandstats"]).await;
        let start = format!("cmdstat_{command}:calls=");
        let calls = told.lines().find_map(|line| line.strip_prefix(&start)?.split(',').next()?.parse().ok());
        calls.unwrap_or(0)
    }

    /// Returns the milliseconds that a key has left; -1 if it never expires.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn pttl(&self, key: &str) -> i64 {
        self.call(&["PTTL", key]).await
    }

    /// Kills the server abruptly, as a power cut would.
    pub fn kill(&mut self) {
        stop(&mut self.child);
    }

    /// Starts the server again on the same port, with what it has on disk.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn restart(&mut self) {
        self.kill();
        // A connection may have been given this very port in the meantime. It is closed soon enough.
        for _ in 0..5 {
            self.child = spawn(self.port, &self.directory, &self.arguments);
            if is_up(self.port, &mut self.child).await {
                return;
            }
            self.kill();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("redis-server does not start again");
    }

    /// Sends a signal to the server, such as `STOP` or `CONT`.
    ///
    /// # Panics
    ///
    /// If there is no such process.
    pub fn signal(&self, signal: &str) {
        let process = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", signal, &process]).status();
        assert!(status.expect("kill runs").success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns a port that nobody listens at.
pub(crate) fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        // The nodes of a cluster talk to each other on ports that are higher by 10,000.
        if port < u16::MAX - 10_000 {
            return port;
        }
    }
}

pub(crate) fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn spawn(port: u16, directory: &TempDir, arguments: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    // A sentinel keeps its state in a configuration file, which must be the first argument.
    let (file, arguments) = match arguments.split_first() {
        Some((first, rest)) if !first.starts_with("--") => (Some(first), rest),
        _ => (None, arguments),
    };
    command
        .args(file)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(directory.path())
        .args(arguments)
        .current_dir(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed (tests/run.sh does it)")
}

fn stop(child: &mut Child) {
    // The process may have ended by itself; what counts is that it is gone.
    let _ = child.kill();
    let _ = child.wait();
}

async fn connect(port: u16) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(10)))
        .set_response_timeout(Some(Duration::from_secs(10)));
    redis::Client::open(format!("redis://127.0.0.1:{port}/"))?
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

async fn is_up(port: u16, child: &mut Child) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            return false;
        }
        if let Ok(mut connection) = connect(port).await {
            let pong: RedisResult<String> = redis::cmd("PING").query_async(&mut connection).await;
            if pong.is_ok() {
                return true;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}
