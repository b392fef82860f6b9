//! One server or a cluster of them, behind the same commands.

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
#[cfg(feature = "redis-cluster")]
use redis::cluster::ClusterClient;
#[cfg(feature = "redis-cluster")]
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisFuture, RedisResult, Value};

/// Where to connect to.
pub(super) enum Server {
    Single(Client),
    #[cfg(feature = "redis-cluster")]
    Cluster(Box<ClusterClient>),
}

/// A connection to a [`Server`], shared by all who clone it.
#[allow(dead_code)]
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    #[cfg(feature = "redis-cluster")]
    Cluster(ClusterConnection),
}

impl Server {
    pub(super) fn single(url: &str) -> RedisResult<Self> {
        Ok(Self::Single(Client::open(url)?))
    }

    /// `connecting` is the time for a connection to one of the nodes, `answering` the limiter's deadline:
    /// the client must not give up before, since it would send the call again, whose outcome is unknown.
    #[cfg(feature = "redis-cluster")]
    pub(super) fn cluster(urls: &[String], connecting: Duration, answering: Duration) -> RedisResult<Self> {
        let client = ClusterClient::builder(urls.iter().map(String::as_str))
            .connection_timeout(connecting)
            .response_timeout(answering + connecting)
            .overall_response_timeout(None)
            .retries(REDIRECTS)
            .build()?;
        Ok(Self::Cluster(Box::new(client)))
    }

    pub(super) async fn connect(&self, timeout: Duration) -> RedisResult<Connection> {
        match self {
            Self::Single(client) => {
                // The deadline of a decision is the limiter's; a second timer would only cost.
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(timeout))
                    .set_response_timeout(None);
                client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Single)
            }
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
        }
    }
}

/// How often a call follows a key that has moved to another node. The client counts a connection that
/// breaks among them, and sends the call again: what is charged may then be charged twice.
#[cfg(feature = "redis-cluster")]
const REDIRECTS: u32 = 3;

impl Connection {
    /// Whether keys of different hash tags may be on different nodes, which no script can span.
    pub(super) fn is_sharded(&self) -> bool {
        match self {
            Self::Single(_) => false,
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(_) => true,
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(command),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}
