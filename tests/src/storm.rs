//! Constant load from two instances of a service, and the checks that its outcome must pass.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum_rate_limit::{Builder, OnStoreError, Policy, RateLimiter};
use tokio::task::{JoinHandle, JoinSet};

use crate::{built, recovered};

/// The number of keys under [`SHARED`].
const KEYS: usize = 20;
const SHARED_LIMIT: u32 = 20;
/// The policy that all tasks check for the same few keys, so that its limit is reached. It has two counters,
/// which must be charged together.
const SHARED: Policy = Policy::new("shared").per_hour(SHARED_LIMIT).per_day(1_000_000);
const SINGLE_LIMIT: u32 = 10;
/// The policy that is checked once per key, so that it is known for each request how often it was charged.
const SINGLE: Policy = Policy::new("single").per_hour(SINGLE_LIMIT);
/// The policy that is checked to see whether the store is back.
const PROBE: Policy = Policy::new("probe").per_hour(u32::MAX);

const TASKS: usize = 8;
const PACE: Duration = Duration::from_millis(2);
/// How long a check may take before it counts as never answered; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two limiters under constant load from eight tasks each.
///
/// While the store is away, the first keeps the limits in its own memory, and the second denies.
#[derive(Debug)]
pub struct Storm {
    limiters: Vec<RateLimiter>,
    tasks: Vec<JoinHandle<Vec<Shot>>>,
    over: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Shot {
    instance: usize,
    /// The key that was checked.
    target: Target,
    begun: Instant,
    ended: Instant,
    verdict: Verdict,
}

/// The time in which a server was lost with its counts: requests during that time may be forgotten, and as many
/// admitted again.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// Requests that were answered before are kept.
    pub from: Instant,
    /// Requests that were made afterwards are kept.
    pub to: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Target {
    Shared(usize),
    Single(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// By the store.
    Admitted,
    /// By the store, or by what the limiter remembers of it.
    Denied,
    /// Without the store, which may have charged it all the same.
    Degraded { admitted: bool },
}

/// The outcome of all requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many requests were sent and answered.
    pub requests: usize,
    /// How many the store admitted.
    pub admitted: usize,
    /// How many the store denied.
    pub denied: usize,
    /// How many were decided without the store.
    pub degraded: usize,
    /// How many of those the store has charged all the same.
    pub charged_degraded: usize,
    /// How many the store admitted and no longer knows of, though they were not losable.
    pub forgotten: usize,
    /// How many the store admitted within the time of a [`Loss`], so that it need not know of them.
    pub losable: usize,
    /// How many were charged more than once.
    pub charged_twice: usize,
    /// How many the store admitted beyond the limit of their key.
    pub over_limit: usize,
    /// How many of those exceed what may have been lost.
    pub unexcused: usize,
    /// How many the store denied though there was room.
    pub wrongly_denied: usize,
}

impl Storm {
    /// Starts the load on two limiters with these settings, which differ only in what they do while the store
    /// is away.
    ///
    /// # Panics
    ///
    /// If they can't be built.
    pub async fn begin(settings: impl Fn() -> Builder) -> Self {
        let mut limiters = Vec::new();
        for choice in [OnStoreError::Local, OnStoreError::Deny] {
            limiters.push(built(|| settings().on_store_error(choice)).await);
        }
        let over = Arc::new(AtomicBool::new(false));
        let tasks = (0..limiters.len() * TASKS)
            .map(|task| {
                let instance = task % limiters.len();
                tokio::spawn(shoot(task, instance, limiters[instance].clone(), Arc::clone(&over)))
            })
            .collect();
        Self { limiters, tasks, over }
    }

    /// Lets the load go on for a while.
    pub async fn last(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// Waits until both limiters have found the store again by themselves.
    ///
    /// # Panics
    ///
    /// If they don't.
    pub async fn recovered(&self) {
        for limiter in &self.limiters {
            let _ = recovered(limiter, &PROBE, "probe").await;
        }
    }

    /// Ends the load, and compares the answers with the counts in the store, allowing for a `loss`.
    ///
    /// `store` is a limiter with a long timeout, which reads the counts.
    ///
    /// # Panics
    ///
    /// If a request was not answered, or if an instance by itself admitted more than the limit of a key.
    pub async fn end(self, store: &RateLimiter, loss: Option<Loss>) -> Tally {
        self.over.store(true, Ordering::Relaxed);
        let mut shots = Vec::new();
        for task in self.tasks {
            shots.extend(task.await.expect("every request is answered, and none panics"));
        }
        let counted = counted(store, &shots).await;
        let mut tally = Tally { requests: shots.len(), ..Tally::default() };
        let mut keys: HashMap<&Target, Key> = HashMap::new();
        for shot in &shots {
            let key = keys.entry(&shot.target).or_default();
            match shot.verdict {
                Verdict::Admitted => {
                    let losable = loss.is_some_and(|loss| shot.ended >= loss.from && shot.begun < loss.to);
                    tally.admitted += 1;
                    tally.losable += usize::from(losable);
                    key.admitted += 1;
                    key.losable += u32::from(losable);
                }
                Verdict::Denied => {
                    tally.denied += 1;
                    key.denied += 1;
                }
                Verdict::Degraded { admitted } => {
                    tally.degraded += 1;
                    key.unknown += 1;
                    if admitted {
                        *key.alone.entry(shot.instance).or_default() += 1;
                    }
                }
            }
        }
        for (target, key) in &keys {
            let limit = target.limit();
            let counted = counted[*target];
            tally.forgotten += (key.admitted - key.losable).saturating_sub(counted) as usize;
            let beyond = counted.saturating_sub(key.admitted + key.unknown);
            tally.charged_twice += beyond as usize;
            tally.charged_degraded += (counted - beyond).saturating_sub(key.admitted) as usize;
            tally.over_limit += key.admitted.saturating_sub(limit) as usize;
            tally.unexcused += key.admitted.saturating_sub(limit + key.losable) as usize;
            // A full counter stays full unless it is lost.
            if loss.is_none() && counted < limit {
                tally.wrongly_denied += key.denied as usize;
            }
            for (instance, alone) in &key.alone {
                assert!(*alone <= limit, "instance {instance} admits {alone} by itself, of {target:?}");
            }
        }
        tally
    }
}

/// The outcome of the requests for one key.
#[derive(Default)]
struct Key {
    admitted: u32,
    /// How many of the admitted the store need not know of.
    losable: u32,
    denied: u32,
    unknown: u32,
    /// How many each instance admitted without the store, by its number.
    alone: HashMap<usize, u32>,
}

impl Tally {
    /// Makes sure that there were decisions, and that none was wrong: none was forgotten without a loss, none
    /// was charged twice, no limit was exceeded by more than was lost, and none was denied despite room.
    ///
    /// # Panics
    ///
    /// If one was wrong, or if there were too few.
    pub fn assert_right(&self) {
        let wrong = [self.forgotten, self.charged_twice, self.unexcused, self.wrongly_denied];
        assert_eq!(wrong, [0; 4], "{self:?}");
        assert!(self.admitted > 0 && self.requests > 2 * TASKS, "{self:?}");
    }

    /// Makes sure that no decision was [wrong](Self::assert_right), and that some were made without the store.
    ///
    /// # Panics
    ///
    /// If one was wrong, or if no request noticed the fault.
    pub fn assert_right_with_degraded(&self) {
        self.assert_right();
        assert!(self.degraded > 0, "nobody noticed: {self:?}");
    }
}

async fn shoot(task: usize, instance: usize, limiter: RateLimiter, over: Arc<AtomicBool>) -> Vec<Shot> {
    let mut shots = Vec::new();
    for number in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let (target, policy) = if number % 2 == 0 {
            (Target::Shared((number / 2 + task) % KEYS), SHARED)
        } else {
            (Target::Single(format!("{task}-{number}")), SINGLE)
        };
        let begun = Instant::now();
        let check = limiter.check(&policy, target.key());
        let answer = tokio::time::timeout(PATIENCE, check).await.expect("every request is answered");
        let verdict = match answer {
            Ok(decision) if decision.is_degraded() => Verdict::Degraded { admitted: decision.is_allowed() },
            Ok(decision) if decision.is_allowed() => Verdict::Admitted,
            Ok(_) => Verdict::Denied,
            Err(_) => Verdict::Degraded { admitted: false },
        };
        shots.push(Shot { instance, target, begun, ended: Instant::now(), verdict });
        tokio::time::sleep(PACE).await;
    }
    shots
}

impl Target {
    fn limit(&self) -> u32 {
        match self {
            Self::Shared(_) => SHARED_LIMIT,
            Self::Single(_) => SINGLE_LIMIT,
        }
    }

    fn key(&self) -> String {
        match self {
            Self::Shared(number) => number.to_string(),
            Self::Single(name) => name.clone(),
        }
    }
}

/// Returns how often each key was charged, according to the store.
async fn counted(store: &RateLimiter, shots: &[Shot]) -> HashMap<Target, u32> {
    let mut targets: Vec<Target> = shots.iter().map(|shot| shot.target.clone()).collect();
    targets.sort_by_key(Target::key);
    targets.dedup();
    let mut peeks = JoinSet::new();
    let mut counted = HashMap::new();
    for target in targets {
        let store = store.clone();
        peeks.spawn(async move {
            let policy = if matches!(target, Target::Shared(_)) { SHARED } else { SINGLE };
            let decision = store.peek(&policy, target.key()).await.expect("the store is back");
            assert!(!decision.is_degraded(), "the store is back");
            let count = target.limit() - decision.quotas()[0].remaining;
            (target, count)
        });
        if peeks.len() >= 100 {
            counted.extend(peeks.join_next().await.map(|peek| peek.expect("it does not panic")));
        }
    }
    while let Some(peek) = peeks.join_next().await {
        let (target, count) = peek.expect("it does not panic");
        counted.insert(target, count);
    }
    counted
}
