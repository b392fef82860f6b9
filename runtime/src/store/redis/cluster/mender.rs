//! Finds out who has which slots, and connects to those who do.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use redis::{ConnectionAddr, ErrorKind, RedisError};
use tokio::task::JoinSet;

use super::Cluster;
use super::topology::{Assignment, Topology};
use crate::store::recovery::Pauses;
use crate::store::redis::CONNECT_TIMEOUT;
use crate::store::redis::connection::Endpoint;
use crate::store::redis::failure::Failure;

impl Cluster {
    /// Asks who has which slots, and connects to all who are not connected. The error is what is missing
    /// then; what is there serves all the same.
    pub(in super::super) async fn connect(self: &Arc<Self>) -> Result<(), Failure> {
        let assignment = self.assignment().await?;
        let is_complete = assignment.is_complete();
        let (topology, gone) = {
            let mut current = self.topology.write();
            let topology = Arc::new(Topology::of(assignment, &current, || self.lane()));
            (Arc::clone(&topology), std::mem::replace(&mut *current, topology))
        };
        for (address, lane) in gone.nodes() {
            if topology.lane_at(address).is_none() {
                lane.detach();
            }
        }
        let mut connecting = JoinSet::new();
        for (address, lane) in topology.nodes().filter(|(_, lane)| !lane.is_attached()) {
            let endpoint = self.seeds[0].at(address.host.clone(), address.port);
            let (cluster, lane) = (Arc::clone(self), Arc::clone(lane));
            connecting.spawn(async move {
                let mut connection = endpoint.connect(CONNECT_TIMEOUT).await?;
                cluster.decider.load(&mut connection).await?;
                lane.attach(connection);
                Ok::<(), RedisError>(())
            });
        }
        let mut missing = None;
        while let Some(connected) = connecting.join_next().await {
            if let Ok(Err(error)) = connected {
                missing = Some(error);
            }
        }
        // It may have been closed meanwhile.
        if self.closed.load(Ordering::Relaxed) {
            self.close();
        }
        match missing {
            Some(error) => Err(error.into()),
            None if !is_complete => {
                Err(RedisError::from((ErrorKind::Io, "some slots of the cluster are nobody's")).into())
            }
            None => Ok(()),
        }
    }

    /// What the first node says that answers and is at one with the others. All are asked at once, so that
    /// none that is silent holds anything up.
    async fn assignment(&self) -> Result<Assignment, Failure> {
        let topology = self.topology();
        let known = topology.nodes().map(|(node, _)| self.seeds[0].at(node.host.clone(), node.port));
        let mut asked = JoinSet::new();
        for node in self.seeds.iter().cloned().chain(known) {
            asked.spawn(ask(node));
        }
        let mut failure = Failure::NoConnection;
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(assignment)) => return Ok(assignment),
                Ok(Err(error)) => failure = error.into(),
                Err(_) => {}
            }
        }
        Err(failure)
    }

    /// Has a task of its own connect to what is missing, until nothing is.
    pub(in super::super) fn mend(self: &Arc<Self>) {
        if self.closed.load(Ordering::Relaxed) || self.mending.swap(true, Ordering::Relaxed) {
            return;
        }
        let (mender, pauses) = (Mender(Arc::downgrade(self)), self.recovery.pauses());
        tokio::spawn(async move { mender.mend(pauses).await });
    }
}

async fn ask(node: Endpoint) -> Result<Assignment, RedisError> {
    let host = match node.info().addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => String::new(),
    };
    let mut connection = node.connect(CONNECT_TIMEOUT / 2).await?;
    let state: String = redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection).await?;
    if !state.contains("cluster_state:ok") {
        return Err((ErrorKind::Io, "the cluster is down, as one of its nodes sees it").into());
    }
    let slots = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
    let unreadable = || RedisError::from((ErrorKind::UnexpectedReturnType, "CLUSTER SLOTS tells no slots"));
    Assignment::parse(slots, &host).ok_or_else(unreadable)
}

/// Mends a cluster. When it ends, whether the cluster is whole or the task was dropped with its runtime, the
/// next failure calls for another one.
struct Mender(Weak<Cluster>);

impl Drop for Mender {
    fn drop(&mut self) {
        if let Some(cluster) = self.0.upgrade() {
            cluster.mending.store(false, Ordering::Relaxed);
        }
    }
}

impl Mender {
    async fn mend(&self, mut pauses: Pauses) {
        let mut is_told = false;
        loop {
            pauses.wait().await;
            // The limiter may be gone, or closed.
            let Some(cluster) = self.0.upgrade().filter(|cluster| !cluster.closed.load(Ordering::Relaxed))
            else {
                return;
            };
            let failure = match tokio::time::timeout(2 * CONNECT_TIMEOUT, cluster.connect()).await {
                Ok(Ok(())) => {
                    cluster.recovery.note();
                    if is_told {
                        tracing::info!("all of the rate limiter's cluster is reached again");
                    }
                    return;
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Timeout,
            };
            let error = failure.into_store_error(2 * CONNECT_TIMEOUT);
            if is_told {
                tracing::debug!(%error, "a part of the rate limiter's cluster is still away");
            } else {
                tracing::warn!(%error, "a part of the rate limiter's cluster is away; it is sought until it is back");
                is_told = true;
            }
        }
    }
}
