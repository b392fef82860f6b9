//! A counter that owns its key.

use std::time::Duration;

use crate::store::Counter;

/// A [`Counter`] that outlives the request that it is asked for.
#[derive(Clone, Debug)]
pub(super) struct OwnedCounter {
    key: Box<str>,
    /// The counter itself, without its key.
    keyless: Counter<'static>,
}

impl From<&Counter<'_>> for OwnedCounter {
    fn from(counter: &Counter<'_>) -> Self {
        Self { key: counter.key.into(), keyless: Counter { key: "", ..*counter } }
    }
}

impl OwnedCounter {
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Returns the counter, for as long as its key is borrowed.
    pub(super) fn lend(&self) -> Counter<'_> {
        Counter { key: &self.key, ..self.keyless }
    }

    pub(super) fn cost(&self) -> u32 {
        self.keyless.cost
    }

    pub(super) fn set_cost(&mut self, cost: u32) {
        self.keyless.cost = cost;
    }

    pub(super) fn set_charge_lasts(&mut self, charge_lasts: Duration) {
        self.keyless.charge_lasts = charge_lasts;
    }
}
