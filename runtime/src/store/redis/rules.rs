//! The rules by which the counters of a part are counted, each of which a script is told once.

use smallvec::SmallVec;

use super::batch::Batch;
use super::part::Part;
use crate::store::Counter;

/// The distinct rules of a part's counters: one, or a few.
pub(super) struct Rules<'a>(SmallVec<[Counter<'a>; 4]>);

impl<'a> Rules<'a> {
    pub(super) fn of(part: &Part, batch: &'a Batch) -> Self {
        let mut rules = Self(SmallVec::new());
        for counter in part.counters(batch) {
            if rules.position(&counter).is_none() {
                rules.0.push(counter);
            }
        }
        rules
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns a counter of each rule.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Counter<'a>> {
        self.0.iter()
    }

    fn position(&self, counter: &Counter<'_>) -> Option<usize> {
        let rule = |counter: &Counter<'_>| (counter.quota, counter.algorithm, counter.cost, counter.shadow);
        self.0.iter().position(|known| rule(known) == rule(counter))
    }

    /// Returns the number of a counter's rule, from 1, as the scripts count.
    pub(super) fn number_of(&self, counter: &Counter<'_>) -> u32 {
        self.position(counter).and_then(|index| u32::try_from(index + 1).ok()).unwrap_or_default()
    }
}
