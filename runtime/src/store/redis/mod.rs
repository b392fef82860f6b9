//! The store that counts in Redis, whose counters all instances of a service share.
//!
//! A check gets a place in a [`batch`] in the [`queue`] of a [`lane`], and a [`courier`] sends the batch as one
//! call. Calls that overlap are an [`exchange`], and what is kept of a connection from call to call is its
//! [`session`]. A call is a [`question`] of one or more [`part`]s, mostly one, and a [`script`] or a [`transaction`]
//! decides each of them. The [`answers`] say what each check is told. What Redis has [denied](denials) is not asked
//! again before it can be admitted. A [`cluster`] has a lane to each of its masters.
//!
//! [`key`] says what counters are called in Redis, and `apply.lua` what they hold. `take.lua` is the short way
//! for what most checks ask, and [`windows`] often saves it from asking for a TTL.

mod alarm;
mod answers;
mod batch;
mod call;
#[cfg(feature = "redis-cluster")]
mod cluster;
mod connection;
mod courier;
mod denials;
mod distance;
mod exchange;
mod failure;
mod flight;
#[cfg(feature = "redis-sentinel")]
mod follower;
mod key;
mod lane;
mod late;
mod own_deadline;
mod owned_counter;
mod pace;
mod part;
mod plan;
mod question;
mod queue;
mod rules;
mod script;
mod session;
mod silence;
mod transaction;
mod windows;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::batch::Check;
pub(crate) use self::call::Ticket;
#[cfg(feature = "redis-cluster")]
use self::cluster::Cluster;
pub use self::connection::RedisCredentials;
#[cfg(feature = "redis-tls")]
pub use self::connection::RedisTls;
pub(crate) use self::connection::{Access, Provider, Server};
use self::denials::Denials;
use self::failure::Failure;
#[cfg(feature = "redis-sentinel")]
use self::follower::Follower;
use self::lane::Lane;
pub(crate) use self::late::LateCheck;
use self::script::Scripts;
use super::{Counter, Operation, Outcome, Settings};
use crate::error::StoreError;

/// How long it may take to open a connection, including TLS and asking the sentinels. Connections are opened
/// only in the background and at start-up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long it is believed what Redis has said about a counter, which others may change.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Gives up connecting after [`CONNECT_TIMEOUT`].
async fn in_time<T>(connecting: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
    connected.unwrap_or(Err(Failure::Timeout(CONNECT_TIMEOUT)))
}

/// Counters in Redis.
pub(crate) enum RedisStore {
    One(One),
    #[cfg(feature = "redis-cluster")]
    Cluster(Arc<Cluster>),
}

/// One server, behind one connection that all checks share.
pub(crate) struct One {
    server: Server,
    key_prefix: Arc<str>,
    lane: Arc<Lane>,
}

impl RedisStore {
    /// Creates a store on `server`, which is not connected yet.
    pub(crate) fn on(server: Server, settings: Settings) -> Self {
        let Settings { timeout, key_prefix, deny_memory, clock } = settings;
        let scripts = Arc::new(Scripts::new(clock.clone(), timeout, false));
        let denials = Arc::new(Denials::new(deny_memory, clock));
        let lane = Arc::new(Lane::new(scripts, denials, timeout, Arc::default()));
        Self::One(One { server, key_prefix, lane })
    }

    /// Creates a store on the cluster that the nodes at `urls` belong to, which is not connected yet.
    ///
    /// The error says what is wrong with a URL, and what to write instead.
    #[cfg(feature = "redis-cluster")]
    pub(crate) fn cluster(urls: &[String], access: &Access, settings: Settings) -> Result<Self, String> {
        Ok(Self::Cluster(Arc::new(Cluster::new(urls, access, settings)?)))
    }

    /// Creates a check, with the hashes of its keys.
    pub(crate) fn check<'a, 'k>(&self, operation: Operation, counters: &'a [Counter<'k>]) -> Check<'a, 'k> {
        Check::new(&self.denials().hasher, operation, counters)
    }

    /// Returns the answer to a check that is known to be denied.
    pub(crate) fn recall(&self, check: &Check<'_, '_>) -> Option<Outcome> {
        self.denials().recall(check)
    }

    fn denials(&self) -> &Denials {
        match self {
            Self::One(one) => one.lane.denials(),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => cluster.denials(),
        }
    }

    /// Has a check of at least one counter decided before the deadline. Returns `None` if that takes more than
    /// to wait for a ticket: then [`apply`](Self::apply) does it.
    #[cfg_attr(not(feature = "redis-cluster"), allow(clippy::unnecessary_wraps))]
    pub(crate) fn begin(&self, check: &Check<'_, '_>) -> Option<Result<Ticket, StoreError>> {
        match self {
            Self::One(one) => Some(one.lane.enqueue(check).map_err(StoreError::from)),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(_) => None,
        }
    }

    /// Returns what is left of a check that was [begun](Self::begin), if it was late.
    pub(crate) fn late(&self, ticket: &Ticket) -> Option<LateCheck> {
        match self {
            Self::One(one) => ticket.late(&one.lane),
            // It gives no tickets.
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(_) => None,
        }
    }

    /// Applies `operation` to `counters`, of which there is at least one, before the deadline. Also returns what is
    /// left of the check if it was late.
    pub(crate) async fn apply(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
    ) -> (Result<Outcome, StoreError>, Option<LateCheck>) {
        match self {
            Self::One(one) => {
                let (decided, late) = one.lane.decide(&self.check(operation, counters)).await;
                (decided.map_err(StoreError::from), late)
            }
            #[cfg(feature = "redis-cluster")]
            // Boxed, since this future is much larger than the other.
            Self::Cluster(cluster) => Box::pin(cluster.apply(operation, counters)).await,
        }
    }

    /// Returns where the store is, without credentials.
    pub(crate) fn location(&self) -> String {
        match self {
            Self::One(one) => one.server.location(),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => cluster.location(),
        }
    }

    /// Opens new connections, makes sure that they serve, and uses them from now on.
    pub(crate) async fn connect(&self) -> Result<(), StoreError> {
        let connecting = async {
            match self {
                Self::One(one) => one.connect().await,
                #[cfg(feature = "redis-cluster")]
                Self::Cluster(cluster) => cluster.connect().await,
            }
        };
        Ok(in_time(connecting).await?)
    }

    /// Whether the store reconnects by itself, part by part, so that a failure says nothing about the rest.
    pub(crate) fn mends_itself(&self) -> bool {
        !matches!(self, Self::One(_))
    }

    /// Whether a node of a cluster is known to be away.
    pub(crate) fn is_away(&self) -> bool {
        match self {
            Self::One(_) => false,
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => cluster.is_away(),
        }
    }

    /// Whether the connection is missing, and the store does not reconnect by itself.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::One(one) if !one.lane.is_attached())
    }

    /// Has `act` called when a connection has stopped serving, whether a check waits at that time or not.
    pub(crate) fn on_lost(&self, act: impl Fn(StoreError) + Send + Sync + 'static) {
        let on_lost = match self {
            Self::One(one) => one.lane.on_lost(),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => cluster.on_lost(),
        };
        // This is called once, when the limiter is built.
        let _ = on_lost.set(Box::new(move |failure| act(failure.into())));
    }

    /// Has a store that mends itself connect to what is missing; `lost` is why something has just gone missing.
    #[cfg_attr(not(feature = "redis-cluster"), allow(unused_variables))]
    pub(crate) fn mend(&self, lost: Option<&StoreError>) {
        match (self, lost) {
            (Self::One(_), _) => {}
            #[cfg(feature = "redis-cluster")]
            (Self::Cluster(cluster), Some(error)) => cluster.report_lost(error),
            #[cfg(feature = "redis-cluster")]
            (Self::Cluster(cluster), None) => cluster.mend(),
        }
    }

    pub(crate) fn close(&self) {
        match self {
            Self::One(one) => one.lane.detach(),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => cluster.close(),
        }
    }
}

impl One {
    async fn connect(&self) -> Result<(), Failure> {
        let mut connection = self.server.connect(&self.key_prefix).await?;
        self.lane.scripts().prepare(&mut connection).await?;
        #[cfg(feature = "redis-sentinel")]
        if let Server::Sentinels(sentinels) = &self.server {
            let (sentinels, key_prefix) = (Arc::clone(sentinels), Arc::clone(&self.key_prefix));
            Follower::new(sentinels, key_prefix, Arc::clone(&self.lane)).attach(connection);
            return Ok(());
        }
        self.lane.attach(connection);
        Ok(())
    }
}

/// Ends the couriers, which would otherwise go on waiting for checks.
impl Drop for RedisStore {
    fn drop(&mut self) {
        self.close();
    }
}
