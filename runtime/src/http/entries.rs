//! The entries of a ledger: the policies that a request has met, and what each decided.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::ask::Ask;
use crate::decision::Decision;
use crate::policy::Policy;
use crate::store::{LateCheck, Outcome};

/// A policy, and what it decided.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) ask: Ask<'static>,
    /// What the store answered; `None` until then.
    outcome: Option<Outcome>,
    /// How much of the policy's quotas this request holds.
    pub(super) charged: Charged,
    /// The store's check that missed its deadline, if this entry was decided without the store because of that.
    late: Option<Box<LatePart>>,
    /// The admission that it belongs to: policies of one admission are asked together.
    admission: u32,
}

/// The part of an entry in a check that was late.
#[derive(Clone, Debug)]
pub(super) struct LatePart {
    pub(super) check: Arc<LateCheck>,
    /// The index of the entry's first counter in the check.
    pub(super) first: usize,
    /// How much the request holds of what the store may have charged after the deadline.
    charged: u32,
}

/// How much a request holds, by where it was charged. If the store goes away or comes back meanwhile, it may hold
/// some in both places.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Charged {
    /// In the limiter's store.
    pub(super) in_store: u32,
    /// In this process, while the store was away.
    pub(super) in_process: u32,
}

/// The entries, in the order in which their policies were asked.
///
/// Most requests meet one policy, whose entry is kept inline.
#[derive(Debug, Default)]
pub(super) struct Entries {
    all: SmallVec<[Entry; 1]>,
    admissions: u32,
}

impl Entries {
    /// Begins an admission, and returns its number.
    pub(super) fn begin(&mut self) -> u32 {
        self.admissions += 1;
        self.admissions
    }

    /// Enters what is to be asked. Its key is not written yet.
    pub(super) fn enter(&mut self, admission: u32, ask: Ask<'static>) -> &mut Entry {
        let entry = Entry { ask, outcome: None, charged: Charged::default(), late: None, admission };
        let index = self.all.len();
        self.all.push(entry);
        &mut self.all[index]
    }

    /// Returns the entries that have been decided.
    pub(super) fn decided(&self) -> impl Iterator<Item = &Entry> + Clone {
        self.all.iter().filter(|entry| entry.outcome.is_some())
    }

    /// Returns the entries that have been decided, to be changed.
    pub(super) fn decided_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.all.iter_mut().filter(|entry| entry.outcome.is_some())
    }

    /// Returns the entry of `policy`, if it has been decided.
    pub(super) fn find_mut(&mut self, policy: &str) -> Option<&mut Entry> {
        self.decided_mut().find(|entry| entry.is_of(Some(policy)))
    }

    /// Returns the decisions so far.
    pub(super) fn decisions(&self) -> impl Iterator<Item = Decision> {
        self.all.iter().filter_map(Entry::decision)
    }

    /// Whether a policy has denied the request.
    pub(super) fn has_denial(&self) -> bool {
        self.all.iter().any(Entry::is_denied)
    }

    /// Returns the entries of `admission` that wait for a decision.
    pub(super) fn asked(&self, admission: u32) -> &[Entry] {
        &self.all[self.places(admission)]
    }

    /// Returns where the undecided entries of `admission` are. They are adjacent, since they were entered one
    /// after the other.
    fn places(&self, admission: u32) -> Range<usize> {
        let is_asked = |entry: &Entry| entry.is_asked(admission);
        let first = self.all.iter().position(is_asked).unwrap_or(self.all.len());
        let count = self.all[first..].iter().take_while(|entry| is_asked(entry)).count();
        first..first + count
    }

    /// Records that the store may still charge what the entries of `admission` ask for, which wait for a decision.
    pub(super) fn note_late(&mut self, admission: u32, late: &Arc<LateCheck>) {
        let places = self.places(admission);
        let mut first = 0;
        for entry in &mut self.all[places] {
            let (check, charged) = (Arc::clone(late), entry.ask.cost);
            entry.late = Some(Box::new(LatePart { check, first, charged }));
            first += entry.ask.counter_count();
        }
    }

    /// Records the outcome for the entries of `admission`.
    pub(super) fn settle(&mut self, admission: u32, outcome: Outcome) {
        let places = self.places(admission);
        match &mut self.all[places] {
            [entry] => entry.settle(outcome),
            entries => settle_each(entries, outcome),
        }
    }

    /// Strikes out the entries of `policies` that were spared, so that they are asked again.
    #[cold] // the request has been denied, and is sent again all the same
    pub(super) fn strike_out_spared(&mut self, policies: &[&'static Policy]) {
        let is_asked = |entry: &Entry| policies.iter().any(|policy| entry.is_of(Some(policy.name())));
        self.all.retain(|entry| !(entry.is_spared() && is_asked(entry)));
    }

    /// Strikes out the entries of `admission` that will not be decided.
    pub(super) fn withdraw(&mut self, admission: u32) {
        self.all.retain(|entry| !entry.is_asked(admission));
    }
}

impl Charged {
    fn is_none(self) -> bool {
        self.in_store == 0 && self.in_process == 0
    }

    /// Takes out `cost`, or as much as there is: first from the store, which all share, then from this process.
    fn take(&mut self, cost: u32) -> Self {
        let in_store = cost.min(self.in_store);
        let in_process = (cost - in_store).min(self.in_process);
        self.in_store -= in_store;
        self.in_process -= in_process;
        Self { in_store, in_process }
    }
}

/// Gives each entry its part of the outcome.
#[inline(never)] // most requests ask one policy
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
        // If one policy denies, none is charged.
        if part.is_charged() {
            self.charge(self.ask.cost, &part);
        }
        self.ask.report(&part);
        self.outcome = Some(part);
    }

    /// Records that `cost` was charged, in the place that `part` tells.
    pub(super) fn charge(&mut self, cost: u32, part: &Outcome) {
        let Charged { in_store, in_process } = &mut self.charged;
        let charged = if part.is_degraded() { in_process } else { in_store };
        *charged = charged.saturating_add(cost);
    }

    /// Returns an ask for `cost` under the same policy and key, unless `cost` is 0.
    pub(super) fn ask_for(&self, cost: u32) -> Option<Ask<'static>> {
        (cost > 0).then(|| Ask { cost, ..self.ask.clone() })
    }

    /// Whether the request may hold some of the policy's quotas.
    pub(super) fn is_charged(&self) -> bool {
        !self.charged.is_none() || self.late.as_ref().is_some_and(|late| late.charged > 0)
    }

    /// Takes `cost` out of the charges, or as much as there is. What is not taken from the store is also taken from
    /// what the store may have charged after the deadline, and that part is returned with its amount.
    pub(super) fn take(&mut self, cost: u32) -> (Charged, Option<(LatePart, u32)>) {
        let charged = self.charged.take(cost);
        let still_held = self.charged.in_process;
        let late = self.late.as_mut().map(|late| {
            // What the request still holds in this process includes what was late.
            let taken = (cost - charged.in_store).min(late.charged.saturating_sub(still_held));
            late.charged -= taken;
            (LatePart::clone(late), taken)
        });
        (charged, late)
    }

    /// Whether this is the entry of `policy`; always true if that is `None`.
    pub(super) fn is_of(&self, policy: Option<&str>) -> bool {
        policy.is_none_or(|policy| policy == self.ask.policy.name())
    }

    /// Whether the policy had room for the request but was not charged, since another one denied it.
    fn is_spared(&self) -> bool {
        let is_spared = |part: &Outcome| !part.taken() && !part.readings().is_empty() && !part.is_exceeded();
        self.outcome.as_ref().is_some_and(is_spared) && !self.is_charged()
    }

    /// Whether this entry denies the request.
    pub(super) fn is_denied(&self) -> bool {
        self.outcome.as_ref().is_some_and(Outcome::is_exceeded) && !self.ask.policy.is_shadow()
    }

    /// Returns the decision, if there is one yet.
    pub(super) fn decision(&self) -> Option<Decision> {
        self.outcome.as_ref().map(|part| self.ask.decision(part))
    }

    /// Updates where the counters stand, after a handler has added to the cost or given some of it back.
    pub(super) fn update(&mut self, later: &Outcome) {
        if let Some(part) = &mut self.outcome {
            part.update(later);
        }
    }
}
