//! The checks that wait to be sent, in the calls that they share.
//!
//! Checks that arrive while no call can be sent go out together with the next one, and those that ask for the
//! same are merged there. So the busier the server, the less each check costs, and a check is held back only by a
//! call in flight. The decisions are those that a call for each check would give.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::batch::{Batch, Check, Place};
use super::call::{AwaitedCall, Call};
use super::failure::Failure;
use crate::store::Operation;

/// How many full calls may wait behind those in flight. Further checks are refused, since the store is slower
/// than the load on it. Giving back and resetting have as much room again, and so has what is owed.
const MAX_WAITING: usize = 32;

/// The calls that are not sent yet, and the courier's task.
#[derive(Default)]
pub(super) struct Queue {
    /// Full calls, the oldest first.
    full: VecDeque<UnsentCall>,
    /// The call that is being filled.
    open: Option<UnsentCall>,
    /// What is to be given back though nobody waits for that, in as many calls. It waits for a connection.
    owed: VecDeque<Batch>,
    /// The courier's task, while it has nothing to send.
    idle: Option<Idle>,
    /// Cleared batches, kept for their memory.
    spare: Vec<Batch>,
}

/// A call that is not sent yet.
pub(super) struct UnsentCall {
    pub(super) batch: Batch,
    pub(super) call: AwaitedCall,
    /// When its first check arrived.
    pub(super) since: Instant,
}

/// A courier's task that waits for something to send.
struct Idle {
    task: Waker,
    /// The earliest time at which a call that is not full may be sent; any time if `None`.
    due: Option<Instant>,
}

impl Queue {
    /// Finds a place for `check` in a call that is still to be sent.
    pub(super) fn place(&mut self, check: &Check<'_, '_>) -> Result<(Arc<Call>, Place), Failure> {
        if let Some(open) = &mut self.open {
            if let Some(place) = open.batch.add(check) {
                return Ok((Arc::clone(&open.call.0), place));
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
        let open =
            self.open.insert(UnsentCall { batch, call: AwaitedCall::default(), since: Instant::now() });
        // An empty batch takes any check.
        let place = open.batch.add(check).ok_or(Failure::Overloaded)?;
        Ok((Arc::clone(&open.call.0), place))
    }

    /// Keeps `check`, which gives back what nobody waits for, until it can be sent. If too much is owed already, it is
    /// dropped.
    pub(super) fn owe(&mut self, check: &Check<'_, '_>) {
        if self.owed.back_mut().is_some_and(|last| last.add(check).is_some())
            || self.owed.len() >= MAX_WAITING
        {
            return;
        }
        let mut batch = Batch::unawaited();
        batch.add(check);
        self.owed.push_back(batch);
    }

    /// Keeps `batch`, which gives back what nobody waits for, in the same way.
    pub(super) fn owe_all(&mut self, batch: Batch) {
        if self.owed.len() < MAX_WAITING {
            self.owed.push_back(batch);
        }
    }

    /// Polls for the next call to send: a full one or one that is owed at any time, another one not before `due`.
    /// The task is idle until then. It [is to be woken](Self::take_due) for a check that arrives from `due` on, or
    /// that fills a call, or that is owed, but not by the passing of `due` itself.
    pub(super) fn poll_next(&mut self, due: Option<Instant>, context: &Context<'_>) -> Poll<UnsentCall> {
        let urgent = self.full.pop_front().or_else(|| self.take_owed());
        if let Some(unsent) = urgent.or_else(|| self.open.take_if(|_| is_past(due))) {
            return Poll::Ready(unsent);
        }
        self.idle = Some(Idle { task: context.waker().clone(), due });
        Poll::Pending
    }

    /// Polls whether a call waits to be sent. The task is idle until then.
    pub(super) fn poll_any(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.open.is_some() || self.has_urgent() {
            return Poll::Ready(());
        }
        self.idle = Some(Idle { task: context.waker().clone(), due: None });
        Poll::Pending
    }

    /// Takes the idle task, if something may be sent now, to be woken.
    pub(super) fn take_due(&mut self) -> Option<Waker> {
        let has_urgent = self.has_urgent();
        self.idle.take_if(|idle| has_urgent || is_past(idle.due)).map(|idle| idle.task)
    }

    /// Whether there is a call that may be sent at any time.
    fn has_urgent(&self) -> bool {
        !(self.full.is_empty() && self.owed.is_empty())
    }

    fn take_owed(&mut self) -> Option<UnsentCall> {
        let batch = self.owed.pop_front()?;
        Some(UnsentCall { batch, call: AwaitedCall::default(), since: Instant::now() })
    }

    /// Takes the idle task, to be woken.
    pub(super) fn take_idle(&mut self) -> Option<Waker> {
        self.idle.take().map(|idle| idle.task)
    }

    /// Takes all calls that wait to be sent, but not what is owed.
    pub(super) fn take_all(&mut self) -> VecDeque<UnsentCall> {
        let mut all = std::mem::take(&mut self.full);
        all.extend(self.open.take());
        all
    }

    /// Takes `call`, if it still waits to be sent. What it gives back goes on waiting, since that is as good later.
    pub(super) fn withdraw(&mut self, call: &Arc<Call>) -> Option<UnsentCall> {
        let is_meant = |unsent: &UnsentCall| Arc::ptr_eq(&unsent.call.0, call);
        let open = self.open.take_if(|open| is_meant(open));
        let withdrawn = open.or_else(|| self.full.remove(self.full.iter().position(is_meant)?))?;
        if let Some(batch) = withdrawn.batch.give_backs(|_| true) {
            self.full.push_front(UnsentCall { batch, call: AwaitedCall::default(), since: withdrawn.since });
        }
        Some(withdrawn)
    }

    /// Keeps an empty batch for its memory, unless many are kept: not all of them come from here.
    pub(super) fn keep(&mut self, batch: Batch) {
        if self.spare.len() < MAX_WAITING {
            self.spare.push(batch);
        }
    }
}

fn is_past(due: Option<Instant>) -> bool {
    due.is_none_or(|due| Instant::now() >= due)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    use ahash::RandomState;

    use super::*;
    use crate::quota::Quota;
    use crate::store::Counter;
    use crate::store::redis::call::Ticket;

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

    fn ask(queue: &mut Queue, operation: Operation, key: &str) -> Result<(), Failure> {
        let counter = [Counter::new(key, Quota::per_minute(1))];
        let random = RandomState::with_seeds(1, 2, 3, 4);
        queue.place(&Check::new(&random, operation, &counter))?;
        queue.take_due().into_iter().for_each(Waker::wake);
        Ok(())
    }

    #[test]
    fn what_comes_before_it_is_due_waits_unless_it_fills_a_call() {
        let (mut queue, task) = (Queue::default(), Arc::new(Task::default()));
        let waker = Waker::from(Arc::clone(&task));
        let context = Context::from_waker(&waker);
        let checks =
            |queue: &mut Queue, due| queue.poll_next(due, &context).map(|unsent| unsent.batch.checks());
        let take = |queue: &mut Queue, key: &str| ask(queue, Operation::Take, key).expect("there is room");
        let (now, later) = (Some(Instant::now()), Some(Instant::now() + HOUR));

        assert_eq!(checks(&mut queue, later), Poll::Pending);
        take(&mut queue, "a");
        assert_eq!((task.was_woken(), checks(&mut queue, later)), (false, Poll::Pending));
        assert_eq!(checks(&mut queue, now), Poll::Ready(1));

        assert_eq!(checks(&mut queue, now), Poll::Pending);
        take(&mut queue, "a");
        assert_eq!((task.was_woken(), checks(&mut queue, now)), (true, Poll::Ready(1)));

        assert_eq!(checks(&mut queue, later), Poll::Pending);
        for number in 0..256 {
            take(&mut queue, &number.to_string());
        }
        assert!(!task.was_woken());
        take(&mut queue, "a");
        assert_eq!((task.was_woken(), checks(&mut queue, later)), (true, Poll::Ready(256)));
        assert_eq!(checks(&mut queue, later), Poll::Pending);
    }

    /// What is given back late has batches of its own, which come back here as well.
    #[test]
    fn no_more_batches_are_kept_than_may_wait() {
        let mut queue = Queue::default();
        for _ in 0..10 * MAX_WAITING {
            queue.keep(Batch::default());
        }
        assert!(queue.spare.len() <= MAX_WAITING, "{} are kept", queue.spare.len());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_call_that_is_dropped() {
        let (mut queue, counter) = (Queue::default(), [Counter::new("a", Quota::per_minute(1))]);
        let random = RandomState::with_seeds(1, 2, 3, 4);
        let check = Check::new(&random, Operation::Take, &counter);
        let (call, place) = queue.place(&check).expect("there is room");
        let mut ticket = Ticket::new(Arc::clone(&call), place, None);
        let withdrawn = queue.withdraw(&call);
        assert!(withdrawn.is_some() && queue.withdraw(&call).is_none());
        drop(withdrawn);
        poll_fn(|context| ticket.poll(context)).await;
        assert!(matches!(ticket.answer(check.operation, &counter), Err(Failure::NoConnection)));
    }

    #[test]
    fn more_of_what_is_given_back_may_wait_than_of_what_is_taken() {
        let (mut queue, mut number) = (Queue::default(), 0_u32);
        let mut fill = |operation| {
            while ask(&mut queue, operation, &number.to_string()).is_ok() {
                number += 1;
            }
            queue.full.len()
        };
        assert_eq!(fill(Operation::Take), MAX_WAITING);
        assert_eq!(fill(Operation::GiveBack), 2 * MAX_WAITING);
        assert_eq!(fill(Operation::Reset), 2 * MAX_WAITING);
    }

    #[test]
    fn what_is_owed_goes_out_at_any_time_and_outlives_the_connection_but_is_bounded() {
        let (mut queue, task) = (Queue::default(), Arc::new(Task::default()));
        let waker = Waker::from(Arc::clone(&task));
        let context = Context::from_waker(&waker);
        let random = RandomState::with_seeds(1, 2, 3, 4);
        let owe = |queue: &mut Queue, key: &str| {
            let counter = [Counter::new(key, Quota::per_minute(1))];
            queue.owe(&Check::new(&random, Operation::GiveBack, &counter));
            queue.take_due().into_iter().for_each(Waker::wake);
        };
        let later = Some(Instant::now() + HOUR);

        assert!(queue.poll_next(later, &context).is_pending());
        owe(&mut queue, "a");
        assert!(task.was_woken() && queue.poll_any(&context).is_ready());
        ask(&mut queue, Operation::Take, "a").expect("there is room");
        assert_eq!(queue.take_all().len(), 1);
        let owed = queue.poll_next(later, &context).map(|unsent| unsent.batch.checks());
        assert_eq!(owed, Poll::Ready(1));
        assert!(queue.poll_next(later, &context).is_pending());

        for number in 0..256 * (MAX_WAITING + 1) {
            owe(&mut queue, &number.to_string());
        }
        let mut calls = 0;
        while queue.poll_next(later, &context).is_ready() {
            calls += 1;
        }
        assert_eq!(calls, MAX_WAITING);
    }
}
