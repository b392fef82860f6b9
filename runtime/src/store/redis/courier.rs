//! The task that sends the calls of a [lane](super::lane) through one connection, and hands out the answers.
//!
//! A check that finds nothing in flight goes out at once. Checks that arrive meanwhile go out with the next
//! call, once the answer is there. One call is in flight: more calls would be shared by fewer checks each, and
//! cost more than they gain, under low load as under high. There are two exceptions: the server is [far
//! away](super::distance), so that the time is spent on the network, or it is so slow that checks which wait for
//! the call before might miss their deadline. Then more calls follow before the first is answered, at a
//! [pace](super::pace) of their own.
//!
//! The calls belong to the task, so a request whose client goes away takes nothing with it that others wait for.
//! No call is sent again once its outcome may be unknown.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use redis::{ErrorKind, RedisError, RedisResult, Value};
use tokio::time::{timeout, timeout_at};

use super::alarm::{Alarm, Alarms};
use super::answers::Answers;
use super::batch::Batch;
use super::connection::{Requests, Wire};
use super::failure::Failure;
use super::flight::{Flight, State, Waited, next_deadline};
use super::lane::Lane;
use super::pace::{Following, Pace};
use super::question::Question;
use super::queue::UnsentCall;
use super::windows::Windows;

/// After how many calls without an answer in a row the connection is given up.
const MAX_TIMEOUTS: u32 = 3;
/// After how long without a call the connection is pinged, so that no request has to find out that it is dead,
/// and nobody on the way takes it for abandoned.
const QUIET: Duration = Duration::from_secs(5);
/// How long the answer to a call that is late is listened for, to give back what nobody has any use for.
const LISTENING: Duration = QUIET;
/// From how many checks on a call counts as busy. After a busy call the courier yields to the tasks that the
/// answer has woken, so that what they ask next shares the next call, and fewer calls are made under load.
const MANY: u32 = 8;

/// Sends the calls of a lane for as long as one connection serves it.
pub(super) struct Courier {
    lane: Arc<Lane>,
    generation: u64,
    windows: Windows,
    /// Whether the server has transactions.
    transacts: bool,
    pace: Pace,
    /// How many calls in a row had no answer; those that were in flight together count once.
    timeouts: u32,
    /// When the last one that counts was given up.
    last_timeout: Option<Instant>,
}

/// However the task ends, the calls that wait for it fail.
impl Drop for Courier {
    fn drop(&mut self) {
        self.lane.lose(Some(self.generation), &Failure::NoConnection);
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

/// What happens next while calls are in flight.
enum Event {
    /// The answer to the first of them, or why there is none.
    Answer(RedisResult<()>),
    /// The next call to send; `None` once the lane no longer uses this connection.
    Next(Option<UnsentCall>),
}

impl Courier {
    pub(super) fn new(lane: Arc<Lane>, generation: u64) -> Self {
        let pace = Pace::new(lane.timeout(), Instant::now());
        Self {
            lane,
            generation,
            windows: Windows::new(),
            transacts: false,
            pace,
            timeouts: 0,
            last_timeout: None,
        }
    }

    /// Serves the lane until it uses another connection, or this one fails.
    pub(super) async fn serve(mut self, mut wire: Wire) {
        self.transacts = wire.transacts();
        let failure = match self.serve_until(&mut wire).await {
            Ok(()) => return,
            Err(Failure::Redis(error)) => Failure::Redis(wire.located(error)),
            Err(failure) => failure,
        };
        if self.lane.lose(Some(self.generation), &failure) {
            self.lane.report(failure);
        }
    }

    /// Serves the lane until it uses another connection. The error is why this one no longer serves.
    async fn serve_until(&mut self, wire: &mut Wire) -> Result<(), Failure> {
        let (mut alarms, mut quiet) = (Alarms::new(), Alarm::new());
        loop {
            match self.next(wire, &mut quiet).await? {
                Next::Send(unsent) => {
                    let is_busy = unsent.batch.checks() >= MANY;
                    self.send(wire, unsent, &mut alarms).await?;
                    if is_busy {
                        tokio::task::yield_now().await;
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
        let next = poll_fn(|context| match self.lane.poll_next(self.generation, None, context) {
            Poll::Ready(next) => Poll::Ready(Ok(next.map_or(Next::End, Next::Send))),
            Poll::Pending => lost.as_mut().poll(context).map(|error| Err(error.into())),
        });
        quiet.within((Instant::now() + QUIET).into(), next).await.unwrap_or(Ok(Next::Ping))
    }

    /// Makes sure that the connection still answers. The error is why it no longer serves. Without an answer,
    /// the ping is repeated at once. A check that arrives meanwhile ends it, since its answer tells as much.
    async fn ping(&mut self, wire: &mut Wire) -> Result<(), Failure> {
        loop {
            let sent = Instant::now();
            wire.begin_call().command("PING", 0);
            let answer = {
                let mut answering = pin!(wire.answer());
                let came = poll_fn(|context| match answering.as_mut().poll(context) {
                    Poll::Ready(answer) => Poll::Ready(Some(answer)),
                    Poll::Pending => self.lane.poll_waited_for(self.generation, context).map(|()| None),
                });
                timeout(self.lane.timeout(), came).await
            };
            let now = Instant::now();
            match answer {
                Ok(Some(answer)) => match answer.and_then(Value::extract_error).map_err(Failure::from) {
                    Err(failure) if failure.is_away() => return Err(failure),
                    // Whatever else the server says, it is there.
                    _ => {
                        self.timeouts = 0;
                        self.pace.distance.learn(now - sent, 1, now);
                        return Ok(());
                    }
                },
                Ok(None) => return Ok(()),
                Err(_) => self.timed_out(sent)?,
            }
        }
    }

    /// Notes that a call had no answer. The error is that there were too many in a row; calls that were in
    /// flight together count once.
    fn timed_out(&mut self, sent: Instant) -> Result<(), Failure> {
        if self.last_timeout.is_some_and(|before| sent < before) {
            return Ok(());
        }
        self.last_timeout = Some(Instant::now());
        self.timeouts += 1;
        if self.timeouts < MAX_TIMEOUTS {
            return Ok(());
        }
        Err(RedisError::from((ErrorKind::Io, "several calls in a row had no answer")).into())
    }

    /// Sends a call, and those that follow it before it is answered, until all are answered. The error is why
    /// the connection no longer serves.
    async fn send(
        &mut self,
        wire: &mut Wire,
        unsent: UnsentCall,
        alarms: &mut Alarms,
    ) -> Result<(), Failure> {
        let (mut flights, mut unsettled) = (VecDeque::new(), Vec::new());
        flights.extend(self.depart(wire.begin_call(), unsent));
        wire.push().await;
        let served = loop {
            if let Err(failure) = self.send_after(wire, &mut flights, &mut unsettled, alarms).await {
                break Err(failure);
            }
            let Some(latest) = unsettled.iter().map(|flight| flight.deadline).max() else { break Ok(()) };
            // Nothing is in flight now, so scripts can be loaded.
            let has_lost = unsettled.iter().any(|flight| flight.question.has_lost());
            let loaded = if has_lost {
                let loading = self.lane.scripts().load(wire);
                timeout_at(latest.into(), loading).await.unwrap_or(Ok(()))
            } else {
                Ok(())
            };
            if let Err(failure) = self.ask_again(wire.begin_call(), &loaded, &mut flights, &mut unsettled) {
                break Err(failure);
            }
            wire.push().await;
        };
        for flight in flights.iter().chain(&unsettled) {
            self.lane.doubt(&flight.batch);
        }
        served
    }

    /// Adds a call to `requests`. Returns `None` if it is late already: it would count, and nobody would know.
    fn depart(&mut self, requests: &mut Requests, unsent: UnsentCall) -> Option<Flight> {
        let UnsentCall { batch, call, since } = unsent;
        let (call, sent, deadline) = (Waited(call), Instant::now(), since + self.lane.timeout());
        if sent >= deadline {
            let _ = call.0.finish(Err(Failure::Timeout));
            self.lane.recycle(batch);
            return None;
        }
        let sent_at = self.lane.now();
        let question = self.lane.scripts().ask(requests, &batch, &mut self.windows, sent_at, self.transacts);
        Some(Flight { batch, question, call, sent, sent_at, deadline, state: State::Waited })
    }

    /// Whether something has to be asked again, now that all of a call is answered. If that only corrects what
    /// was charged, the waiters are told first. A late call is asked nothing else again.
    fn must_ask_again(&mut self, flight: &mut Flight) -> bool {
        let Flight { batch, question, call, sent, sent_at, deadline, state } = flight;
        if !question.settle(batch) {
            return false;
        }
        if *state != State::Answered && question.is_decided() {
            let (decided, windows) = (question.clone(), &mut self.windows);
            // Every part has an answer, so nobody is told this.
            let unanswered = Failure::NoConnection;
            if let Ok(answers) = self.lane.scripts().answers(decided, unanswered, batch, windows) {
                if *state == State::Waited {
                    self.timeouts = 0;
                }
                self.tell(call, batch, answers, *sent, *sent_at);
                *state = State::Answered;
                *deadline = Instant::now() + self.lane.timeout();
            }
        }
        *state != State::Late
    }

    /// Tells all who wait for a call when it was sent, and what it was answered, and remembers what it denied.
    fn tell(&mut self, call: &Waited, batch: &Batch, answers: Answers, sent: Instant, sent_at: u64) {
        if self.lane.is_served_by(self.generation) {
            self.lane.learn(batch, &answers, sent_at);
            self.lane.answer(&call.0, answers, sent);
        } else {
            // Another connection may lead to another server, or may have reset since what this one tells of.
            self.lane.doubt(batch);
            let _ = call.0.finish(Ok(answers));
        }
    }

    /// Asks the `unsettled` calls again, or fails them if the scripts that they need could not be `loaded`. A call
    /// that is late by now is not asked again; one that only corrects what was charged is never late.
    fn ask_again(
        &mut self,
        requests: &mut Requests,
        loaded: &RedisResult<()>,
        flights: &mut VecDeque<Flight>,
        unsettled: &mut Vec<Flight>,
    ) -> Result<(), Failure> {
        let now = Instant::now();
        while !unsettled.is_empty() {
            let mut flight = unsettled.remove(0);
            if let Err(error) = loaded {
                self.arrive(flight, Err(error.clone()))?;
                continue;
            }
            if flight.state == State::Answered {
                flight.deadline = now + self.lane.timeout();
            } else if now >= flight.deadline {
                let question = std::mem::take(&mut flight.question);
                let served = self.conclude(&flight, question, Some(Failure::Timeout));
                self.lane.recycle(flight.batch);
                served?;
                continue;
            }
            let Flight { batch, question, sent, .. } = &mut flight;
            self.lane.scripts().ask_again(requests, batch, question, sent.elapsed());
            flights.push_back(flight);
        }
        Ok(())
    }

    /// Lets other calls follow the first of `flights`, until none is in flight. Those that have to be asked
    /// again once nothing else is in flight become `unsettled`.
    async fn send_after(
        &mut self,
        wire: &mut Wire,
        flights: &mut VecDeque<Flight>,
        unsettled: &mut Vec<Flight>,
        alarms: &mut Alarms,
    ) -> Result<(), Failure> {
        let mut is_over = false;
        while !flights.is_empty() {
            let may_follow = !is_over && unsettled.is_empty();
            let is_waited = flights.iter().any(|flight| flight.state == State::Waited);
            let is_late = flights.iter().any(|flight| flight.state == State::Late);
            if is_late && !is_waited && !(may_follow && wire.is_sent()) {
                // A call that is late must not hold up anything else.
                flights.drain(..).for_each(|flight| self.forget(wire, flight));
                break;
            }
            let Following { due, looks_up } =
                if may_follow { self.following(flights, wire.is_sent()) } else { Following::default() };
            let deadline = next_deadline(flights);
            let front = &mut flights[0];
            let came = {
                let mut hearing = pin!(front.question.hear(wire, &front.batch));
                let came = poll_fn(|context| match hearing.as_mut().poll(context) {
                    Poll::Ready(heard) => Poll::Ready(Event::Answer(heard)),
                    Poll::Pending if due.is_some() => {
                        self.lane.poll_next(self.generation, due, context).map(Event::Next)
                    }
                    Poll::Pending => Poll::Pending,
                });
                match looks_up {
                    Some(time) if time < deadline => alarms.look_up.within(time.into(), came).await,
                    _ => alarms.give_up.within(deadline.into(), came).await,
                }
            };
            match came {
                Some(Event::Answer(heard)) => {
                    let Some(mut flight) = flights.pop_front() else { break };
                    if heard.is_ok() && flight.state != State::Late {
                        let (sent, now) = (flight.sent, Instant::now());
                        self.pace.distance.learn(now - sent, flight.batch.groups().len(), now);
                    }
                    if !(heard.is_ok() && self.must_ask_again(&mut flight)) {
                        self.arrive(flight, heard)?;
                    } else if flight.state == State::Answered
                        && !flight.question.has_lost()
                        && let Some(requests) = wire.begin_pipelined_call()
                    {
                        // It only corrects what was charged, and no script is missing: it may follow the others.
                        let after = flight.sent.elapsed();
                        self.lane.scripts().ask_again(requests, &flight.batch, &mut flight.question, after);
                        flights.push_back(flight);
                        wire.push().await;
                    } else {
                        unsettled.push(flight);
                    }
                }
                Some(Event::Next(Some(unsent))) => match wire.begin_pipelined_call() {
                    Some(requests) => {
                        flights.extend(self.depart(requests, unsent));
                        wire.push().await;
                    }
                    None => drop(Waited(unsent.call)),
                },
                Some(Event::Next(None)) => is_over = true,
                None if Instant::now() >= deadline => self.pass_deadline(wire, flights)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Returns when another call may follow those in flight. Calls that are late hold up nobody.
    fn following(&self, flights: &VecDeque<Flight>, is_sent: bool) -> Following {
        let now = Instant::now();
        let mut awaited = flights.iter().filter(|flight| flight.state != State::Late);
        match awaited.next_back() {
            Some(last) => self.pace.following(awaited.count() + 1, last.sent, is_sent, now),
            None => Following { due: Some(now), looks_up: None },
        }
    }

    /// Tells the waiters of the first call whose deadline has passed that it is late. If there is none, the answer
    /// of the first call in flight has been awaited long enough. The error is why the connection no longer serves.
    fn pass_deadline(&mut self, wire: &mut Wire, flights: &mut VecDeque<Flight>) -> Result<(), Failure> {
        let now = Instant::now();
        let is_passed = |flight: &&mut Flight| flight.state == State::Waited && flight.deadline <= now;
        if let Some(flight) = flights.iter_mut().find(is_passed) {
            (flight.state, flight.deadline) = (State::Late, now + LISTENING);
            return self.conclude(flight, flight.question.clone(), Some(Failure::Timeout));
        }
        if let Some(flight) = flights.pop_front() {
            self.forget(wire, flight);
        }
        Ok(())
    }

    /// Stops listening for the answer to the first call in flight.
    fn forget(&self, wire: &mut Wire, flight: Flight) {
        wire.give_up(flight.question.awaited(&flight.batch));
        self.lane.doubt(&flight.batch);
        self.lane.recycle(flight.batch);
    }

    /// Tells the waiters of a call what was answered, or why it was not. The error is why the connection no
    /// longer serves.
    fn arrive(&mut self, mut flight: Flight, heard: RedisResult<()>) -> Result<(), Failure> {
        let failure = heard.err().map(Failure::from);
        let served = if flight.state == State::Answered {
            failure.filter(Failure::is_away).map_or(Ok(()), Err)
        } else {
            let question = std::mem::take(&mut flight.question);
            self.conclude(&flight, question, failure)
        };
        self.lane.recycle(flight.batch);
        served
    }

    /// Tells the waiters of a call what was answered to its `question`, and why the rest was not: because of
    /// `failure`. The error is why the connection no longer serves.
    fn conclude(
        &mut self,
        flight: &Flight,
        mut question: Question,
        failure: Option<Failure>,
    ) -> Result<(), Failure> {
        let &Flight { ref batch, ref call, sent, sent_at, state, .. } = flight;
        let lost = failure.clone().filter(Failure::is_away).map_or(Ok(()), Err);
        if failure.is_some() {
            // Parts that were answered are decided all the same; those whose script the server had lost are not.
            question.clear_lost();
            question.settle(batch);
        }
        let is_answered = question.is_answered();
        // Without a failure, only a late call leaves something unanswered, since it is not asked again.
        let unanswered = failure.clone().unwrap_or(Failure::Timeout);
        match self.lane.scripts().answers(question, unanswered, batch, &mut self.windows) {
            Ok(answers) if is_answered => {
                // Otherwise the refusal may be that of loading the scripts.
                if failure.is_none() {
                    self.transacts &= !answers.failures().any(Failure::is_of_transaction);
                }
                if state == State::Waited {
                    self.timeouts = 0;
                }
                let served = lost.and(answers.lost().cloned().map_or(Ok(()), Err));
                self.tell(call, batch, answers, sent, sent_at);
                served
            }
            answers => {
                self.lane.doubt(batch);
                let failure = failure.or(answers.err().map(Failure::from)).unwrap_or(Failure::NoConnection);
                let _ = call.0.finish(Err(failure.clone()));
                if !matches!(failure, Failure::Timeout) {
                    self.timeouts = 0;
                    if failure.is_away() { Err(failure) } else { Ok(()) }
                } else if sent.elapsed() * 2 >= self.lane.timeout() {
                    self.timed_out(sent)
                } else {
                    // Most of the time had passed before it was sent, which says nothing about the store.
                    Ok(())
                }
            }
        }
    }
}
