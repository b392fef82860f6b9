//! A Redis Cluster of the test's own.

use std::process::Command;
use std::time::{Duration, Instant};

use axum_rate_limit::{OnStoreError, RateLimiter};

use crate::RedisServer;

/// How long the nodes may take to agree; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Three masters on loopback, which end with this value.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// An empty cluster.
    ///
    /// # Panics
    ///
    /// If it does not come to be.
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..3 {
            nodes.push(RedisServer::start_with(&["--save", "", "--cluster-enabled", "yes"]).await);
        }
        let addresses: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        let created = Command::new("redis-cli")
            .args(["--cluster", "create", "--cluster-yes"])
            .args(&addresses)
            .output()
            .expect("redis-cli is there, as redis-server is");
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
        let cluster = Self { nodes };
        cluster.agreed().await;
        cluster
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// A limiter that counts here, and nowhere else.
    ///
    /// # Panics
    ///
    /// If it can't be built.
    pub async fn limiter(&self) -> RateLimiter {
        // One node is enough to find the others.
        let builder = RateLimiter::builder().redis_cluster([self.nodes[0].url()]);
        let builder = builder.timeout(PATIENCE).on_store_error(OnStoreError::Deny).require_store();
        builder.build().await.expect("the cluster is there")
    }

    /// Waits until every node knows who has which slots.
    async fn agreed(&self) {
        let start = Instant::now();
        for node in &self.nodes {
            let mut connection = node.connection().await;
            loop {
                let info: String = redis::cmd("CLUSTER")
                    .arg("INFO")
                    .query_async(&mut connection)
                    .await
                    .expect("CLUSTER INFO");
                if info.contains("cluster_state:ok") {
                    break;
                }
                assert!(start.elapsed() < PATIENCE, "{info}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
