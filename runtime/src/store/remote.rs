//! A store elsewhere: a deadline for each call, and a breaker that leaves a failing store alone.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use super::outage::{News, Outage};
use super::recovery::Recovery;
#[cfg(feature = "redis")]
use super::redis::{self, RedisStore};
use super::{AnyStore, Counter, Operation, Outcome};
use crate::error::StoreError;

/// How many times a store of the user's may be too slow in a row before it is left alone. One that can't be
/// reached is left alone at once, and Redis tells by itself when it is too slow.
const MAX_FAILURES: u32 = 3;
/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// What comes of asking.
pub(crate) enum Begun {
    /// It is decided.
    Decided(Result<Outcome, StoreError>),
    /// The store has been asked. Its answer is waited for, and then [concluded](Remote::conclude).
    #[cfg_attr(not(feature = "redis"), allow(dead_code))] // no other store is asked so
    Asked(Asked),
    /// The store is to be [asked](Remote::apply) by a future of its own.
    Later,
}

/// A place in a call of the store.
pub(crate) enum Asked {
    #[cfg(feature = "redis")]
    Redis(redis::Ticket),
}

/// Where a remote store is.
pub(crate) enum Place {
    #[cfg(feature = "redis")]
    Redis(RedisStore),
    Custom(Box<dyn AnyStore>),
}

/// A store, its deadline and its breaker.
pub(super) struct Remote {
    place: Place,
    timeout: Duration,
    failures: AtomicU32,
    /// Whether the store is left alone.
    open: AtomicBool,
    outage: Outage,
    recovery: Recovery,
    closed: AtomicBool,
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
    pub(super) fn new(place: Place, timeout: Duration) -> Arc<Self> {
        let (failures, open, closed) = (AtomicU32::new(0), AtomicBool::new(false), AtomicBool::new(false));
        let (outage, recovery) = (Outage::default(), Recovery::default());
        let remote = Arc::new(Self { place, timeout, failures, open, outage, recovery, closed });
        remote.watch();
        remote
    }

    /// Connects.
    pub(super) async fn start(&self) -> Result<(), StoreError> {
        self.probe().await?;
        self.outage.end();
        Ok(())
    }

    /// Serves without the store, which is away, until it comes.
    pub(super) fn start_without(self: &Arc<Self>, error: &StoreError) {
        if self.place.mends_itself() {
            // What is there of it serves meanwhile.
            self.place.mend(None);
        } else {
            self.leave_alone(error);
        }
    }

    /// Whether it is known to be away, or a part of it.
    pub(super) fn is_away(&self) -> bool {
        self.outage.is_on() || self.place.is_away()
    }

    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.place.close().await;
    }

    #[cfg_attr(not(feature = "redis"), allow(unused_variables))] // no other store is asked so
    #[inline(never)] // it is long, and not for those who count in memory
    pub(super) fn begin(self: &Arc<Self>, operation: Operation, counters: &[Counter<'_>]) -> Begun {
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

    /// What came of asking. Nothing is concluded of the store from that: it tells itself when it is lost, and
    /// whoever hears of it here may have waited while it came back.
    // No other store is asked so.
    #[cfg_attr(not(feature = "redis"), allow(unused_variables, clippy::unused_self))]
    pub(super) fn conclude(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
        asked: &Asked,
    ) -> Result<Outcome, StoreError> {
        match *asked {
            #[cfg(feature = "redis")]
            Asked::Redis(ref ticket) => ticket.outcome(operation, counters, self.timeout),
        }
    }

    pub(super) async fn apply(
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
                Some(remote) if remote.place.mends_itself() => remote.place.mend(Some(&error)),
                Some(remote) => remote.leave_alone(&error),
                None => {}
            });
        }
    }

    /// An error while it is open, or closed for good.
    fn breaker(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(StoreError::Closed);
        }
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
        self.outage.begin(error);
        let reason = in_one_line(error);
        tracing::warn!(error = reason, "the rate limiter's store is away; it is probed until it answers");
        let (watch, mut pauses) = (Watch(Arc::downgrade(self)), self.recovery.pauses());
        tokio::spawn(async move {
            loop {
                pauses.wait().await;
                // The limiter may be gone, or closed.
                let Some(remote) = watch.0.upgrade().filter(|remote| !remote.closed.load(Ordering::Relaxed))
                else {
                    return;
                };
                match remote.probe().await {
                    Ok(()) if remote.closed.load(Ordering::Relaxed) => return remote.place.close().await,
                    Ok(()) => {
                        remote.recovery.note();
                        let after = remote.outage.end().unwrap_or_default();
                        tracing::info!(away_for = ?after, "the rate limiter's store is back");
                        drop(watch);
                        // While it was watched over, nobody was told that it is lost.
                        if remote.place.is_lost() {
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

    /// Whether a part of it is known to be away that comes back without a probe.
    fn is_away(&self) -> bool {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.is_away(),
            Self::Custom(_) => false,
        }
    }

    /// Whether it is known to be away, though it was there just now.
    fn is_lost(&self) -> bool {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.is_lost(),
            Self::Custom(_) => false,
        }
    }

    /// Has it connect to what is missing, if it does that by itself; `lost` is why something is, that was not.
    #[cfg_attr(not(feature = "redis"), allow(unused_variables))] // no other store does
    fn mend(&self, lost: Option<&StoreError>) {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => store.mend(lost),
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

/// An error as one line of a log, whatever somebody at the other end has said.
pub(crate) fn in_one_line(error: &StoreError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
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
