//! Counters on the masters of a Redis Cluster, with a lane to each master.
//!
//! The quotas of one policy share a hash tag, and so a slot: a check of one policy is one call to one node.
//! [`several`] policies are charged one after the other. The [`topology`] says which node has which slot. Every
//! [`redirection`] corrects it, and when a node is lost, the [`mender`] asks for the slots' [`assignment`] anew. Nodes
//! that have no slots yet are [`importing`]. A redirected check has not been run, so it is safe to send it to another
//! node. Nothing else is sent again.

mod assignment;
mod importing;
mod mender;
mod redirection;
mod several;
mod topology;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::RwLock;
use redis::ConnectionAddr;
use tokio::sync::Notify;

use self::importing::ImportingNodes;
use self::topology::{Node, Slot, Topology};
use super::batch::Check;
use super::common::Common;
use super::connection::{Access, Endpoint};
use super::failure::Failure;
use super::lane::Lane;
use super::late::LateCheck;
use crate::error::StoreError;
use crate::log_throttle::LogThrottle;
use crate::store::outage::Outage;
use crate::store::recovery::Recovery;
use crate::store::turn::Turn;
use crate::store::{Counter, Operation, Outcome, Settings};

/// The masters of a cluster.
pub(crate) struct Cluster {
    /// The nodes that the user named.
    seeds: Vec<Endpoint>,
    topology: RwLock<Arc<Topology>>,
    importing: ImportingNodes,
    common: Arc<Common>,
    /// Whose turn it is to mend.
    mending: Turn,
    /// Wakes the mender when a node is lost.
    wake: Arc<Notify>,
    /// On while a part of the cluster is missing.
    outage: Outage,
    recovery: Recovery,
    /// Limits how often the log says that charges could not be given back.
    failed_give_backs: LogThrottle,
    closed: AtomicBool,
}

impl Cluster {
    /// Creates a store on the cluster that the nodes at `urls` belong to. The error says which URL is wrong, and
    /// what to write instead.
    pub(crate) fn new(urls: &[String], access: &Access, settings: Settings) -> Result<Self, String> {
        let grammar = "write one or more nodes, as `redis://[user:password@]host[:port]`";
        if urls.is_empty() {
            return Err(format!("there is no node to ask: {grammar}"));
        }
        let seed = |url: &str| {
            let seed = Endpoint::parse(url, access, grammar)?;
            match (seed.info().addr(), seed.database()) {
                (ConnectionAddr::Unix(_), _) => {
                    Err(format!("the nodes of a cluster are not reached by a socket: {grammar}"))
                }
                (_, 0) => Ok(seed),
                _ => Err(format!("this library uses database 0 of a cluster: {grammar}")),
            }
        };
        let seeds = Endpoint::each("node", urls, seed)?;
        // Nodes that the cluster reports are greeted like the first seed, so all seeds must agree.
        if let Some(other) = seeds.iter().position(|seed| !seed.is_greeted_as(&seeds[0])) {
            return Err(format!(
                "node {} of {} is not greeted as the first, but all nodes are greeted alike: write the same \
                 scheme, user, password and protocol for each",
                other + 1,
                seeds.len()
            ));
        }
        Ok(Self {
            seeds,
            topology: RwLock::default(),
            importing: ImportingNodes::default(),
            common: Common::new(settings, true),
            mending: Turn::default(),
            wake: Arc::default(),
            outage: Outage::default(),
            recovery: Recovery::default(),
            failed_give_backs: LogThrottle::new(),
            closed: AtomicBool::new(false),
        })
    }

    /// Applies `operation` to `counters`, of which there is at least one, before the deadline. Also returns what is
    /// left of a check of one policy if it was late.
    pub(crate) async fn apply(
        self: &Arc<Self>,
        operation: Operation,
        counters: &[Counter<'_>],
    ) -> (Result<Outcome, StoreError>, Option<LateCheck>) {
        let is_one = counters.windows(2).all(|pair| pair[0].policy == pair[1].policy);
        let (decided, late) = if is_one {
            self.decide(operation, counters).await
        } else {
            (several::decide(self, operation, counters).await, None)
        };
        (decided.map_err(StoreError::from), late)
    }

    /// Returns the answer to a check that is known to be denied.
    pub(crate) fn recall(&self, operation: Operation, counters: &[Counter<'_>]) -> Option<Outcome> {
        self.common.denials.recall(&self.common.check(operation, counters))
    }

    /// Has `act` called when a connection has stopped serving, whether a check waits at that time or not.
    pub(crate) fn on_lost(&self, act: impl Fn(StoreError) + Send + Sync + 'static) {
        self.common.on_lost(act);
    }

    /// Decides the counters of one policy. Also returns what is left of the check if it was late.
    async fn decide(
        self: &Arc<Self>,
        operation: Operation,
        counters: &[Counter<'_>],
    ) -> (Result<Outcome, Failure>, Option<LateCheck>) {
        let check = self.common.check(operation, counters);
        if let Some(denied) = self.common.denials.recall(&check) {
            return (Ok(denied), None);
        }
        let (slot, deadline) = (Slot::of(counters[0].key), Instant::now() + self.common.timeout);
        let node = self.topology().node_of(slot);
        let (decided, late) = match &node {
            // The lane keeps the time.
            Some(node) if node.lane.is_attached() => node.lane.decide(&check).await,
            Some(node) => self.decide_at(node, &check, deadline).await,
            None => (Err(Failure::NoConnection), None),
        };
        match decided {
            Ok(outcome) => (Ok(outcome), late),
            Err(failure) if late.is_some() => (Err(failure), late),
            Err(failure) => self.follow(failure, slot, node, check, deadline).await,
        }
    }

    /// Decides `check` at `node`. If that has just become known, the check waits until it is connected to. It does not
    /// wait for a node that was lost, unless it gives back what would stay charged otherwise.
    async fn decide_at(
        self: &Arc<Self>,
        node: &Node,
        check: &Check<'_, '_>,
        deadline: Instant,
    ) -> (Result<Outcome, Failure>, Option<LateCheck>) {
        let lane = &node.lane;
        if !lane.is_attached() {
            self.mend();
            let patience = if check.operation == Operation::GiveBack {
                deadline
            } else {
                deadline.min(lane.expected_until())
            };
            lane.attached_by(patience).await;
        }
        lane.decide_by(deadline, check).await
    }

    fn lane(&self) -> Arc<Lane> {
        Arc::new(Lane::new(Arc::clone(&self.common)))
    }

    fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology.read())
    }

    /// Returns where the nodes are that the user named.
    pub(crate) fn location(&self) -> String {
        let seeds: Vec<String> = self.seeds.iter().map(Endpoint::address).collect();
        format!("the cluster of {}", seeds.join(", "))
    }

    /// Whether a node is known to be away.
    pub(crate) fn is_away(&self) -> bool {
        self.outage.is_on()
    }

    /// Ends the couriers, which would otherwise go on waiting for checks, and the mender.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.topology().nodes().for_each(|node| node.lane.detach());
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::timeout;

    use super::topology::Address;
    use super::*;
    use crate::quota::Quota;
    use crate::store::redis::connection::Wire;

    pub(super) fn cluster(urls: &[&str]) -> Result<Cluster, String> {
        let urls: Vec<String> = urls.iter().map(|&url| url.to_owned()).collect();
        Cluster::new(&urls, &Access::default(), Settings::of_a_test())
    }

    #[test]
    fn what_is_wrong_with_a_node_is_told() {
        for (urls, words) in [
            (&[][..], "one or more"),
            (
                &["redis://a", "b:7000", "redis://c"],
                "node 2 of 3: Redis URL did not parse: write one or more",
            ),
            (&["redis://a", "redis://b/1"], "node 2 of 2: this library uses database 0 of a cluster"),
            (&["redis://a?db=1"], "node 1 of 1: the database does not stand behind a `?`"),
            (&["redis://:se/cret@a"], "`%2F` for `/`"),
            #[cfg(unix)]
            (&["redis+unix:///tmp/a.sock"], "not reached by a socket"),
        ] {
            let fault = cluster(urls).map(|_| ()).expect_err(words);
            assert!(fault.contains(words), "{fault}");
            assert!(!fault.contains("[/database]") && !fault.contains("unix"), "{fault}");
            assert!(!fault.contains("cret"), "no secret is told: {fault}");
        }
    }

    #[test]
    fn all_nodes_are_greeted_alike() {
        for urls in [
            ["redis://:secret@a", "redis://b"],
            ["redis://u:secret@a", "redis://:secret@b"],
            ["redis://:secret@a", "redis://:other@b"],
            ["redis://a", "redis://b?protocol=resp3"],
            #[cfg(feature = "redis-tls")]
            ["redis://a", "rediss://b"],
        ] {
            let fault = cluster(&urls).map(|_| ()).expect_err(urls[1]);
            assert!(fault.contains("node 2 of 2") && fault.contains("greeted alike"), "{fault}");
            assert!(!fault.contains("secret"), "no secret is told: {fault}");
        }
        let alike = ["redis://u:p@a:7000?protocol=3", "valkey://u:p@b/0?protocol=resp3"];
        assert!(cluster(&alike).is_ok());
    }

    /// The other node would charge the check without the caller learning of it. The new place of the slot is
    /// learnt all the same.
    #[tokio::test]
    async fn a_check_whose_time_is_over_is_sent_nowhere_else() {
        let cluster = Arc::new(cluster(&["redis://192.0.2.7"]).expect("it is one"));
        // Keeps the mender from running, since no node can be reached.
        let _turn = cluster.mending.take_if(|| true);
        let counter = [Counter::new("rl:{a}", Quota::per_minute(1))];
        let slot = Slot::of(counter[0].key);
        let address = |port| Address { host: "192.0.2.7".to_owned(), port };
        let [mut other, mut asked] = [7_001, 7_000].map(|port| {
            let (near, server) = duplex(1024);
            let topology = &mut cluster.topology.write();
            let node = Arc::make_mut(topology).assign(slot, address(port), || cluster.lane());
            node.lane.attach(None, Wire::over(Box::pin(near), String::new()));
            server
        });
        let mut heard = [0; 1024];
        let answering = async {
            assert!(asked.read(&mut heard).await.expect("it is open") > 0, "it is asked");
            // Blocks the only thread until the deadline, so that the redirection is read before the timeout is
            // noticed.
            thread::sleep(cluster.common.timeout);
            asked.write_all(b"-MOVED 1 :7001\r\n").await.expect("it is heard");
        };
        let ((decided, _), ()) = tokio::join!(cluster.decide(Operation::Take, &counter), answering);
        assert!(matches!(decided, Err(Failure::Timeout(_))), "{decided:?}");
        let sent = timeout(Duration::from_millis(100), other.read(&mut heard)).await;
        assert!(sent.is_err(), "{sent:?}");
        assert!(cluster.topology().node_of(slot).is_some_and(|node| node.address == address(7_001)));
    }

    /// What is given back after a wait must not be taken for what was charged later.
    #[tokio::test]
    async fn what_a_give_back_waits_for_its_node_shortens_what_its_charge_lasts() {
        let cluster = Arc::new(cluster(&["redis://192.0.2.7"]).expect("it is one"));
        // Keeps the mender from running, since no node can be reached.
        let _turn = cluster.mending.take_if(|| true);
        // Its window ends in 100 ms.
        let quota = Quota::new(5, Duration::from_millis(200));
        let counter = [Counter::new("rl:{a}", quota).charge_lasts(Duration::from_millis(100))];
        let slot = Slot::of(counter[0].key);
        let address = Address { host: "192.0.2.7".to_owned(), port: 7_000 };
        let node = Arc::make_mut(&mut cluster.topology.write()).assign(slot, address, || cluster.lane());
        let (near, mut server) = duplex(64 * 1024);
        let attaching = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            node.lane.attach(None, Wire::over(Box::pin(near), String::new()));
            let mut heard = vec![0; 64 * 1024];
            let heard_now = timeout(Duration::from_millis(300), server.read(&mut heard)).await;
            heard_now.map(|count| heard[..count.expect("it is open")].to_vec())
        };
        let (_, sent) = tokio::join!(cluster.decide(Operation::GiveBack, &counter), attaching);
        // 100,000 microseconds, in MessagePack.
        let as_before = [0xce, 0x00, 0x01, 0x86, 0xa0];
        assert!(!sent.is_ok_and(|sent| sent.windows(5).any(|bytes| bytes == as_before)));
    }

    /// A check that still waits for a node has not been sent there, so it can be sent to the one that took its place.
    #[tokio::test]
    async fn a_check_leaves_a_node_that_turns_out_not_to_be_one() {
        let cluster = Arc::new(cluster(&["redis://192.0.2.7"]).expect("it is one"));
        // Keeps the mender from running, since no node can be reached.
        let _turn = cluster.mending.take_if(|| true);
        let counter = [Counter::new("rl:{a}", Quota::per_minute(1))];
        let slot = Slot::of(counter[0].key);
        let assign = |port| {
            let address = Address { host: "192.0.2.7".to_owned(), port };
            Arc::make_mut(&mut cluster.topology.write()).assign(slot, address, || cluster.lane())
        };
        let first = assign(7_000);
        let leaving = async {
            tokio::task::yield_now().await;
            let (near, mut server) = duplex(1024);
            assign(7_001).lane.attach(None, Wire::over(Box::pin(near), String::new()));
            first.lane.detach();
            let mut heard = [0; 1024];
            let count = timeout(Duration::from_secs(10), server.read(&mut heard)).await;
            heard[..count.expect("in time").expect("it is open")].to_vec()
        };
        let (_, heard) = tokio::join!(cluster.decide(Operation::Take, &counter), leaving);
        assert!(heard.windows(6).any(|part| part == b"rl:{a}"), "{heard:?}");
    }
}
