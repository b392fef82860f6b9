//! One connection, and the task that sends through it what all checks ask.
//!
//! A check that finds nothing in flight goes out at once. What arrives while a call is in flight goes with
//! the next one, and those that ask for the same are merged there: so the busier it is, the less each check
//! costs, and no timer holds anybody back. The decisions are those that a call for each check would give.
//!
//! The calls belong to the task: a request whose client goes away takes nothing with it that others wait
//! for. No call is sent again once its outcome may be unknown.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError};

use super::alarm::Alarm;
use super::batch::{Batch, Check, Place};
use super::denials::Denials;
use super::failure::Failure;
use super::script::{Answers, Decider};
use super::windows::Windows;
use crate::error::StoreError;
use crate::store::{Counter, Operation, Outcome};

/// How many full calls may wait for the one in flight. What comes then is not taken: the store is slower
/// than what is asked of it.
const MAX_WAITING: usize = 32;
/// How long a connection is quiet before it is made sure that it still serves: so that no request has to find
/// out, and that nobody takes it for abandoned.
const QUIET: Duration = Duration::from_secs(5);
/// How many checks are many for a call. After it the task lets others go first, whom the answers have woken: so
/// what they ask next goes with the next call, and calls become fewer where there are many.
const MANY: u32 = 8;
/// How many calls in a row may stay without an answer before the connection is given up.
const MAX_TIMEOUTS: u32 = 3;

/// Where checks wait for their call, and for its answer.
pub(super) struct Lane {
    queue: Mutex<Queue>,
    decider: Arc<Decider>,
    denials: Arc<Denials>,
    timeout: Duration,
    on_lost: Arc<OnLost>,
}

/// What is to be done when a connection serves no longer.
pub(super) type OnLost = OnceLock<Box<dyn Fn(Failure) + Send + Sync>>;

#[derive(Default)]
struct Queue {
    /// The connection that is served, 0 for none. A task that serves another one ends.
    generation: u64,
    /// How many connections there have been.
    connections: u64,
    /// Full calls, the oldest first.
    full: VecDeque<Filling>,
    /// The call that is being filled.
    open: Option<Filling>,
    /// The task, while it has nothing to do.
    idle: Option<Waker>,
    /// Memory of batches past.
    spare: Vec<Batch>,
}

/// A call that checks wait for.
struct Filling {
    batch: Batch,
    call: Arc<Call>,
    /// When the first of its checks came.
    since: Instant,
}

/// What those who wait for a call share.
#[derive(Default)]
struct Call {
    answer: OnceLock<Result<Answers, Failure>>,
    waiting: Mutex<Vec<Waker>>,
}

/// A check's place in a call.
pub(crate) struct Ticket {
    call: Arc<Call>,
    place: Place,
    /// Which of those who wait for the call it is, once it waits.
    number: Option<usize>,
}

impl Lane {
    pub(super) fn new(
        decider: Arc<Decider>,
        denials: Arc<Denials>,
        timeout: Duration,
        on_lost: Arc<OnLost>,
    ) -> Self {
        Self { queue: Mutex::default(), decider, denials, timeout, on_lost }
    }

    /// Decides `check`, together with what else is asked at this time.
    pub(super) async fn decide(&self, check: &Check<'_, '_>) -> Result<Outcome, Failure> {
        let mut ticket = self.enqueue(check)?;
        poll_fn(|context| ticket.poll(context)).await;
        ticket.answer(check.operation, check.counters)
    }

    /// Gives `check` a place in the next call. It is decided whether its ticket is kept or not.
    pub(super) fn enqueue(&self, check: &Check<'_, '_>) -> Result<Ticket, Failure> {
        let mut queue = self.queue();
        if queue.generation == 0 {
            return Err(Failure::NoConnection);
        }
        let (call, place) = queue.place(check)?;
        let idle = queue.idle.take();
        drop(queue);
        if let Some(idle) = idle {
            idle.wake();
        }
        Ok(Ticket { call, place, number: None })
    }

    /// Serves by a new connection from now on. The one before, if there is one, is given up: whoever
    /// connects anew has reason not to trust it.
    pub(super) fn attach(self: &Arc<Self>, connection: MultiplexedConnection) {
        let (generation, idle) = {
            let mut queue = self.queue();
            queue.connections += 1;
            queue.generation = queue.connections;
            (queue.generation, queue.idle.take())
        };
        // Not under the lock: a runtime that is shutting down drops the task here.
        let windows = Windows::new();
        tokio::spawn(Server { lane: Arc::clone(self), generation, windows, timeouts: 0 }.serve(connection));
        if let Some(idle) = idle {
            idle.wake();
        }
    }

    /// Gives the connection up, and fails what waits for it.
    pub(super) fn detach(&self) {
        self.lose(None, &Failure::NoConnection);
    }

    pub(super) fn on_lost(&self) -> &OnLost {
        &self.on_lost
    }

    /// Whether there is a connection.
    #[cfg(feature = "redis-cluster")]
    pub(super) fn is_attached(&self) -> bool {
        self.queue().generation != 0
    }

    /// Gives up the connection of that generation, or any, and fails what waits for it.
    fn lose(&self, generation: Option<u64>, failure: &Failure) {
        let (waiting, idle) = {
            let mut queue = self.queue();
            if generation.is_some_and(|generation| queue.generation != generation) {
                return;
            }
            queue.generation = 0;
            let mut waiting = std::mem::take(&mut queue.full);
            waiting.extend(queue.open.take());
            (waiting, queue.idle.take())
        };
        for filling in waiting {
            filling.call.finish(Err(failure.clone()));
        }
        if let Some(idle) = idle {
            idle.wake();
        }
    }

    /// What is to be sent next by the task that serves `generation`; none if that is over.
    fn poll_next(&self, generation: u64, context: &Context<'_>) -> Poll<Option<Filling>> {
        let mut queue = self.queue();
        if queue.generation != generation {
            return Poll::Ready(None);
        }
        if let Some(filling) = queue.full.pop_front().or_else(|| queue.open.take()) {
            return Poll::Ready(Some(filling));
        }
        queue.idle = Some(context.waker().clone());
        Poll::Pending
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// A place for `check` in a call that is still to be sent.
    fn place(&mut self, check: &Check<'_, '_>) -> Result<(Arc<Call>, Place), Failure> {
        if let Some(open) = &mut self.open {
            if let Some(place) = open.batch.add(check) {
                return Ok((Arc::clone(&open.call), place));
            }
            if self.full.len() >= MAX_WAITING {
                return Err(Failure::Overloaded);
            }
            self.full.extend(self.open.take());
        }
        let batch = self.spare.pop().unwrap_or_default();
        let open = self.open.insert(Filling { batch, call: Arc::default(), since: Instant::now() });
        // An empty batch takes any check.
        let place = open.batch.add(check).ok_or(Failure::Overloaded)?;
        Ok((Arc::clone(&open.call), place))
    }
}

impl Ticket {
    /// Whether there is an answer.
    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        self.call.poll(&mut self.number, context)
    }

    /// The answer, after the check that got the ticket.
    fn answer(&self, operation: Operation, counters: &[Counter<'_>]) -> Result<Outcome, Failure> {
        match self.call.answer.get() {
            Some(Ok(answers)) => answers.outcome(operation, counters, self.place),
            Some(Err(failure)) => Err(failure.clone()),
            None => Err(Failure::NoConnection),
        }
    }

    /// The answer, as it is told outside; the error knows the deadline.
    pub(crate) fn outcome(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
        timeout: Duration,
    ) -> Result<Outcome, StoreError> {
        self.answer(operation, counters).map_err(|failure| failure.into_store_error(timeout))
    }
}

impl Call {
    /// Whether there is an answer; if not, the one of that number, or a new one, is woken when there is.
    fn poll(&self, number: &mut Option<usize>, context: &Context<'_>) -> Poll<()> {
        if self.answer.get().is_some() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting();
        // All are woken once there is an answer, which may have come meanwhile.
        if self.answer.get().is_some() {
            return Poll::Ready(());
        }
        if let Some(waker) = number.and_then(|number| waiting.get_mut(number)) {
            waker.clone_from(context.waker());
        } else {
            *number = Some(waiting.len());
            waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    fn finish(&self, answer: Result<Answers, Failure>) {
        if self.answer.set(answer).is_ok() {
            let waiting = std::mem::take(&mut *self.waiting());
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that sends.
struct Server {
    lane: Arc<Lane>,
    generation: u64,
    windows: Windows,
    /// How many calls in a row had no answer.
    timeouts: u32,
}

/// When the task ends, for whatever reason, nobody waits for it any longer.
impl Drop for Server {
    fn drop(&mut self) {
        self.lane.lose(Some(self.generation), &Failure::NoConnection);
    }
}

/// A call in flight, which fails when it is dropped without an answer.
struct InFlight(Arc<Call>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.finish(Err(Failure::NoConnection));
    }
}

impl Server {
    async fn serve(mut self, mut connection: MultiplexedConnection) {
        let Err(failure) = self.serve_until(&mut connection).await else { return };
        self.lane.lose(Some(self.generation), &failure);
        if let Some(on_lost) = self.lane.on_lost.get() {
            on_lost(failure);
        }
    }

    /// Serves until there is another connection; the error is why this one serves no longer.
    async fn serve_until(&mut self, connection: &mut MultiplexedConnection) -> Result<(), Failure> {
        let (mut alarm, mut quiet) = (Alarm::new(), Alarm::new());
        loop {
            let next = poll_fn(|context| self.lane.poll_next(self.generation, context));
            match quiet.within((Instant::now() + QUIET).into(), next).await {
                Some(Some(filling)) => {
                    let is_busy = filling.batch.checks() >= MANY;
                    self.send(connection, filling, &mut alarm).await?;
                    if is_busy {
                        tokio::task::yield_now().await;
                    }
                }
                Some(None) => return Ok(()),
                None => self.ping(connection, &mut alarm).await?,
            }
        }
    }

    /// Makes sure that the connection still serves; the error is why it does not.
    async fn ping(
        &mut self,
        connection: &mut MultiplexedConnection,
        alarm: &mut Alarm,
    ) -> Result<(), Failure> {
        let (ping, deadline) = (redis::cmd("PING"), Instant::now() + self.lane.timeout);
        match alarm.within(deadline.into(), connection.send_packed_command(&ping)).await {
            // Whatever it says, it is there.
            Some(Ok(_)) => {
                self.timeouts = 0;
                Ok(())
            }
            Some(Err(error)) => Err(error.into()),
            None => self.timed_out(),
        }
    }

    /// Notes that a call had no answer; the error is that there were too many in a row.
    fn timed_out(&mut self) -> Result<(), Failure> {
        self.timeouts += 1;
        if self.timeouts < MAX_TIMEOUTS {
            return Ok(());
        }
        Err(RedisError::from((ErrorKind::Io, "several calls in a row had no answer")).into())
    }

    /// Sends one call and waits for its answer; the error is why the connection serves no longer.
    async fn send(
        &mut self,
        connection: &mut MultiplexedConnection,
        filling: Filling,
        alarm: &mut Alarm,
    ) -> Result<(), Failure> {
        let Filling { mut batch, call, since } = filling;
        let call = InFlight(call);
        let (lane, windows) = (Arc::clone(&self.lane), &mut self.windows);
        let (sent, sent_at) = (Instant::now(), lane.denials.now());
        let deadline = since + lane.timeout;
        let deciding = async {
            // What is late already is not sent: it would count, and nobody would know.
            if sent >= deadline {
                std::future::pending().await
            } else {
                lane.decider.decide(connection, &batch, windows, sent_at).await
            }
        };
        let lost = match alarm.within(deadline.into(), deciding).await {
            Some(Ok(answers)) => {
                self.timeouts = 0;
                lane.denials.learn(&batch, &answers, sent_at);
                let lost = answers.lost().cloned();
                call.0.finish(Ok(answers));
                lost
            }
            Some(Err(error)) => {
                self.timeouts = 0;
                let failure = Failure::Redis(error);
                call.0.finish(Err(failure.clone()));
                failure.is_away().then_some(failure)
            }
            None => {
                call.0.finish(Err(Failure::Timeout));
                // One that was late already says nothing of the store.
                if sent.elapsed() * 2 >= lane.timeout { self.timed_out().err() } else { None }
            }
        };
        batch.clear();
        lane.queue().spare.push(batch);
        lost.map_or(Ok(()), Err)
    }
}
