//! What is kept of a connection from call to call, and how each call begins and ends there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use redis::{ErrorKind, RedisError};
use smallvec::SmallVec;

use super::answers::Answers;
use super::batch::Batch;
use super::call::AwaitedCall;
use super::connection::{Requests, Wire};
use super::failure::Failure;
use super::flight::{Flight, Stage};
use super::lane::Lane;
use super::pace::Pace;
use super::question::Question;
use super::queue::UnsentCall;
use super::renounced::Renounced;
use super::silence::Silence;
use super::windows::Windows;
use crate::store::{ChargeTime, Counter};

/// How long the answer to a call that is late is listened for, to give back what nobody has any use for.
const LISTENING: Duration = Duration::from_secs(5);

/// The service of one connection to its lane.
pub(super) struct Session {
    pub(super) lane: Arc<Lane>,
    pub(super) pace: Pace,
    pub(super) silence: Silence,
    generation: u64,
    windows: Windows,
    /// What has been charged too late, and is to be given back.
    owed: VecDeque<Renounced>,
    /// Whether the server has transactions.
    transacts: bool,
}

impl Session {
    pub(super) fn new(lane: Arc<Lane>, generation: u64, transacts: bool) -> Self {
        let (pace, silence) = (Pace::new(lane.common.timeout, Instant::now()), Silence::default());
        let (windows, owed) = (Windows::new(), VecDeque::new());
        Self { lane, pace, silence, generation, windows, owed, transacts }
    }

    /// Polls for the next call to send: see [`Lane::poll_next`].
    pub(super) fn poll_next(&self, due: Option<Instant>, context: &Context<'_>) -> Poll<Option<UnsentCall>> {
        self.lane.poll_next(self.generation, due, context)
    }

    /// Polls whether there is something to do: see [`Lane::poll_any`].
    pub(super) fn poll_any(&self, context: &Context<'_>) -> Poll<()> {
        self.lane.poll_any(self.generation, context)
    }

    /// Gives the connection up: see [`Lane::lose`].
    pub(super) fn lose(&self, failure: &Failure) -> bool {
        self.lane.lose(Some(self.generation), failure)
    }

    /// Gives up the connection through `wire`, and reports why, unless the lane uses another one already.
    pub(super) fn give_up(&self, wire: &Wire, failure: Failure) {
        let failure = match failure {
            Failure::Redis(error) => Failure::Redis(wire.located(error)),
            failure => failure,
        };
        if self.lose(&failure) {
            self.lane.common.report(failure);
        }
    }

    /// Adds a call to `requests`. If it is late already, nobody would know what it counts: then only what it gives back
    /// is asked, and `None` is returned if that is nothing.
    ///
    /// While the server answers, checks that had to wait until they are sent have waited for this process, whose
    /// threads are busy or blocked. That is not to be taken for a server that is away, so they have a tenth of the
    /// timeout left, or twice what an answer takes.
    pub(super) fn depart(&mut self, requests: &mut Requests, unsent: UnsentCall) -> Option<Flight> {
        let UnsentCall { mut batch, mut call, since } = unsent;
        let (sent, timeout) = (Instant::now(), self.lane.common.timeout);
        let travels = || 2 * self.pace.distance.far().unwrap_or_default();
        let grace = if self.silence.is_over() { (timeout / 10).max(travels()) } else { Duration::ZERO };
        let mut deadline = (since + timeout).max(sent + grace);
        if sent >= deadline {
            let _ = call.0.finish(Err(self.lane.common.late()));
            let give_backs = batch.give_backs(|_| true);
            self.lane.recycle(batch);
            (batch, call, deadline) = (give_backs?, AwaitedCall::default(), sent + timeout);
        }
        let sent_micros = self.lane.common.now_micros();
        let scripts = &self.lane.common.scripts;
        let question = scripts.ask(requests, &batch, &mut self.windows, sent_micros, self.transacts);
        Some(Flight { batch, question, call, sent, sent_micros, deadline, stage: Stage::Awaited })
    }

    /// Whether something is to be given back that was charged too late.
    pub(super) fn is_in_debt(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Returns a call that gives back what was charged too late, or as much of that as fits.
    pub(super) fn take_debt(&mut self) -> UnsentCall {
        let mut batch = Batch::unawaited();
        let common = &self.lane.common;
        let mut fits = |renounced: &Renounced| {
            let counters: SmallVec<[Counter<'_>; 2]> = renounced.counters().collect();
            batch.add(&renounced.check(common, &counters)).is_some()
        };
        while let Some(renounced) = self.owed.pop_front() {
            if !fits(&renounced) {
                self.owed.push_front(renounced);
                break;
            }
        }
        // Nobody waits for it.
        UnsentCall { batch, call: AwaitedCall::default(), since: Instant::now() }
    }

    /// Adds to `requests` what is [unsettled](Self::settle) of a call.
    pub(super) fn ask_again(&self, requests: &mut Requests, flight: &mut Flight) {
        let Flight { batch, question, sent, .. } = flight;
        self.lane.common.scripts.ask_again(requests, batch, question, sent.elapsed());
    }

    /// Settles a call, all of which is answered by now. Returns whether something has to be asked again. If that
    /// only corrects what was charged, the waiters are told first. A late call is asked nothing else again, and what it
    /// gives back is asked by another.
    pub(super) fn settle(&mut self, flight: &mut Flight) -> bool {
        let Flight { batch, question, sent_micros, .. } = flight;
        if !question.settle(batch) {
            return false;
        }
        if flight.stage != Stage::Answered && question.is_decided() {
            let (decided, scripts) = (question.clone(), &self.lane.common.scripts);
            // Every part has an answer, so nobody is told this.
            let unanswered = Failure::NoConnection;
            if let Ok(answers) = scripts.answers(decided, *sent_micros, unanswered, batch, &mut self.windows)
            {
                if flight.stage == Stage::Awaited {
                    self.silence.end();
                }
                self.tell(flight, answers);
                (flight.stage, flight.deadline) =
                    (Stage::Answered, Instant::now() + self.lane.common.timeout);
            }
        }
        if flight.stage == Stage::Late {
            self.owe_lost(flight);
        }
        flight.stage != Stage::Late
    }

    /// Tells the waiters of a call that there is no time left to ask again. What it gives back is asked by another.
    pub(super) fn abandon(&mut self, flight: Flight) -> Result<(), Failure> {
        self.owe_lost(&flight);
        self.arrive(flight, Err(self.lane.common.late()))
    }

    /// Has another call ask for what a late one was to give back, as far as the server had lost its script.
    fn owe_lost(&self, flight: &Flight) {
        let Flight { batch, question, .. } = flight;
        if question.has_lost_script()
            && let Some(give_backs) = batch.give_backs(|group| question.has_lost(group, batch))
        {
            self.lane.owe(give_backs);
        }
    }

    /// Tells the waiters of a call that it is late. Its answer is listened for a while longer. The error is why
    /// the connection no longer serves.
    pub(super) fn expire(&mut self, flight: &mut Flight) -> Result<(), Failure> {
        (flight.stage, flight.deadline) = (Stage::Late, Instant::now() + LISTENING);
        self.conclude(flight, flight.question.clone(), Err(self.lane.common.late()))
    }

    /// Tells the waiters of a call what was answered. Some parts have no answer if not all was `heard`, which says why,
    /// or if the call is late. The error is why the connection no longer serves.
    pub(super) fn arrive(&mut self, mut flight: Flight, heard: Result<(), Failure>) -> Result<(), Failure> {
        let served = if flight.stage == Stage::Answered {
            heard.or_else(Failure::if_away)
        } else {
            let question = std::mem::take(&mut flight.question);
            self.conclude(&flight, question, heard)
        };
        self.lane.recycle(flight.batch);
        served
    }

    /// Tells the waiters of a call what was answered to its `question`, and why the rest was not.
    fn conclude(
        &mut self,
        flight: &Flight,
        mut question: Question,
        heard: Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Flight { batch, sent_micros, stage, .. } = flight;
        if let Err(failure) = &heard {
            // Parts that were answered are decided all the same; those whose script the server had lost are not.
            question.reopen_lost();
            question.settle(batch);
            if !question.is_answered() {
                return self.fail(flight, failure.clone());
            }
        }
        // If all was heard, only a late call leaves something unanswered, since it is not asked again.
        let unanswered = heard.clone().err().unwrap_or_else(|| self.lane.common.late());
        let scripts = &self.lane.common.scripts;
        self.transacts &= !question.has_refused_transaction();
        let answers = match scripts.answers(question, *sent_micros, unanswered, batch, &mut self.windows) {
            Ok(answers) => answers,
            Err(unread) => return self.fail(flight, heard.err().unwrap_or_else(|| unread.into())),
        };
        if *stage == Stage::Awaited {
            self.silence.end();
        }
        let served = heard.or_else(Failure::if_away).and(answers.lost().cloned().map_or(Ok(()), Err));
        self.tell(flight, answers);
        served
    }

    /// Tells the waiters of a call that it has failed. The error is why the connection no longer serves.
    fn fail(&mut self, flight: &Flight, failure: Failure) -> Result<(), Failure> {
        // Nobody knows whether its resets have taken effect.
        self.lane.common.denials.doubt(&flight.batch);
        self.windows.forget_resets(&flight.batch);
        let _ = flight.call.0.finish(Err(failure.clone()));
        if !matches!(failure, Failure::Timeout(_)) {
            self.silence.end();
            return failure.if_away();
        }
        if flight.sent.elapsed() * 2 < self.lane.common.timeout {
            // Most of the time had passed before it was sent, which says nothing about the store.
            return Ok(());
        }
        self.missed(flight.sent)
    }

    /// Notes that a call that was `sent` then had no answer. The error is why the connection no longer serves.
    pub(super) fn missed(&mut self, sent: Instant) -> Result<(), Failure> {
        if self.silence.missed(sent, Instant::now()) {
            return Err(RedisError::from((ErrorKind::Io, "several calls in a row had no answer")).into());
        }
        Ok(())
    }

    /// Gives `answers` to all who wait for a call, and remembers what was denied. What has been renounced by those for
    /// whom it was late is to be given back on this connection: only this one surely leads to the server that was
    /// charged.
    fn tell(&mut self, flight: &Flight, answers: Answers) {
        let Flight { batch, call, sent_micros, .. } = flight;
        if self.lane.is_served_by(self.generation) {
            self.lane.common.denials.learn(batch, &answers, *sent_micros);
        } else {
            // Another connection may lead to another server, or may have reset since what this one tells of.
            self.lane.common.denials.doubt(batch);
        }
        let late = call.0.finish(Ok(answers)).err().and_then(Result::ok);
        let made = ChargeTime { asked: *sent_micros, answered: self.lane.common.now_micros() };
        self.owed.extend(call.0.take_renounced(late, made));
    }
}
