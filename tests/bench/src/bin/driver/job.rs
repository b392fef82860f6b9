//! The jobs that a round consists of: a candidate under one kind of traffic.

use bench::Column;

use crate::candidate::{self, Candidate, ONE_BY_ONE};

/// The connections of most runs: enough that the service never waits for requests.
pub(crate) const MANY: usize = 64;
/// The connections of the runs in which latency shows.
pub(crate) const FEW: [usize; 2] = [1, 8];

/// How often a round runs the jobs of candidates without Redis. They differ by less than single runs do.
pub(crate) const CLOSE_RUNS: usize = 3;

/// A candidate, the traffic, and the number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Job {
    pub(crate) candidate: &'static str,
    pub(crate) column: Column,
    pub(crate) connections: usize,
}

impl Job {
    pub(crate) fn new(candidate: &'static str, column: Column) -> Self {
        Self { candidate, column, connections: MANY }
    }

    /// Returns all jobs of a candidate in a round, each of them once.
    pub(crate) fn all(candidate: &Candidate) -> impl Iterator<Item = Self> {
        let id = candidate.id;
        let few = FEW.into_iter().filter(move |_| ONE_BY_ONE.contains(&id));
        let few = few.map(move |connections| Self { connections, ..Self::new(id, Column::Hot) });
        candidate.columns.iter().map(move |column| Self::new(id, *column)).chain(few)
    }

    /// Returns the job with the same traffic for the service without a limiter, where nothing is denied.
    pub(crate) fn bare(self) -> Self {
        let column = if self.column == Column::Keys { Column::Keys } else { Column::Hot };
        Self { candidate: candidate::bare(self.candidate), column, ..self }
    }
}
