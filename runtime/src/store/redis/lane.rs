//! The queue of a server: checks wait here for a place in a [`call`](super::call), whose answer they then wait for. A
//! [`courier`](super::courier) sends the calls.
//!
//! Checks that arrive while no call can be sent go out together with the next one, and those that ask for the
//! same are merged there. So the busier the lane, the less each check costs, and a check is held back only by a
//! call in flight. The decisions are those that a call for each check would give.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use tokio::runtime::{Handle, Id};

use super::answers::Answers;
use super::batch::{Batch, Check, Place};
use super::call::{Call, Ticket};
use super::connection::Wire;
use super::courier::Courier;
use super::denials::Denials;
use super::failure::Failure;
use super::late::{LateCheck, Renounced};
use super::own_deadline::OwnDeadline;
use super::script::Scripts;
#[cfg(feature = "redis-cluster")]
use crate::store::recovery::Recovery;
use crate::store::{Counter, Operation, Outcome};

/// How many full calls may wait behind those in flight. Further checks are refused, since the store is slower
/// than the load on it. Giving back and resetting have as much room again.
const MAX_WAITING: usize = 32;

/// The checks that wait for one server, and the connection that serves them.
pub(super) struct Lane {
    queue: Mutex<Queue>,
    scripts: Arc<Scripts>,
    denials: Arc<Denials>,
    timeout: Duration,
    on_lost: Arc<OnLost>,
    #[cfg(feature = "redis-cluster")]
    recovery: Recovery,
}

/// The callback for a connection that has stopped serving.
pub(super) type OnLost = OnceLock<Box<dyn Fn(Failure) + Send + Sync>>;

#[derive(Default)]
struct Queue {
    /// The number of the connection in use, 0 for none. The courier of any other connection ends.
    generation: u64,
    /// How many connections there have been.
    connections: u64,
    /// The runtime of the connection's courier.
    runtime: Option<Id>,
    /// Full calls, the oldest first.
    full: VecDeque<UnsentCall>,
    /// The call that is being filled.
    open: Option<UnsentCall>,
    /// The courier's task, while it has nothing to send.
    idle: Option<Idle>,
    /// Cleared batches, kept for their memory.
    spare: Vec<Batch>,
}

/// A courier's task that waits for something to send.
struct Idle {
    task: Waker,
    /// The earliest time at which a call that is not full may be sent; any time if `None`.
    due: Option<Instant>,
}

/// A call that is not sent yet.
pub(super) struct UnsentCall {
    pub(super) batch: Batch,
    pub(super) call: Arc<Call>,
    /// When its first check arrived.
    pub(super) since: Instant,
}

impl Lane {
    pub(super) fn new(
        scripts: Arc<Scripts>,
        denials: Arc<Denials>,
        timeout: Duration,
        on_lost: Arc<OnLost>,
    ) -> Self {
        Self {
            queue: Mutex::default(),
            scripts,
            denials,
            timeout,
            on_lost,
            #[cfg(feature = "redis-cluster")]
            recovery: Recovery::default(),
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

    /// Gives `check` a place in the next call. The check is decided even if its ticket is dropped.
    pub(super) fn enqueue(self: &Arc<Self>, check: &Check<'_, '_>) -> Result<Ticket, Failure> {
        let mut queue = self.queue();
        if queue.generation == 0 {
            return Err(Failure::NoConnection);
        }
        let own_deadline = OwnDeadline::unless_served_here(queue.runtime, self);
        let (call, place) = queue.place(check)?;
        let idle = queue.take_due();
        drop(queue);
        if let Some(idle) = idle {
            idle.task.wake();
        }
        Ok(Ticket::new(call, place, own_deadline))
    }

    /// Serves through a new connection from now on, and returns its generation. A previous connection is given
    /// up: whoever connects anew has reason not to trust it.
    pub(super) fn attach(self: &Arc<Self>, wire: Wire) -> u64 {
        let queue = self.queue();
        self.serve(queue, wire)
    }

    /// [Attaches](Self::attach) a new connection if that of `generation` still serves; otherwise returns `None`.
    #[cfg(feature = "redis-sentinel")]
    pub(super) fn attach_instead_of(self: &Arc<Self>, generation: u64, wire: Wire) -> Option<u64> {
        let queue = self.queue();
        (queue.generation == generation).then(|| self.serve(queue, wire))
    }

    fn serve(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>, wire: Wire) -> u64 {
        queue.connections += 1;
        queue.generation = queue.connections;
        queue.runtime = Some(Handle::current().id());
        let (generation, idle) = (queue.generation, queue.idle.take());
        drop(queue);
        // Not under the lock: a runtime that is shutting down drops the courier here, which takes the lock.
        tokio::spawn(Courier::new(Arc::clone(self), generation).serve(wire));
        if let Some(idle) = idle {
            idle.task.wake();
        }
        generation
    }

    /// Gives the connection up, and fails the calls that wait for it.
    pub(super) fn detach(&self) {
        self.lose(None, &Failure::NoConnection);
    }

    pub(super) fn on_lost(&self) -> &OnLost {
        &self.on_lost
    }

    /// Reports that a connection has stopped serving.
    pub(super) fn report(&self, failure: Failure) {
        if let Some(on_lost) = self.on_lost.get() {
            on_lost(failure);
        }
    }

    /// Returns the record of the server's last recovery.
    #[cfg(feature = "redis-cluster")]
    pub(super) fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Returns the time from a call's first check to its deadline.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn scripts(&self) -> &Arc<Scripts> {
        &self.scripts
    }

    /// Returns the time, in microseconds of the clock, for [`learn`](Self::learn).
    pub(super) fn now(&self) -> u64 {
        self.denials.now()
    }

    /// Learns what was denied by a call that was sent at `sent`.
    pub(super) fn learn(&self, batch: &Batch, answers: &Answers, sent: u64) {
        self.denials.learn(batch, answers, sent);
    }

    /// Forgets the denials that a call without an answer may have ended.
    pub(super) fn doubt(&self, batch: &Batch) {
        self.denials.doubt(batch);
    }

    /// Keeps the memory of `batch` for a later one.
    pub(super) fn recycle(&self, mut batch: Batch) {
        batch.clear();
        self.queue().spare.push(batch);
    }

    /// Polls whether the courier of `generation` has something to do; if not, it is woken when it has.
    pub(super) fn poll_waited_for(&self, generation: u64, context: &Context<'_>) -> Poll<()> {
        let mut queue = self.queue();
        if queue.generation != generation || queue.open.is_some() || !queue.full.is_empty() {
            return Poll::Ready(());
        }
        queue.idle = Some(Idle { task: context.waker().clone(), due: None });
        Poll::Pending
    }

    /// Whether the connection of `generation` still serves.
    pub(super) fn is_served_by(&self, generation: u64) -> bool {
        self.queue().generation == generation
    }

    /// Whether there is a connection.
    pub(super) fn is_attached(&self) -> bool {
        self.queue().generation != 0
    }

    /// Gives up the connection of `generation`, or any if `None`, and fails the calls that wait for it. Returns
    /// `false`, and does nothing, if that connection was no longer in use.
    pub(super) fn lose(&self, generation: Option<u64>, failure: &Failure) -> bool {
        let (waiting, idle) = {
            let mut queue = self.queue();
            if generation.is_some_and(|generation| queue.generation != generation) {
                return false;
            }
            queue.generation = 0;
            let mut waiting = std::mem::take(&mut queue.full);
            waiting.extend(queue.open.take());
            (waiting, queue.idle.take())
        };
        for unsent in waiting {
            let _ = unsent.call.finish(Err(failure.clone()));
        }
        if let Some(idle) = idle {
            idle.task.wake();
        }
        true
    }

    /// Gives `answers` to all that wait for `call`, which was `sent` then. If they have been told that it was late,
    /// gives back what they have renounced since.
    pub(super) fn answer(self: &Arc<Self>, call: &Call, answers: Answers, sent: Instant) {
        if let Err(Ok(answers)) = call.finish(Ok(answers)) {
            for charged in call.late().answer(answers, sent, self.timeout) {
                self.give_back(&charged);
            }
        }
    }

    /// Gives back what was charged too late. Nobody waits for that: if it can't be sent, or too much else is to be, the
    /// charge stays.
    pub(super) fn give_back(self: &Arc<Self>, renounced: &Renounced) {
        if self.queue().full.len() >= MAX_WAITING / 2 {
            return;
        }
        let counters: SmallVec<[Counter<'_>; 2]> = renounced.counters().collect();
        let _ = self.enqueue(&Check::new(&self.denials.hasher, Operation::GiveBack, &counters));
    }

    /// Takes `call` out of those that wait to be sent, if it is still there.
    pub(super) fn withdraw(&self, call: &Arc<Call>) {
        let mut queue = self.queue();
        let is_other = |unsent: &UnsentCall| !Arc::ptr_eq(&unsent.call, call);
        queue.open = queue.open.take().filter(is_other);
        queue.full.retain(is_other);
    }

    /// Polls for the next call that the courier of `generation` has to send: a full call at any time, another
    /// one not before `due`. Returns `None` once that connection is no longer in use. The courier is woken by a
    /// check that arrives from `due` on, or that fills a call, but not by the passing of `due` itself.
    pub(super) fn poll_next(
        &self,
        generation: u64,
        due: Option<Instant>,
        context: &Context<'_>,
    ) -> Poll<Option<UnsentCall>> {
        let mut queue = self.queue();
        if queue.generation != generation {
            return Poll::Ready(None);
        }
        let unsent = queue.full.pop_front().or_else(|| queue.open.take_if(|_| is_past(due)));
        if unsent.is_some() {
            return Poll::Ready(unsent);
        }
        queue.idle = Some(Idle { task: context.waker().clone(), due });
        Poll::Pending
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }
}

impl Queue {
    /// Takes the waiting task, if something may be sent now.
    fn take_due(&mut self) -> Option<Idle> {
        let has_full = !self.full.is_empty();
        self.idle.take_if(|idle| has_full || is_past(idle.due))
    }

    /// Finds a place for `check` in a call that is still to be sent.
    fn place(&mut self, check: &Check<'_, '_>) -> Result<(Arc<Call>, Place), Failure> {
        if let Some(open) = &mut self.open {
            if let Some(place) = open.batch.add(check) {
                return Ok((Arc::clone(&open.call), place));
            }
            // These make room for other requests, and are late enough as it is.
            let room = match check.operation {
                Operation::GiveBack | Operation::Reset => 2 * MAX_WAITING,
                _ => MAX_WAITING,
            };
            if self.full.len() >= room {
                return Err(Failure::Overloaded);
            }
            self.full.extend(self.open.take());
        }
        let batch = self.spare.pop().unwrap_or_default();
        let open = self.open.insert(UnsentCall { batch, call: Arc::default(), since: Instant::now() });
        // An empty batch takes any check.
        let place = open.batch.add(check).ok_or(Failure::Overloaded)?;
        Ok((Arc::clone(&open.call), place))
    }
}

fn is_past(due: Option<Instant>) -> bool {
    due.is_none_or(|due| Instant::now() >= due)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::clock::Clock;
    use crate::quota::Quota;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[derive(Default)]
    struct Task(AtomicBool);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    impl Task {
        fn was_woken(&self) -> bool {
            self.0.swap(false, Ordering::Relaxed)
        }
    }

    /// A lane whose first connection is in use.
    fn lane() -> Arc<Lane> {
        let scripts = Arc::new(Scripts::new(Clock::default(), HOUR, false));
        let denials = Arc::new(Denials::new(true, Clock::default()));
        let lane = Lane::new(scripts, denials, HOUR, Arc::default());
        lane.queue().generation = 1;
        Arc::new(lane)
    }

    fn ask(lane: &Arc<Lane>, key: &str) {
        let counter = [Counter::new(key, Quota::per_minute(1))];
        lane.enqueue(&Check::new(&lane.denials.hasher, Operation::Take, &counter))
            .expect("there is a connection");
    }

    #[test]
    fn what_comes_before_it_is_due_waits_unless_it_fills_a_call() {
        let (lane, task) = (lane(), Arc::new(Task::default()));
        let waker = Waker::from(Arc::clone(&task));
        let context = Context::from_waker(&waker);
        let checks =
            |due| lane.poll_next(1, due, &context).map(|next| next.expect("it serves").batch.checks());
        let (now, later) = (Some(Instant::now()), Some(Instant::now() + HOUR));

        assert_eq!(checks(later), Poll::Pending);
        ask(&lane, "a");
        assert_eq!((task.was_woken(), checks(later)), (false, Poll::Pending));
        assert_eq!(checks(now), Poll::Ready(1));

        assert_eq!(checks(now), Poll::Pending);
        ask(&lane, "a");
        assert_eq!((task.was_woken(), checks(now)), (true, Poll::Ready(1)));

        assert_eq!(checks(later), Poll::Pending);
        for number in 0..256 {
            ask(&lane, &number.to_string());
        }
        assert!(!task.was_woken());
        ask(&lane, "a");
        assert_eq!((task.was_woken(), checks(later)), (true, Poll::Ready(256)));
        assert_eq!(checks(later), Poll::Pending);
    }

    #[test]
    fn more_of_what_is_given_back_may_wait_than_of_what_is_taken() {
        let lane = lane();
        let mut number = 0_u32;
        let mut fill = |operation| {
            loop {
                number += 1;
                let key = number.to_string();
                let counter = [Counter::new(&key, Quota::per_minute(1))];
                if lane.enqueue(&Check::new(&lane.denials.hasher, operation, &counter)).is_err() {
                    return lane.queue().full.len();
                }
            }
        };
        assert_eq!(fill(Operation::Take), MAX_WAITING);
        assert_eq!(fill(Operation::GiveBack), 2 * MAX_WAITING);
        assert_eq!(fill(Operation::Reset), 2 * MAX_WAITING);
    }
}
