//! The way of checks to a server: they wait in a [`queue`](super::queue) to be sent in a [`call`](super::call),
//! whose answer they then wait for. A [`courier`](super::courier) sends the calls through the connection in use.

use std::future::poll_fn;
#[cfg(feature = "redis-cluster")]
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use redis::{ErrorKind, RedisError};
use smallvec::SmallVec;
use tokio::runtime::{Handle, Id};
#[cfg(feature = "redis-cluster")]
use tokio::{sync::Notify, time::timeout_at};

use super::batch::{Batch, Check};
use super::call::{Call, Ticket};
use super::common::Common;
use super::connection::Wire;
use super::courier::Courier;
use super::failure::Failure;
use super::late::LateCheck;
use super::own_deadline::OwnDeadline;
use super::queue::{Queue, UnsentCall};
use super::renounced::Renounced;
use super::silence::Silence;
#[cfg(feature = "redis-cluster")]
use crate::store::recovery::Recovery;
use crate::store::{Counter, Outcome};

/// The checks that wait for one server, and which connection serves them.
pub(super) struct Lane {
    inner: Mutex<Inner>,
    pub(super) common: Arc<Common>,
    /// How often in a row checks of other runtimes than the courier's had no answer.
    absence: Mutex<Silence>,
    #[cfg(feature = "redis-cluster")]
    recovery: Recovery,
    #[cfg(feature = "redis-cluster")]
    created: Instant,
    /// Wakes who waits for a connection.
    #[cfg(feature = "redis-cluster")]
    attached: Notify,
}

#[derive(Default)]
struct Inner {
    /// The connection in use. The courier of any other connection ends.
    serving: Option<Serving>,
    /// How many connections there have been.
    connections: u64,
    /// Whether there will be none any more.
    has_ended: bool,
    queue: Queue,
}

/// A connection in use.
struct Serving {
    /// Its number among the connections that there have been.
    generation: u64,
    /// The runtime of its courier.
    runtime: Id,
}

impl Inner {
    fn generation(&self) -> Option<u64> {
        self.serving.as_ref().map(|serving| serving.generation)
    }
}

impl Lane {
    pub(super) fn new(common: Arc<Common>) -> Self {
        Self {
            inner: Mutex::default(),
            common,
            absence: Mutex::default(),
            #[cfg(feature = "redis-cluster")]
            recovery: Recovery::default(),
            #[cfg(feature = "redis-cluster")]
            created: Instant::now(),
            #[cfg(feature = "redis-cluster")]
            attached: Notify::new(),
        }
    }

    /// Decides `check`, in one call with whatever else is asked at this time. Also returns what is left of it if it
    /// was late.
    pub(super) async fn decide(
        self: &Arc<Self>,
        check: &Check<'_, '_>,
    ) -> (Result<Outcome, Failure>, Option<LateCheck>) {
        match self.enqueue(check) {
            Ok(mut ticket) => {
                poll_fn(|context| ticket.poll(context)).await;
                (ticket.answer(check.operation, check.counters), ticket.late(self))
            }
            Err(failure) => (Err(failure), None),
        }
    }

    /// Decides `check` like [`decide`](Self::decide), but by a deadline that comes before that of a call.
    #[cfg(feature = "redis-cluster")]
    pub(super) async fn decide_by(
        self: &Arc<Self>,
        deadline: Instant,
        check: &Check<'_, '_>,
    ) -> (Result<Outcome, Failure>, Option<LateCheck>) {
        match self.enqueue(check) {
            Ok(mut ticket) => {
                match timeout_at(deadline.into(), poll_fn(|context| ticket.poll(context))).await {
                    Ok(()) => (ticket.answer(check.operation, check.counters), ticket.late(self)),
                    Err(_) => (Err(self.common.late()), Some(ticket.left_of(self))),
                }
            }
            Err(failure) => (Err(failure), None),
        }
    }

    /// Gives `check` a place in the next call. The check is decided even if its ticket is dropped.
    pub(super) fn enqueue(self: &Arc<Self>, check: &Check<'_, '_>) -> Result<Ticket, Failure> {
        let mut inner = self.lock();
        let Some(Serving { generation, runtime }) = inner.serving else { return Err(Failure::NoConnection) };
        let own_deadline = OwnDeadline::unless_served_here(runtime, generation, self);
        let (call, place) = inner.queue.place(check)?;
        let task = inner.queue.take_due();
        drop(inner);
        if let Some(task) = task {
            task.wake();
        }
        Ok(Ticket::new(call, place, own_deadline))
    }

    /// Returns the generation of the connection that serves.
    pub(super) fn generation(&self) -> Option<u64> {
        self.lock().generation()
    }

    /// Serves through a new connection instead of the one of `generation`, if any, which is given up, and returns the
    /// new one's generation. If that has changed meanwhile, somebody else has been faster: this does nothing, and
    /// returns `None`.
    pub(super) fn attach(self: &Arc<Self>, generation: Option<u64>, wire: Wire) -> Option<u64> {
        let mut inner = self.lock();
        if inner.generation() != generation {
            return None;
        }
        inner.connections += 1;
        let (generation, task) = (inner.connections, inner.queue.take_idle());
        inner.serving = Some(Serving { generation, runtime: Handle::current().id() });
        drop(inner);
        // Not under the lock: a runtime that is shutting down drops the courier here, which takes the lock.
        tokio::spawn(Courier::new(Arc::clone(self), generation, wire.transacts()).serve(wire));
        if let Some(task) = task {
            task.wake();
        }
        #[cfg(feature = "redis-cluster")]
        self.attached.notify_waiters();
        Some(generation)
    }

    /// Returns until when the first connection may be expected: for as long as a check may take, since the server has
    /// become known.
    #[cfg(feature = "redis-cluster")]
    pub(super) fn expected_until(&self) -> Instant {
        if self.lock().connections == 0 { self.created + self.common.timeout } else { self.created }
    }

    /// Whether there will be no connection any more, since the lane is no longer used.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().has_ended
    }

    /// Waits until there is a connection or there will be none any more, but no longer than until `deadline`.
    #[cfg(feature = "redis-cluster")]
    pub(super) async fn attached_by(&self, deadline: Instant) {
        let attached = async {
            let mut notified = pin!(self.attached.notified());
            loop {
                // From here on it is woken, so that nothing is missed in between.
                notified.as_mut().enable();
                if self.is_attached() || self.has_ended() {
                    return;
                }
                notified.as_mut().await;
                notified.set(self.attached.notified());
            }
        };
        let _ = timeout_at(deadline.into(), attached).await;
    }

    /// Gives the connection up for good, and fails the calls that wait for it.
    pub(super) fn detach(&self) {
        // First, so that a courier that ends for this does not listen on.
        self.lock().has_ended = true;
        self.lose(None, &Failure::NoConnection);
        #[cfg(feature = "redis-cluster")]
        self.attached.notify_waiters();
    }

    pub(super) fn absence(&self) -> &Mutex<Silence> {
        &self.absence
    }

    /// Gives up the connection of `generation`, whose courier does not answer, and reports that.
    #[cold]
    pub(super) fn abandon(&self, generation: u64) {
        self.absence.lock().end();
        let why = "several checks in a row had no answer: the server is silent, or the Tokio runtime of the connection does not run";
        let failure = Failure::from(RedisError::from((ErrorKind::Io, why)));
        if self.lose(Some(generation), &failure) {
            self.common.report(failure);
        }
    }

    /// Returns the record of the server's last recovery.
    #[cfg(feature = "redis-cluster")]
    pub(super) fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Keeps the memory of `batch` for a later one.
    pub(super) fn recycle(&self, mut batch: Batch) {
        batch.clear();
        self.lock().queue.keep(batch);
    }

    /// Polls whether the courier of `generation` has something to do; if not, it is woken when it has.
    pub(super) fn poll_any(&self, generation: u64, context: &Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.generation() != Some(generation) {
            return Poll::Ready(());
        }
        inner.queue.poll_any(context)
    }

    /// Whether the connection of `generation` still serves.
    pub(super) fn is_served_by(&self, generation: u64) -> bool {
        self.generation() == Some(generation)
    }

    /// Whether there is a connection.
    pub(super) fn is_attached(&self) -> bool {
        self.generation().is_some()
    }

    /// Gives up the connection of `generation`, or any if `None`, and fails the calls that wait for it. Returns
    /// `false`, and does nothing, if that connection was no longer in use.
    pub(super) fn lose(&self, generation: Option<u64>, failure: &Failure) -> bool {
        let (waiting, task) = {
            let mut inner = self.lock();
            if generation.is_some() && inner.generation() != generation {
                return false;
            }
            inner.serving = None;
            (inner.queue.take_all(), inner.queue.take_idle())
        };
        for unsent in waiting {
            let _ = unsent.call.0.finish(Err(failure.clone()));
        }
        if let Some(task) = task {
            task.wake();
        }
        true
    }

    /// Gives back what is renounced after it is known that it was charged too late. Nobody waits for that: without a
    /// connection, the next one is given it, and if too much else is to be given back, the charge stays.
    pub(super) fn give_back(&self, renounced: &Renounced) {
        let counters: SmallVec<[Counter<'_>; 2]> = renounced.counters().collect();
        let check = renounced.check(&self.common, &counters);
        let task = {
            let mut inner = self.lock();
            inner.queue.owe(&check);
            inner.queue.take_due()
        };
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Gives back what `batch` asks for. Nobody waits for that either.
    pub(super) fn owe(&self, batch: Batch) {
        let task = {
            let mut inner = self.lock();
            inner.queue.owe_all(batch);
            inner.queue.take_due()
        };
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Takes `call` out of those that wait to be sent, if it is still there. Whoever drops it fails its waiters, which
    /// is not done under the lock.
    pub(super) fn withdraw(&self, call: &Arc<Call>) -> Option<UnsentCall> {
        self.lock().queue.withdraw(call)
    }

    /// Polls for the next call that the courier of `generation` has to send: see [`Queue::poll_next`]. Returns
    /// `None` once that connection is no longer in use.
    pub(super) fn poll_next(
        &self,
        generation: u64,
        due: Option<Instant>,
        context: &Context<'_>,
    ) -> Poll<Option<UnsentCall>> {
        let mut inner = self.lock();
        if inner.generation() != Some(generation) {
            return Poll::Ready(None);
        }
        inner.queue.poll_next(due, context).map(Some)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}
