//! Redirections: a node that does not have a slot, or not all of its keys, says who does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{ErrorKind, ServerErrorKind};

use super::Cluster;
use super::topology::{Address, Node, Slot, Topology};
use crate::store::Outcome;
use crate::store::redis::batch::Check;
use crate::store::redis::failure::Failure;
use crate::store::redis::late::LateCheck;

/// How many redirections a check follows at most.
const MAX_REDIRECTS: usize = 5;
/// How long a check pauses while its keys are split between two nodes: at first, and at most.
const MOVING: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(20)];

impl Cluster {
    /// Sends a check on to the node that has its slot now, if `failure` is a redirection from the node that was
    /// `asked`. The check is never sent after the deadline. Also returns what is left of it if it was late.
    pub(super) async fn follow(
        self: &Arc<Self>,
        mut failure: Failure,
        slot: Slot,
        mut asked: Option<Arc<Node>>,
        mut check: Check<'_, '_>,
        deadline: Instant,
    ) -> (Result<Outcome, Failure>, Option<LateCheck>) {
        let (mut redirects, mut is_moving, [mut pause, longest]) = (0, false, MOVING);
        let mut late = None;
        while redirects < MAX_REDIRECTS {
            let was_moving = std::mem::take(&mut is_moving);
            asked = match Redirection::of(&failure, asked.as_deref()) {
                Some(Redirection::Moved(address)) => {
                    redirects += 1;
                    check.asking = false;
                    Some(self.note_moved(slot, address))
                }
                Some(Redirection::Ask(address)) => {
                    // Right after a pause for moving keys, an `ASK` leads the same way again and is not counted.
                    if !was_moving {
                        redirects += 1;
                    }
                    check.asking = true;
                    Some(self.note_ask(address))
                }
                Some(Redirection::Gone) => {
                    redirects += 1;
                    check.asking = false;
                    self.topology().node_of(slot)
                }
                Some(Redirection::Moving) => {
                    is_moving = true;
                    tokio::time::sleep_until(deadline.min(Instant::now() + pause).into()).await;
                    pause = longest.min(2 * pause);
                    check.asking = false;
                    self.topology().node_of(slot)
                }
                None => break,
            };
            let (decided, left) = match &asked {
                Some(_) if Instant::now() >= deadline => (Err(self.common.late()), None),
                Some(node) => self.decide_at(node, &check, deadline).await,
                None => (Err(Failure::NoConnection), None),
            };
            match decided {
                Ok(outcome) => return (Ok(outcome), None),
                Err(next) => (failure, late) = (next, left),
            }
        }
        if failure.is_away() || failure.is_redirection() || failure.is_of_slot() {
            self.mend();
        }
        (Err(failure), late)
    }

    /// Records that the node at `address` has `slot` now, and returns that node.
    fn note_moved(self: &Arc<Self>, slot: Slot, address: Address) -> Arc<Node> {
        let known = self.topology().node_of(slot).filter(|node| node.address == address);
        // The mender runs as well: other slots may have moved with this one, and the node may be new.
        known.unwrap_or_else(|| self.corrected(|topology| topology.assign(slot, address, || self.lane())))
    }

    /// Records that keys are moving to the node at `address`, and returns that node.
    fn note_ask(self: &Arc<Self>, address: Address) -> Arc<Node> {
        // Before the lookup, so that a mender that replaces the topology meanwhile keeps the node.
        self.importing.note(&address);
        let known = self.topology().node_at(&address);
        known.unwrap_or_else(|| self.corrected(|topology| topology.join(address, || self.lane())))
    }

    /// Corrects the topology, has the mender complete it, and returns the node in question.
    fn corrected(self: &Arc<Self>, correct: impl FnOnce(&mut Topology) -> Arc<Node>) -> Arc<Node> {
        let mut topology = self.topology.write();
        let mut corrected = Topology::clone(&topology);
        let node = correct(&mut corrected);
        *topology = Arc::new(corrected);
        drop(topology);
        self.mend();
        node
    }
}

/// Where to send a check that a node has not run.
enum Redirection {
    Moved(Address),
    Ask(Address),
    /// The node turned out not to be one of this cluster.
    Gone,
    /// Its keys are split between two nodes.
    Moving,
}

impl Redirection {
    /// Reads the redirection in `failure`, which came from the node that was `asked`.
    fn of(failure: &Failure, asked: Option<&Node>) -> Option<Self> {
        let error = match failure {
            Failure::Redis(error) => error,
            Failure::NoConnection if asked?.lane.has_ended() => return Some(Self::Gone),
            _ => return None,
        };
        let address = || Address::parse(error.redirect_node()?.0, &asked?.address.host);
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved) => address().map(Self::Moved),
            ErrorKind::Server(ServerErrorKind::Ask) => address().map(Self::Ask),
            ErrorKind::Server(ServerErrorKind::TryAgain) => Some(Self::Moving),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::cluster;
    use super::*;

    /// When thousands of checks that share a call are redirected at once, only the first corrects the topology.
    #[tokio::test]
    async fn what_is_known_already_is_not_corrected() {
        let cluster = Arc::new(cluster(&["redis://192.0.2.7"]).expect("it is one"));
        let moved = |port| cluster.note_moved(Slot::of("a"), Address { host: "192.0.2.7".to_owned(), port });
        for port in [7_000, 7_001] {
            let node = moved(port);
            assert!(cluster.mending.is_taken(), "others may have moved");
            cluster.mending.free();
            let topology = cluster.topology();
            assert!(Arc::ptr_eq(&moved(port), &node));
            assert!(Arc::ptr_eq(&cluster.topology(), &topology));
            assert!(!cluster.mending.is_taken());
        }
    }
}
