//! Nodes that keys are moving to. One that has just joined has no slots yet, and the cluster tells of no such node
//! when it is asked who has which: only whoever is sent there hears of it.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::topology::Address;

/// How long a node is kept after somebody was sent there last.
const STAY: Duration = Duration::from_secs(10);

/// The nodes that somebody was sent to lately, and when.
#[derive(Default)]
pub(super) struct Guests(Mutex<Vec<(Address, Instant)>>);

impl Guests {
    /// Somebody is sent to `address`.
    pub(super) fn note(&self, address: &Address) {
        let mut guests = self.0.lock();
        guests.retain(|(guest, noted)| guest != address && noted.elapsed() < STAY);
        guests.push((address.clone(), Instant::now()));
    }

    /// Those that are to be kept.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let mut guests = self.0.lock();
        guests.retain(|(_, noted)| noted.elapsed() < STAY);
        guests.iter().map(|(address, _)| address.clone()).collect()
    }
}
