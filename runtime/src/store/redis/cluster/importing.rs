//! Nodes that keys are being moved to. A node that has just joined has no slots yet, and the cluster does not
//! list it when asked for the slots: only a check that is redirected to the node learns of it.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::topology::Address;

/// How long a node is kept after the last redirection to it.
const STAY: Duration = Duration::from_secs(10);

/// The nodes that checks were recently redirected to, and when.
#[derive(Default)]
pub(super) struct ImportingNodes(Mutex<Vec<(Address, Instant)>>);

impl ImportingNodes {
    /// Records a redirection to `address`.
    pub(super) fn note(&self, address: &Address) {
        let mut importing = self.0.lock();
        importing.retain(|(node, noted)| node != address && noted.elapsed() < STAY);
        importing.push((address.clone(), Instant::now()));
    }

    /// Returns the addresses of the nodes to keep.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let mut importing = self.0.lock();
        importing.retain(|(_, noted)| noted.elapsed() < STAY);
        importing.iter().map(|(address, _)| address.clone()).collect()
    }
}
