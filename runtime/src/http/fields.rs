//! The response fields that tell a client about its quotas.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::decision::{Decision, QuotaState};
use crate::inline_string::InlineString;

const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Which response fields tell a client about its quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Headers {
    /// `ratelimit-policy` and `ratelimit`, as in draft-ietf-httpapi-ratelimit-headers-11, for every quota of every
    /// policy that is not in shadow. The time they tell is until the quota is whole again or, for an exceeded quota,
    /// until the next try if that is sooner. What is left is told as at most the quota's count, also of a token
    /// bucket that lets more pass at once.
    #[default]
    Draft,
    /// `x-ratelimit-limit`, `x-ratelimit-remaining` and `x-ratelimit-reset` (in seconds from now) of
    /// the quota that binds first.
    Legacy,
    /// As [`Legacy`](Self::Legacy), but `x-ratelimit-reset` is a Unix time, in seconds: what clients expect that are
    /// used to GitHub, Flask-Limiter or express-rate-limit. It is as right as their clocks and this machine's.
    LegacyUnixTime,
    /// `Draft` and `Legacy`.
    Both,
    /// None.
    Off,
}

impl Headers {
    /// Adds the fields for `decisions`, none of which is of a policy in shadow, to a response.
    pub(super) fn write(self, decisions: &[Decision], headers: &mut HeaderMap) {
        if matches!(self, Self::Draft | Self::Both) {
            write_draft(decisions.iter(), headers);
        }
        if matches!(self, Self::Legacy | Self::Both) {
            write_legacy(decisions.iter(), headers, ceil_seconds);
        }
        if self == Self::LegacyUnixTime {
            write_legacy(decisions.iter(), headers, unix_time_after);
        }
    }
}

/// The name that a client knows a quota by: the `name` of its policy, and `name.2` for the second quota of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ItemName {
    policy: &'static str,
    number: usize,
}

impl fmt::Display for ItemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.policy)?;
        if self.number > 1 { write!(f, ".{}", self.number) } else { Ok(()) }
    }
}

/// Returns the quotas of a policy, with the names that clients know them by.
pub(super) fn items(decision: &Decision) -> impl Iterator<Item = (ItemName, &QuotaState)> {
    let policy = decision.policy();
    let states = decision.quotas().iter().enumerate();
    states.map(move |(index, state)| (ItemName { policy, number: index + 1 }, state))
}

/// Writes `"hardwork";q=5;w=60` and `"hardwork";r=4;t=60`.
fn write_draft<'a>(decisions: impl Iterator<Item = &'a Decision>, headers: &mut HeaderMap) {
    let (mut policies, mut limits) = (List::default(), List::default());
    for (name, state) in decisions.flat_map(items) {
        let quota = &state.quota;
        policies.item(name, (";q=", quota.limit().into()), (";w=", quota.window_seconds()));
        limits.item(name, (";r=", left(state).into()), (";t=", ceil_seconds(until_more(state))));
    }
    // Appended, since a list may span several lines, and another limiter may have added one.
    if let Some(value) = policies.value() {
        headers.append(RATELIMIT_POLICY, value);
    }
    if let Some(value) = limits.value() {
        headers.append(RATELIMIT, value);
    }
}

/// An RFC 9651 list of strings with two parameters each.
///
/// It is written by hand, since every limited request waits for it; a test compares it with a serializer of the
/// grammar. The names of policies contain nothing that has to be escaped, and no number has more than the 15
/// digits that the grammar allows.
#[derive(Default)]
struct List(InlineString);

impl List {
    /// Adds a quota with its parameters, each as `;key=` and a value.
    #[inline] // so that the keys are constants
    fn item(&mut self, name: ItemName, first: (&str, u64), second: (&str, u64)) {
        let Self(text) = self;
        text.push_str(if text.is_empty() { "\"" } else { ", \"" });
        text.push_str(name.policy);
        if name.number > 1 {
            text.push_str(".");
            text.push_number(name.number as u64);
        }
        text.push_str("\"");
        for (key, value) in [first, second] {
            text.push_str(key);
            text.push_number(value);
        }
    }

    fn value(&self) -> Option<HeaderValue> {
        if self.0.is_empty() { None } else { HeaderValue::from_str(self.0.as_str()).ok() }
    }
}

/// Returns what clients are told is left: at most the quota, though a bucket may hold more than it gets in a
/// window.
fn left(state: &QuotaState) -> u32 {
    state.remaining.min(state.quota.limit())
}

/// Returns how long until a quota is whole again or, if it is exceeded, until the next try fits, which may be
/// much sooner.
fn until_more(state: &QuotaState) -> Duration {
    let next_try = state.retry_after.filter(|_| state.exceeded);
    next_try.map_or(state.reset, |wait| wait.min(state.reset))
}

/// Writes `x-ratelimit-limit` and its like for the quota that binds first. The time until it resets is told as
/// `told` makes it.
fn write_legacy<'a>(
    decisions: impl Iterator<Item = &'a Decision> + Clone,
    headers: &mut HeaderMap,
    told: fn(Duration) -> u64,
) {
    let states = decisions.flat_map(Decision::quotas);
    if let Some(state) = QuotaState::binding(states) {
        headers.insert(X_LIMIT, number(state.quota.limit().into()));
        headers.insert(X_REMAINING, number(left(state).into()));
        headers.insert(X_RESET, number(told(until_more(state))));
    }
}

/// Makes a header value with one allocation; `HeaderValue::from(number)` makes two.
pub(super) fn number(number: u64) -> HeaderValue {
    HeaderValue::from_str(itoa::Buffer::new().format(number)).unwrap_or_else(|_| number.into())
}

/// Rounds up to whole seconds, so that a client that waits them does not come too early. Caps them at the 15
/// digits that a number in a field may have, whatever a custom store returns.
pub(super) fn ceil_seconds(duration: Duration) -> u64 {
    const MOST: u64 = 999_999_999_999_999;
    (duration.as_secs().min(MOST) + u64::from(duration.subsec_nanos() > 0)).min(MOST)
}

/// Returns the Unix time after a wait, rounded up to whole seconds.
fn unix_time_after(wait: Duration) -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ceil_seconds(since_epoch.saturating_add(wait))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> impl Strategy<Value = ItemName> {
        let policies = proptest::sample::select(vec![
            "p",
            "log-ins.failed_A-Z.0-9",
            Box::leak("x".repeat(64).into_boxed_str()),
        ]);
        (policies, 1..=12_usize).prop_map(|(policy, number)| ItemName { policy, number })
    }

    proptest! {
        /// A list is written as a serializer of the grammar writes it.
        #[test]
        fn a_list_is_of_the_grammar(
            items in proptest::collection::vec((names(), any::<u32>(), 0..31_622_400_u64), 0..5)
        ) {
            let mut list = List::default();
            let mut serializer = sfv::ListSerializer::new();
            let key = |name| sfv::KeyRef::from_str(name).unwrap();
            for (name, count, seconds) in &items {
                list.item(*name, (";q=", (*count).into()), (";w=", *seconds));
                let _ = serializer
                    .bare_item(sfv::StringRef::from_str(&name.to_string()).unwrap())
                    .parameter(key("q"), *count)
                    .parameter(key("w"), sfv::Integer::try_from(*seconds).unwrap());
            }
            let (written, expected) = (list.value(), serializer.finish());
            let written = written.as_ref().and_then(|value| value.to_str().ok());
            prop_assert_eq!(written, expected.as_deref());
        }
    }

    #[test]
    fn seconds_are_rounded_up_and_have_an_end() {
        for (nanos, seconds) in [(0, 0), (1, 1), (1_000_000_000, 1), (1_000_000_001, 2)] {
            assert_eq!(ceil_seconds(Duration::from_nanos(nanos)), seconds);
        }
        assert_eq!(ceil_seconds(Duration::MAX).to_string().len(), 15);
    }

    #[test]
    fn the_longest_number_is_one_of_the_grammar() {
        let longest = crate::Quota::new(1, Duration::from_secs(366 * 86_400)).window_seconds();
        assert!(longest.max(u32::MAX.into()) < 10_u64.pow(15));
    }
}
