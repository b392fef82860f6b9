//! Calls of one connection that overlap, from the first that is sent until all are answered.
//!
//! Mostly that is one call: more calls would be shared by fewer checks each, and cost more than they gain, under
//! low load as under high. There are two exceptions: the server is [far away](super::distance), so that the time
//! is spent on the network, or it is so slow that checks which wait for the call before might miss their
//! deadline. Then more calls follow before the first is answered, at a [pace](super::pace) of their own.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use redis::RedisResult;

use super::alarm::Alarms;
use super::connection::Wire;
use super::failure::Failure;
use super::flight::{Flight, Stage};
use super::pace::Following;
use super::queue::UnsentCall;
use super::session::Session;

/// A time in which at least one call is in flight.
pub(super) struct Exchange<'a> {
    session: &'a mut Session,
    wire: &'a mut Wire,
    alarms: &'a mut Alarms,
    /// The calls in flight, in the order of their answers.
    flights: VecDeque<Flight>,
    /// The calls that have to be asked again once nothing else is in flight.
    unsettled: VecDeque<Flight>,
    /// Whether the lane no longer uses this connection. The answers to what it has been asked are heard all the same.
    is_over: bool,
}

/// What happens while calls are in flight.
enum Event {
    /// The first of them was answered, or it is known why it will not be.
    Answer(RedisResult<()>),
    /// Another call may follow.
    Next(UnsentCall),
    /// The lane no longer uses this connection.
    Over,
    /// The answer to one of them has not come in time.
    Deadline,
    /// It is time to see whether another call may follow.
    LookUp,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(session: &'a mut Session, wire: &'a mut Wire, alarms: &'a mut Alarms) -> Self {
        let (flights, unsettled) = (VecDeque::new(), VecDeque::new());
        Self { session, wire, alarms, flights, unsettled, is_over: false }
    }

    /// Sends a call, and those that follow it before it is answered, until all are answered. The error is why
    /// the connection no longer serves.
    pub(super) async fn run(mut self, first: UnsentCall) -> Result<(), Failure> {
        self.flights.extend(self.session.depart(self.wire.begin_call(), first));
        self.wire.push().await;
        let served = self.hear_all().await;
        if let Err(failure) = &served {
            // They were sent, so nobody may take them for calls that found no connection.
            for flight in mem::take(&mut self.flights).into_iter().chain(mem::take(&mut self.unsettled)) {
                self.session.lane.common.denials.doubt(&flight.batch);
                let _ = self.session.arrive(flight, Err(failure.clone()));
            }
        }
        served
    }

    /// Waits for the answers to all calls, and asks again what has to be.
    async fn hear_all(&mut self) -> Result<(), Failure> {
        loop {
            self.hear_flights().await?;
            if self.unsettled.is_empty() {
                return Ok(());
            }
            self.ask_again().await?;
        }
    }

    /// Waits for the answers to the calls in flight, and lets others follow them, until none is in flight.
    async fn hear_flights(&mut self) -> Result<(), Failure> {
        loop {
            self.give_back().await;
            if self.flights.is_empty() {
                return Ok(());
            }
            if self.is_only_late() && !self.may_listen() {
                while let Some(flight) = self.flights.pop_front() {
                    self.forget(flight);
                }
                continue;
            }
            match self.next_event().await {
                Event::Answer(heard) => self.heard(heard).await?,
                Event::Next(unsent) => self.follow(unsent).await,
                Event::Over => self.is_over = true,
                Event::Deadline => {
                    if let Err(failure) = self.pass_deadline() {
                        // What is in flight may be answered all the same.
                        self.session.give_up(self.wire, failure);
                        self.is_over = true;
                    }
                }
                Event::LookUp => {}
            }
        }
    }

    /// Sends what is to be given back since it was charged too late, unless something else is still being sent.
    async fn give_back(&mut self) {
        while self.session.is_in_debt() {
            let requests = if self.flights.is_empty() {
                self.wire.begin_call()
            } else if let Some(requests) = self.wire.begin_pipelined_call() {
                requests
            } else {
                return;
            };
            let unsent = self.session.take_debt();
            self.flights.extend(self.session.depart(requests, unsent));
            self.wire.push().await;
        }
    }

    /// Whether a call is late, and the waiters of all others have their answer.
    fn is_only_late(&self) -> bool {
        let has = |stage| self.flights.iter().any(|flight| flight.stage == stage);
        has(Stage::Late) && !has(Stage::Awaited)
    }

    /// Whether the answers to calls that are late may be listened for: that must not hold up anything else.
    fn may_listen(&self) -> bool {
        let holds_up_nobody = if self.is_over { !self.session.lane.has_ended() } else { self.wire.is_sent() };
        holds_up_nobody && self.unsettled.is_empty()
    }

    /// Waits until something happens.
    async fn next_event(&mut self) -> Event {
        let Following { due, looks_up } = self.following();
        let deadline = self.deadline();
        let Self { session, wire, alarms, flights, .. } = self;
        let front = &mut flights[0];
        let mut hearing = pin!(front.question.hear(wire, &front.batch));
        let came = poll_fn(|context| match hearing.as_mut().poll(context) {
            Poll::Ready(heard) => Poll::Ready(Event::Answer(heard)),
            Poll::Pending if due.is_some() => {
                session.poll_next(due, context).map(|next| next.map_or(Event::Over, Event::Next))
            }
            Poll::Pending => Poll::Pending,
        });
        let came = match looks_up {
            Some(time) if time < deadline => alarms.look_up.within(time.into(), came).await,
            _ => alarms.give_up.within(deadline.into(), came).await,
        };
        came.unwrap_or_else(|| if Instant::now() >= deadline { Event::Deadline } else { Event::LookUp })
    }

    /// Returns when another call may follow those in flight. Calls that are late hold up nobody.
    fn following(&self) -> Following {
        let now = Instant::now();
        if self.is_over {
            // The lane may have ended by then.
            return Following { due: None, looks_up: Some(now + self.session.lane.common.timeout) };
        }
        if !self.unsettled.is_empty() {
            return Following::default();
        }
        let mut awaited = self.flights.iter().filter(|flight| flight.stage != Stage::Late);
        match awaited.next_back() {
            Some(last) => {
                self.session.pace.following(awaited.count() + 1, last.sent, self.wire.is_sent(), now)
            }
            None => Following { due: Some(now), looks_up: None },
        }
    }

    /// Returns when to act though no answer has come: at the first deadline of a call that checks wait for, or when
    /// the first call in flight has been listened for long enough.
    fn deadline(&self) -> Instant {
        let (first, others) = (self.flights.iter().take(1), self.flights.iter().skip(1));
        let awaited = others.filter(|flight| flight.stage == Stage::Awaited);
        first.chain(awaited).map(|flight| flight.deadline).min().unwrap_or_else(Instant::now)
    }

    /// Sends a call after those in flight.
    async fn follow(&mut self, unsent: UnsentCall) {
        // It is due only once all before it are sent; if they were not, it would fail.
        let Some(requests) = self.wire.begin_pipelined_call() else { return };
        self.flights.extend(self.session.depart(requests, unsent));
        self.wire.push().await;
    }

    /// Deals with the answer to the first call in flight, or with why there is none.
    async fn heard(&mut self, heard: RedisResult<()>) -> Result<(), Failure> {
        let Some(mut flight) = self.flights.pop_front() else { return Ok(()) };
        if let Err(error) = heard {
            return self.session.arrive(flight, Err(error.into()));
        }
        if flight.stage != Stage::Late {
            let now = Instant::now();
            self.session.pace.distance.learn(now - flight.sent, flight.batch.groups().len(), now);
        }
        if !self.session.settle(&mut flight) {
            return self.session.arrive(flight, Ok(()));
        }
        if flight.is_past(Instant::now()) {
            return self.session.abandon(flight);
        }
        // What only corrects what was charged may follow the others, and so may what has not been run.
        let may_follow = flight.stage == Stage::Answered || flight.question.has_lost_script();
        if may_follow && let Some(requests) = self.wire.begin_pipelined_call() {
            self.session.ask_again(requests, &mut flight);
            self.flights.push_back(flight);
            self.wire.push().await;
        } else {
            self.unsettled.push_back(flight);
        }
        Ok(())
    }

    /// Asks the unsettled calls again. A call that is late by now is not asked again; one that only corrects what was
    /// charged is never late.
    async fn ask_again(&mut self) -> Result<(), Failure> {
        let (requests, now) = (self.wire.begin_call(), Instant::now());
        while let Some(mut flight) = self.unsettled.pop_front() {
            if flight.stage == Stage::Answered {
                flight.deadline = now + self.session.lane.common.timeout;
            } else if flight.is_past(now) {
                self.session.abandon(flight)?;
                continue;
            }
            self.session.ask_again(requests, &mut flight);
            self.flights.push_back(flight);
        }
        self.wire.push().await;
        Ok(())
    }

    /// Tells the waiters of the first call whose deadline has passed that it is late. If there is none, the answer
    /// of the first call in flight has been awaited long enough. The error is why the connection no longer serves.
    fn pass_deadline(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.is_past(now)) {
            return self.session.expire(flight);
        }
        if let Some(flight) = self.flights.pop_front() {
            self.forget(flight);
        }
        Ok(())
    }

    /// Stops listening for the answer to a call, the first in flight.
    fn forget(&mut self, flight: Flight) {
        self.wire.give_up(flight.question.awaited(&flight.batch));
        self.session.lane.common.denials.doubt(&flight.batch);
        self.session.lane.recycle(flight.batch);
    }
}
