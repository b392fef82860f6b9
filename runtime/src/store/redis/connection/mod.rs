//! One server, the master that sentinels tell of, or a cluster, behind the same commands.

mod credentials;
mod endpoint;
#[cfg(feature = "redis-sentinel")]
mod sentinels;
#[cfg(feature = "redis-tls")]
mod tls;

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
#[cfg(feature = "redis-cluster")]
use redis::cluster::ClusterClient;
#[cfg(feature = "redis-cluster")]
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, Pipeline, RedisFuture, RedisResult, Value};

pub(crate) use self::credentials::Provider;
pub use self::credentials::RedisCredentials;
pub(crate) use self::endpoint::Access;
use self::endpoint::Endpoint;
#[cfg(feature = "redis-sentinel")]
use self::sentinels::Sentinels;
#[cfg(feature = "redis-tls")]
pub use self::tls::RedisTls;

/// Where to connect to.
pub(crate) enum Server {
    Single(Box<Endpoint>),
    #[cfg(feature = "redis-sentinel")]
    Sentinels(Box<Sentinels>),
    #[cfg(feature = "redis-cluster")]
    Cluster(Nodes),
}

/// A connection to a [`Server`], shared by all who clone it.
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    #[cfg(feature = "redis-cluster")]
    Cluster(ClusterConnection),
}

/// Some nodes of a cluster.
#[cfg(feature = "redis-cluster")]
pub(crate) struct Nodes {
    known: Vec<Endpoint>,
    access: Access,
    /// The deadline of a decision: the client must not give up before, since it would send the call
    /// again, whose outcome is unknown.
    answering: Duration,
}

/// What is wrong with an address, and what to write instead.
type Fault = String;

impl Server {
    pub(crate) fn single(url: &str, access: &Access) -> Result<Self, Fault> {
        Ok(Self::Single(Box::new(Endpoint::parse(url, access)?)))
    }

    /// The master called `master`, a name or a URL whose host is the name, of which `sentinels` know.
    #[cfg(feature = "redis-sentinel")]
    pub(crate) fn sentinel(master: &str, sentinels: &[String], access: &Access) -> Result<Self, Fault> {
        Ok(Self::Sentinels(Box::new(Sentinels::parse(master, sentinels, access)?)))
    }

    /// The cluster that the nodes at `urls` belong to; `answering` is the limiter's deadline.
    #[cfg(feature = "redis-cluster")]
    pub(crate) fn cluster(urls: &[String], answering: Duration, access: &Access) -> Result<Self, Fault> {
        let known = urls.iter().map(|url| Endpoint::parse(url, access)).collect::<Result<_, _>>()?;
        let nodes = Nodes { known, access: access.clone(), answering };
        let infos = nodes.known.iter().map(|node| node.info().clone()).collect();
        nodes.client(infos, Duration::ZERO).map_err(|error| {
            format!("{error}: write one or more nodes, as `redis://[user:password@]host[:port]`")
        })?;
        Ok(Self::Cluster(nodes))
    }

    /// Opens a connection, which may take that long at most.
    pub(super) async fn connect(&self, timeout: Duration) -> RedisResult<Connection> {
        match self {
            Self::Single(endpoint) => endpoint.connect(timeout).await.map(Connection::Single),
            #[cfg(feature = "redis-sentinel")]
            Self::Sentinels(sentinels) => {
                let master = sentinels.master(timeout).await?;
                master.connect(timeout).await.map(Connection::Single)
            }
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(nodes) => nodes.connect(timeout).await.map(Connection::Cluster),
        }
    }
}

#[cfg(feature = "redis-cluster")]
impl Nodes {
    async fn connect(&self, timeout: Duration) -> RedisResult<ClusterConnection> {
        let mut infos = Vec::new();
        for node in &self.known {
            infos.push(node.current(timeout).await?);
        }
        self.client(infos, timeout)?.get_async_connection().await
    }

    fn client(&self, infos: Vec<redis::ConnectionInfo>, connecting: Duration) -> RedisResult<ClusterClient> {
        let by_tls = infos.iter().any(endpoint::is_tls);
        let builder = ClusterClient::builder(infos)
            .connection_timeout(connecting)
            .response_timeout(self.answering + connecting)
            .overall_response_timeout(None)
            .tcp_settings(endpoint::tcp_settings())
            .retries(REDIRECTS);
        self.access.with_certificates(by_tls, builder).build()
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
