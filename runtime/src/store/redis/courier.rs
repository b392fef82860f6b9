//! The task that sends through one connection what all checks ask.
//!
//! A check that finds nothing in flight goes out at once. What arrives meanwhile goes with the next call, when
//! the answer is there. One call is in flight: more would be less shared, and cost more than they bring,
//! whether few ask or many. Only where the server is [far away](super::distance), so that it is the line that is
//! waited for, or so slow that whoever waits for the call before might be too late, others follow it before it is
//! answered, at a [pace](super::pace) of their own.
//!
//! The calls belong to the task: a request whose client goes away takes nothing with it that others wait
//! for. No call is sent again once its outcome may be unknown.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use redis::{ErrorKind, RedisError, RedisResult, Value};
use tokio::time::{timeout, timeout_at};

use super::alarm::Alarm;
use super::answers::Answers;
use super::batch::Batch;
use super::connection::{Requests, Wire};
use super::failure::Failure;
use super::lane::{Call, Filling, Lane};
use super::pace::{Following, Pace};
use super::question::Question;
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
    /// Whether the server has transactions.
    transacts: bool,
    pace: Pace,
    /// How many calls in a row had no answer, one after the other.
    timeouts: u32,
    /// When the last of them was given up.
    timed_out: Option<Instant>,
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

/// What comes while calls are in flight.
enum Came {
    /// The answer to the first of them, or why there is none.
    Answer(RedisResult<()>),
    /// What is to be sent next; none if another connection serves.
    Next(Option<Filling>),
}

/// A call in flight.
struct Flight {
    batch: Batch,
    question: Question,
    call: Waited,
    sent: Instant,
    /// The same, by the clock of what is remembered.
    sent_at: u64,
    deadline: Instant,
    /// Whether all that wait for it have been told, and it is only to put right what was charged.
    is_told: bool,
}

/// When to act though nothing has come.
struct Alarms {
    /// When another call may follow.
    look_up: Alarm,
    /// When a call is too late.
    give_up: Alarm,
}

impl Alarms {
    fn new() -> Self {
        Self { look_up: Alarm::new(), give_up: Alarm::new() }
    }
}

/// A call that checks wait for, which fails when it is dropped without an answer.
struct Waited(Arc<Call>);

impl Drop for Waited {
    fn drop(&mut self) {
        self.0.finish(Err(Failure::NoConnection));
    }
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
            timed_out: None,
        }
    }

    /// Serves until there is another connection, or this one serves no longer.
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

    /// Serves until there is another connection; the error is why this one serves no longer.
    async fn serve_until(&mut self, wire: &mut Wire) -> Result<(), Failure> {
        let (mut alarms, mut quiet) = (Alarms::new(), Alarm::new());
        loop {
            match self.next(wire, &mut quiet).await? {
                Next::Send(filling) => {
                    let is_busy = filling.batch.checks() >= MANY;
                    self.send(wire, filling, &mut alarms).await?;
                    if is_busy {
                        tokio::task::yield_now().await;
                    }
                }
                Next::Ping => self.ping(wire).await?,
                Next::End => return Ok(()),
            }
        }
    }

    /// Waits until there is something to do; the error is why the connection serves no longer.
    async fn next(&self, wire: &mut Wire, quiet: &mut Alarm) -> Result<Next, Failure> {
        let mut lost = pin!(wire.lost());
        let next = poll_fn(|context| match self.lane.poll_next(self.generation, None, context) {
            Poll::Ready(next) => Poll::Ready(Ok(next.map_or(Next::End, Next::Send))),
            Poll::Pending => lost.as_mut().poll(context).map(|error| Err(error.into())),
        });
        quiet.within((Instant::now() + QUIET).into(), next).await.unwrap_or(Ok(Next::Ping))
    }

    /// Makes sure that the connection still answers; the error is why it serves no longer. When there is no
    /// answer, it asks again at once; when somebody comes meanwhile, their check is as good.
    async fn ping(&mut self, wire: &mut Wire) -> Result<(), Failure> {
        loop {
            let sent = Instant::now();
            wire.call().command("PING", 0);
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
                    // Whatever else it says, it is there.
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

    /// Notes that a call had no answer; the error is that there were too many in a row. What was under way together
    /// counts once.
    fn timed_out(&mut self, sent: Instant) -> Result<(), Failure> {
        if self.timed_out.is_some_and(|before| sent < before) {
            return Ok(());
        }
        self.timed_out = Some(Instant::now());
        self.timeouts += 1;
        if self.timeouts < MAX_TIMEOUTS {
            return Ok(());
        }
        Err(RedisError::from((ErrorKind::Io, "several calls in a row had no answer")).into())
    }

    /// Sends a call, and those that follow it before it is answered, until all are; the error is why the connection
    /// serves no longer.
    async fn send(&mut self, wire: &mut Wire, filling: Filling, alarms: &mut Alarms) -> Result<(), Failure> {
        let (mut flights, mut open) = (VecDeque::new(), Vec::new());
        flights.extend(self.depart(wire.call(), filling));
        wire.push().await;
        let served = loop {
            if let Err(failure) = self.send_after(wire, &mut flights, &mut open, alarms).await {
                break Err(failure);
            }
            let Some(latest) = open.iter().map(|flight| flight.deadline).max() else { break Ok(()) };
            // Nothing else is under way.
            let has_lost = open.iter().any(|flight| flight.question.has_lost());
            let loaded = if has_lost {
                let loading = self.lane.decider().load(wire);
                timeout_at(latest.into(), loading).await.unwrap_or(Ok(()))
            } else {
                Ok(())
            };
            if let Err(failure) = self.ask_again(wire.call(), &loaded, &mut flights, &mut open) {
                break Err(failure);
            }
            wire.push().await;
        };
        for flight in flights.iter().chain(&open) {
            self.lane.doubt(&flight.batch);
        }
        served
    }

    /// Asks what is to be asked next; `None` if that is late already: it would count, and nobody would know.
    fn depart(&mut self, requests: &mut Requests, filling: Filling) -> Option<Flight> {
        let Filling { batch, call, since } = filling;
        let (call, sent, deadline) = (Waited(call), Instant::now(), since + self.lane.timeout());
        if sent >= deadline {
            call.0.finish(Err(Failure::Timeout));
            self.lane.recycle(batch);
            return None;
        }
        let sent_at = self.lane.now();
        let question = self.lane.decider().ask(requests, &batch, &mut self.windows, sent_at, self.transacts);
        Some(Flight { batch, question, call, sent, sent_at, deadline, is_told: false })
    }

    /// Whether something is to be asked again, now that all is answered. If that is only to give back what was too
    /// much, nobody waits for it.
    fn reopens(&mut self, flight: &mut Flight) -> bool {
        let Flight { batch, question, call, sent_at, is_told, .. } = flight;
        if !question.reopen(batch) {
            return false;
        }
        if !*is_told && question.is_decided() {
            let (decided, windows) = (question.clone(), &mut self.windows);
            // All of it is there.
            let unanswered = Failure::NoConnection;
            if let Ok(answers) = self.lane.decider().answers(decided, unanswered, batch, windows) {
                self.tell(call, batch, answers, *sent_at);
                *is_told = true;
            }
        }
        true
    }

    /// Tells all who wait for a call that was sent at `sent_at`.
    fn tell(&mut self, call: &Waited, batch: &Batch, answers: Answers, sent_at: u64) {
        self.timeouts = 0;
        self.lane.learn(batch, &answers, sent_at);
        call.0.finish(Ok(answers));
    }

    /// Asks anew what is `open` again, if the scripts that it takes have been `loaded`, but for what is late by now:
    /// what is only put right never is.
    fn ask_again(
        &mut self,
        requests: &mut Requests,
        loaded: &RedisResult<()>,
        flights: &mut VecDeque<Flight>,
        open: &mut Vec<Flight>,
    ) -> Result<(), Failure> {
        let now = Instant::now();
        while !open.is_empty() {
            let mut flight = open.remove(0);
            if let Err(error) = loaded {
                self.arrive(flight, Some(Err(error.clone())))?;
                continue;
            }
            if flight.is_told {
                flight.deadline = now + self.lane.timeout();
            } else if now >= flight.deadline {
                self.arrive(flight, None)?;
                continue;
            }
            let Flight { batch, question, sent, .. } = &mut flight;
            self.lane.decider().ask_again(requests, batch, question, sent.elapsed());
            flights.push_back(flight);
        }
        Ok(())
    }

    /// Has other calls follow the first of `flights`, until all are answered, or `open` again: those are to be asked
    /// once more, when nothing else is under way.
    async fn send_after(
        &mut self,
        wire: &mut Wire,
        flights: &mut VecDeque<Flight>,
        open: &mut Vec<Flight>,
        alarms: &mut Alarms,
    ) -> Result<(), Failure> {
        let mut is_over = false;
        while let Some(last) = flights.back() {
            let Following { due, looks_up } = if is_over || !open.is_empty() {
                Following::default()
            } else {
                self.pace.following(flights.len(), last.sent, wire.is_sent(), Instant::now())
            };
            // What is only put right holds up nobody behind it.
            let earliest = flights.iter().map(|flight| flight.deadline).min();
            let front = &mut flights[0];
            let deadline = if front.is_told { earliest.unwrap_or(front.deadline) } else { front.deadline };
            let came = {
                let mut hearing = pin!(front.question.hear(wire, &front.batch));
                let came = poll_fn(|context| match hearing.as_mut().poll(context) {
                    Poll::Ready(heard) => Poll::Ready(Came::Answer(heard)),
                    Poll::Pending if due.is_some() => {
                        self.lane.poll_next(self.generation, due, context).map(Came::Next)
                    }
                    Poll::Pending => Poll::Pending,
                });
                match looks_up {
                    Some(time) if time < deadline => alarms.look_up.within(time.into(), came).await,
                    _ => alarms.give_up.within(deadline.into(), came).await,
                }
            };
            match came {
                Some(Came::Answer(heard)) => {
                    let Some(mut flight) = flights.pop_front() else { break };
                    if heard.is_ok() {
                        let (sent, now) = (flight.sent, Instant::now());
                        self.pace.distance.learn(now - sent, flight.batch.groups().len(), now);
                    }
                    if !(heard.is_ok() && self.reopens(&mut flight)) {
                        self.arrive(flight, Some(heard))?;
                    } else if flight.is_told
                        && !flight.question.has_lost()
                        && let Some(requests) = wire.call_as_well()
                    {
                        // It is only put right, and nobody waits for it.
                        let after = flight.sent.elapsed();
                        self.lane.decider().ask_again(requests, &flight.batch, &mut flight.question, after);
                        flights.push_back(flight);
                        wire.push().await;
                    } else {
                        open.push(flight);
                    }
                }
                Some(Came::Next(Some(filling))) => match wire.call_as_well() {
                    Some(requests) => {
                        flights.extend(self.depart(requests, filling));
                        wire.push().await;
                    }
                    None => drop(Waited(filling.call)),
                },
                Some(Came::Next(None)) => is_over = true,
                None if Instant::now() >= deadline => {
                    wire.give_up(front.question.awaited(&front.batch));
                    let Some(flight) = flights.pop_front() else { break };
                    self.arrive(flight, None)?;
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Tells what was answered, and what became of the rest: if nothing was `heard`, it is late. The error is why the
    /// connection serves no longer.
    fn arrive(&mut self, flight: Flight, heard: Option<RedisResult<()>>) -> Result<(), Failure> {
        let is_late = heard.is_none();
        let failure = heard.map_or(Some(Failure::Timeout), |heard| heard.err().map(Failure::from));
        let lost = failure.clone().filter(Failure::is_away).map_or(Ok(()), Err);
        if flight.is_told {
            self.lane.recycle(flight.batch);
            return lost;
        }
        let Flight { batch, mut question, call, sent, sent_at, .. } = flight;
        if failure.is_some() {
            // What is answered is decided all the same; what takes a script that is lost is not.
            question.open_lost();
            question.reopen(&batch);
        }
        let is_answered = question.is_answered();
        let unanswered = failure.clone().unwrap_or(Failure::NoConnection);
        let served = match self.lane.decider().answers(question, unanswered, &batch, &mut self.windows) {
            Ok(answers) if is_answered => {
                // Else it may be what the scripts were refused.
                if failure.is_none() {
                    self.transacts &= !answers.failures().any(Failure::is_of_transaction);
                }
                let served = lost.and(answers.lost().cloned().map_or(Ok(()), Err));
                self.tell(&call, &batch, answers, sent_at);
                served
            }
            answers => {
                self.lane.doubt(&batch);
                let failure = failure.or(answers.err().map(Failure::from)).unwrap_or(Failure::NoConnection);
                call.0.finish(Err(failure.clone()));
                if !is_late {
                    self.timeouts = 0;
                    if failure.is_away() { Err(failure) } else { Ok(()) }
                } else if sent.elapsed() * 2 >= self.lane.timeout() {
                    self.timed_out(sent)
                } else {
                    // It was late when it was sent, which says nothing of the store.
                    Ok(())
                }
            }
        };
        self.lane.recycle(batch);
        served
    }
}
