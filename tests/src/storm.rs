//! Constant load from two instances of a service, and what must be true of it afterwards.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum_rate_limit::{Builder, OnStoreError, Policy, RateLimiter};
use tokio::task::{JoinHandle, JoinSet};

use crate::{built, recovered};

/// How many share [`SHARED`].
const KEYS: usize = 20;
const SHARED_LIMIT: u32 = 20;
/// Asked by everybody: its limit is reached. It has two counters, which must be charged together.
const SHARED: Policy = Policy::new("shared").per_hour(SHARED_LIMIT).per_day(1_000_000);
const SINGLE_LIMIT: u32 = 10;
/// Asked once for each key: whether it was charged, and how often, is known of each request.
const SINGLE: Policy = Policy::new("single").per_hour(SINGLE_LIMIT);
/// Asked to see whether the store is back.
const PROBE: Policy = Policy::new("probe").per_hour(u32::MAX);

const TASKS: usize = 8;
const PACE: Duration = Duration::from_millis(2);
/// After that long without an answer there will be none; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two limiters that are asked all the time by eight tasks each.
///
/// The first keeps the limits in its own memory while the store is away, the second denies.
#[derive(Debug)]
pub struct Storm {
    limiters: Vec<RateLimiter>,
    tasks: Vec<JoinHandle<Vec<Shot>>>,
    over: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Shot {
    instance: usize,
    /// The number of a shared key, or the name of a single one.
    target: Target,
    begun: Instant,
    ended: Instant,
    verdict: Verdict,
}

/// When a server was lost with what it had counted: what was asked for meanwhile may be forgotten, and be
/// admitted once more.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// What was answered before is kept.
    pub from: Instant,
    /// What was asked for afterwards is kept.
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
    /// By the store, or by what is known of it.
    Denied,
    /// Without the store, which may have charged it all the same.
    Degraded { admitted: bool },
}

/// What came of all requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many were sent, and answered.
    pub requests: usize,
    /// How many the store admitted.
    pub admitted: usize,
    /// How many the store denied.
    pub denied: usize,
    /// How many were decided without it.
    pub degraded: usize,
    /// How many of those it had charged all the same.
    pub charged_degraded: usize,
    /// How many the store admitted, but no longer knows of, though nothing was lost then.
    pub forgotten: usize,
    /// How many it admitted while something was lost: it need not know of them.
    pub losable: usize,
    /// How many were charged more than once.
    pub charged_twice: usize,
    /// How many were admitted by the store beyond the limit of their key.
    pub over_limit: usize,
    /// How many of those are beyond what may have been lost.
    pub unexcused: usize,
    /// How many the store denied that had room.
    pub wrongly_denied: usize,
}

impl Storm {
    /// Begins to ask limiters with these settings, which are the same but for what they do while the
    /// store is away.
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

    /// Lets it go on for a while.
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

    /// Ends it, and compares what was answered with what `store`, a patient limiter, finds to have been
    /// counted, apart from what was lost.
    ///
    /// # Panics
    ///
    /// If a request was not answered.
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
            // What is full stays so, unless it is lost.
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

/// What came of the requests for one key.
#[derive(Default)]
struct Key {
    admitted: u32,
    /// How many of those the store need not know of.
    losable: u32,
    denied: u32,
    unknown: u32,
    /// How many each instance admitted without the store.
    alone: HashMap<usize, u32>,
}

impl Tally {
    /// Makes sure that no decision was wrong: none was forgotten that was not lost, none charged twice, no
    /// limit exceeded by more than was lost, nobody denied who had room; and that there were some.
    ///
    /// # Panics
    ///
    /// If one was.
    pub fn is_right(&self) {
        let wrong = [self.forgotten, self.charged_twice, self.unexcused, self.wrongly_denied];
        assert_eq!(wrong, [0; 4], "{self:?}");
        assert!(self.admitted > 0 && self.requests > 2 * TASKS, "{self:?}");
    }

    /// Makes sure that the fault was one, too.
    ///
    /// # Panics
    ///
    /// If no request noticed it.
    pub fn is_right_with_degraded(&self) {
        self.is_right();
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

/// How often each key was charged, as far as the store knows.
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
