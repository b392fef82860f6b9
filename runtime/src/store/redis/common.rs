//! What all lanes of one store have in common: its settings, and what it knows of all servers.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ahash::RandomState;

use super::batch::Check;
use super::denials::Denials;
use super::failure::Failure;
use super::script::Scripts;
use crate::clock::Clock;
use crate::error::StoreError;
use crate::store::{Counter, Operation, Settings};

/// What the lanes of one store share with it and with each other.
pub(super) struct Common {
    pub(super) scripts: Scripts,
    pub(super) denials: Denials,
    pub(super) key_prefix: Arc<str>,
    /// The time from a call's first check to its deadline.
    pub(super) timeout: Duration,
    /// Hashes the keys of all checks.
    hasher: RandomState,
    /// What calls, denials and windows go by.
    clock: Clock,
    /// The callback for a connection that has stopped serving.
    on_lost: OnceLock<Box<dyn Fn(StoreError) + Send + Sync>>,
}

impl Common {
    /// Creates what a store with these settings needs. Its servers are nodes of a cluster if it `is_sharded`.
    pub(super) fn new(settings: Settings, is_sharded: bool) -> Arc<Self> {
        let Settings { timeout, key_prefix, deny_memory, clock } = settings;
        let hasher = RandomState::new();
        Arc::new(Self {
            scripts: Scripts::new(clock.clone(), timeout, is_sharded),
            denials: Denials::new(deny_memory, hasher.clone(), clock.clone()),
            key_prefix,
            timeout,
            hasher,
            clock,
            on_lost: OnceLock::new(),
        })
    }

    /// Creates a check, with the hashes of its keys.
    pub(super) fn check<'a, 'k>(&self, operation: Operation, counters: &'a [Counter<'k>]) -> Check<'a, 'k> {
        let asked = (operation == Operation::GiveBack).then(|| self.now_micros());
        Check { asked, ..Check::new(&self.hasher, operation, counters) }
    }

    /// Returns the time, in microseconds of the clock.
    pub(super) fn now_micros(&self) -> u64 {
        self.clock.now_micros()
    }

    /// Returns the failure of what is late.
    pub(super) fn late(&self) -> Failure {
        Failure::Timeout(self.timeout)
    }

    /// Has `act` called when a connection has stopped serving, whether a check waits at that time or not. Only the
    /// first call of this has an effect.
    pub(super) fn on_lost(&self, act: impl Fn(StoreError) + Send + Sync + 'static) {
        let _ = self.on_lost.set(Box::new(act));
    }

    /// Reports that a connection has stopped serving.
    pub(super) fn report(&self, failure: Failure) {
        if let Some(on_lost) = self.on_lost.get() {
            on_lost(failure.into());
        }
    }
}
