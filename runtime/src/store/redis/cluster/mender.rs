//! Mends a cluster: finds out which node has which slots, and connects to the nodes that are not connected.

use std::future::poll_fn;
use std::iter;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use redis::{ErrorKind, RedisError, Value};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Cluster;
use super::assignment::ASKED_AT_ONCE;
use super::topology::{Node, Topology};
use crate::error::StoreError;
use crate::store::outage::News;
use crate::store::recovery::{Pauses, Recovery};
use crate::store::redis::connection::Wire;
use crate::store::redis::failure::Failure;
use crate::store::redis::lane::Lane;
use crate::store::redis::{CONNECT_TIMEOUT, in_time};

/// How many rounds ask several nodes at once.
const HASTY_ROUNDS: usize = 5;
/// How long a round waits for nodes that are still being connected to, before the mender looks after others.
const ROUND: Duration = Duration::from_millis(300);

impl Cluster {
    /// Asks for the slots, and connects to every node that is not connected. The error says what is still
    /// missing then; the nodes that are connected serve all the same.
    pub(crate) async fn connect(self: &Arc<Self>) -> Result<(), StoreError> {
        let connecting = async {
            let mut connecting = Connecting::default();
            let is_complete = self.refresh(&mut connecting, ASKED_AT_ONCE).await?;
            connecting.settle().await;
            connecting.outcome(is_complete)
        };
        Ok(in_time(connecting).await?)
    }

    /// Asks so many nodes `at_once` for the slots, and begins to connect to every node that is not connected. Returns
    /// whether every slot has a node.
    async fn refresh(self: &Arc<Self>, connecting: &mut Connecting, at_once: usize) -> Result<bool, Failure> {
        let assignment = self.assignment(at_once).await?;
        let is_complete = assignment.is_complete();
        let (topology, gone) = {
            let mut current = self.topology.write();
            let importing = self.importing.addresses();
            let topology = Arc::new(Topology::of(assignment, importing, &current, || self.lane()));
            (Arc::clone(&topology), std::mem::replace(&mut *current, topology))
        };
        for node in gone.nodes() {
            if topology.node_at(&node.address).is_none() {
                node.lane.detach();
            }
        }
        for node in topology.nodes().filter(|node| !node.lane.is_attached()) {
            connecting.add(&node.lane, || {
                let key = topology.key_at(&node.address, &self.common.key_prefix);
                reach(Arc::clone(self), Arc::clone(node), key)
            });
        }
        Ok(is_complete)
    }

    /// Asks once, then waits a while for the nodes that are being connected to, unless another node is lost
    /// meanwhile. The error says what is still missing then.
    async fn round(self: &Arc<Self>, connecting: &mut Connecting, at_once: usize) -> Result<(), Failure> {
        let is_complete = in_time(self.refresh(connecting, at_once)).await?;
        {
            let (mut woken, mut settling) = (pin!(self.wake.notified()), pin!(connecting.settle()));
            let settled = poll_fn(|context| {
                if woken.as_mut().poll(context).is_ready() {
                    // Wakes the mender again, so that it skips its pause, too.
                    self.wake.notify_one();
                    return Poll::Ready(());
                }
                settling.as_mut().poll(context)
            });
            let _ = timeout(ROUND, settled).await;
        }
        connecting.outcome(is_complete)
    }

    /// Has the mender look for a lost node at once.
    pub(crate) fn report_lost(self: &Arc<Self>, error: &StoreError) {
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        self.outage.begin(error);
        let error = error.in_one_line();
        tracing::warn!(error, "a node of the rate limiter's cluster is lost; reconnecting until it is back");
        if !self.mend_after(|| Recovery::default().pauses()) {
            self.wake.notify_one();
        }
    }

    /// Unless a mender is running, starts one: a task that connects to what is missing until nothing is. If the
    /// cluster was whole just now, the mender waits before it begins. Meanwhile, checks follow moved keys one by
    /// one.
    pub(crate) fn mend(self: &Arc<Self>) {
        self.mend_after(|| self.recovery.pauses());
    }

    /// Starts a mender unless one is running or the cluster is closed, and returns whether it did.
    fn mend_after(self: &Arc<Self>, pauses: impl FnOnce() -> Pauses) -> bool {
        // Outside of a runtime there can't be one, so the next check in a runtime sees to it.
        let Ok(runtime) = Handle::try_current() else { return false };
        let is_open = || !self.closed.load(Ordering::Relaxed);
        let Some(turn) = self.mending.take_if(is_open) else { return false };
        let mender = Mender { cluster: Arc::downgrade(self), turn };
        runtime.spawn(mender.mend(pauses()));
        true
    }
}

/// Connects the lane of `node`. `key` is in one of the slots of the node, if it has any.
async fn reach(cluster: Arc<Cluster>, node: Arc<Node>, key: Option<String>) -> Result<(), Failure> {
    let Node { address, lane } = &*node;
    lane.recovery().pauses().wait().await;
    let endpoint = cluster.seeds[0].at(address.host.clone(), address.port);
    let connecting = async {
        let mut connection = endpoint.connect(CONNECT_TIMEOUT).await?;
        if let Some(key) = key {
            ensure_writable(&mut connection, &key).await?;
        }
        cluster.common.scripts.prepare(&mut connection).await?;
        Ok(connection)
    };
    let generation = lane.generation();
    lane.attach(generation, in_time(connecting).await?);
    lane.recovery().note();
    // Meanwhile the cluster may have been closed, or the topology may have another lane to this address, or none.
    let is_used = cluster.topology().node_at(address).is_some_and(|used| Arc::ptr_eq(&used.lane, lane));
    if !is_used || cluster.closed.load(Ordering::Relaxed) {
        lane.detach();
    }
    Ok(())
}

/// Fails if the node takes no writes, or sees the cluster as down. Such a node accepts the scripts, and only
/// refuses their commands.
async fn ensure_writable(connection: &mut Wire, key: &str) -> Result<(), Failure> {
    let answer = connection.query::<Value>("UNLINK", &[key]).await;
    match answer.map_err(|error| Failure::from(connection.located(error))) {
        Err(failure) if failure.is_away() => Err(failure),
        // The user may lack permission for this key alone, and the next check notices if the node has lost the
        // slot.
        _ => Ok(()),
    }
}

/// The nodes that are being connected to.
#[derive(Default)]
struct Connecting {
    tasks: JoinSet<(Arc<Lane>, Result<(), Failure>)>,
    under_way: Vec<Arc<Lane>>,
    /// The failure of the last node that could not be reached.
    missing: Option<Failure>,
}

impl Connecting {
    /// Begins to connect `lane`, unless that is under way.
    fn add<F>(&mut self, lane: &Arc<Lane>, reach: impl FnOnce() -> F)
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        if self.under_way.iter().any(|other| Arc::ptr_eq(other, lane)) {
            return;
        }
        self.under_way.push(Arc::clone(lane));
        let (lane, reaching) = (Arc::clone(lane), reach());
        self.tasks.spawn(async { (lane, reaching.await) });
    }

    /// Waits until every attempt has ended.
    async fn settle(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok((lane, reached)) = ended {
                self.under_way.retain(|other| !Arc::ptr_eq(other, &lane));
                self.missing = reached.err().or(self.missing.take());
            }
        }
    }

    /// Returns an error if a part of the cluster is missing, as far as is known by now.
    fn outcome(&mut self, is_complete: bool) -> Result<(), Failure> {
        match self.missing.take() {
            Some(failure) => Err(failure),
            None if !is_complete => {
                Err(RedisError::from((ErrorKind::Io, "some slots of the cluster are nobody's")).into())
            }
            None if !self.tasks.is_empty() => {
                Err(RedisError::from((ErrorKind::Io, "a node of the cluster has not answered yet")).into())
            }
            None => Ok(()),
        }
    }
}

/// Mends a cluster. Dropping it lets the next failure start another mender, whether the cluster is whole or the
/// task was dropped with its runtime. If that does not run, another takes the turn.
struct Mender {
    cluster: Weak<Cluster>,
    turn: u64,
}

impl Drop for Mender {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.upgrade() {
            cluster.mending.end_with(self.turn, || ());
        }
    }
}

impl Mender {
    /// Whether the cluster is still to be mended by this.
    fn is_on(&self, cluster: &Cluster) -> bool {
        !cluster.closed.load(Ordering::Relaxed) && cluster.mending.keep(self.turn)
    }

    /// Mends until nothing is missing. A silent node delays neither other nodes that are lost meanwhile nor the
    /// node that takes its place.
    async fn mend(self, mut pauses: Pauses) {
        let Some(wake) = self.cluster.upgrade().map(|cluster| Arc::clone(&cluster.wake)) else { return };
        let mut connecting = Connecting::default();
        // If something is missing for long, the nodes that are there are asked by one connection each time.
        let at_once = iter::repeat_n(ASKED_AT_ONCE, HASTY_ROUNDS).chain(iter::repeat(1));
        for at_once in at_once {
            pauses.wait_or(wake.notified()).await;
            // The limiter may be gone, or closed.
            let Some(cluster) = self.cluster.upgrade().filter(|cluster| self.is_on(cluster)) else { return };
            let failure = match cluster.round(&mut connecting, at_once).await {
                _ if !cluster.mending.keep(self.turn) => return,
                Ok(()) => {
                    cluster.recovery.note();
                    if let Some(after) = cluster.outage.end() {
                        tracing::info!(away_for = ?after, "all of the rate limiter's cluster is reachable again");
                    }
                    drop(self);
                    // A node that was lost while this mender ran has not started another one.
                    if cluster.topology().nodes().any(|node| !node.lane.is_attached()) {
                        cluster.mend();
                    }
                    return;
                }
                Err(failure) => failure,
            };
            let error = StoreError::from(failure);
            let (news, error) = (cluster.outage.note(&error), error.in_one_line());
            match news {
                News::Begins => {
                    tracing::warn!(
                        error,
                        "part of the rate limiter's cluster is away; reconnecting until it is back"
                    );
                }
                News::GoesOn(since) => {
                    tracing::warn!(error, away_for = ?since, "part of the rate limiter's cluster is still away");
                }
                News::Nothing => tracing::debug!(error, "part of the rate limiter's cluster is still away"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, ready};

    use super::*;
    use crate::store::backend::Backend;
    use crate::store::redis::cluster::tests::cluster;

    #[tokio::test]
    async fn what_is_under_way_is_not_begun_again() {
        let cluster = cluster(&["redis://192.0.2.7"]).expect("it is one");
        let lanes = [cluster.lane(), cluster.lane()];
        let (mut connecting, begun) = (Connecting::default(), Cell::new(0));
        let add = |connecting: &mut Connecting| {
            for lane in &lanes {
                connecting.add(lane, || {
                    begun.set(begun.get() + 1);
                    ready(Ok(()))
                });
            }
            begun.get()
        };
        assert_eq!([add(&mut connecting), add(&mut connecting)], [2, 2]);
        connecting.settle().await;
        assert_eq!(add(&mut connecting), 4);
    }

    /// What is being connected to keeps the cluster in memory for a while.
    #[tokio::test]
    async fn a_cluster_whose_limiter_is_gone_is_not_mended() {
        let cluster = Arc::new(cluster(&["redis://192.0.2.7"]).expect("it is one"));
        drop(Backend::Cluster(Arc::clone(&cluster)));
        cluster.mend();
        assert!(!cluster.mending.is_taken());
    }

    /// A round ends long before the attempt does.
    #[tokio::test]
    async fn a_node_that_is_still_awaited_is_not_said_to_be_out_of_time() {
        let cluster = cluster(&["redis://192.0.2.7"]).expect("it is one");
        let mut connecting = Connecting::default();
        connecting.add(&cluster.lane(), pending);
        let missing = connecting.outcome(true).expect_err("it is not connected yet");
        assert!(missing.is_away(), "{missing:?}");
    }
}
