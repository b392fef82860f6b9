//! A store outside of this process: a deadline for each call, and a breaker that leaves a failing store alone.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use super::outage::{News, Outage};
use super::recovery::{Pauses, Recovery};
#[cfg(feature = "redis-cluster")]
use super::redis::Cluster;
#[cfg(feature = "redis")]
use super::redis::RedisStore;
use super::turn::Turn;
use super::{AnyStore, Counter, LateCheck, Operation, Outcome, Ticket};
use crate::error::StoreError;

/// How often in a row a store of the user's has to be too slow to be left alone. A store that can't be reached
/// is left alone at once, and the Redis store reports by itself that it is too slow.
const MAX_FAILURES: u32 = 3;
/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// The state of a check once it has been [begun](Remote::begin).
pub(crate) enum Begun {
    /// It is decided.
    Decided(Result<Outcome, StoreError>),
    /// The store has been asked. Its answer has to be waited for, and then [concluded](Remote::conclude).
    #[cfg_attr(not(feature = "redis"), allow(dead_code))] // no other store gives tickets
    Asked(Ticket),
    /// The store has to be [asked](Remote::apply) by a future of its own.
    Unasked,
}

/// What came of a check.
pub(crate) struct Concluded {
    pub(crate) outcome: Result<Outcome, StoreError>,
    /// What is left of the check if the store may still charge it, because it was late.
    pub(crate) late: Option<LateCheck>,
}

impl Concluded {
    /// The store was not late, or was not asked.
    pub(crate) fn in_time(outcome: Result<Outcome, StoreError>) -> Self {
        Self { outcome, late: None }
    }
}

/// The remote store itself: one Redis server, a cluster of them, or a store of the user's.
pub(crate) enum Backend {
    #[cfg(feature = "redis")]
    Redis(RedisStore),
    #[cfg(feature = "redis-cluster")]
    Cluster(Arc<Cluster>),
    Custom(Box<dyn AnyStore>),
}

/// A store, its deadline and its breaker.
pub(super) struct Remote {
    backend: Backend,
    timeout: Duration,
    failures: AtomicU32,
    /// Whether the breaker is open, so that only probes ask the store.
    is_left_alone: AtomicBool,
    /// Whose turn it is to probe the store meanwhile.
    probing: Turn,
    outage: Outage,
    recovery: Recovery,
    /// Whether the limiter is closed.
    is_closed: AtomicBool,
}

impl Remote {
    pub(super) fn new(backend: Backend, timeout: Duration) -> Arc<Self> {
        let remote = Arc::new(Self {
            backend,
            timeout,
            failures: AtomicU32::new(0),
            is_left_alone: AtomicBool::new(false),
            probing: Turn::default(),
            outage: Outage::default(),
            recovery: Recovery::default(),
            is_closed: AtomicBool::new(false),
        });
        remote.listen_for_losses();
        remote
    }

    /// Connects.
    pub(super) async fn start(&self) -> Result<(), StoreError> {
        self.probe().await?;
        self.outage.end();
        Ok(())
    }

    /// Serves without the store, which is away, until it answers.
    pub(super) fn start_without(self: &Arc<Self>, error: &StoreError) {
        match &self.backend {
            // The parts of it that are there serve meanwhile.
            #[cfg(feature = "redis-cluster")]
            Backend::Cluster(cluster) => cluster.mend(),
            _ => self.leave_alone(error),
        }
    }

    /// Returns where the store is, for the log.
    pub(super) fn location(&self) -> String {
        match &self.backend {
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.location(),
            #[cfg(feature = "redis-cluster")]
            Backend::Cluster(cluster) => cluster.location(),
            Backend::Custom(_) => "a store of the program's own".to_owned(),
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

    #[cfg_attr(not(feature = "redis"), allow(unused_variables))] // no other store is asked this way
    #[inline(never)] // it is long, and counting in memory does not need it
    pub(super) fn begin(self: &Arc<Self>, operation: Operation, counters: &[Counter<'_>]) -> Begun {
        match &self.backend {
            #[cfg(feature = "redis")]
            Backend::Redis(store) => {
                let check = store.check(operation, counters);
                if let Some(outcome) = store.recall(&check) {
                    return Begun::Decided(Ok(outcome));
                }
                if let Err(error) = self.ensure_usable() {
                    return Begun::Decided(Err(error));
                }
                match store.begin(&check) {
                    Ok(ticket) => Begun::Asked(ticket),
                    Err(error) => Begun::Decided(self.noted(Err(error))),
                }
            }
            #[cfg(feature = "redis-cluster")]
            Backend::Cluster(cluster) => match cluster.recall(operation, counters) {
                Some(outcome) => Begun::Decided(Ok(outcome)),
                None => Begun::Unasked,
            },
            Backend::Custom(_) => Begun::Unasked,
        }
    }

    /// Returns the outcome of what was asked. It does not affect the breaker: the store reports by itself that
    /// it is lost, and by the time a caller hears of that here, the store may be back.
    // No other store is asked this way.
    #[cfg_attr(not(feature = "redis"), allow(unused_variables, clippy::unused_self))]
    pub(super) fn conclude(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
        ticket: &Ticket,
    ) -> Concluded {
        match &self.backend {
            #[cfg(feature = "redis")]
            Backend::Redis(store) => {
                Concluded { outcome: ticket.outcome(operation, counters), late: store.late(ticket) }
            }
            // The others give no tickets.
            _ => Concluded::in_time(Err(StoreError::Closed)),
        }
    }

    pub(super) async fn apply(self: &Arc<Self>, operation: Operation, counters: &[Counter<'_>]) -> Concluded {
        if let Err(error) = self.ensure_usable() {
            return Concluded::in_time(Err(error));
        }
        let (result, late) = match &self.backend {
            // Redis keeps the deadline by itself, with one timer for all checks that share a call.
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.apply(operation, counters).await,
            // Boxed, since this future is much larger than the others.
            #[cfg(feature = "redis-cluster")]
            Backend::Cluster(cluster) => Box::pin(cluster.apply(operation, counters)).await,
            Backend::Custom(store) => {
                let result = tokio::time::timeout(self.timeout, store.apply(operation, counters)).await;
                (result.unwrap_or(Err(StoreError::Timeout(self.timeout))), None)
            }
        };
        Concluded { outcome: self.noted(result), late }
    }

    /// Has the store reconnect when a connection is lost, even while nobody asks.
    fn listen_for_losses(self: &Arc<Self>) {
        let remote = Arc::downgrade(self);
        let note = move |error: StoreError| {
            if let Some(remote) = remote.upgrade() {
                remote.note_lost(&error);
            }
        };
        match &self.backend {
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.on_lost(note),
            #[cfg(feature = "redis-cluster")]
            Backend::Cluster(cluster) => cluster.on_lost(note),
            // Only its answers tell.
            Backend::Custom(_) => drop(note),
        }
    }

    fn note_lost(self: &Arc<Self>, error: &StoreError) {
        match &self.backend {
            #[cfg(feature = "redis-cluster")]
            Backend::Cluster(cluster) => cluster.report_lost(error),
            _ => self.leave_alone(error),
        }
    }

    /// Returns an error while the breaker is open, or once the limiter is closed.
    fn ensure_usable(self: &Arc<Self>) -> Result<(), StoreError> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(StoreError::Closed);
        }
        if self.is_left_alone.load(Ordering::Relaxed) {
            self.see_to_probes();
            return Err(StoreError::Unreachable("it has failed and is being probed".into()));
        }
        Ok(())
    }

    /// Updates the breaker by the result of a call.
    fn noted(self: &Arc<Self>, result: Result<Outcome, StoreError>) -> Result<Outcome, StoreError> {
        match &result {
            Ok(_) => {
                // Read first, so that not each success is a contended write.
                if self.failures.load(Ordering::Relaxed) > 0 {
                    self.failures.store(0, Ordering::Relaxed);
                }
            }
            // Only a probe brings a connection back.
            Err(error @ StoreError::Unreachable(_)) if !self.backend.mends_itself() => {
                self.leave_alone(error);
            }
            Err(error @ StoreError::Timeout(_)) if self.backend.counts_checks() => {
                if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_FAILURES {
                    self.leave_alone(error);
                }
            }
            // The store serves, or reports by itself that it does not.
            Err(_) => {}
        }
        result
    }

    /// Opens the breaker, which a task closes when the store answers again.
    fn leave_alone(self: &Arc<Self>, error: &StoreError) {
        if self.is_closed.load(Ordering::Relaxed) {
            return;
        }
        if !self.is_left_alone.swap(true, Ordering::Relaxed) {
            self.outage.begin(error);
            let reason = in_one_line(error);
            tracing::warn!(error = reason, "the rate limiter's store is away; it is probed until it answers");
        }
        // Whoever has opened it may have been outside of any runtime.
        self.see_to_probes();
    }

    /// Spawns the task that probes the store, unless there is one that runs. Outside of a runtime there can't be one, so
    /// the next check in a runtime sees to it.
    #[cold]
    fn see_to_probes(self: &Arc<Self>) {
        if let Ok(runtime) = Handle::try_current()
            && let Some(turn) = self.probing.take_if(|| self.is_left_alone.load(Ordering::Relaxed))
        {
            runtime.spawn(OpenBreaker { remote: Arc::downgrade(self), turn }.probe(self.recovery.pauses()));
        }
    }

    async fn probe(&self) -> Result<(), StoreError> {
        match tokio::time::timeout(PROBE_TIMEOUT, self.backend.probe()).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Timeout(PROBE_TIMEOUT)),
        }
    }
}

impl Backend {
    /// Connects, or asks whether the store is ready to serve.
    async fn probe(&self) -> Result<(), StoreError> {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.connect().await,
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => cluster.connect().await,
            Self::Custom(store) => store.apply(Operation::Peek, &[]).await.map(|_| ()),
        }
    }

    /// Whether it reconnects by itself, part by part, so that a failure says nothing about the rest.
    fn mends_itself(&self) -> bool {
        match self {
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(_) => true,
            _ => false,
        }
    }

    /// Whether a part of it that comes back without a probe is known to be away.
    fn is_away(&self) -> bool {
        match self {
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => cluster.is_away(),
            _ => false,
        }
    }

    /// Whether its connection is known to be lost again, though it was there just now.
    fn is_lost(&self) -> bool {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.is_lost(),
            _ => false,
        }
    }

    /// Whether each check is a call that can fail. If not, the store itself reports too many failures.
    fn counts_checks(&self) -> bool {
        matches!(self, Self::Custom(_))
    }

    async fn close(&self) {
        match self {
            Self::Custom(store) => store.close().await,
            #[cfg(feature = "redis")]
            _ => self.disconnect(),
        }
    }

    /// Ends the tasks of a store in Redis.
    fn disconnect(&self) {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.close(),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(cluster) => cluster.close(),
            Self::Custom(_) => {}
        }
    }
}

/// A limiter need not be closed.
impl Drop for Backend {
    fn drop(&mut self) {
        self.disconnect();
    }
}

/// Formats an error as one line of a log, whatever the other end has put into it.
pub(crate) fn in_one_line(error: &StoreError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The breaker of a store while it is open. Dropping this closes it, whether the store has answered or the task was
/// dropped with its runtime. The store is then asked again; if in vain, the breaker opens again. If another task has
/// taken the turn, since this one's runtime did not run, the breaker is that one's.
struct OpenBreaker {
    remote: Weak<Remote>,
    turn: u64,
}

impl OpenBreaker {
    /// Whether the store is still to be probed by this.
    fn is_on(&self, remote: &Remote) -> bool {
        !remote.is_closed.load(Ordering::Relaxed) && remote.probing.keep(self.turn)
    }

    /// Probes the store until it answers.
    async fn probe(self, mut pauses: Pauses) {
        loop {
            pauses.wait().await;
            // The limiter may be gone, or closed.
            let Some(remote) = self.remote.upgrade().filter(|remote| self.is_on(remote)) else { return };
            match remote.probe().await {
                _ if !remote.probing.keep(self.turn) => return,
                Ok(()) if remote.is_closed.load(Ordering::Relaxed) => return remote.backend.close().await,
                Ok(()) => {
                    remote.recovery.note();
                    let after = remote.outage.end().unwrap_or_default();
                    tracing::info!(away_for = ?after, "the rate limiter's store is back");
                    drop(self);
                    // A loss that was reported while the breaker was open has been ignored.
                    if remote.backend.is_lost() {
                        let error = "it was lost as soon as it was back";
                        remote.leave_alone(&StoreError::Unreachable(error.into()));
                    }
                    return;
                }
                Err(error) => {
                    let (news, error) = (remote.outage.note(&error), in_one_line(&error));
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

impl Drop for OpenBreaker {
    fn drop(&mut self) {
        if let Some(remote) = self.remote.upgrade() {
            remote.probing.end_with(self.turn, || {
                remote.failures.store(0, Ordering::Relaxed);
                remote.is_left_alone.store(false, Ordering::Relaxed);
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
        let remote = Remote::new(Backend::Custom(Box::new(MemoryStore::new(1))), Duration::from_secs(1));
        std::thread::scope(|threads| {
            threads.spawn(|| remote.leave_alone(&error));
        });
        let is_left_alone = || remote.is_left_alone.load(Ordering::Relaxed);
        assert!(is_left_alone() && remote.is_away());
        remote.leave_alone(&error);
        while is_left_alone() {
            tokio::task::yield_now().await;
        }
        assert!(!remote.is_away() && remote.probing.take_if(is_left_alone).is_none());
    }
}
