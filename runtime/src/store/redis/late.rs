//! Gives back what Redis has charged too late: for a check that was refused without Redis, or whose charge is given
//! back before it is known whether there was one.
//!
//! A check whose deadline passes is decided without Redis. Redis may charge it all the same, and its answer, should it
//! still arrive, says so. Whoever has no use for such a charge renounces it. What is renounced is given back as soon as
//! the answer tells that it was charged.

use std::sync::Arc;

use parking_lot::Mutex;

use super::answers::Answers;
use super::batch::Place;
use super::lane::{Call, Lane};
use crate::store::Counter;

/// A check that was late.
pub(crate) struct LateCheck {
    pub(super) lane: Arc<Lane>,
    pub(super) call: Arc<Call>,
    pub(super) place: Place,
}

/// What is known about the charges of a call that was late.
pub(super) struct Late(Mutex<State>);

enum State {
    /// There is no answer yet; these charges are renounced, should they have been made.
    Unanswered(Vec<Renounced>),
    Answered(Answers),
}

/// A charge that nobody has any use for.
pub(super) struct Renounced {
    place: Place,
    /// The counters with their keys, of which the counters themselves have none.
    counters: Vec<(String, Counter<'static>)>,
}

impl LateCheck {
    /// Gives `counters` of the check back, if Redis has charged it or should turn out to have charged it.
    ///
    /// A counter in shadow may not have been charged with the others, and stays as it is.
    pub(crate) fn renounce(&self, counters: &[Counter<'_>]) {
        let is_charged = |counter: &&Counter<'_>| counter.cost > 0 && !counter.shadow;
        let own = |counter: &Counter<'_>| (counter.key.to_owned(), Counter { key: "", ..*counter });
        let counters: Vec<_> = counters.iter().filter(is_charged).map(own).collect();
        if counters.is_empty() {
            return;
        }
        let renounced = Renounced { place: self.place, counters };
        if let Some(renounced) = self.call.late().renounce(renounced) {
            self.lane.give_back(&renounced);
        }
    }
}

impl Default for Late {
    fn default() -> Self {
        Self(Mutex::new(State::Unanswered(Vec::new())))
    }
}

impl Late {
    /// Records what is renounced, and returns it if it is known to have been charged.
    fn renounce(&self, renounced: Renounced) -> Option<Renounced> {
        match &mut *self.0.lock() {
            State::Unanswered(all) => {
                all.push(renounced);
                None
            }
            State::Answered(answers) => is_charged(answers, &renounced).then_some(renounced),
        }
    }

    /// Records the answers, and returns what was renounced and has been charged.
    pub(super) fn answer(&self, answers: Answers) -> Vec<Renounced> {
        let mut state = self.0.lock();
        let State::Unanswered(mut all) = std::mem::replace(&mut *state, State::Answered(answers)) else {
            return Vec::new();
        };
        if let State::Answered(answers) = &*state {
            all.retain(|renounced| is_charged(answers, renounced));
        }
        all
    }
}

fn is_charged(answers: &Answers, Renounced { place, .. }: &Renounced) -> bool {
    answers.passed(place.group).is_ok_and(|passed| place.before < passed)
}

impl Renounced {
    pub(super) fn counters(&self) -> impl Iterator<Item = Counter<'_>> {
        self.counters.iter().map(|(key, counter)| Counter { key, ..*counter })
    }
}
