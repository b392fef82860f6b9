//! What the policies that a request met have said.

use crate::decision::Decision;
use crate::limiter::{Ask, report};
use crate::store::Outcome;

/// One policy, and what it said.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) ask: Ask<'static>,
    pub(super) decision: Decision,
    /// How much of its quotas this request holds.
    pub(super) charged: u32,
    /// With which others it was asked.
    admission: u32,
    is_decided: bool,
}

/// The policies in the order in which they were asked.
///
/// Most requests meet one, which has its place here, and is written there: what is moved from place to place
/// costs more than what is written.
#[derive(Debug, Default)]
pub(super) struct Entries {
    first: Option<Entry>,
    others: Vec<Entry>,
    admissions: u32,
}

impl Entries {
    /// The number of those that are asked next.
    pub(super) fn begin(&mut self) -> u32 {
        self.admissions += 1;
        self.admissions
    }

    /// Enters what is to be asked, without a key yet.
    pub(super) fn enter(&mut self, admission: u32, ask: Ask<'static>) -> &mut Entry {
        let decision = Decision::pending(&ask.policy, ask.cost);
        let entry = Entry { ask, decision, charged: 0, admission, is_decided: false };
        if self.first.is_none() && self.others.is_empty() {
            return self.first.insert(entry);
        }
        let index = self.others.len();
        self.others.push(entry);
        &mut self.others[index]
    }

    /// Those that have been decided.
    pub(super) fn decided(&self) -> impl Iterator<Item = &Entry> + Clone {
        self.all().filter(|entry| entry.is_decided)
    }

    /// Those that have been decided.
    pub(super) fn decided_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.all_mut().filter(|entry| entry.is_decided)
    }

    /// Those that are asked together, and wait for a decision.
    pub(super) fn asked(&self, admission: u32) -> impl Iterator<Item = &Entry> + Clone {
        self.all().filter(move |entry| entry.is_asked(admission))
    }

    /// Notes what has been decided of those that were asked together.
    pub(super) fn settle(&mut self, admission: u32, outcome: &Outcome) {
        let mut readings = outcome.readings();
        for entry in self.all_mut().filter(|entry| entry.is_asked(admission)) {
            let Entry { ask, decision, charged, admission: _, is_decided } = entry;
            readings = ask.settle(decision, outcome, readings);
            *is_decided = true;
            // What one denies is charged by none.
            if outcome.taken() && !decision.is_exceeded() && !decision.quotas().is_empty() {
                *charged = ask.cost;
            }
            report(decision);
        }
    }

    /// Strikes out those that were asked together and will not be decided.
    pub(super) fn withdraw(&mut self, admission: u32) {
        self.first.take_if(|entry| entry.is_asked(admission));
        self.others.retain(|entry| !entry.is_asked(admission));
    }

    fn all(&self) -> impl Iterator<Item = &Entry> + Clone {
        self.first.iter().chain(&self.others)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.first.iter_mut().chain(&mut self.others)
    }
}

impl Entry {
    fn is_asked(&self, admission: u32) -> bool {
        !self.is_decided && self.admission == admission
    }
}
