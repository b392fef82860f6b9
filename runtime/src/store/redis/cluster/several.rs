//! Checks of several policies on a cluster, whose keys may be on different nodes that no script can span.
//!
//! The policies that can deny are charged one after the other. When one of them denies or fails, or the deadline
//! passes, no further policy is charged, and what has been charged is given back. A task of its own does this,
//! so that nothing is left half done if the caller goes away or its deadline passes.
//!
//! These policies alone give the verdict, which stands whatever becomes of the rest. If all of them admit, the
//! policies in shadow are charged. If one denies, the policies that have not been called are peeked at. These
//! last calls are all made at once. A policy without an answer by the deadline is reported as if it were unused,
//! and can't be given back.
//!
//! A policy that is [known](crate::store::redis::denials) to deny is not called, and no other policy is charged
//! then. Once it is known where the others stand, that is remembered for as long as the denial: the same check
//! is then denied without a call, and reports where the others stood.
//!
//! So a denied check takes nothing in the end. Two effects remain:
//!
//! * Between a charge and its giving back, another request may be denied although there was room for it. The
//!   room is short by at most as many units as are asked for by requests that are being denied, or fail, at that
//!   moment.
//! * A unit that can't be given back, because its node is gone or did not [confirm](crate::store::redis::late) the
//!   charge within a few seconds, stays charged until its window ends.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::{join, join_all};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::Cluster;
use crate::algorithm::Reading;
use crate::error::StoreError;
use crate::store::fallback::policy_names;
use crate::store::redis::answers::untouched;
use crate::store::redis::failure::Failure;
use crate::store::redis::owned_counter::OwnedCounter;
use crate::store::{ChargeTime, Counter, Operation, Outcome};

/// Applies `operation` to `counters`, with one call per policy. All operations but a take call all policies at
/// once, and a failure for one policy does not keep the others from being done. Nothing is added here, since what is
/// added is asked for one policy at a time.
pub(super) async fn decide(
    cluster: &Arc<Cluster>,
    operation: Operation,
    counters: &[Counter<'_>],
) -> Result<Outcome, Failure> {
    if operation == Operation::Take {
        return take(cluster, counters).await;
    }
    let decide = async |policy| cluster.decide(operation, policy).await.0;
    let answers = join_all(by_policy(counters).into_iter().map(decide)).await;
    let mut readings: SmallVec<[Reading; 4]> = SmallVec::new();
    for answer in answers {
        readings.extend(answer?.readings().iter().copied());
    }
    Ok(Outcome::new(operation == Operation::GiveBack, readings))
}

fn by_policy<'a, 'k>(counters: &'a [Counter<'k>]) -> Vec<&'a [Counter<'k>]> {
    counters.chunk_by(|one, other| one.policy == other.policy).collect()
}

/// A policy that has been charged.
struct Charge {
    index: usize,
    time: ChargeTime,
}

/// What is known so far, shared by the task that takes and the caller that waits for it.
struct Progress {
    /// Whether the enforced policies admit, or why that is not known. The verdict is set once, so that the task
    /// keeps no charge that contradicts what the caller has been told.
    verdict: Option<Result<bool, Failure>>,
    /// The answer of each policy, once there is one.
    answers: Vec<Option<Outcome>>,
}

impl Progress {
    /// Returns the verdict, which is this one unless there is one already.
    fn settle(&mut self, verdict: Result<bool, Failure>) -> Result<bool, Failure> {
        self.verdict.get_or_insert(verdict).clone()
    }
}

async fn take(cluster: &Arc<Cluster>, counters: &[Counter<'_>]) -> Result<Outcome, Failure> {
    let asked = cluster.common.now_micros();
    let policies = by_policy(counters);
    let progress = Arc::new(Mutex::new(Progress { verdict: None, answers: vec![None; policies.len()] }));
    let owned: Vec<OwnedCounter> = counters.iter().map(OwnedCounter::from).collect();
    let (begins, begun) = oneshot::channel();
    let task = tokio::spawn({
        let (cluster, progress) = (Arc::clone(cluster), Arc::clone(&progress));
        async move {
            let _ = begins.send(());
            let counters: Vec<Counter<'_>> = owned.iter().map(OwnedCounter::lend).collect();
            take_in_turn(&cluster, &by_policy(&counters), Instant::now(), &progress).await;
        }
    });
    // What it waits for until then is this process, and not the cluster.
    let _ = begun.await;
    let ended = tokio::time::timeout(cluster.common.timeout, task).await;
    let mut progress = progress.lock();
    // A task that has ended without a verdict was dropped with its runtime.
    let unsettled = if ended.is_ok() { Failure::NoConnection } else { cluster.common.late() };
    let passes = progress.settle(Err(unsettled))?;
    let mut readings = Vec::with_capacity(counters.len());
    for (policy, answer) in policies.iter().zip(&progress.answers) {
        if let Some(answer) = answer {
            readings.extend_from_slice(answer.readings());
        } else {
            readings.extend(policy.iter().map(|counter| Reading { known: false, ..untouched(counter) }));
        }
    }
    let outcome = Outcome::new(passes, readings);
    if !passes && ended.is_ok() && progress.answers.iter().all(Option::is_some) {
        cluster.common.denials.remember_several(counters, &outcome, asked);
    }
    Ok(outcome)
}

/// Takes from the enforced policies one after the other, then makes all other calls at once.
async fn take_in_turn(
    cluster: &Arc<Cluster>,
    policies: &[&[Counter<'_>]],
    start: Instant,
    progress: &Mutex<Progress>,
) {
    let is_shadow = |index: &usize| policies[*index].iter().any(|counter| counter.shadow);
    let (shadows, enforced): (Vec<usize>, Vec<usize>) = (0..policies.len()).partition(is_shadow);
    let (charged, verdict) = if recall_denials(cluster, policies, &enforced, progress) {
        (Vec::new(), Ok(false))
    } else {
        charge_in_turn(cluster, policies, enforced, start, progress).await
    };
    let (operation, rest): (Operation, Vec<usize>) = {
        let mut progress = progress.lock();
        match progress.settle(verdict) {
            Ok(true) => (Operation::Take, shadows),
            Ok(false) => {
                let others = (0..policies.len()).filter(|index| progress.answers[*index].is_none());
                (Operation::Peek, others.collect())
            }
            Err(_) => (Operation::Peek, Vec::new()),
        }
    };
    let returned = if operation == Operation::Take { Vec::new() } else { charged };
    let give_back = |charge: Charge| give_back(cluster, policies[charge.index], charge, progress);
    let finish = |index: usize| finish(cluster, operation, policies[index], index, progress);
    join(join_all(returned.into_iter().map(give_back)), join_all(rest.into_iter().map(finish))).await;
}

/// Notes which of the `enforced` policies are known to deny. Returns whether any is.
fn recall_denials(
    cluster: &Cluster,
    policies: &[&[Counter<'_>]],
    enforced: &[usize],
    progress: &Mutex<Progress>,
) -> bool {
    let mut is_denied = false;
    for &index in enforced {
        if let Some(denied) = cluster.recall(Operation::Take, policies[index]) {
            progress.lock().answers[index] = Some(denied);
            is_denied = true;
        }
    }
    is_denied
}

/// Charges the `enforced` policies one after the other, until one does not admit. Returns those that were charged,
/// and whether all admit.
async fn charge_in_turn(
    cluster: &Arc<Cluster>,
    policies: &[&[Counter<'_>]],
    enforced: Vec<usize>,
    start: Instant,
    progress: &Mutex<Progress>,
) -> (Vec<Charge>, Result<bool, Failure>) {
    let mut charged = Vec::new();
    for index in enforced {
        let asked = cluster.common.now_micros();
        let (answer, late) = if start.elapsed() < cluster.common.timeout {
            cluster.decide(Operation::Take, policies[index]).await
        } else {
            (Err(cluster.common.late()), None)
        };
        // The charges of the others are given back, too, whatever is decided without Redis.
        if let Some(late) = late {
            late.renounce(0, policies[index]);
        }
        match answer {
            Ok(outcome) => {
                let is_taken = outcome.taken();
                progress.lock().answers[index] = Some(outcome);
                if !is_taken {
                    return (charged, Ok(false));
                }
                let time = ChargeTime { asked, answered: cluster.common.now_micros() };
                charged.push(Charge { index, time });
            }
            Err(failure) => return (charged, Err(failure)),
        }
    }
    (charged, Ok(true))
}

/// Gives a charge back, as far as it still counts, and notes where the policy stands then.
async fn give_back<'k>(
    cluster: &Arc<Cluster>,
    policy: &[Counter<'k>],
    charge: Charge,
    progress: &Mutex<Progress>,
) {
    let Charge { index, time } = charge;
    let now = cluster.common.now_micros();
    let counters: SmallVec<[Counter<'k>; 2]> = {
        let progress = progress.lock();
        let readings = progress.answers[index].iter().flat_map(Outcome::readings);
        let returned = |(counter, reading): (&Counter<'k>, &Reading)| {
            counter.charge_lasts(time.lasts(counter.algorithm, reading.reset, now))
        };
        policy.iter().zip(readings).map(returned).collect()
    };
    match cluster.decide(Operation::GiveBack, &counters).await.0 {
        // The policy had room.
        Ok(outcome) => progress.lock().answers[index] = Some(outcome.with_room()),
        Err(failure) => {
            if let Some(charges) = cluster.failed_give_backs.occurs() {
                let error = StoreError::from(failure).in_one_line();
                let policies = policy_names(policy);
                tracing::warn!(
                    error,
                    policies,
                    charges,
                    "what was charged could not be given back (logged at most once in ten seconds)"
                );
            }
        }
    }
}

/// Makes a call that does not change the verdict, and notes the answer of the policy with that `index`.
async fn finish(
    cluster: &Arc<Cluster>,
    operation: Operation,
    policy: &[Counter<'_>],
    index: usize,
    progress: &Mutex<Progress>,
) {
    if let Ok(outcome) = cluster.decide(operation, policy).await.0 {
        progress.lock().answers[index] = Some(outcome);
    }
}
