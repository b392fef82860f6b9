//! A Redis master, its replicas, and the sentinels that watch over them.

use std::time::{Duration, Instant};

use axum_rate_limit::{Builder, RateLimiter};

use crate::RedisServer;
use crate::redis::{PATIENCE, owned};

/// A master, its replicas and three sentinels. They stop when this value is dropped.
#[derive(Debug)]
pub struct Sentinels {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl Sentinels {
    /// The name by which the sentinels know the master.
    pub const NAME: &'static str = "main";

    /// Starts a master with this many replicas, and three sentinels that know each other.
    ///
    /// # Panics
    ///
    /// If a server does not start, or if the sentinels do not get to know all of them.
    pub async fn start(replicas: usize) -> Self {
        Self::start_with(replicas, &[]).await
    }

    /// Like [`start`](Self::start), with additional arguments for the servers.
    ///
    /// # Panics
    ///
    /// If a server does not start, or if the sentinels do not get to know all of them.
    pub async fn start_with(replicas: usize, arguments: &[&str]) -> Self {
        let own = ["--save", "", "--repl-diskless-sync-delay", "0", "--repl-backlog-size", "1mb"];
        let arguments = [&own, arguments].concat();
        let mut servers = vec![RedisServer::start_with(&arguments).await];
        let port = servers[0].port().to_string();
        for _ in 0..replicas {
            let replica = [&arguments[..], &["--replicaof", "127.0.0.1", &port]].concat();
            servers.push(RedisServer::start_with(&replica).await);
        }
        for replica in &servers[1..] {
            replica.until(&["INFO", "replication"], |info| info.contains("master_link_status:up")).await;
        }
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(sentinel("127.0.0.1", &port).await);
        }
        let started = Self { servers, sentinels };
        started.acquainted(replicas).await;
        started
    }

    /// Starts another sentinel, which does not know the others, and for which `server` is the master.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn stranger(server: &RedisServer) -> RedisServer {
        Self::stranger_at("127.0.0.1", server).await
    }

    /// Like [`stranger`](Self::stranger), and knows the server by this address.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn stranger_at(host: &str, server: &RedisServer) -> RedisServer {
        sentinel(host, &server.port().to_string()).await
    }

    /// Makes `server` the master for all sentinels. The old master is not told, as if it were cut off from
    /// them.
    ///
    /// # Panics
    ///
    /// If a sentinel does not answer, or refuses.
    pub async fn appoint(&self, server: &RedisServer) {
        let port = server.port().to_string();
        for sentinel in &self.sentinels {
            let () = sentinel.call(&["SENTINEL", "REMOVE", Self::NAME]).await;
            let () = sentinel.call(&["SENTINEL", "MONITOR", Self::NAME, "127.0.0.1", &port, "2"]).await;
        }
    }

    /// Returns the URLs of the sentinels.
    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(RedisServer::url).collect()
    }

    /// Returns the sentinels' processes.
    pub fn sentinels(&mut self) -> &mut [RedisServer] {
        &mut self.sentinels
    }

    /// Returns the settings of a limiter that counts on the master.
    pub fn limiter(&self) -> Builder {
        RateLimiter::builder().redis_sentinel(Self::NAME, self.urls())
    }

    /// Returns the server that all running sentinels call the master.
    ///
    /// # Panics
    ///
    /// If they never agree.
    pub async fn master(&mut self) -> &mut RedisServer {
        self.master_other_than(0).await
    }

    /// Returns the server that all running sentinels call the master, once it is not the one at `port`.
    ///
    /// # Panics
    ///
    /// If they never agree on such a server.
    pub async fn master_other_than(&mut self, port: u16) -> &mut RedisServer {
        let start = Instant::now();
        loop {
            let mut named = Vec::new();
            for sentinel in &self.sentinels {
                let address: Result<(String, u16), _> =
                    sentinel.try_call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::NAME]).await;
                named.extend(address.ok().map(|(_, port)| port));
            }
            named.dedup();
            if let [agreed] = named[..]
                && agreed != port
            {
                let index = self.servers.iter().position(|server| server.port() == agreed);
                return &mut self.servers[index.expect("the master is one of the servers")];
            }
            assert!(start.elapsed() < 4 * PATIENCE, "the sentinels tell of {named:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Returns the server at `port`.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn server(&mut self, port: u16) -> &mut RedisServer {
        self.servers.iter_mut().find(|server| server.port() == port).expect("there is a server at the port")
    }

    /// Has the sentinels promote a replica, and waits until they agree that it is the master.
    ///
    /// # Panics
    ///
    /// If they never do.
    pub async fn fail_over(&mut self) {
        let old = self.master().await.port();
        let start = Instant::now();
        // The sentinel refuses while it knows no replica that is good enough.
        while let Err(error) = self.sentinels[0].try_call::<()>(&["SENTINEL", "FAILOVER", Self::NAME]).await {
            assert!(start.elapsed() < PATIENCE, "{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.master_other_than(old).await;
    }

    /// Waits until each sentinel knows the others and the replicas.
    async fn acquainted(&self, replicas: usize) {
        let start = Instant::now();
        for sentinel in &self.sentinels {
            loop {
                let state: std::collections::HashMap<String, String> =
                    sentinel.call(&["SENTINEL", "MASTER", Self::NAME]).await;
                let number = |field: &str| state.get(field).and_then(|number| number.parse().ok());
                if number("num-slaves") == Some(replicas) && number("num-other-sentinels") == Some(2) {
                    break;
                }
                assert!(start.elapsed() < PATIENCE, "{state:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn sentinel(host: &str, port: &str) -> RedisServer {
    let directory = tempfile::tempdir().expect("a directory for the sentinel");
    let name = Sentinels::NAME;
    let file = directory.path().join("sentinel.conf");
    let configuration = format!(
        "sentinel monitor {name} {host} {port} 2\n\
         sentinel down-after-milliseconds {name} 1000\n\
         sentinel failover-timeout {name} 5000\n"
    );
    std::fs::write(&file, configuration).expect("the directory is writable");
    let file = file.to_str().expect("it is a plain path").to_owned();
    RedisServer::start_in(directory, |_| [vec![file.clone()], owned(&["--sentinel"])].concat()).await
}
