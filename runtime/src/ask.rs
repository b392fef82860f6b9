//! What is asked of a limiter: a policy about a key.

use std::time::Duration;

use smallvec::SmallVec;
use tracing::Level;

use crate::decision::Decision;
use crate::in_force::Effective;
use crate::inline_string::InlineString;
use crate::quota::{Quota, Quotas};
use crate::store::{Counter, LateCheck, Outcome};
use crate::telemetry::{self, Verdict};

/// One policy asked about one key.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'p> {
    pub(crate) policy: Effective<'p>,
    /// The quotas of this client, if they are not those of the policy.
    pub(crate) individual_quotas: Option<Box<Quotas>>,
    pub(crate) key: InlineString,
    pub(crate) cost: u32,
    /// If this is given back: how long that still counts under each quota, as far as that is known.
    pub(crate) charge_lasts: Option<Box<[Duration]>>,
}

/// What is asked together: mostly one policy.
pub(crate) type Asks = SmallVec<[Ask<'static>; 1]>;

impl Ask<'_> {
    /// Returns the same, which outlives the declaration of its policy.
    pub(crate) fn into_owned(self) -> Ask<'static> {
        let Self { policy, individual_quotas, key, cost, charge_lasts } = self;
        Ask { policy: policy.into_owned(), individual_quotas, key, cost, charge_lasts }
    }

    /// Whether this is about the same counters as `other`.
    pub(crate) fn is_about(&self, other: &Ask<'_>) -> bool {
        self.key == other.key
            && self.quotas() == other.quotas()
            && self.policy.algorithm == other.policy.algorithm
    }

    /// Whether this asks the same as `other`, but for the cost.
    pub(crate) fn is_same(&self, other: &Ask<'_>) -> bool {
        self.is_about(other) && self.policy.has_same_terms(&other.policy)
    }

    /// The quotas of this client.
    pub(crate) fn quotas(&self) -> &[Quota] {
        self.individual_quotas.as_ref().map_or(self.policy.quotas(), |quotas| quotas.as_slice())
    }

    /// The counters to ask for, where this is number `policy` of the policies that are asked together.
    fn counters(&self, policy: usize) -> impl Iterator<Item = Counter<'_>> {
        let quotas = self.quotas();
        let lasts = |index: usize| self.charge_lasts.as_ref()?.get(index).copied();
        quotas.iter().enumerate().map(move |(index, quota)| Counter {
            key: self.key.as_str(),
            quota: *quota,
            algorithm: self.policy.algorithm.of(quota, quotas),
            cost: self.cost,
            policy,
            shadow: self.policy.shadow,
            charge_lasts: lasts(index).unwrap_or(Duration::MAX),
            varies: self.policy.has_quotas_by() || self.individual_quotas.is_some(),
        })
    }

    /// Splits this policy's part off the outcome of several, which are split in the order in which they were
    /// asked.
    pub(crate) fn split_part_off(&self, outcome: &mut Outcome) -> Outcome {
        outcome.split_off(self.counter_count())
    }

    /// The decision that follows from this policy's part of the outcome.
    pub(crate) fn decision(&self, part: &Outcome) -> Decision {
        Decision::new(&self.policy, self.cost, self.quotas(), part)
    }

    /// Reports the decision to the log and the metrics.
    pub(crate) fn report(&self, part: &Outcome) {
        let verdict = match (part.is_exceeded(), self.policy.shadow) {
            (true, false) => Verdict::Denied,
            (true, true) => Verdict::ShadowDenied,
            // Without readings nobody has decided, and everything passes.
            (false, _) if part.taken() || part.readings().is_empty() => Verdict::Allowed,
            (false, _) => Verdict::NotCharged,
        };
        self.tell(verdict, part.is_degraded());
    }

    /// Reports that the request was denied because the store failed.
    pub(crate) fn report_refused(&self) {
        if !self.policy.shadow {
            self.tell(Verdict::Refused, true);
        }
    }

    fn tell(&self, verdict: Verdict, degraded: bool) {
        let policy = self.policy.name();
        // The key is personal data, so it is logged only if level TRACE is enabled.
        macro_rules! tell {
            ($target:literal, $text:literal) => {{
                let key = || tracing::enabled!(target: $target, Level::TRACE).then_some(self.key.as_str());
                tracing::debug!(target: $target, policy, outcome = verdict.as_str(), degraded, key = key(), $text);
            }};
        }
        match verdict {
            Verdict::Denied | Verdict::ShadowDenied => {
                tell!("axum_rate_limit::denied", "rate limit exceeded");
            }
            Verdict::Refused => tell!("axum_rate_limit::denied", "the rate limit can't be checked"),
            Verdict::Allowed | Verdict::NotCharged => {
                tell!("axum_rate_limit::passed", "within the rate limit");
            }
        }
        telemetry::decided(policy, verdict, degraded);
    }

    /// Gives back what the store may have charged for this after its deadline; `first` is the index of its first
    /// counter in the check, which `cost` more, and of which as much as `earlier` has been given back before.
    pub(crate) fn renounce(&self, late: &LateCheck, first: usize, cost: u32, earlier: u32) {
        late.renounce_part(first, &counters([self]), cost, earlier);
    }

    /// Returns how many counters are asked for.
    pub(crate) fn counter_count(&self) -> usize {
        self.quotas().len()
    }
}

/// The counters of `asks`, in their order.
pub(crate) fn counters<'a, 'p: 'a>(
    asks: impl IntoIterator<Item = &'a Ask<'p>>,
) -> SmallVec<[Counter<'a>; 2]> {
    let of = |(policy, ask): (usize, &'a Ask<'p>)| ask.counters(policy);
    asks.into_iter().enumerate().flat_map(of).collect()
}

/// The counter of `asks`, if they are a single ask with a single quota.
pub(crate) fn only_counter<'a, 'p: 'a>(asks: impl IntoIterator<Item = &'a Ask<'p>>) -> Option<Counter<'a>> {
    let mut asks = asks.into_iter();
    let (only, None) = (asks.next()?, asks.next()) else { return None };
    let mut counters = only.counters(0);
    let (only, None) = (counters.next()?, counters.next()) else { return None };
    Some(only)
}
