//! A `redis-server` process of the test's own.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum_rate_limit::RateLimiter;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

/// How long a server may take to start; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server on a free port of loopback, which dies with this value.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    port: u16,
    directory: TempDir,
    arguments: Vec<String>,
}

impl RedisServer {
    /// An empty server that keeps nothing on disk.
    ///
    /// # Panics
    ///
    /// If it does not start: `tests/run.sh` installs it where it is missing.
    pub async fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"]).await
    }

    /// A server with arguments of the test's choice.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the server");
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        // Another process may take the port between the look and the start.
        for _ in 0..5 {
            let port = free_port();
            let mut child = spawn(port, &directory, &arguments);
            if is_up(port, &mut child).await {
                return Self { child, port, directory, arguments };
            }
            stop(&mut child);
        }
        panic!("redis-server does not start");
    }

    /// A limiter that counts here, and is patient: a loaded machine may be slow, and what happens then
    /// is not what most tests ask.
    ///
    /// # Panics
    ///
    /// If it can't be built.
    pub async fn limiter(&self) -> RateLimiter {
        let builder = RateLimiter::builder().redis(self.url()).timeout(PATIENCE).require_store();
        builder.build().await.expect("Redis is there")
    }

    /// Where it listens, as a URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// A connection past the limiter.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn connection(&self) -> MultiplexedConnection {
        connect(self.port).await.expect("the server answers")
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// All keys, sorted.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn keys(&self) -> Vec<String> {
        let mut connection = self.connection().await;
        let mut keys: Vec<String> =
            redis::cmd("KEYS").arg("*").query_async(&mut connection).await.expect("KEYS answers");
        keys.sort();
        keys
    }

    /// The milliseconds that a key has left; -1 if it never expires.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn pttl(&self, key: &str) -> i64 {
        let mut connection = self.connection().await;
        redis::cmd("PTTL").arg(key).query_async(&mut connection).await.expect("PTTL answers")
    }

    /// Kills the server, as a power cut does.
    pub fn kill(&mut self) {
        stop(&mut self.child);
    }

    /// Starts it again on the same port, with what it has on disk.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.port, &self.directory, &self.arguments);
        assert!(is_up(self.port, &mut self.child).await, "redis-server does not start again");
    }

    /// Sends a signal, such as `STOP` and `CONT`.
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

fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        // The nodes of a cluster talk to each other 10,000 ports further up.
        if port < u16::MAX - 10_000 {
            return port;
        }
    }
}

fn spawn(port: u16, directory: &TempDir, arguments: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(directory.path())
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed (tests/run.sh does it)")
}

fn stop(child: &mut Child) {
    // It may have ended by itself; what counts is that it is gone.
    let _ = child.kill();
    let _ = child.wait();
}

async fn connect(port: u16) -> redis::RedisResult<MultiplexedConnection> {
    redis::Client::open(format!("redis://127.0.0.1:{port}/"))?.get_multiplexed_async_connection().await
}

async fn is_up(port: u16, child: &mut Child) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            return false;
        }
        if let Ok(mut connection) = connect(port).await {
            let pong: redis::RedisResult<String> = redis::cmd("PING").query_async(&mut connection).await;
            if pong.is_ok() {
                return true;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}
