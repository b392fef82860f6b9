//! Several policies on a cluster: their keys may be on different nodes, which no script can span.
//!
//! The quotas of one policy share a hash tag, and so a node: a check of one policy is one call there,
//! too. Several policies are charged one after the other; when one denies, those before it get back what
//! they were charged. That is done in a task of its own, so that a caller who goes away, or whose deadline
//! passes, leaves nothing half done.
//!
//! So what is denied takes nothing in the end. Between the charge and its return another request may be
//! denied that had room: by at most as many units as are asked for by requests that are being denied in
//! that moment. A unit that is returned when its window has just ended is the next window's, which may
//! then admit so much more; and one that can't be returned, since its node has gone, stays charged until
//! its window ends.

use std::sync::Arc;
use std::time::Duration;

use redis::{ErrorKind, RedisError};
use smallvec::SmallVec;

use super::connection::Connection;
use super::script::Decider;
use crate::algorithm::Reading;
use crate::store::{Counter, Operation, Outcome};

/// Applies `operation` to `counters`, those of each policy in a call of its own.
pub(super) async fn apply(
    decider: &Arc<Decider>,
    connection: &mut Connection,
    operation: Operation,
    counters: &[Counter<'_>],
) -> Result<Outcome, RedisError> {
    let policies = by_policy(counters);
    if policies.len() <= 1 {
        return decider.call(connection, operation, counters).await;
    }
    if operation == Operation::Take {
        return take(Arc::clone(decider), connection.clone(), counters).await;
    }
    let mut readings: Vec<Reading> = Vec::with_capacity(counters.len());
    for policy in policies {
        readings.extend(decider.call(connection, operation, policy).await?.readings());
    }
    Ok(Outcome::new(matches!(operation, Operation::Add | Operation::GiveBack), readings))
}

fn by_policy<'a, 'k>(counters: &'a [Counter<'k>]) -> Vec<&'a [Counter<'k>]> {
    counters.chunk_by(|one, other| one.policy == other.policy).collect()
}

async fn take(
    decider: Arc<Decider>,
    mut connection: Connection,
    counters: &[Counter<'_>],
) -> Result<Outcome, RedisError> {
    let keys: Vec<String> = counters.iter().map(|counter| counter.key.to_owned()).collect();
    let rest: Vec<Counter<'static>> =
        counters.iter().map(|counter| Counter { key: "", ..*counter }).collect();
    let task = tokio::spawn(async move {
        let counters: Vec<Counter<'_>> =
            rest.iter().zip(&keys).map(|(counter, key)| Counter { key, ..*counter }).collect();
        take_in_turn(&decider, &mut connection, &by_policy(&counters)).await
    });
    let failed = |_| RedisError::from((ErrorKind::Client, "the task that decides has ended"));
    task.await.map_err(failed)?
}

async fn take_in_turn(
    decider: &Decider,
    connection: &mut Connection,
    policies: &[&[Counter<'_>]],
) -> Result<Outcome, RedisError> {
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
        match decider.call(connection, operation, policies[index]).await {
            Ok(outcome) => {
                if outcome.taken() {
                    charged.push(index);
                } else {
                    denied = true;
                }
                answers[index] = Some(outcome);
            }
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    if denied || failed.is_some() {
        for index in charged {
            let returned = decider.call(connection, Operation::GiveBack, policies[index]).await;
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
                (Err(error), _) => tracing::warn!(%error, "a charge could not be given back"),
                (Ok(_), None) => {}
            }
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    for index in shadows {
        let operation = if denied { Operation::Peek } else { Operation::Take };
        let answer = decider.call(connection, operation, policies[index]).await;
        // What is in shadow holds nobody up, least of all by failing.
        answers[index] = Some(answer.unwrap_or_else(|_| untouched(policies[index])));
    }
    let readings = answers.into_iter().flatten().flat_map(|outcome| outcome.readings().to_vec());
    Ok(Outcome::new(!denied, readings))
}

/// What a policy says that nobody has used.
fn untouched(policy: &[Counter<'_>]) -> Outcome {
    Outcome::new(false, policy.iter().map(super::script::untouched))
}
