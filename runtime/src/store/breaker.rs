//! A circuit breaker: it leaves a store that fails alone, and has it probed until it answers.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use tokio::runtime::Handle;

use super::Outcome;
use super::backend::Backend;
use super::outage::{News, Outage};
use super::recovery::{Pauses, Recovery};
use super::turn::Turn;
use crate::error::StoreError;

/// How often in a row a store of the user's has to be too slow to be left alone. A store that can't be reached
/// is left alone at once, and the Redis store reports by itself that it is too slow.
const MAX_FAILURES: u32 = 3;

/// A store, which only probes ask while the breaker is open.
pub(super) struct Breaker {
    backend: Backend,
    failures: AtomicU32,
    is_open: AtomicBool,
    /// Whose turn it is to probe the store while the breaker is open.
    probing: Turn,
    outage: Outage,
    recovery: Recovery,
    /// Whether the limiter is closed.
    is_closed: AtomicBool,
}

impl Breaker {
    pub(super) fn of(backend: Backend) -> Arc<Self> {
        let breaker = Arc::new(Self {
            backend,
            failures: AtomicU32::new(0),
            is_open: AtomicBool::new(false),
            probing: Turn::default(),
            outage: Outage::default(),
            recovery: Recovery::default(),
            is_closed: AtomicBool::new(false),
        });
        let weak = Arc::downgrade(&breaker);
        breaker.backend.on_lost(move |error| {
            if let Some(breaker) = weak.upgrade() {
                breaker.note_lost(&error);
            }
        });
        breaker
    }

    pub(super) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Connects.
    pub(super) async fn start(&self) -> Result<(), StoreError> {
        self.backend.probe().await?;
        self.outage.end();
        Ok(())
    }

    /// Serves without the store, which is away, until it answers.
    pub(super) fn start_without(self: &Arc<Self>, error: &StoreError) {
        match &self.backend {
            // The parts of it that are there serve meanwhile.
            #[cfg(feature = "redis-cluster")]
            Backend::Cluster(cluster) => cluster.mend(),
            _ => self.open(error),
        }
    }

    /// Whether the store, or a part of it, is known to be away, or the limiter is closed.
    pub(super) fn is_away(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed) || self.outage.is_on() || self.backend.is_away()
    }

    pub(super) async fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.backend.close().await;
    }

    /// Returns an error while the breaker is open, or once the limiter is closed.
    pub(super) fn ensure_usable(self: &Arc<Self>) -> Result<(), StoreError> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(StoreError::Closed);
        }
        if self.is_open.load(Ordering::Relaxed) {
            self.see_to_probes();
            return Err(StoreError::Unreachable("it has failed and is being probed".into()));
        }
        Ok(())
    }

    /// Notes the result of a call, and returns it.
    pub(super) fn noted(
        self: &Arc<Self>,
        result: Result<Outcome, StoreError>,
    ) -> Result<Outcome, StoreError> {
        match (&self.backend, &result) {
            // It reconnects by itself, part by part, so that a failure says nothing about the rest.
            #[cfg(feature = "redis-cluster")]
            (Backend::Cluster(_), _) => {}
            // Only a probe brings a connection back.
            (_, Err(error @ StoreError::Unreachable(_))) => self.open(error),
            (Backend::Custom(_), Err(error @ StoreError::Timeout(_))) => {
                if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_FAILURES {
                    self.open(error);
                }
            }
            // The store has answered, or reports by itself that it does not. Read first, so that not each success is a
            // contended write.
            _ => {
                if self.failures.load(Ordering::Relaxed) > 0 {
                    self.failures.store(0, Ordering::Relaxed);
                }
            }
        }
        result
    }

    /// Has the store reconnect, though nobody may ask it.
    fn note_lost(self: &Arc<Self>, error: &StoreError) {
        match &self.backend {
            #[cfg(feature = "redis-cluster")]
            Backend::Cluster(cluster) => cluster.report_lost(error),
            _ => self.open(error),
        }
    }

    /// Opens the breaker, which a task closes when the store answers again.
    fn open(self: &Arc<Self>, error: &StoreError) {
        if self.is_closed.load(Ordering::Relaxed) {
            return;
        }
        if !self.is_open.swap(true, Ordering::Relaxed) {
            self.outage.begin(error);
            let reason = error.in_one_line();
            tracing::warn!(error = reason, "the rate limiter's store is away; it is probed until it answers");
        }
        // Whoever has opened it may have been outside of any runtime.
        self.see_to_probes();
    }

    /// Spawns the task that probes the store, unless there is one that runs. Outside of a runtime there can't be one,
    /// so the next check in a runtime sees to it.
    #[cold]
    fn see_to_probes(self: &Arc<Self>) {
        if let Ok(runtime) = Handle::try_current()
            && let Some(turn) = self.probing.take_if(|| self.is_open.load(Ordering::Relaxed))
        {
            let prober = Prober { breaker: Arc::downgrade(self), turn };
            runtime.spawn(prober.probe(self.recovery.pauses()));
        }
    }
}

/// Probes a store whose breaker is open. Dropping this closes the breaker, whether the store has answered or the task
/// was dropped with its runtime. The store is then asked again, as if it were there; if in vain, the breaker opens
/// again. If another prober has taken the turn, since this one's runtime did not run, the breaker is that one's.
struct Prober {
    breaker: Weak<Breaker>,
    turn: u64,
}

impl Prober {
    /// Whether the store is still to be probed by this.
    fn is_on(&self, breaker: &Breaker) -> bool {
        !breaker.is_closed.load(Ordering::Relaxed) && breaker.probing.keep(self.turn)
    }

    /// Probes the store until it answers.
    async fn probe(self, mut pauses: Pauses) {
        loop {
            pauses.wait().await;
            // The limiter may be gone, or closed.
            let Some(breaker) = self.breaker.upgrade().filter(|breaker| self.is_on(breaker)) else { return };
            match breaker.backend.probe().await {
                _ if !breaker.probing.keep(self.turn) => return,
                // It has connected just now.
                Ok(()) if breaker.is_closed.load(Ordering::Relaxed) => return breaker.backend.disconnect(),
                Ok(()) => {
                    breaker.recovery.note();
                    if let Some(after) = breaker.outage.end() {
                        tracing::info!(away_for = ?after, "the rate limiter's store is back");
                    }
                    drop(self);
                    // A loss that was reported while the breaker was open has been ignored.
                    if breaker.backend.is_lost() {
                        let error = "it was lost as soon as it was back";
                        breaker.open(&StoreError::Unreachable(error.into()));
                    }
                    return;
                }
                Err(error) => {
                    let (news, error) = (breaker.outage.note(&error), error.in_one_line());
                    if let News::GoesOn(since) = news {
                        tracing::warn!(error, away_for = ?since, "the rate limiter's store is still away");
                    } else {
                        tracing::debug!(error, "the rate limiter's store is still away");
                    }
                }
            }
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        if let Some(breaker) = self.breaker.upgrade() {
            breaker.probing.end_with(self.turn, || {
                // Before the breaker is closed, or it would end the outage of a check that opens it again.
                if !breaker.is_closed.load(Ordering::Relaxed) {
                    breaker.outage.end();
                }
                breaker.failures.store(0, Ordering::Relaxed);
                breaker.is_open.store(false, Ordering::Relaxed);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    /// A thread without a runtime may be the first to notice that the store is away.
    #[tokio::test]
    async fn a_store_that_nobody_could_probe_is_probed_once_somebody_can() {
        let error = StoreError::Unreachable("it was lost".into());
        let breaker = Breaker::of(Backend::Custom(Box::new(MemoryStore::new(1))));
        std::thread::scope(|threads| {
            threads.spawn(|| breaker.open(&error));
        });
        let is_open = || breaker.is_open.load(Ordering::Relaxed);
        assert!(is_open() && breaker.is_away());
        breaker.open(&error);
        while is_open() {
            tokio::task::yield_now().await;
        }
        assert!(!breaker.is_away() && breaker.probing.take_if(is_open).is_none());
    }

    /// Otherwise whoever is woken by an outage would be woken for ever.
    #[test]
    fn an_outage_ends_with_the_runtime_that_has_probed_the_store() {
        let breaker = Breaker::of(Backend::Custom(Box::new(MemoryStore::new(1))));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { breaker.open(&StoreError::Closed) });
        assert!(breaker.is_away());
        drop(runtime);
        assert!(!breaker.is_away() && breaker.ensure_usable().is_ok());
    }

    #[test]
    fn only_answers_that_are_late_in_a_row_open_it() {
        let breaker = Breaker::of(Backend::Custom(Box::new(MemoryStore::new(1))));
        let note = |error: StoreError| {
            let _ = breaker.noted(Err(error));
            breaker.is_away()
        };
        let late = || StoreError::Timeout(std::time::Duration::ZERO);
        assert!(![late(), late(), StoreError::Refused("no".into()), late(), late()].into_iter().any(note));
        assert!(note(late()));
    }
}
