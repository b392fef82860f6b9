//! The task that sends the calls of a [lane](super::lane) through one connection, and hands out the answers.
//!
//! A check that finds nothing in flight goes out at once. Checks that arrive meanwhile go out with the next
//! call, once the answer is there, or in the same [exchange](super::exchange).
//!
//! The calls belong to the task, so a request whose client goes away takes nothing with it that others wait for.
//! No call is sent again once its outcome may be unknown.

use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use redis::Value;
use tokio::time::timeout;

use super::alarm::{Alarm, Alarms};
use super::connection::Wire;
use super::exchange::Exchange;
use super::failure::Failure;
use super::lane::Lane;
use super::queue::UnsentCall;
use super::session::Session;

/// After how long without a call the connection is pinged, so that no request has to find out that it is dead,
/// and nobody on the way takes it for abandoned.
const QUIET: Duration = Duration::from_secs(5);
/// A call of this many checks or more counts as busy. After a busy call the courier yields to the tasks that the
/// answer has woken, so that what they ask next shares the next call, and fewer calls are made under load.
const MANY: u32 = 8;

/// Sends the calls of a lane for as long as one connection serves it.
pub(super) struct Courier {
    session: Session,
}

/// However the task ends, the calls that wait for it fail.
impl Drop for Courier {
    fn drop(&mut self) {
        self.session.lose(&Failure::NoConnection);
    }
}

/// What a courier does next.
enum Next {
    Send(UnsentCall),
    /// No check has come for as long as [`QUIET`].
    Ping,
    /// The lane no longer uses this connection.
    End,
}

impl Courier {
    /// Creates the courier of the connection of `generation`, whose server has transactions if it `transacts`.
    pub(super) fn new(lane: Arc<Lane>, generation: u64, transacts: bool) -> Self {
        Self { session: Session::new(lane, generation, transacts) }
    }

    /// Serves the lane until it uses another connection, or this one fails.
    pub(super) async fn serve(mut self, mut wire: Wire) {
        if let Err(failure) = self.serve_until_lost(&mut wire).await {
            self.session.give_up(&wire, failure);
        }
    }

    /// Serves the lane until it uses another connection. The error is why this one no longer serves.
    async fn serve_until_lost(&mut self, wire: &mut Wire) -> Result<(), Failure> {
        let (mut alarms, mut quiet) = (Alarms::new(), Alarm::new());
        loop {
            match self.next(wire, &mut quiet).await? {
                Next::Send(unsent) => {
                    let is_busy = unsent.batch.checks() >= MANY;
                    Exchange::new(&mut self.session, wire, &mut alarms).run(unsent).await?;
                    if is_busy {
                        let_others_run().await;
                    }
                }
                Next::Ping => self.ping(wire).await?,
                Next::End => return Ok(()),
            }
        }
    }

    /// Waits until there is something to do. The error is why the connection no longer serves.
    async fn next(&self, wire: &mut Wire, quiet: &mut Alarm) -> Result<Next, Failure> {
        let mut lost = pin!(wire.lost());
        let next = poll_fn(|context| match self.session.poll_next(None, context) {
            Poll::Ready(next) => Poll::Ready(Ok(next.map_or(Next::End, Next::Send))),
            Poll::Pending => lost.as_mut().poll(context).map(|error| Err(error.into())),
        });
        quiet.within((Instant::now() + QUIET).into(), next).await.unwrap_or(Ok(Next::Ping))
    }

    /// Makes sure that the connection still answers. The error is why it no longer serves. Without an answer,
    /// the ping is repeated at once. A check that arrives meanwhile ends it, since its answer tells as much.
    async fn ping(&mut self, wire: &mut Wire) -> Result<(), Failure> {
        let session = &mut self.session;
        loop {
            let sent = Instant::now();
            wire.begin_call().command("PING", 0);
            let answer = {
                let mut answering = pin!(wire.answer());
                let came = poll_fn(|context| match answering.as_mut().poll(context) {
                    Poll::Ready(answer) => Poll::Ready(Some(answer)),
                    Poll::Pending => session.poll_any(context).map(|()| None),
                });
                timeout(session.lane.common.timeout, came).await
            };
            let now = Instant::now();
            match answer {
                Ok(Some(answer)) => match answer.and_then(Value::extract_error).map_err(Failure::from) {
                    Err(failure) if failure.is_away() => return Err(failure),
                    // Whatever else the server says, it is there.
                    _ => {
                        session.silence.end();
                        session.pace.distance.learn(now - sent, 1, now);
                        return Ok(());
                    }
                },
                Ok(None) => return Ok(()),
                Err(_) => session.missed(sent)?,
            }
        }
    }
}

/// Lets the tasks run that are ready.
///
/// Unlike [`tokio::task::yield_now`], this leaves the courier where every thread of the runtime may take it up again.
/// That one keeps it with its thread, so that a task that then blocks this thread would hold up all checks.
async fn let_others_run() {
    let mut have_run = false;
    poll_fn(|context| {
        if mem::replace(&mut have_run, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
