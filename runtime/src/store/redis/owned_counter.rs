//! A counter that owns its key.

use crate::store::Counter;

/// A [`Counter`] that outlives the request that it is asked for.
#[derive(Clone, Debug)]
pub(super) struct OwnedCounter {
    pub(super) key: Box<str>,
    /// The counter itself, without its key.
    pub(super) keyless: Counter<'static>,
}

impl From<&Counter<'_>> for OwnedCounter {
    fn from(counter: &Counter<'_>) -> Self {
        Self { key: counter.key.into(), keyless: Counter { key: "", ..*counter } }
    }
}

impl OwnedCounter {
    /// Returns the counter, for as long as its key is borrowed.
    pub(super) fn lend(&self) -> Counter<'_> {
        Counter { key: &self.key, ..self.keyless }
    }
}
