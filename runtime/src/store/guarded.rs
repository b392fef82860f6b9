//! A store that may be away: a deadline for each call, a breaker that leaves a failing store alone,
//! and this process's memory to fall back on.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use smallvec::SmallVec;

#[cfg(feature = "redis")]
use super::redis::{self, RedisStore};
use super::{AnyStore, Counter, MemoryStore, Operation, Outcome};
use crate::algorithm::Algorithm;
use crate::error::StoreError;

/// How many failures in a row make the breaker leave the store alone.
const MAX_FAILURES: u32 = 3;
/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
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

/// What comes of asking.
pub(crate) enum Begun {
    /// It is decided.
    Decided(Result<Outcome, StoreError>),
    /// The store has been asked. Its answer is waited for, and then [concluded](Guarded::conclude).
    #[cfg_attr(not(feature = "redis"), allow(dead_code))] // no other store is asked so
    Asked(Asked),
    /// The store is to be [asked](Guarded::apply) by a future of its own.
    Later,
}

/// A place in a call of the store.
pub(crate) enum Asked {
    #[cfg(feature = "redis")]
    Redis(redis::Ticket),
}

/// A store behind its guards. Without one, the memory is the store.
pub(crate) struct Guarded {
    store: Option<Arc<Remote>>,
    memory: MemoryStore,
    /// How much of each quota the memory admits when it stands in for the store.
    local_share: f64,
    closed: AtomicBool,
    complaints: Sometimes,
}

/// Where a remote store is.
pub(crate) enum Place {
    #[cfg(feature = "redis")]
    Redis(RedisStore),
    Custom(Box<dyn AnyStore>),
}

struct Remote {
    place: Place,
    timeout: Duration,
    failures: AtomicU32,
    /// Whether the store is left alone.
    open: AtomicBool,
    closed: AtomicBool,
}

impl Guarded {
    pub(crate) fn memory(memory: MemoryStore) -> Self {
        let (closed, complaints) = (AtomicBool::new(false), Sometimes::default());
        Self { store: None, memory, local_share: 1.0, closed, complaints }
    }

    pub(crate) fn remote(place: Place, timeout: Duration, fallback: MemoryStore, local_share: f64) -> Self {
        let remote = Remote {
            place,
            timeout,
            failures: AtomicU32::new(0),
            open: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        };
        let remote = Arc::new(remote);
        remote.watch();
        Self { store: Some(remote), local_share, ..Self::memory(fallback) }
    }

    /// Connects. When the store is away it is left alone, and probed until it comes.
    pub(crate) async fn start(&self) -> Result<(), StoreError> {
        let Some(remote) = &self.store else { return Ok(()) };
        let result = remote.probe().await;
        match &result {
            // What is there of it serves meanwhile.
            Err(_) if remote.place.mends_itself() => remote.place.mend(),
            Err(error) => remote.leave_alone(error),
            Ok(()) => {}
        }
        result
    }

    /// Takes from or looks at `counters`, or begins to.
    pub(crate) fn begin(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
        on_error: impl FnOnce() -> OnStoreError,
    ) -> Begun {
        if self.closed.load(Ordering::Relaxed) {
            return Begun::Later;
        }
        let outcome = match &self.store {
            None => self.memory.apply_now(operation, counters),
            Some(remote) => match remote.begin(operation, counters) {
                Begun::Decided(outcome) => outcome,
                other => return other,
            },
        };
        Begun::Decided(outcome.or_else(|error| self.instead(operation, counters, on_error(), error)))
    }

    /// What came of asking for `counters`.
    pub(crate) fn conclude(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
        asked: &Asked,
        on_error: impl FnOnce() -> OnStoreError,
    ) -> Result<Outcome, StoreError> {
        let outcome = match &self.store {
            Some(remote) => remote.conclude(operation, counters, asked),
            None => Err(StoreError::Closed),
        };
        outcome.or_else(|error| self.instead(operation, counters, on_error(), error))
    }

    /// Takes from or looks at `counters`.
    pub(crate) async fn apply(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
        on_error: OnStoreError,
    ) -> Result<Outcome, StoreError> {
        let outcome = self.ask(operation, counters).await;
        outcome.or_else(|error| self.instead(operation, counters, on_error, error))
    }

    /// What is to be done where the store has failed.
    fn instead(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
        on_error: OnStoreError,
        error: StoreError,
    ) -> Result<Outcome, StoreError> {
        self.complain(&error);
        match on_error {
            OnStoreError::Allow => Ok(Outcome::new(false, []).degraded()),
            OnStoreError::Local if self.store.is_some() => {
                let share = self.share(counters);
                let outcome = self.memory.apply_now(operation, &share);
                outcome.map(Outcome::degraded).inspect_err(|error| self.complain(error))
            }
            OnStoreError::Local | OnStoreError::Deny => Err(error),
        }
    }

    /// What this process may admit by itself of what `counters` ask for.
    fn share<'k>(&self, counters: &[Counter<'k>]) -> SmallVec<[Counter<'k>; 2]> {
        let share = |counter: &Counter<'k>| {
            // A limit of nothing would deny all; and what fits into the whole limit must fit some time.
            let share_of = |limit: u32| self.share_of(limit).max(counter.cost.min(limit)).max(1);
            let algorithm = match counter.algorithm {
                Algorithm::TokenBucket { burst: Some(burst) } => {
                    Algorithm::TokenBucket { burst: Some(share_of(burst)) }
                }
                other => other,
            };
            let quota = counter.quota.with_limit(share_of(counter.quota.limit()));
            Counter { quota, algorithm, ..*counter }
        };
        counters.iter().map(share).collect()
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a share is from 0 to 1
    fn share_of(&self, limit: u32) -> u32 {
        (f64::from(limit) * self.local_share).ceil() as u32
    }

    async fn ask(&self, operation: Operation, counters: &[Counter<'_>]) -> Result<Outcome, StoreError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(StoreError::Closed);
        }
        let outcome = match &self.store {
            Some(remote) => remote.apply(operation, counters).await?,
            None => self.memory.apply_now(operation, counters)?,
        };
        if outcome.readings().len() == counters.len() {
            return Ok(outcome);
        }
        Err(StoreError::Refused("it answered for more counters or fewer than it was asked for".into()))
    }

    /// Forgets `counters` here and in the store; what the store could not be told is an error,
    /// whatever the limiter does otherwise.
    pub(crate) async fn reset(&self, counters: &[Counter<'_>]) -> Result<(), StoreError> {
        self.memory.apply_now(Operation::Reset, counters)?;
        self.ask(Operation::Reset, counters).await.map(|_| ())
    }

    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        if let Some(remote) = &self.store {
            remote.closed.store(true, Ordering::Relaxed);
            remote.place.close().await;
        }
    }

    /// Tells the log of what somebody has to mend. That a store is away is told when it goes.
    fn complain(&self, error: &StoreError) {
        if matches!(error, StoreError::Refused(_) | StoreError::Full { .. } | StoreError::Overloaded)
            && self.complaints.now()
        {
            tracing::error!(%error, "requests can't be counted (told once in ten seconds)");
        }
    }
}

impl Asked {
    /// Whether there is an answer.
    #[cfg_attr(not(feature = "redis"), allow(unused_variables))] // no other store is asked so
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match *self {
            #[cfg(feature = "redis")]
            Self::Redis(ref mut ticket) => ticket.poll(context),
        }
    }
}

impl Remote {
    #[cfg_attr(not(feature = "redis"), allow(unused_variables))] // no other store is asked so
    fn begin(self: &Arc<Self>, operation: Operation, counters: &[Counter<'_>]) -> Begun {
        match &self.place {
            #[cfg(feature = "redis")]
            Place::Redis(store) => {
                let check = store.check(operation, counters);
                if let Some(outcome) = store.recall(&check) {
                    return Begun::Decided(Ok(outcome));
                }
                if let Err(error) = self.breaker() {
                    return Begun::Decided(Err(error));
                }
                match store.begin(&check) {
                    Some(Ok(ticket)) => Begun::Asked(Asked::Redis(ticket)),
                    Some(Err(error)) => Begun::Decided(self.noted(Err(error))),
                    None => Begun::Later,
                }
            }
            Place::Custom(_) => Begun::Later,
        }
    }

    // No other store is asked so.
    #[cfg_attr(not(feature = "redis"), allow(unused_variables, clippy::unused_self))]
    fn conclude(
        self: &Arc<Self>,
        operation: Operation,
        counters: &[Counter<'_>],
        asked: &Asked,
    ) -> Result<Outcome, StoreError> {
        match *asked {
            #[cfg(feature = "redis")]
            Asked::Redis(ref ticket) => self.noted(ticket.outcome(operation, counters, self.timeout)),
        }
    }

    async fn apply(
        self: &Arc<Self>,
        operation: Operation,
        counters: &[Counter<'_>],
    ) -> Result<Outcome, StoreError> {
        self.breaker()?;
        let result = match &self.place {
            // It keeps the deadline by itself, with one timer for all who share a call.
            #[cfg(feature = "redis")]
            Place::Redis(store) => store.apply(operation, counters).await,
            Place::Custom(store) => {
                match tokio::time::timeout(self.timeout, store.apply(operation, counters)).await {
                    Ok(result) => result,
                    Err(_) => Err(StoreError::Timeout(self.timeout)),
                }
            }
        };
        self.noted(result)
    }

    /// Reconnects when a connection is lost, also while nobody asks.
    #[cfg_attr(not(feature = "redis"), allow(clippy::unused_self))] // no other store tells that
    fn watch(self: &Arc<Self>) {
        #[cfg(feature = "redis")]
        if let Place::Redis(store) = &self.place {
            let remote = Arc::downgrade(self);
            store.on_lost(move |error| match remote.upgrade() {
                Some(remote) if remote.place.mends_itself() => remote.place.mend(),
                Some(remote) => remote.leave_alone(&error),
                None => {}
            });
        }
    }

    /// An error while it is open.
    fn breaker(&self) -> Result<(), StoreError> {
        if self.open.load(Ordering::Relaxed) {
            return Err(StoreError::Unreachable("it has failed and is being probed".into()));
        }
        Ok(())
    }

    /// Draws the conclusions for the breaker from what came of a call.
    fn noted(self: &Arc<Self>, result: Result<Outcome, StoreError>) -> Result<Outcome, StoreError> {
        match &result {
            Ok(_) => {
                // A store is more often read than written here: no contended write for each success.
                if self.failures.load(Ordering::Relaxed) > 0 {
                    self.failures.store(0, Ordering::Relaxed);
                }
            }
            // No connection will come without a probe.
            Err(error @ StoreError::Unreachable(_)) if !self.place.mends_itself() => self.leave_alone(error),
            Err(error @ StoreError::Timeout(_)) if self.place.counts_checks() => {
                if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_FAILURES {
                    self.leave_alone(error);
                }
            }
            // The store serves, and says what is wrong with this call.
            Err(_) => {}
        }
        result
    }

    /// Opens the breaker; a task of its own closes it when the store answers again.
    fn leave_alone(self: &Arc<Self>, error: &StoreError) {
        if self.closed.load(Ordering::Relaxed) || self.open.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(%error, "the rate limiter's store is away; it is probed until it answers");
        let watch = Watch(Arc::downgrade(self));
        tokio::spawn(async move {
            let mut pause = Pause::default();
            loop {
                pause.wait().await;
                // The limiter may be gone, or closed.
                let Some(remote) = watch.0.upgrade().filter(|remote| !remote.closed.load(Ordering::Relaxed))
                else {
                    return;
                };
                match remote.probe().await {
                    Ok(()) if remote.closed.load(Ordering::Relaxed) => return remote.place.close().await,
                    Ok(()) => {
                        tracing::info!("the rate limiter's store is back");
                        return;
                    }
                    Err(error) => tracing::debug!(%error, "the rate limiter's store is still away"),
                }
            }
        });
    }

    async fn probe(&self) -> Result<(), StoreError> {
        match tokio::time::timeout(PROBE_TIMEOUT, self.place.probe()).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Timeout(PROBE_TIMEOUT)),
        }
    }
}

impl Place {
    /// Connects, or tells whether the store is ready to serve.
    async fn probe(&self) -> Result<(), StoreError> {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.connect().await,
            Self::Custom(store) => store.apply(Operation::Peek, &[]).await.map(|_| ()),
        }
    }

    /// Whether what fails comes back without a probe.
    fn mends_itself(&self) -> bool {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.mends_itself(),
            Self::Custom(_) => false,
        }
    }

    /// Has it reconnect, if it does that by itself.
    fn mend(&self) {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.mend(),
            Self::Custom(_) => {}
        }
    }

    /// Whether each check is a call that can fail; else the store tells itself when it has failed too often.
    fn counts_checks(&self) -> bool {
        matches!(self, Self::Custom(_))
    }

    async fn close(&self) {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.close(),
            Self::Custom(store) => store.close().await,
        }
    }
}

/// Watches over a store that is left alone. When the watch ends, whether the store has answered or the
/// task was dropped with its runtime, the store is asked again: if in vain, there is a new watch.
struct Watch(Weak<Remote>);

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(remote) = self.0.upgrade() {
            remote.failures.store(0, Ordering::Relaxed);
            remote.open.store(false, Ordering::Relaxed);
        }
    }
}

/// The pause before a store is asked again whether it is back: it grows, and has jitter, so that the
/// instances of a service do not ask in step.
pub(crate) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pause {
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.0.mul_f64(fastrand::f64() + 0.5)).await;
        self.0 = LAST_PAUSE.min(self.0 * 2);
    }
}

/// Says yes once in a while, to whoever asks.
#[derive(Default)]
struct Sometimes(Mutex<Option<Instant>>);

impl Sometimes {
    fn now(&self) -> bool {
        let mut last = self.0.lock();
        let due = last.is_none_or(|last| last.elapsed() >= Duration::from_secs(10));
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}
