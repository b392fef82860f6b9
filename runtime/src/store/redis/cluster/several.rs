//! Several policies on a cluster: their keys may be on different nodes, which no script can span.
//!
//! The policies are charged one after the other; when one denies, those before it get back what they were
//! charged. That is done in a task of its own, so that a caller who goes away, or whose deadline passes,
//! leaves nothing half done.
//!
//! So what is denied takes nothing in the end. Between the charge and its return another request may be
//! denied that had room: by at most as many units as are asked for by requests that are being denied in
//! that moment. A unit that is returned when its window has just ended is the next window's, which may
//! then admit so much more; and one that can't be returned, since its node has gone, stays charged until
//! its window ends.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::Cluster;
use crate::algorithm::Reading;
use crate::store::redis::answers::untouched;
use crate::store::redis::failure::Failure;
use crate::store::{Counter, Operation, Outcome};

/// Applies `operation` to `counters`, those of each policy in a call of its own.
pub(super) async fn decide(
    cluster: &Arc<Cluster>,
    operation: Operation,
    counters: &[Counter<'_>],
) -> Result<Outcome, Failure> {
    if operation == Operation::Take {
        let taking = tokio::time::timeout(cluster.timeout, take(Arc::clone(cluster), counters));
        return taking.await.unwrap_or(Err(Failure::Timeout));
    }
    let deciding = async {
        let mut readings: SmallVec<[Reading; 4]> = SmallVec::new();
        for policy in by_policy(counters) {
            readings.extend(cluster.decide(operation, policy).await?.readings().iter().copied());
        }
        Ok(Outcome::new(matches!(operation, Operation::Add | Operation::GiveBack), readings))
    };
    tokio::time::timeout(cluster.timeout, deciding).await.unwrap_or(Err(Failure::Timeout))
}

fn by_policy<'a, 'k>(counters: &'a [Counter<'k>]) -> Vec<&'a [Counter<'k>]> {
    counters.chunk_by(|one, other| one.policy == other.policy).collect()
}

async fn take(cluster: Arc<Cluster>, counters: &[Counter<'_>]) -> Result<Outcome, Failure> {
    let keys: Vec<String> = counters.iter().map(|counter| counter.key.to_owned()).collect();
    let rest: Vec<Counter<'static>> =
        counters.iter().map(|counter| Counter { key: "", ..*counter }).collect();
    let task = tokio::spawn(async move {
        let counters: Vec<Counter<'_>> =
            rest.iter().zip(&keys).map(|(counter, key)| Counter { key, ..*counter }).collect();
        take_in_turn(&cluster, &by_policy(&counters)).await
    });
    task.await.unwrap_or(Err(Failure::NoConnection))
}

async fn take_in_turn(cluster: &Arc<Cluster>, policies: &[&[Counter<'_>]]) -> Result<Outcome, Failure> {
    let is_shadow = |policy: &[Counter<'_>]| policy.iter().any(|counter| counter.shadow);
    // Those in shadow come last: they are only charged for what passes.
    let (shadows, enforced): (Vec<usize>, Vec<usize>) =
        (0..policies.len()).partition(|index| is_shadow(policies[*index]));
    let mut answers: Vec<Option<Outcome>> = vec![None; policies.len()];
    let mut charged: SmallVec<[usize; 4]> = SmallVec::new();
    let mut denied = false;
    let mut failed = None;
    for index in enforced {
        // After a denial the others are only asked where they stand.
        let operation = if denied { Operation::Peek } else { Operation::Take };
        match cluster.decide(operation, policies[index]).await {
            Ok(outcome) => {
                if outcome.taken() {
                    charged.push(index);
                } else {
                    denied = true;
                }
                answers[index] = Some(outcome);
            }
            Err(failure) => {
                failed = Some(failure);
                break;
            }
        }
    }
    if denied || failed.is_some() {
        for index in charged {
            let returned = cluster.decide(Operation::GiveBack, policies[index]).await;
            match (returned, &mut answers[index]) {
                // It had room, and stands where it stood.
                (Ok(returned), Some(answer)) => {
                    let readings = returned.readings().iter().map(|reading| Reading {
                        fits: true,
                        retry_after: Some(Duration::ZERO),
                        ..*reading
                    });
                    *answer = Outcome::new(false, readings);
                }
                (Err(failure), _) => tracing::warn!(?failure, "a charge could not be given back"),
                (Ok(_), None) => {}
            }
        }
    }
    if let Some(failure) = failed {
        return Err(failure);
    }
    for index in shadows {
        let operation = if denied { Operation::Peek } else { Operation::Take };
        let answer = cluster.decide(operation, policies[index]).await;
        // What is in shadow holds nobody up, least of all by failing.
        let unknown = |_| Outcome::new(false, policies[index].iter().map(untouched));
        answers[index] = Some(answer.unwrap_or_else(unknown));
    }
    let readings = answers.into_iter().flatten().flat_map(|outcome| outcome.readings().to_vec());
    Ok(Outcome::new(!denied, readings))
}
