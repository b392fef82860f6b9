//! Plain commands that charge a few fixed windows, which seem to have much room.
//!
//! ```text
//! MULTI
//! SET <key> 0 PX <window> NX    begins a window, if the last one is over or was reset
//! INCRBY <key> <units>
//! PTTL <key>                    unless it is known when the window ends
//! ...
//! EXEC
//! ```
//!
//! A script does the same, but takes Redis longer. As in a script, all commands run or none, and no time passes
//! between them, so each key has its TTL.
//!
//! Unlike the script, a transaction also charges what does not fit. So it is used only if, as far as is known,
//! at most half of the limit will be used; if each check takes one unit; and if the limit is the same for
//! everybody. Of the checks that are charged together, the first ones pass, as many as there is room for. If
//! there were more, the window is used up to the last unit: nobody else under this limit could have passed.
//!
//! `take.lua` then gives back what was overcharged. The checks do not wait for that, unless something else in
//! the call has failed. Until it is done, that much of what others give back has no effect. If it is never done,
//! or only when the window is about to end, this lasts until the window ends.

use std::time::Duration;

use redis::Value;

use super::batch::Group;
use super::connection::Requests;
use super::key;
use super::part::Overcharge;
use super::windows::Window;
use crate::store::Counter;

/// The most counters that one transaction charges. With more, a script takes less time for each.
pub(super) const MAX_COUNTERS: usize = 8;

/// Returns how many commands charge a counter; `known` is how long its window still lasts, if that is known.
pub(super) fn commands(known: Option<Duration>) -> usize {
    if known.is_some() { 2 } else { 3 }
}

/// Whether `counter` seems to have so much room that `group` can charge it by a transaction.
pub(super) fn suits(group: &Group, counter: &Counter<'_>, window: Option<Window>) -> bool {
    let used = window.map_or(0, |window| window.used).saturating_add(group.units(counter).unsigned_abs());
    let has_room = used <= u64::from(counter.quota.limit() / 2);
    has_room && counter.cost == 1 && !counter.varies && !group.asking
}

/// Charges each counter with what all checks of its group ask for. With it comes how long its window still
/// lasts, if that is known.
pub(super) fn put<'b>(
    requests: &mut Requests,
    charges: impl Iterator<Item = (&'b Group, Counter<'b>, Option<Duration>)>,
) {
    requests.command("MULTI", 0);
    for (group, counter, known) in charges {
        requests.command("SET", 5);
        key::write(&counter, requests);
        requests.argument(b"0");
        requests.argument(b"PX");
        requests.number(counter.quota.window_millis());
        requests.argument(b"NX");
        requests.command("INCRBY", 2);
        key::write(&counter, requests);
        requests.number(group.units(&counter));
        if known.is_none() {
            requests.command("PTTL", 1);
            key::write(&counter, requests);
        }
    }
    requests.command("EXEC", 0);
}

/// Adds to `reply` what `take.lua` would have told of a counter, from what the commands for it `answered`.
///
/// The error is that `take.lua` has to be asked. It holds what has been charged, if that was too much or does
/// not end; it is `None` if nothing has been charged.
pub(super) fn read_answers(
    answered: &[Value],
    counter: &Counter<'_>,
    known: Option<Duration>,
    reply: &mut Vec<Value>,
) -> Result<(), Option<Overcharge>> {
    let &[ref begun @ (Value::Okay | Value::Nil), Value::Int(used), ref ends @ ..] = answered else {
        return Err(None);
    };
    let window = counter.quota.window_millis();
    let told = match (begun, ends) {
        (Value::Okay, _) => Some(window),
        // If a key lasts longer than its window, the server's clock has gone back.
        (_, [Value::Int(ends)]) => u64::try_from(*ends).ok().filter(|ends| *ends <= window),
        _ => None,
    };
    let left = told.map(Duration::from_millis).or(known);
    // Only somebody else can have set it below zero.
    let used = used.max(1);
    let (Some(left), true) = (left, used <= i64::from(counter.quota.limit())) else {
        return Err(Some(Overcharge { used, left: left.unwrap_or(Duration::from_millis(window)) }));
    };
    match told {
        Some(_) => reply.extend([-used, i64::try_from(left.as_millis()).unwrap_or(i64::MAX)].map(Value::Int)),
        None => reply.push(Value::Int(used)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
            (1, false, None, 1, true),
            (1, false, None, 5, true),
            (1, false, None, 6, false),
            (1, false, Some(4), 1, true),
            (1, false, Some(5), 1, false),
            (1, false, Some(2), 3, true),
            (1, false, Some(2), 4, false),
            (1, false, Some(u64::MAX), 1, false),
            (2, false, None, 1, false),
            (1, true, None, 1, false),
        ] {
            let mut batch = Batch::default();
            let counter = [Counter { cost, ..ten }];
            for _ in 0..checks {
                let check = Check { asking, ..Check::new(&random, Operation::Take, &counter) };
                batch.add(&check).expect("there is room");
            }
            let window = used.map(|used| Window { left: None, used });
            assert_eq!(suits(&batch.groups()[0], &counter[0], window), expected, "{cost} {used:?} {checks}");
        }
    }

    #[test]
    fn what_came_of_it_is_told_as_a_script_would() {
        let ten = Counter::new("a", Quota::per_minute(10));
        let (nothing, okay, int) = (Value::Nil, Value::Okay, Value::Int);
        let charged = |used, left| Some(Overcharge { used, left: Duration::from_secs(left) });
        let known = Some(Duration::from_secs(50));
        for (answered, known, expected) in [
            (vec![nothing.clone(), int(10)], known, Ok(vec![int(10)])),
            (vec![nothing.clone(), int(10), int(40_000)], None, Ok(vec![int(-10), int(40_000)])),
            (vec![okay.clone(), int(2)], known, Ok(vec![int(-2), int(60_000)])),
            (vec![okay.clone(), int(2), int(59_999)], None, Ok(vec![int(-2), int(60_000)])),
            (vec![nothing.clone(), int(-3)], known, Ok(vec![int(1)])),
            (vec![nothing.clone(), int(11)], known, Err(charged(11, 50))),
            (vec![nothing.clone(), int(11), int(40_000)], None, Err(charged(11, 40))),
            (vec![nothing.clone(), int(2), int(-1)], None, Err(charged(2, 60))),
            (vec![nothing.clone(), int(2), int(60_001)], None, Err(charged(2, 60))),
            (vec![okay, int(11)], known, Err(charged(11, 60))),
            (vec![nothing.clone(), nothing.clone()], known, Err(None)),
            (vec![nothing.clone(), nothing, int(40_000)], None, Err(None)),
            (vec![int(0), int(2)], known, Err(None)),
            (vec![int(3)], known, Err(None)),
        ] {
            let mut reply = Vec::new();
            let told = read_answers(&answered, &ten, known, &mut reply);
            assert_eq!(told.map(|()| reply), expected, "{answered:?}");
        }
    }
}
