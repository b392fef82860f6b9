//! A Redis Cluster that a test starts for itself.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use axum_rate_limit::{Builder, OnStoreError, RateLimiter};

use crate::member::Member;
use crate::redis::{PATIENCE, free_port, owned};
use crate::{Authority, Fault, FaultProxy, RedisServer, built, tls};

/// Masters on loopback, optionally with a replica each. They stop when this value is dropped.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    /// The URLs at which clients find the nodes.
    urls: Vec<String>,
    lines: Vec<FaultProxy>,
}

/// The arguments of a node that keeps nothing on disk, and takes over from its master however long the master
/// has been silent.
const ARGUMENTS: [&str; 8] = [
    "--save",
    "",
    "--cluster-enabled",
    "yes",
    "--cluster-replica-validity-factor",
    "0",
    "--repl-diskless-sync-delay",
    "0",
];

/// After how many milliseconds of silence a node counts as failed: few while a killed node is replaced, many
/// otherwise, because a loaded machine makes nodes silent.
const NODE_TIMEOUT: [&str; 2] = ["3000", "15000"];

impl RedisCluster {
    /// Starts an empty cluster of three masters.
    ///
    /// # Panics
    ///
    /// If the cluster does not form.
    pub async fn start() -> Self {
        Self::start_with(3, 0).await
    }

    /// Starts an empty cluster of three masters with a replica each, which takes over some seconds after its
    /// master has gone.
    ///
    /// # Panics
    ///
    /// If the cluster does not form.
    pub async fn start_replicated() -> Self {
        let cluster = Self::start_with(6, 1).await;
        for node in &cluster.nodes {
            let linked =
                |info: &str| info.contains("master_link_status:up") || info.contains("connected_slaves:1");
            node.until(&["INFO", "replication"], linked).await;
        }
        cluster
    }

    /// Starts an empty cluster of three masters, which clients reach over lines with [faults](Self::set).
    ///
    /// # Panics
    ///
    /// If the cluster does not form.
    pub async fn start_behind_lines() -> Self {
        let (mut nodes, mut lines) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let directory = tempfile::tempdir().expect("a directory for the node");
            let mut line = None;
            let arguments = |port| {
                let proxy = FaultProxy::to(port);
                let announced = proxy.port().to_string();
                line = Some(proxy);
                [owned(&ARGUMENTS), owned(&["--cluster-announce-port", &announced])].concat()
            };
            nodes.push(RedisServer::start_in(directory, arguments).await);
            lines.extend(line);
        }
        let urls = lines.iter().map(FaultProxy::url).collect();
        let cluster = Self { nodes, urls, lines };
        let addresses = cluster.nodes.iter().map(address).collect();
        cluster.create(0, &[], addresses).await;
        cluster
    }

    /// Starts an empty cluster of three masters that clients reach over TLS, with certificates signed by
    /// `authority`.
    ///
    /// # Panics
    ///
    /// If the cluster does not form.
    pub async fn start_tls(authority: &Authority) -> Self {
        let (mut nodes, mut addresses) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let directory = tempfile::tempdir().expect("a directory for the node");
            tls::lay_out(directory.path(), authority);
            let mut port = 0;
            let arguments = |_| {
                port = free_port();
                let own = owned(&["--tls-cluster", "yes", "--tls-port", &port.to_string()]);
                [owned(&ARGUMENTS), own, tls::arguments(false)].concat()
            };
            nodes.push(RedisServer::start_in(directory, arguments).await);
            addresses.push(format!("127.0.0.1:{port}"));
        }
        let urls = addresses.iter().map(|address| format!("rediss://{address}")).collect();
        let cluster = Self { nodes, urls, lines: Vec::new() };
        let root = cluster.nodes[0].directory().join("authority.pem");
        let root = root.to_str().expect("it is a plain path");
        cluster.create(0, &["--tls", "--cacert", root], addresses).await;
        cluster
    }

    async fn start_with(size: usize, replicas: usize) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..size {
            nodes.push(RedisServer::start_with(&ARGUMENTS).await);
        }
        let urls = nodes.iter().map(RedisServer::url).collect();
        let addresses = nodes.iter().map(address).collect();
        let cluster = Self { nodes, urls, lines: Vec::new() };
        cluster.create(replicas, &[], addresses).await;
        cluster
    }

    /// Joins the nodes into a cluster, and waits until each of them knows which node has which slots.
    async fn create(&self, replicas: usize, options: &[&str], addresses: Vec<String>) {
        let replicas = replicas.to_string();
        let create = ["--cluster", "create", "--cluster-yes", "--cluster-replicas", &replicas];
        let created = redis_cli([owned(options), owned(&create), addresses].concat()).await;
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        for node in &self.nodes {
            node.until(&["CLUSTER", "INFO"], |info| info.contains("cluster_state:ok")).await;
        }
    }

    /// Adds a node that has no slots yet.
    ///
    /// # Panics
    ///
    /// If it does not join.
    pub async fn join(&mut self) {
        let node = RedisServer::start_with(&ARGUMENTS).await;
        let port = self.nodes[0].port().to_string();
        let () = node.call(&["CLUSTER", "MEET", "127.0.0.1", &port]).await;
        self.urls.push(node.url());
        self.nodes.push(node);
        for node in &self.nodes {
            let knows = |info: &str| {
                info.contains("cluster_state:ok")
                    && info.contains(&format!("cluster_known_nodes:{}", self.nodes.len()))
            };
            node.until(&["CLUSTER", "INFO"], knows).await;
        }
    }

    /// Sets the fault of the lines to all nodes.
    pub fn set(&self, fault: Fault) {
        for line in &self.lines {
            line.set(fault);
        }
    }

    /// Sets the fault of the line to the node with that index.
    pub fn set_one(&self, index: usize, fault: Fault) {
        self.lines[index].set(fault);
    }

    /// Returns the nodes.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// Returns the index of the node that keeps `key`.
    ///
    /// # Panics
    ///
    /// If none does.
    pub async fn keeper(&self, key: &str) -> usize {
        for (index, node) in self.nodes.iter().enumerate() {
            // All others answer with a redirection.
            if node.try_call::<u64>(&["EXISTS", key]).await.is_ok() {
                return index;
            }
        }
        panic!("no node keeps {key}");
    }

    /// Returns how many [calls](RedisServer::calls) the nodes have run.
    ///
    /// # Panics
    ///
    /// If one of them does not answer.
    pub async fn calls(&self) -> u64 {
        let mut calls = 0;
        for node in &self.nodes {
            calls += node.calls().await;
        }
        calls
    }

    /// Returns a limiter that counts in this cluster, and denies what it can't count.
    ///
    /// # Panics
    ///
    /// If it can't be built.
    pub async fn limiter(&self) -> RateLimiter {
        built(|| self.settings().timeout(PATIENCE).on_store_error(OnStoreError::Deny)).await
    }

    /// Returns the settings of a limiter that counts in this cluster.
    pub fn settings(&self) -> Builder {
        // One node is enough to find the others. The second is there in case the first is down.
        RateLimiter::builder().redis_cluster(self.urls.iter().take(2))
    }

    /// Returns the ports of the masters, as the first node that answers sees them.
    ///
    /// # Panics
    ///
    /// If no node answers.
    pub async fn masters(&self) -> Vec<u16> {
        let members = self.members().await;
        members
            .iter()
            .filter(|member| member.has_slots && !member.is_away)
            .map(|member| member.port)
            .collect()
    }

    /// Returns the node at `port`.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn node(&mut self, port: u16) -> &mut RedisServer {
        self.nodes.iter_mut().find(|node| node.port() == port).expect("there is a node at the port")
    }

    /// Kills the master at `port`, once its replica has received all writes up to the instant that is returned.
    ///
    /// # Panics
    ///
    /// If it has no replica that keeps up.
    pub async fn kill(&mut self, port: u16) -> Instant {
        self.give_up_after(NODE_TIMEOUT[0]).await;
        let node = self.node(port);
        let kept = node.kept(1).await;
        node.kill();
        kept
    }

    /// Waits until the replica of the killed master at `port` has taken over, and all remaining nodes know it.
    ///
    /// # Panics
    ///
    /// If that does not happen.
    pub async fn taken_over_from(&self, port: u16) {
        let start = Instant::now();
        loop {
            if self.masters_without(port).await == 3 && self.are_well(port).await {
                return self.give_up_after(NODE_TIMEOUT[1]).await;
            }
            assert!(start.elapsed() < 4 * PATIENCE, "{:?}", self.members().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Has the replica of the master at `port` take over in a manual failover.
    ///
    /// # Panics
    ///
    /// If it does not take over.
    pub async fn hand_over(&self, port: u16) {
        let start = Instant::now();
        while self.masters_without(port).await < 3 {
            assert!(start.elapsed() < 4 * PATIENCE, "{:?}", self.members().await);
            // A replica that is not ready refuses, and one whose failover takes too long gives up.
            if let Some(replica) = self.replica_of(port).await
                && replica.try_call::<()>(&["CLUSTER", "FAILOVER"]).await.is_ok()
            {
                let asked = Instant::now();
                while self.masters_without(port).await < 3 && asked.elapsed() < Duration::from_secs(8) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.taken_over_from(port).await;
    }

    async fn give_up_after(&self, millis: &str) {
        for node in &self.nodes {
            // One of them may be down.
            let _ = node.try_call::<()>(&["CONFIG", "SET", "cluster-node-timeout", millis]).await;
        }
    }

    /// Returns the number of masters, not counting the node at `port`.
    async fn masters_without(&self, port: u16) -> usize {
        self.masters().await.iter().filter(|master| **master != port).count()
    }

    /// Returns the node that calls itself a replica of the master at `port`.
    async fn replica_of(&self, port: u16) -> Option<&RedisServer> {
        let members = self.members().await;
        let master = members.iter().find(|member| member.port == port)?;
        for node in &self.nodes {
            let table: String = node.try_call(&["CLUSTER", "NODES"]).await.unwrap_or_default();
            let own = Member::all(&table).find(|member| member.is_itself);
            if own.and_then(|own| own.master).as_ref() == Some(&master.id) {
                return Some(node);
            }
        }
        None
    }

    /// Moves a number of slots from one master to another, together with their keys.
    ///
    /// # Panics
    ///
    /// If the nodes do not agree which of them has which slots, or if the slots do not arrive.
    pub async fn move_slots(&self, from: u16, to: u16, slots: u32) {
        let members = self.members().await;
        let id = |port: u16| {
            let member = members.iter().find(|member| member.port == port);
            member.expect("there is a node at the port").id.clone()
        };
        let (from, to, slots) = (id(from), id(to), slots.to_string());
        let node = address(&self.nodes[0]);
        self.agree().await;
        let moved = redis_cli(owned(&[
            "--cluster",
            "reshard",
            &node,
            "--cluster-from",
            &from,
            "--cluster-to",
            &to,
            "--cluster-slots",
            &slots,
            "--cluster-yes",
        ]))
        .await;
        assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stdout));
    }

    /// Gives the slot of `key`, which is not there, to another node, and returns the index of that one.
    ///
    /// # Panics
    ///
    /// If a node refuses to know.
    pub async fn move_slot(&self, key: &str) -> usize {
        let slot: u64 = self.nodes[0].call(&["CLUSTER", "KEYSLOT", key]).await;
        let to = (self.keeper(key).await + 1) % self.nodes.len();
        let id: String = self.nodes[to].call(&["CLUSTER", "MYID"]).await;
        for node in self.nodes[to..].iter().chain(&self.nodes[..to]) {
            let () = node.call(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &id]).await;
        }
        to
    }

    /// Waits until all nodes agree which of them has which slots: otherwise redis-cli moves none.
    async fn agree(&self) {
        let check = owned(&["--cluster", "check", &address(&self.nodes[0])]);
        let start = Instant::now();
        loop {
            let checked = redis_cli(check.clone()).await;
            if checked.status.success() {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{}", String::from_utf8_lossy(&checked.stdout));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Returns the cluster as seen by the first node that answers.
    async fn members(&self) -> Vec<Member> {
        for node in &self.nodes {
            if let Ok(table) = node.try_call::<String>(&["CLUSTER", "NODES"]).await {
                return Member::all(&table).collect();
            }
        }
        panic!("no node answers");
    }

    /// Whether all nodes but the one at `port` see a working cluster, in which another node has its slots.
    async fn are_well(&self, port: u16) -> bool {
        for node in self.nodes.iter().filter(|node| node.port() != port) {
            let info: String = node.try_call(&["CLUSTER", "INFO"]).await.unwrap_or_default();
            let table: String = node.try_call(&["CLUSTER", "NODES"]).await.unwrap_or_default();
            let has_slots = |member: Member| member.port == port && member.has_slots && !member.is_away;
            if !info.contains("cluster_state:ok") || Member::all(&table).any(has_slots) {
                return false;
            }
        }
        true
    }
}

fn address(node: &RedisServer) -> String {
    format!("127.0.0.1:{}", node.port())
}

async fn redis_cli(arguments: Vec<String>) -> Output {
    let run = move || Command::new("redis-cli").args(arguments).output();
    let ran = tokio::task::spawn_blocking(run).await.expect("it does not panic");
    ran.expect("redis-cli is installed (tests/run.sh does it)")
}
