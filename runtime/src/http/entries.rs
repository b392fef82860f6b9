//! The entries of a ledger: the policies that a request has met, and what each decided.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use super::checks::Checks;
use super::holdings::{Charged, Holding, Holdings};
use crate::ask::Ask;
use crate::decision::Decision;
use crate::policy::Policy;
use crate::quota::Quota;
use crate::store::{ChargeTime, LateCheck, Outcome};

/// A policy, and what it decided.
///
/// An entry is *asked* until it has an outcome. Then it has *passed*, is *denied*, or was *spared*: the policy had
/// room, but was not charged since another one denied. If the request is sent again, what was spared is asked again.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) ask: Ask<'static>,
    /// What the store answered; `None` until then.
    outcome: Option<Outcome>,
    /// How much of the policy's quotas this request holds.
    holdings: Holdings,
    /// The store's checks that missed their deadlines, if this entry was decided without the store because of that.
    /// What they may have charged are the same units as were charged in this process, which stood in for them.
    late: Vec<LatePart>,
    /// The admission that it belongs to: policies of one admission are asked together. 0 if a handler has checked it by
    /// itself.
    admission: u32,
}

/// The part of an entry in a check that was late.
#[derive(Clone, Debug)]
pub(super) struct LatePart {
    pub(super) check: Arc<LateCheck>,
    /// The index of the entry's first counter in the check.
    pub(super) first: usize,
    /// What the entry cost there, and how much of that has been given back.
    pub(super) cost: u32,
    pub(super) returned: u32,
    /// How much the request holds of what the store may have charged after the deadline.
    charged: u32,
}

impl LatePart {
    /// Returns the part of `ask`, whose first counter is number `first` of the check.
    pub(super) fn of(ask: &Ask<'_>, check: &Arc<LateCheck>, first: usize) -> Self {
        Self { check: Arc::clone(check), first, cost: ask.cost, returned: 0, charged: ask.cost }
    }
}

/// The entries, in the order in which their policies were asked.
///
/// Most requests meet one policy, whose entry is kept inline.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// Those of the attributes.
    admitted: SmallVec<[Entry; 1]>,
    admissions: u32,
    /// Those of the handler. They never change what the attributes have decided.
    checks: Option<Box<Checks>>,
}

impl Entries {
    /// Begins an admission, and returns its number.
    pub(super) fn begin(&mut self) -> u32 {
        self.admissions += 1;
        self.admissions
    }

    /// Enters what is to be asked. Its key is not written yet.
    pub(super) fn enter(&mut self, admission: u32, ask: Ask<'static>) -> &mut Entry {
        let index = self.admitted.len();
        self.admitted.push(Entry::new(ask, admission));
        &mut self.admitted[index]
    }

    /// Returns what the handler has checked by itself.
    pub(super) fn checks(&self) -> Option<&Checks> {
        self.checks.as_deref()
    }

    /// Enters what the handler has checked by itself.
    pub(super) fn enter_checked(
        &mut self,
        ask: Ask<'static>,
        outcome: Outcome,
        late: Option<LatePart>,
        time: ChargeTime,
    ) {
        for entry in self.about_mut(&ask) {
            entry.update(&outcome);
        }
        self.checks.get_or_insert_default().enter(ask, outcome, late, time);
    }

    /// Notes that the handler has checked a policy, though there is no entry of it.
    pub(super) fn note_checked(&mut self, policy: &'static str) {
        self.checks.get_or_insert_default().note(policy);
    }

    /// Returns the entries that have been decided.
    pub(super) fn decided(&self) -> impl Iterator<Item = &Entry> {
        let checked = self.checks().map_or(&[][..], Checks::entries);
        self.admitted.iter().filter(|entry| entry.outcome.is_some()).chain(checked)
    }

    /// Returns the entries that have been decided, to be changed.
    pub(super) fn decided_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Entry> {
        let checked = self.checks.as_deref_mut().map_or(&mut [][..], Checks::entries_mut);
        self.admitted.iter_mut().filter(|entry| entry.outcome.is_some()).chain(checked)
    }

    /// Returns the decided entries about the same counters as `ask`.
    pub(super) fn about_mut(&mut self, ask: &Ask<'_>) -> impl Iterator<Item = &mut Entry> {
        let admitted =
            self.admitted.iter_mut().filter(|entry| entry.outcome.is_some() && entry.ask.is_about(ask));
        admitted.chain(self.checks.as_deref_mut().and_then(|checks| checks.find_mut(ask)))
    }

    /// Returns an entry for each key, but for those under which a handler's check was denied.
    pub(super) fn passed(&self) -> impl Iterator<Item = &Entry> {
        let admitted = || self.admitted.iter().filter(|entry| entry.outcome.is_some());
        let is_other = move |entry: &&Entry| admitted().all(|other| other.ask.key != entry.ask.key);
        let has_passed = |entry: &&Entry| !entry.is_denied() || entry.is_charged();
        let checked = self.checks().into_iter().flat_map(Checks::latest);
        admitted().chain(checked.filter(is_other).filter(has_passed))
    }

    /// Whether an attribute with this policy has been asked, or is being asked in `admission`.
    pub(super) fn has_asked(&self, policy: &Policy, admission: u32) -> bool {
        let is_known = |entry: &Entry| entry.outcome.is_some() || entry.admission == admission;
        self.admitted.iter().any(|entry| is_known(entry) && entry.is_of(Some(policy.name())))
    }

    /// Returns the entries of `policies` that an attribute has asked for and that have been decided.
    pub(super) fn admitted(&self, policies: &[&Policy]) -> impl Iterator<Item = &Entry> {
        self.admitted.iter().filter(|entry| entry.outcome.is_some() && entry.is_of_any(policies))
    }

    /// Returns the decisions so far.
    pub(super) fn decisions(&self) -> impl Iterator<Item = Decision> {
        self.decided().filter_map(Entry::decision)
    }

    /// Calls `tell` with what to tell the client: a decision for each policy that is not in shadow. Of a policy that was
    /// checked under several keys, it is the one that binds first.
    pub(super) fn tell<T>(&self, tell: impl FnOnce(&[Decision]) -> T) -> T {
        match (&self.admitted[..], &self.checks) {
            // Most requests meet one policy, whose decision is not moved around for this.
            ([entry], None) => tell(entry.told().as_slice()),
            _ => tell(&self.told()),
        }
    }

    #[inline(never)] // most requests meet one policy
    fn told(&self) -> SmallVec<[Decision; 2]> {
        let mut told: SmallVec<[Decision; 2]> = SmallVec::new();
        let latest = self.admitted.iter().chain(self.checks().into_iter().flat_map(Checks::latest));
        for decision in latest.filter_map(Entry::told) {
            match told.iter_mut().find(|other| other.policy() == decision.policy()) {
                Some(other) if decision.binds_before(other) => *other = decision,
                Some(_) => {}
                None => told.push(decision),
            }
        }
        told
    }

    /// Whether a policy has denied the request.
    pub(super) fn has_denial(&self) -> bool {
        self.admitted.iter().any(Entry::is_denied)
    }

    /// Returns the entries of `admission` that wait for a decision.
    pub(super) fn asked(&self, admission: u32) -> &[Entry] {
        &self.admitted[self.places(admission)]
    }

    /// Returns where the undecided entries of `admission` are. They are adjacent, since they were entered one
    /// after the other.
    fn places(&self, admission: u32) -> Range<usize> {
        let is_asked = |entry: &Entry| entry.is_asked(admission);
        let first = self.admitted.iter().position(is_asked).unwrap_or(self.admitted.len());
        let count = self.admitted[first..].iter().take_while(|entry| is_asked(entry)).count();
        first..first + count
    }

    /// Records that the store may still charge what the entries of `admission` ask for, which wait for a decision.
    pub(super) fn note_late(&mut self, admission: u32, late: &Arc<LateCheck>) {
        let places = self.places(admission);
        let mut first = 0;
        for entry in &mut self.admitted[places] {
            entry.late.push(LatePart::of(&entry.ask, late, first));
            first += entry.ask.counter_count();
        }
    }

    /// Records that the store may still add what `asks` have asked for.
    pub(super) fn note_late_addition(&mut self, asks: &[Ask<'_>], late: &Arc<LateCheck>) {
        let mut first = 0;
        for ask in asks {
            // Only one of them, if there are several.
            if let Some(entry) = self.about_mut(ask).next() {
                entry.late.push(LatePart::of(ask, late, first));
            }
            first += ask.counter_count();
        }
    }

    /// Records the outcome for the entries of `admission`.
    pub(super) fn settle(&mut self, admission: u32, outcome: Outcome, time: ChargeTime) {
        let places = self.places(admission);
        match &mut self.admitted[places] {
            [entry] => entry.settle(outcome, time),
            entries => settle_each(entries, outcome, time),
        }
        if let Some(checks) = &mut self.checks {
            checks.follow(&self.admitted);
        }
    }

    /// Strikes out the entries of `policies` that were spared, so that they are asked again.
    #[cold] // the request has been denied, and is sent again all the same
    pub(super) fn strike_out_spared(&mut self, policies: &[&'static Policy]) {
        self.admitted.retain(|entry| !(entry.is_spared() && entry.is_of_any(policies)));
    }

    /// Strikes out the entries of `admission` that will not be decided.
    pub(super) fn withdraw(&mut self, admission: u32) {
        self.admitted.retain(|entry| !entry.is_asked(admission));
    }
}

/// Gives each entry its part of the outcome.
#[inline(never)] // most requests ask one policy
fn settle_each(entries: &mut [Entry], mut outcome: Outcome, time: ChargeTime) {
    for entry in entries {
        let part = entry.ask.split_part_off(&mut outcome);
        entry.settle(part, time);
    }
}

impl Entry {
    pub(super) fn new(ask: Ask<'static>, admission: u32) -> Self {
        Self { ask, outcome: None, holdings: Holdings::default(), late: Vec::new(), admission }
    }

    /// Records what came of a check that a handler has made by itself.
    pub(super) fn note_check(&mut self, outcome: Outcome, late: Option<LatePart>, time: ChargeTime) {
        self.late.extend(late);
        self.settle(outcome, time);
    }

    fn is_asked(&self, admission: u32) -> bool {
        self.outcome.is_none() && self.admission == admission
    }

    fn is_of_any(&self, policies: &[&Policy]) -> bool {
        policies.iter().any(|policy| self.is_of(Some(policy.name())))
    }

    fn settle(&mut self, part: Outcome, time: ChargeTime) {
        // If one policy denies, none is charged.
        if part.is_charged() {
            self.charge(self.ask.cost, &part, time);
        }
        self.ask.report(&part);
        // Without readings, nobody knows where the counters stand, and the entry goes on telling what is known.
        if self.outcome.is_none() || !part.readings().is_empty() {
            self.outcome = Some(part);
        }
    }

    /// Records that `cost` was charged, in the place that `part` tells.
    pub(super) fn charge(&mut self, cost: u32, part: &Outcome, time: ChargeTime) {
        let Ask { policy, .. } = &self.ask;
        self.holdings.add(cost, part, time, policy.algorithm, self.ask.quotas());
    }

    /// Puts back what was `taken` out then, and the store was not asked to take.
    pub(super) fn put_back(&mut self, ask: &Ask<'_>, taken: u64) {
        self.holdings.put_back(ask.cost, ask.charge_lasts.as_deref().unwrap_or_default(), taken);
    }

    /// Returns an ask for `cost` under the same policy and key, unless `cost` is 0.
    pub(super) fn ask_for(&self, cost: u32) -> Option<Ask<'static>> {
        (cost > 0).then(|| Ask { cost, ..self.ask.clone() })
    }

    /// Returns an ask to give `cost` of a holding back `now`, unless it is 0.
    pub(super) fn ask_to_return(&self, cost: u32, holding: &Holding, now: u64) -> Option<Ask<'static>> {
        self.ask_for(cost).map(|ask| {
            let lasts = holding.lasts(now, ask.policy.algorithm, ask.quotas());
            Ask { charge_lasts: Some(lasts), ..ask }
        })
    }

    /// Whether the request may hold some of the policy's quotas.
    pub(super) fn is_charged(&self) -> bool {
        self.held() > 0
    }

    /// Returns how much the request holds of the policy's quotas, as far as that is known.
    pub(super) fn held(&self) -> u32 {
        let late = self.late.iter().fold(0_u32, |sum, late| sum.saturating_add(late.charged));
        let Charged { in_store, in_process } = self.holdings.sum();
        in_store.saturating_add(in_process.max(late))
    }

    /// Takes `cost` out of the charges, or as much as there is. What is not taken from the store is also taken from
    /// what the store may have charged after the deadline, and these parts are returned with their amounts. `shares`
    /// are the quotas as this process counts them when it stands in for the store.
    pub(super) fn take(
        &mut self,
        cost: u32,
        shares: &[Quota],
    ) -> (SmallVec<[Holding; 1]>, Vec<(LatePart, u32)>) {
        let holdings = self.holdings.take(cost, self.ask.policy.algorithm, self.ask.quotas(), shares);
        // What the request still holds in this process includes what was late.
        let mut kept = self.holdings.sum().in_process;
        let mut wanted = cost - holdings.iter().map(|holding| holding.charged.in_store).sum::<u32>();
        let mut taken = Vec::new();
        for late in &mut self.late {
            let part = wanted.min(late.charged.saturating_sub(kept));
            kept = kept.saturating_sub(late.charged);
            wanted -= part;
            taken.push((late.clone(), part));
            late.charged -= part;
            late.returned += part;
        }
        (holdings, taken)
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

    /// Returns what the client is told of it.
    fn told(&self) -> Option<Decision> {
        if self.ask.policy.is_shadow() { None } else { self.decision() }
    }

    /// Returns what the store answered.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Updates where the counters stand, after a handler has added to the cost, given some of it back, or checked the
    /// same.
    pub(super) fn update(&mut self, later: &Outcome) {
        if let Some(part) = &mut self.outcome {
            part.update(later);
        }
    }
}
