//! The stores outside of this process: one Redis server, a cluster of them, or a store of the user's.

#[cfg(feature = "redis-cluster")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "redis-cluster")]
use super::redis::Cluster;
#[cfg(feature = "redis")]
use super::redis::RedisStore;
use super::{AnyStore, Operation};
use crate::error::StoreError;

/// How long a probe of a store of the user's may take. The others give up connecting by themselves.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// The remote store itself.
pub(crate) enum Backend {
    #[cfg(feature = "redis")]
    Redis(RedisStore),
    #[cfg(feature = "redis-cluster")]
    Cluster(Arc<Cluster>),
    Custom(Box<dyn AnyStore>),
}

impl Backend {
    /// Returns where the store is, for the log.
    pub(super) fn location(&self) -> String {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.location(),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => cluster.location(),
            Self::Custom(_) => "a store of the program's own".to_owned(),
        }
    }

    /// Connects, or asks whether the store is ready to serve.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.connect().await,
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => cluster.connect().await,
            Self::Custom(store) => {
                let probed = tokio::time::timeout(PROBE_TIMEOUT, store.apply(Operation::Peek, &[])).await;
                probed.unwrap_or(Err(StoreError::Timeout(PROBE_TIMEOUT))).map(|_| ())
            }
        }
    }

    /// Has `act` called when a connection is lost, even while nobody asks.
    pub(super) fn on_lost(&self, act: impl Fn(StoreError) + Send + Sync + 'static) {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.on_lost(act),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => cluster.on_lost(act),
            // Only its answers tell.
            Self::Custom(_) => drop(act),
        }
    }

    /// Whether it is a cluster.
    pub(super) fn is_sharded(&self) -> bool {
        match self {
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(_) => true,
            _ => false,
        }
    }

    /// Whether a part of it that comes back without a probe is known to be away.
    pub(super) fn is_away(&self) -> bool {
        match self {
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => cluster.is_away(),
            _ => false,
        }
    }

    /// Whether its connection is known to be lost again, though it was there just now.
    pub(super) fn is_lost(&self) -> bool {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.is_lost(),
            _ => false,
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Custom(store) => store.close().await,
            #[cfg(feature = "redis")]
            _ => self.disconnect(),
        }
    }

    /// Ends the tasks of a store in Redis.
    pub(super) fn disconnect(&self) {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.close(),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => cluster.close(),
            Self::Custom(_) => {}
        }
    }
}

/// A limiter need not be closed.
impl Drop for Backend {
    fn drop(&mut self) {
        self.disconnect();
    }
}
