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
}

/// The policies in the order in which they were asked.
///
/// Most requests meet one, which has its place here, and is written there: what is moved from place to place
/// costs more than what is written.
#[derive(Debug, Default)]
pub(super) struct Entries {
    first: Option<Entry>,
    others: Vec<Entry>,
}

impl Entries {
    /// Enters what is to be asked, without a key yet.
    pub(super) fn enter(&mut self, ask: Ask<'static>) -> &mut Entry {
        let decision = Decision::pending(&ask.policy, ask.cost);
        let entry = Entry { ask, decision, charged: 0 };
        if self.len() == 0 {
            return self.first.insert(entry);
        }
        let index = self.others.len();
        self.others.push(entry);
        &mut self.others[index]
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> + Clone {
        self.first.iter().chain(&self.others)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.first.iter_mut().chain(&mut self.others)
    }

    /// Takes away those from number `known` on.
    pub(super) fn split_off(&mut self, known: usize) -> Self {
        match known.checked_sub(1) {
            None => std::mem::take(self),
            Some(others) => Self { first: None, others: self.others.split_off(others) },
        }
    }

    pub(super) fn append(&mut self, later: Self) {
        let Self { first, others } = later;
        if self.len() == 0 {
            self.first = first;
        } else {
            self.others.extend(first);
        }
        self.others.extend(others);
    }

    /// Notes what has been decided of those from number `known` on.
    pub(super) fn settle(&mut self, known: usize, outcome: &Outcome) {
        let mut readings = outcome.readings();
        for Entry { ask, decision, charged } in self.iter_mut().skip(known) {
            readings = ask.settle(decision, outcome, readings);
            // What one denies is charged by none.
            if outcome.taken() && !decision.is_exceeded() && !decision.quotas().is_empty() {
                *charged = ask.cost;
            }
            report(decision);
        }
    }
}
