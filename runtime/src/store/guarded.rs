//! A store that may be away: a deadline for each call, a breaker that leaves a failing store alone,
//! and this process's memory to fall back on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::memory::MemoryStore;
use super::{AnyStore, Counter, Operation, Outcome};
use crate::error::StoreError;

/// How many failures in a row make the breaker leave the store alone.
const MAX_FAILURES: u32 = 3;
/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause before a probe; it doubles up to the last, each with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// What to do when the store fails, or is slower than the [timeout](crate::Builder::timeout).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnStoreError {
    /// Keep the same policies in this process's memory; each process then admits the whole limit.
    #[default]
    Local,
    /// Let everything pass.
    Allow,
    /// Deny everything: 503.
    Deny,
}

impl OnStoreError {
    /// Which of two is the more careful.
    pub(crate) fn strictness(self) -> u8 {
        match self {
            Self::Allow => 0,
            Self::Local => 1,
            Self::Deny => 2,
        }
    }
}

/// What came of a call.
pub(crate) enum Answer {
    /// The store, or the memory that stands in for it, has decided.
    Decided {
        outcome: Outcome,
        /// Whether it was the memory.
        degraded: bool,
    },
    /// Nothing has decided, and [`OnStoreError::Allow`] lets the request pass.
    Unchecked,
}

/// A store behind its guards. Without one, the memory is the store.
pub(crate) struct Guarded {
    store: Option<Arc<Remote>>,
    memory: MemoryStore,
    closed: AtomicBool,
}

struct Remote {
    store: Box<dyn AnyStore>,
    timeout: Duration,
    failures: AtomicU32,
    /// Whether the store is left alone.
    open: AtomicBool,
}

impl Guarded {
    pub(crate) fn memory(memory: MemoryStore) -> Self {
        Self { store: None, memory, closed: AtomicBool::new(false) }
    }

    pub(crate) fn remote(store: Box<dyn AnyStore>, timeout: Duration, fallback: MemoryStore) -> Self {
        let store = Remote { store, timeout, failures: AtomicU32::new(0), open: AtomicBool::new(false) };
        Self { store: Some(Arc::new(store)), memory: fallback, closed: AtomicBool::new(false) }
    }

    /// Connects. When the store is away it is left alone, and probed until it comes.
    pub(crate) async fn start(&self) -> Result<(), StoreError> {
        let Some(remote) = &self.store else { return Ok(()) };
        let result = remote.probe().await;
        if let Err(error) = &result {
            Remote::leave_alone(remote, error);
        }
        result
    }

    /// Takes from or looks at `counters`.
    pub(crate) async fn apply(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
        on_error: OnStoreError,
    ) -> Result<Answer, StoreError> {
        let decided = |outcome| Answer::Decided { outcome, degraded: false };
        let result = match &self.store {
            _ if self.closed.load(Ordering::Relaxed) => Err(StoreError::Closed),
            None => self.memory.apply_now(operation, counters),
            Some(remote) => Remote::apply(remote, operation, counters).await,
        };
        let error = match result {
            Ok(outcome) => return Ok(decided(outcome)),
            Err(error) => error,
        };
        match on_error {
            OnStoreError::Allow => Ok(Answer::Unchecked),
            OnStoreError::Local if self.store.is_some() => {
                let outcome = self.memory.apply_now(operation, counters)?;
                Ok(Answer::Decided { outcome, degraded: true })
            }
            OnStoreError::Local | OnStoreError::Deny => Err(error),
        }
    }

    /// Forgets `counters` here and in the store; what the store could not be told is an error,
    /// whatever the limiter does otherwise.
    pub(crate) async fn reset(&self, counters: &[Counter<'_>]) -> Result<(), StoreError> {
        self.memory.apply_now(Operation::Reset, counters)?;
        if self.closed.load(Ordering::Relaxed) {
            return Err(StoreError::Closed);
        }
        if let Some(remote) = &self.store {
            Remote::apply(remote, Operation::Reset, counters).await?;
        }
        Ok(())
    }

    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        if let Some(remote) = &self.store {
            remote.store.close().await;
        }
    }
}

impl Remote {
    async fn apply(
        self: &Arc<Self>,
        operation: Operation,
        counters: &[Counter<'_>],
    ) -> Result<Outcome, StoreError> {
        if self.open.load(Ordering::Relaxed) {
            return Err(StoreError::Unreachable("it has failed and is being probed".into()));
        }
        let result = match tokio::time::timeout(self.timeout, self.store.apply(operation, counters)).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Timeout(self.timeout)),
        };
        match &result {
            Ok(_) => {
                // A store is more often read than written here: no contended write for each success.
                if self.failures.load(Ordering::Relaxed) > 0 {
                    self.failures.store(0, Ordering::Relaxed);
                }
            }
            // No connection will come without a probe.
            Err(error @ StoreError::Unreachable(_)) => self.leave_alone(error),
            Err(error @ StoreError::Timeout(_)) => {
                if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_FAILURES {
                    self.leave_alone(error);
                }
            }
            // The store serves, and says what is wrong with this call.
            Err(error) => tracing::error!(%error, "the rate limiter's store refuses to count"),
        }
        result
    }

    /// Opens the breaker; a task of its own closes it when the store answers again.
    fn leave_alone(self: &Arc<Self>, error: &StoreError) {
        if self.open.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(%error, "the rate limiter's store is away; it is probed until it answers");
        let remote = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                tokio::time::sleep(pause.mul_f64(fastrand::f64() + 0.5)).await;
                pause = LAST_PAUSE.min(pause * 2);
                // The limiter may be gone, or closed.
                let Some(remote) = remote.upgrade() else { return };
                match remote.probe().await {
                    Ok(()) => {
                        remote.failures.store(0, Ordering::Relaxed);
                        remote.open.store(false, Ordering::Relaxed);
                        tracing::info!("the rate limiter's store is back");
                        return;
                    }
                    Err(error) => tracing::debug!(%error, "the rate limiter's store is still away"),
                }
            }
        });
    }

    async fn probe(&self) -> Result<(), StoreError> {
        match tokio::time::timeout(PROBE_TIMEOUT, self.store.apply(Operation::Peek, &[])).await {
            Ok(result) => result.map(|_| ()),
            Err(_) => Err(StoreError::Timeout(PROBE_TIMEOUT)),
        }
    }
}
