//! The task that sends through one connection what all checks ask.
//!
//! A check that finds nothing in flight goes out at once. What arrives meanwhile goes with the next call, when
//! the answer is there. One call is in flight: more would be less shared, and cost more than they bring,
//! whether few ask or many.
//!
//! The calls belong to the task: a request whose client goes away takes nothing with it that others wait
//! for. No call is sent again once its outcome may be unknown.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use redis::{ErrorKind, RedisError, Value};

use super::alarm::Alarm;
use super::connection::Wire;
use super::failure::Failure;
use super::lane::{Call, Filling, Lane};
use super::windows::Windows;

/// How many calls in a row may stay without an answer before the connection is given up.
const MAX_TIMEOUTS: u32 = 3;
/// How long a connection is quiet before it is made sure that it still answers: so that no request has to find
/// out, and that nobody takes it for abandoned.
const QUIET: Duration = Duration::from_secs(5);
/// How many checks are many for a call. After it the task lets others go first, whom the answer has woken: so
/// what they ask next goes with the next call, and calls become fewer where there are many.
const MANY: u32 = 8;

/// Sends the calls of a lane, as long as one connection serves.
pub(super) struct Courier {
    lane: Arc<Lane>,
    generation: u64,
    windows: Windows,
    /// How many calls in a row had no answer.
    timeouts: u32,
}

/// When the task ends, for whatever reason, nobody waits for it any longer.
impl Drop for Courier {
    fn drop(&mut self) {
        self.lane.lose(Some(self.generation), &Failure::NoConnection);
    }
}

/// What a courier does next.
enum Next {
    Send(Filling),
    /// Nobody has asked for long.
    Ping,
    /// Another connection serves.
    End,
}

/// A call in flight, which fails when it is dropped without an answer.
struct InFlight(Arc<Call>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.finish(Err(Failure::NoConnection));
    }
}

impl Courier {
    pub(super) fn new(lane: Arc<Lane>, generation: u64) -> Self {
        Self { lane, generation, windows: Windows::new(), timeouts: 0 }
    }

    /// Serves until there is another connection, or this one serves no longer.
    pub(super) async fn serve(mut self, mut wire: Wire) {
        let Err(failure) = self.serve_until(&mut wire).await else { return };
        if self.lane.lose(Some(self.generation), &failure) {
            self.lane.report(failure);
        }
    }

    /// Serves until there is another connection; the error is why this one serves no longer.
    async fn serve_until(&mut self, wire: &mut Wire) -> Result<(), Failure> {
        let (mut alarm, mut quiet) = (Alarm::new(), Alarm::new());
        loop {
            match self.next(wire, &mut quiet).await? {
                Next::Send(filling) => {
                    let is_busy = filling.batch.checks() >= MANY;
                    self.send(wire, filling, &mut alarm).await?;
                    if is_busy {
                        tokio::task::yield_now().await;
                    }
                }
                Next::Ping => self.ping(wire, &mut alarm).await?,
                Next::End => return Ok(()),
            }
        }
    }

    /// Waits until there is something to do; the error is why the connection serves no longer.
    async fn next(&self, wire: &mut Wire, quiet: &mut Alarm) -> Result<Next, Failure> {
        let mut lost = pin!(wire.lost());
        let next = poll_fn(|context| match self.lane.poll_next(self.generation, context) {
            Poll::Ready(next) => Poll::Ready(Ok(next.map_or(Next::End, Next::Send))),
            Poll::Pending => lost.as_mut().poll(context).map(|error| Err(error.into())),
        });
        quiet.within((Instant::now() + QUIET).into(), next).await.unwrap_or(Ok(Next::Ping))
    }

    /// Makes sure that the connection still answers; the error is why it serves no longer. When there is no
    /// answer, it asks again at once, unless somebody has come whose check is as good.
    async fn ping(&mut self, wire: &mut Wire, alarm: &mut Alarm) -> Result<(), Failure> {
        while !self.lane.is_waited_for() {
            let deadline = Instant::now() + self.lane.timeout();
            wire.call().command("PING", 0);
            let answer = alarm.within(deadline.into(), wire.answer()).await;
            match answer.map(|answer| answer.and_then(Value::extract_error).map_err(Failure::from)) {
                Some(Err(failure)) if failure.is_away() => return Err(failure),
                // Whatever else it says, it is there.
                Some(_) => {
                    self.timeouts = 0;
                    return Ok(());
                }
                None => self.timed_out()?,
            }
        }
        Ok(())
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
    async fn send(&mut self, wire: &mut Wire, filling: Filling, alarm: &mut Alarm) -> Result<(), Failure> {
        let Filling { batch, call, since } = filling;
        let call = InFlight(call);
        let (lane, windows) = (Arc::clone(&self.lane), &mut self.windows);
        let (sent, sent_at) = (Instant::now(), lane.now());
        let deadline = since + lane.timeout();
        let deciding = async {
            // What is late already is not sent: it would count, and nobody would know.
            if sent >= deadline {
                std::future::pending().await
            } else {
                lane.decider().decide(wire, &batch, windows, sent_at).await
            }
        };
        let lost = match alarm.within(deadline.into(), deciding).await {
            Some(Ok(answers)) => {
                self.timeouts = 0;
                lane.took(sent.elapsed());
                lane.learn(&batch, &answers, sent_at);
                let lost = answers.lost().cloned();
                call.0.finish(Ok(answers));
                lost
            }
            Some(Err(error)) => {
                self.timeouts = 0;
                lane.doubt(&batch);
                let failure = Failure::Redis(error);
                call.0.finish(Err(failure.clone()));
                failure.is_away().then_some(failure)
            }
            None => {
                lane.doubt(&batch);
                call.0.finish(Err(Failure::Timeout));
                // One that was late already says nothing of the store.
                if sent.elapsed() * 2 >= lane.timeout() { self.timed_out().err() } else { None }
            }
        };
        lane.recycle(batch);
        lost.map_or(Ok(()), Err)
    }
}
