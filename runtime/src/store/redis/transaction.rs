//! Plain commands that charge a few fixed windows, which are known to run and have much room.
//!
//! ```text
//! MULTI
//! SET <key> 0 PX <window> NX    begins the next window, should that one be over or reset
//! INCRBY <key> <units>
//! ...
//! EXEC
//! ```
//!
//! A script does the same, but takes Redis longer. As of a script, all is done or nothing, and no time passes
//! meanwhile, so that each key has its TTL.
//!
//! But what does not fit is charged as well. So only those ask this way who knew not long ago that half of the limit
//! was free, and who take one unit each. Of those that are charged together, as many pass as find room; once there
//! are too many, nothing is left that anybody else could be given. `take.lua` then gives back what is too much, for
//! which nobody waits. Until it has, and should it never get to it, until the window ends, so much of what others give
//! back is of no use.

use redis::Value;

use super::batch::Group;
use super::connection::Requests;
use super::key::StoredKey;
use super::part::units;
use super::windows::Window;
use crate::store::Counter;

/// How many counters are charged together. Of many, a script takes less for each.
pub(super) const MAX_COUNTERS: usize = 8;

/// How many commands charge a counter.
pub(super) const COMMANDS: usize = 2;

/// Whether a counter has so much room that a group can charge it this way.
pub(super) fn suits(group: &Group, counter: &Counter<'_>, window: &Window) -> bool {
    let used = window.used.saturating_add(units(group, counter).unsigned_abs());
    counter.cost == 1 && used <= u64::from(counter.quota.limit() / 2) && !group.asking
}

/// Charges counters with what all of a group ask of each.
pub(super) fn put<'b>(requests: &mut Requests, charges: impl Iterator<Item = (&'b Group, Counter<'b>)>) {
    requests.command("MULTI", 0);
    for (group, counter) in charges {
        let key = StoredKey::from(&counter);
        requests.command("SET", 5);
        key.write(requests);
        requests.argument(b"0");
        requests.argument(b"PX");
        requests.number(counter.quota.window_millis());
        requests.argument(b"NX");
        requests.command("INCRBY", 2);
        key.write(requests);
        requests.number(units(group, &counter));
    }
    requests.command("EXEC", 0);
}

/// Adds to `reply` what `take.lua` would have told of a counter, after what the commands that charge it `answered`.
///
/// The error is that it is to be asked; and what came of the counter, if that was charged with too much.
pub(super) fn tell(
    answered: &[Value],
    counter: &Counter<'_>,
    reply: &mut Vec<Value>,
) -> Result<(), Option<i64>> {
    let &[ref begun, Value::Int(used)] = answered else { return Err(None) };
    if used > i64::from(counter.quota.limit()) {
        return Err(Some(used));
    }
    // Not by us has it been less than nothing.
    let used = used.max(1);
    match (begun, i64::try_from(counter.quota.window_millis())) {
        (Value::Nil, _) => reply.push(Value::Int(used)),
        (Value::Okay, Ok(window)) => reply.extend([Value::Int(-used), Value::Int(window)]),
        _ => return Err(None),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ahash::RandomState;

    use super::*;
    use crate::quota::Quota;
    use crate::store::Operation;
    use crate::store::redis::batch::{Batch, Check};

    #[test]
    fn half_of_the_limit_is_to_be_free_for_whoever_takes_units() {
        let ten = Counter::new("a", Quota::per_minute(10));
        let random = RandomState::with_seeds(1, 2, 3, 4);
        for (cost, asking, used, checks, expected) in [
            (1, false, 0, 1, true),
            (1, false, 4, 1, true),
            (1, false, 5, 1, false),
            (1, false, 2, 3, true),
            (1, false, 2, 4, false),
            (1, false, u64::MAX, 1, false),
            (2, false, 0, 1, false),
            (1, true, 0, 1, false),
        ] {
            let mut batch = Batch::default();
            let counter = [Counter { cost, ..ten }];
            for _ in 0..checks {
                let check = Check { asking, ..Check::new(&random, Operation::Take, &counter) };
                batch.add(&check).expect("there is room");
            }
            let window = Window { left: Duration::from_secs(1), used };
            assert_eq!(suits(&batch.groups()[0], &counter[0], &window), expected, "{cost} {used} {checks}");
        }
    }

    #[test]
    fn what_came_of_it_is_told_as_a_script_would() {
        let ten = Counter::new("a", Quota::per_minute(10));
        let (nothing, okay, int) = (Value::Nil, Value::Okay, Value::Int);
        for (answered, expected) in [
            (vec![nothing.clone(), int(10)], Ok(vec![int(10)])),
            (vec![okay.clone(), int(2)], Ok(vec![int(-2), int(60_000)])),
            (vec![nothing.clone(), int(-3)], Ok(vec![int(1)])),
            (vec![nothing.clone(), int(11)], Err(Some(11))),
            (vec![okay, int(11)], Err(Some(11))),
            (vec![nothing.clone(), nothing], Err(None)),
            (vec![int(0), int(2)], Err(None)),
            (vec![int(3)], Err(None)),
        ] {
            let mut reply = Vec::new();
            let told = tell(&answered, &ten, &mut reply);
            assert_eq!(told.map(|()| reply), expected, "{answered:?}");
        }
    }
}
