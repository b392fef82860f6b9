//! How much a request holds of a policy's quotas, and until when that counts.

use std::time::Duration;

use smallvec::SmallVec;

use crate::algorithm::{Algorithm, Rule};
use crate::clock::micros;
use crate::quota::Quota;
use crate::store::{ChargeTime, Outcome};

/// How many charges of different times are told apart. A handler may have made any number of checks.
const MOST: usize = 32;

/// An amount, by where it was charged. If the store goes away or comes back meanwhile, a request may hold some in both
/// places.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Charged {
    /// In the limiter's store.
    pub(super) in_store: u32,
    /// In this process, while the store was away.
    pub(super) in_process: u32,
}

/// Returns the amount in one of the places.
type Place = fn(&mut Charged) -> &mut u32;

impl Charged {
    fn sum(self) -> u32 {
        self.in_store.saturating_add(self.in_process)
    }

    fn add(&mut self, other: Self) {
        self.in_store = self.in_store.saturating_add(other.in_store);
        self.in_process = self.in_process.saturating_add(other.in_process);
    }
}

/// What was charged at one time, or at several that are no longer told apart.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    pub(super) charged: Charged,
    /// Until when the last of it counts under each quota, by the limiter's clock.
    until: SmallVec<[u64; 2]>,
    /// What was charged first, if that was at another time.
    first: Option<Box<First>>,
}

/// The first of several charges.
#[derive(Clone, Debug)]
struct First {
    cost: u32,
    until: SmallVec<[u64; 2]>,
}

/// The charges of a request under one policy and key, the latest last.
#[derive(Clone, Debug, Default)]
pub(super) struct Holdings(SmallVec<[Holding; 1]>);

impl Holding {
    /// Returns how long it still counts `now` under each of `quotas`.
    pub(super) fn lasts(&self, now: u64, algorithm: Algorithm, quotas: &[Quota]) -> Box<[Duration]> {
        let ends = self.ends(now, algorithm, quotas);
        ends.map(|end| Duration::from_micros(end.saturating_sub(now))).collect()
    }

    /// Returns until when all of it counts under each of `quotas`, as it looks `now`.
    fn ends(&self, now: u64, algorithm: Algorithm, quotas: &[Quota]) -> impl Iterator<Item = u64> {
        let end = move |(index, quota): (usize, &Quota)| {
            let last = *self.until.get(index)?;
            let Some(first) = &self.first else { return Some(last) };
            let (others, first) = (self.charged.sum().saturating_sub(first.cost), *first.until.get(index)?);
            Some(match algorithm {
                Algorithm::FixedWindow | Algorithm::SlidingWindow => first,
                // As long as the first is there, all are. Others may have taken units in between, of which some are
                // given back then in place of these.
                Algorithm::SlidingLog => {
                    if first > now {
                        last
                    } else {
                        first
                    }
                }
                // A bucket is refilled with one after the other.
                Algorithm::TokenBucket { .. } => {
                    last.min(first.saturating_add(refill_time(others, algorithm, quota, quotas)))
                }
            })
        };
        quotas.iter().enumerate().map(move |quota| end(quota).unwrap_or_default())
    }

    /// Takes `amount` out of one of its places, which counts `quotas`. Of a bucket's charge that is the part that is
    /// refilled last, so the rest is refilled the sooner.
    fn take(&mut self, amount: u32, place: Place, algorithm: Algorithm, quotas: &[Quota]) -> Self {
        let is_bucket = matches!(algorithm, Algorithm::TokenBucket { .. });
        if is_bucket {
            (self.until, self.first) = (self.ends(0, algorithm, quotas).collect(), None);
        }
        let mut charged = Charged::default();
        *place(&mut charged) = amount;
        let taken = Self { charged, ..self.clone() };
        *place(&mut self.charged) -= amount;
        if is_bucket {
            for (until, quota) in self.until.iter_mut().zip(quotas) {
                *until = until.saturating_sub(refill_time(amount, algorithm, quota, quotas));
            }
        }
        taken
    }

    /// Adds what was charged later to the same windows. It all counts only until the first of both ends.
    fn absorb(&mut self, later: &Self) {
        self.charged.add(later.charged);
        for (until, later) in self.until.iter_mut().zip(&later.until) {
            *until = *later.min(until);
        }
    }

    /// Adds what was charged later, at another time.
    fn absorb_next(&mut self, later: Self) {
        let first = || Box::new(First { cost: self.charged.sum(), until: self.until.clone() });
        self.first.get_or_insert_with(first);
        self.charged.add(later.charged);
        for (until, later) in self.until.iter_mut().zip(later.until) {
            *until = later.max(*until);
        }
    }

    /// Whether both were charged to the same windows.
    fn shares_windows_with(&self, other: &Self, algorithm: Algorithm, quotas: &[Quota]) -> bool {
        let has_windows = matches!(algorithm, Algorithm::FixedWindow | Algorithm::SlidingWindow);
        let is_same = |((one, other), quota): ((&u64, &u64), &Quota)| {
            one.abs_diff(*other) < quota.window_millis() * 1_000 / 2
        };
        has_windows && self.until.iter().zip(&other.until).zip(quotas).all(is_same)
    }
}

/// Returns how long a bucket takes to be refilled with so many, in microseconds.
fn refill_time(count: u32, algorithm: Algorithm, quota: &Quota, quotas: &[Quota]) -> u64 {
    Rule::new(*quota, algorithm.of(quota, quotas)).interval().saturating_mul(count.into())
}

impl Holdings {
    /// Adds what was charged to `quotas`, in the place and until the times that `part` tells.
    pub(super) fn add(
        &mut self,
        cost: u32,
        part: &Outcome,
        time: ChargeTime,
        algorithm: Algorithm,
        quotas: &[Quota],
    ) {
        if cost == 0 {
            return; // it would count until now, and be taken for the first of what is charged later
        }
        let mut charged = Charged::default();
        *(if part.is_degraded() { &mut charged.in_process } else { &mut charged.in_store }) = cost;
        let until = part.readings().iter().map(|reading| time.until(algorithm, reading.reset)).collect();
        let later = Holding { charged, until, first: None };
        match self.0.last_mut() {
            Some(last) if last.shares_windows_with(&later, algorithm, quotas) => last.absorb(&later),
            _ => self.0.push(later),
        }
        if self.0.len() > MOST {
            let second = self.0.remove(1);
            self.0[0].absorb_next(second);
        }
    }

    /// Puts back what was `taken` out then, and counted for so long from that time on.
    pub(super) fn put_back(&mut self, in_store: u32, lasts: &[Duration], taken: u64) {
        let until = lasts.iter().map(|lasts| taken.saturating_add(micros(*lasts))).collect();
        self.0.push(Holding { charged: Charged { in_store, in_process: 0 }, until, first: None });
    }

    /// Returns how much it is in all.
    pub(super) fn sum(&self) -> Charged {
        self.0.iter().fold(Charged::default(), |mut sum, holding| {
            sum.add(holding.charged);
            sum
        })
    }

    /// Takes out `cost`, or as much as there is: first from the store, which all share, then from this process, and
    /// what was charged last first. This process counts `shares` of the `quotas`.
    pub(super) fn take(
        &mut self,
        cost: u32,
        algorithm: Algorithm,
        quotas: &[Quota],
        shares: &[Quota],
    ) -> SmallVec<[Holding; 1]> {
        let mut taken: SmallVec<[Holding; 1]> = SmallVec::new();
        let places: [(Place, &[Quota]); 2] =
            [(|charged| &mut charged.in_store, quotas), (|charged| &mut charged.in_process, shares)];
        let mut wanted = cost;
        for (place, quotas) in places {
            for holding in self.0.iter_mut().rev() {
                let amount = wanted.min(*place(&mut holding.charged));
                if amount > 0 {
                    wanted -= amount;
                    taken.push(holding.take(amount, place, algorithm, quotas));
                }
            }
        }
        self.0.retain(|holding| holding.charged.in_store > 0 || holding.charged.in_process > 0);
        taken
    }
}
