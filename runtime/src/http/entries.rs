//! What the policies that a request met have said.

use std::ops::Range;

use smallvec::SmallVec;

use crate::decision::Decision;
use crate::limiter::Ask;
use crate::store::Outcome;

/// One policy, and what it said.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) ask: Ask<'static>,
    /// What the store has said to it.
    outcome: Option<Outcome>,
    /// How much of its quotas this request holds.
    pub(super) charged: Charged,
    /// With which others it was asked.
    admission: u32,
}

/// How much a request holds, by where it was charged: where a store goes or comes back meanwhile, in both places.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Charged {
    /// Where the limiter counts.
    pub(super) in_store: u32,
    /// In this process, while the store was away.
    pub(super) here: u32,
}

/// The policies in the order in which they were asked.
///
/// Most requests meet one, which has its place here.
#[derive(Debug, Default)]
pub(super) struct Entries {
    all: SmallVec<[Entry; 1]>,
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
        let entry = Entry { ask, outcome: None, charged: Charged::default(), admission };
        let index = self.all.len();
        self.all.push(entry);
        &mut self.all[index]
    }

    /// Those that have been decided.
    pub(super) fn decided(&self) -> impl Iterator<Item = &Entry> + Clone {
        self.all.iter().filter(|entry| entry.outcome.is_some())
    }

    /// Those that have been decided.
    pub(super) fn decided_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.all.iter_mut().filter(|entry| entry.outcome.is_some())
    }

    /// The one of that policy, if it has been decided.
    pub(super) fn find_mut(&mut self, policy: &str) -> Option<&mut Entry> {
        self.decided_mut().find(|entry| entry.is_of(Some(policy)))
    }

    /// What has been decided.
    pub(super) fn decisions(&self) -> impl Iterator<Item = Decision> {
        self.all.iter().filter_map(Entry::decision)
    }

    /// Whether one has been denied.
    pub(super) fn has_denial(&self) -> bool {
        self.all.iter().any(Entry::is_denied)
    }

    /// Those that are asked together, and wait for a decision.
    pub(super) fn asked(&self, admission: u32) -> &[Entry] {
        &self.all[self.places(admission)]
    }

    /// Where those are that are asked together: they were entered one after the other.
    fn places(&self, admission: u32) -> Range<usize> {
        let is_asked = |entry: &Entry| entry.is_asked(admission);
        let first = self.all.iter().position(is_asked).unwrap_or(self.all.len());
        let count = self.all[first..].iter().take_while(|entry| is_asked(entry)).count();
        first..first + count
    }

    /// Notes what has been decided of those that were asked together.
    pub(super) fn settle(&mut self, admission: u32, outcome: Outcome) {
        let places = self.places(admission);
        match &mut self.all[places] {
            [entry] => entry.settle(outcome),
            entries => settle_each(entries, outcome),
        }
    }

    /// Strikes out those that were asked together and will not be decided.
    pub(super) fn withdraw(&mut self, admission: u32) {
        self.all.retain(|entry| !entry.is_asked(admission));
    }
}

impl Charged {
    pub(super) fn is_none(self) -> bool {
        self.in_store == 0 && self.here == 0
    }

    /// Takes `cost` out, or as much as there is: of what all share before what is this process's.
    pub(super) fn take(&mut self, cost: u32) -> Self {
        let in_store = cost.min(self.in_store);
        let here = (cost - in_store).min(self.here);
        self.in_store -= in_store;
        self.here -= here;
        Self { in_store, here }
    }
}

/// Gives each its part.
#[inline(never)] // most requests ask one
fn settle_each(entries: &mut [Entry], mut outcome: Outcome) {
    for entry in entries {
        let part = entry.ask.part_of(&mut outcome);
        entry.settle(part);
    }
}

impl Entry {
    fn is_asked(&self, admission: u32) -> bool {
        self.outcome.is_none() && self.admission == admission
    }

    fn settle(&mut self, part: Outcome) {
        // What one denies is charged by none.
        if part.is_charged() {
            self.charge(self.ask.cost, &part);
        }
        self.ask.report(&part);
        self.outcome = Some(part);
    }

    /// Notes that `cost` was charged, where `part` tells.
    pub(super) fn charge(&mut self, cost: u32, part: &Outcome) {
        let Charged { in_store, here } = &mut self.charged;
        let charged = if part.is_degraded() { here } else { in_store };
        *charged = charged.saturating_add(cost);
    }

    /// What asks for `cost` of the same, if that is anything.
    pub(super) fn ask_for(&self, cost: u32) -> Option<Ask<'static>> {
        (cost > 0).then(|| Ask { cost, ..self.ask.clone() })
    }

    /// Whether it is of the policy of that name, or of any if there is no name.
    pub(super) fn is_of(&self, policy: Option<&str>) -> bool {
        policy.is_none_or(|policy| policy == self.ask.policy.name())
    }

    /// Whether the request must not pass.
    pub(super) fn is_denied(&self) -> bool {
        self.outcome.as_ref().is_some_and(Outcome::is_exceeded) && !self.ask.policy.is_shadow()
    }

    /// What was decided, if it has been.
    pub(super) fn decision(&self) -> Option<Decision> {
        self.outcome.as_ref().map(|part| self.ask.decision(part))
    }

    /// Notes where the counters stand after a handler has added to the cost, or given some of it back.
    pub(super) fn update(&mut self, later: &Outcome) {
        if let Some(part) = &mut self.outcome {
            part.update(later);
        }
    }
}
