//! Several policies on a cluster: their keys may be on different nodes, which no script can span.
//!
//! The quotas of one policy share a hash tag, and so a node: a check of one policy is one call there,
//! too. Several policies are charged one after the other; when one denies, those before it get back what
//! they were charged.
//!
//! So no quota is ever exceeded, and what is denied takes nothing in the end. Between the charge and its
//! return another request may be denied that had room: by at most as many units as are asked for by
//! requests that are being denied in that moment. What a caller that goes away in between has been
//! charged stays charged until its window ends.

use std::time::Duration;

use redis::RedisError;
use smallvec::SmallVec;

use super::connection::Connection;
use super::script::Decider;
use crate::algorithm::Reading;
use crate::store::{Counter, Operation, Outcome};

/// Applies `operation` to `counters`, those of each policy in a call of its own.
pub(super) async fn apply(
    decider: &Decider,
    connection: &mut Connection,
    operation: Operation,
    counters: &[Counter<'_>],
) -> Result<Outcome, RedisError> {
    let policies: Vec<&[Counter<'_>]> = counters.chunk_by(|one, other| one.policy == other.policy).collect();
    if policies.len() <= 1 {
        return decider.call(connection, operation, counters).await;
    }
    if operation == Operation::Take {
        return take(decider, connection, &policies).await;
    }
    let mut readings: Vec<Reading> = Vec::with_capacity(counters.len());
    for policy in policies {
        readings.extend(decider.call(connection, operation, policy).await?.readings());
    }
    Ok(Outcome::new(operation != Operation::Peek && operation != Operation::Reset, readings))
}

async fn take(
    decider: &Decider,
    connection: &mut Connection,
    policies: &[&[Counter<'_>]],
) -> Result<Outcome, RedisError> {
    let is_shadow = |policy: &[Counter<'_>]| policy.iter().any(|counter| counter.shadow);
    // Those in shadow come last: they are only charged for what passes.
    let (shadows, enforced): (Vec<usize>, Vec<usize>) =
        (0..policies.len()).partition(|index| is_shadow(policies[*index]));
    let mut answers: Vec<Option<Outcome>> = vec![None; policies.len()];
    let mut denied = false;
    let mut charged: SmallVec<[usize; 4]> = SmallVec::new();
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
                for index in charged {
                    let _ = decider.call(connection, Operation::GiveBack, policies[index]).await;
                }
                return Err(error);
            }
        }
    }
    if denied {
        for index in charged {
            let returned = decider.call(connection, Operation::GiveBack, policies[index]).await?;
            // It had room, and stands where it stood.
            let readings = returned.readings().iter().map(|reading| Reading {
                fits: true,
                retry_after: Some(Duration::ZERO),
                ..*reading
            });
            answers[index] = Some(Outcome::new(false, readings));
        }
    }
    for index in shadows {
        let operation = if denied { Operation::Peek } else { Operation::Take };
        answers[index] = Some(decider.call(connection, operation, policies[index]).await?);
    }
    let readings = answers.into_iter().flatten().flat_map(|outcome| outcome.readings().to_vec());
    Ok(Outcome::new(!denied, readings))
}
