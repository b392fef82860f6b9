//! What a handler has checked by itself. There may be many checks, of items in a list, say.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::entries::{Entry, LatePart};
use crate::ask::Ask;
use crate::inline_string::InlineString;
use crate::store::{ChargeTime, Outcome};

/// The checks of a handler. Those of the same policy and key share an entry.
#[derive(Debug, Default)]
pub(super) struct Checks {
    entries: Vec<Entry>,
    /// The indices of the entries about each key. There are several if the policy changes in between.
    by_key: HashMap<InlineString, SmallVec<[usize; 1]>>,
    /// The names of the policies, including those that skip the request.
    policies: SmallVec<[&'static str; 1]>,
}

impl Checks {
    /// Notes that a policy was checked.
    pub(super) fn note(&mut self, policy: &'static str) {
        if !self.has(policy) {
            self.policies.push(policy);
        }
    }

    /// Whether a policy of that name was checked.
    pub(super) fn has(&self, policy: &str) -> bool {
        self.policies.contains(&policy)
    }

    pub(super) fn enter(
        &mut self,
        ask: Ask<'static>,
        outcome: Outcome,
        late: Option<LatePart>,
        time: ChargeTime,
    ) {
        self.note(ask.policy.name());
        let indices = self.by_key.entry(ask.key.clone()).or_default();
        let known = indices.iter().position(|index| self.entries[*index].ask.is_same(&ask));
        let index = if let Some(place) = known {
            let index = indices.remove(place);
            self.entries[index].ask = ask;
            index
        } else {
            self.entries.push(Entry::new(ask, 0));
            self.entries.len() - 1
        };
        indices.push(index);
        self.entries[index].note_check(outcome, late, time);
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn entries_mut(&mut self) -> &mut [Entry] {
        &mut self.entries
    }

    /// Returns the latest entry about the same counters as `ask`.
    pub(super) fn find_mut(&mut self, ask: &Ask<'_>) -> Option<&mut Entry> {
        let indices = self.by_key.get(&ask.key)?;
        let index = indices.iter().rev().find(|index| self.entries[**index].ask.is_about(ask))?;
        self.entries.get_mut(*index)
    }

    /// Returns the latest entry about each key.
    pub(super) fn latest(&self) -> impl Iterator<Item = &Entry> {
        let is_latest = |(index, entry): &(usize, &Entry)| {
            self.by_key.get(&entry.ask.key).is_some_and(|indices| indices.last() == Some(index))
        };
        self.entries.iter().enumerate().filter(is_latest).map(|(_, entry)| entry)
    }

    /// Updates where the counters stand that attributes have asked for as well.
    #[cold]
    pub(super) fn follow(&mut self, admitted: &[Entry]) {
        for entry in admitted {
            if let Some(outcome) = entry.outcome()
                && let Some(own) = self.find_mut(&entry.ask)
            {
                own.update(outcome);
            }
        }
    }
}
