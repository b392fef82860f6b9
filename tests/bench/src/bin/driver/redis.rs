//! The Redis server of the benchmark.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::process::Command;

use crate::candidate::Kind;
use crate::process::Process;
use crate::{Result, paths};

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that keeps nothing on disk.
pub(crate) struct Redis {
    pub(crate) process: Process,
    pub(crate) port: u16,
    pub(crate) url: String,
    connection: MultiplexedConnection,
}

/// How often each command was called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(BTreeMap<String, u64>);

impl Calls {
    /// Returns the calls between `before` and this.
    pub(crate) fn since(self, before: &Self) -> Self {
        let since = |(name, calls): (String, u64)| {
            let calls = calls - before.0.get(&name).copied().unwrap_or_default();
            (calls > 0).then_some((name, calls))
        };
        Self(self.0.into_iter().filter_map(since).collect())
    }

    /// Returns how many commands the clients of a candidate sent.
    ///
    /// Redis also counts the commands that scripts call. If there are scripts, only the scripts themselves and
    /// commands that can't be called by one are counted. A transaction of ours is counted once, as a whole.
    pub(crate) fn sent(&self, kind: Kind) -> u64 {
        let is_script = |name: &str| name.starts_with("eval") || name.starts_with("fcall");
        let is_clients = |name: &str| match name {
            "multi" => kind != Kind::Ours,
            "exec" | "watch" | "ping" => true,
            _ => is_script(name) || name.starts_with("script"),
        };
        let scripts = kind == Kind::Ours || self.0.keys().any(|name| is_script(name));
        let sent = self.0.iter().filter(|(name, _)| !scripts || is_clients(name));
        sent.map(|(_, calls)| *calls).sum()
    }
}

impl Redis {
    pub(crate) async fn start() -> Result<Self> {
        std::fs::create_dir_all(paths::scratch())?;
        // Another process may take the port before the server does.
        for _ in 0..5 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            let mut command = Command::new("redis-server");
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
            command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(paths::scratch());
            let mut process = Process::start(command.stdout(Stdio::null()))?;
            let url = format!("redis://127.0.0.1:{port}/");
            let start = Instant::now();
            while start.elapsed() < PATIENCE && !process.has_ended() {
                if let Ok(connection) = connect(&url).await {
                    return Ok(Self { process, port, url, connection });
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Err("redis-server does not start".into())
    }

    pub(crate) async fn stop(self) {
        self.process.stop().await;
    }

    /// Deletes all counters.
    pub(crate) async fn clear(&mut self) -> Result<()> {
        Ok(redis::cmd("FLUSHALL").query_async(&mut self.connection).await?)
    }

    /// Returns all commands since the start, called by clients and by their scripts.
    pub(crate) async fn calls(&mut self) -> Result<Calls> {
        let text: String = redis::cmd("INFO").arg("commandstats").query_async(&mut self.connection).await?;
        let calls = text.lines().filter_map(|line| {
            let (name, figures) = line.strip_prefix("cmdstat_")?.split_once(':')?;
            let (calls, _) = figures.strip_prefix("calls=")?.split_once(',')?;
            Some((name.to_owned(), calls.parse().ok()?))
        });
        Ok(Calls(calls.filter(|(name, _)| name != "info").collect()))
    }

    pub(crate) async fn version(&mut self) -> Result<String> {
        let text: String = redis::cmd("INFO").arg("server").query_async(&mut self.connection).await?;
        let version = text.lines().find_map(|line| line.strip_prefix("redis_version:"));
        Ok(version.unwrap_or("of an unknown version").to_owned())
    }
}

async fn connect(url: &str) -> RedisResult<MultiplexedConnection> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let () = redis::cmd("PING").query_async(&mut connection).await?;
    Ok(connection)
}
