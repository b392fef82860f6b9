//! The response fields that tell a client of its quotas.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{KeyRef, ListSerializer, StringRef};

use super::denial::ceil_seconds;
use crate::decision::{Decision, QuotaState};

const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Which response fields tell a client of its quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Headers {
    /// `ratelimit-policy` and `ratelimit`, as draft-ietf-httpapi-ratelimit-headers-11 has them: every
    /// quota of every policy.
    #[default]
    Draft,
    /// `x-ratelimit-limit`, `x-ratelimit-remaining` and `x-ratelimit-reset` (in seconds from now) of
    /// the quota that binds first.
    Legacy,
    /// Both of these.
    Both,
    /// None.
    Off,
}

impl Headers {
    /// Adds what `decisions` say to a response.
    pub(super) fn write<'a>(
        self,
        decisions: impl Iterator<Item = &'a Decision> + Clone,
        headers: &mut HeaderMap,
    ) {
        let told = decisions.filter(|decision| !decision.is_shadowed());
        if matches!(self, Self::Draft | Self::Both) {
            draft(told.clone(), headers);
        }
        if matches!(self, Self::Legacy | Self::Both) {
            legacy(told, headers);
        }
    }
}

/// The quotas of a policy with the names they have for a client: `"name"`, `"name.2"`, …
pub(super) fn item_names(decision: &Decision) -> impl Iterator<Item = (Cow<'static, str>, &QuotaState)> {
    let name = decision.policy();
    decision.quotas().iter().enumerate().map(move |(index, state)| match index {
        0 => (Cow::Borrowed(name), state),
        _ => (Cow::Owned(format!("{name}.{}", index + 1)), state),
    })
}

/// `"hardwork";q=5;w=60` and `"hardwork";r=4;t=60`.
fn draft<'a>(decisions: impl Iterator<Item = &'a Decision>, headers: &mut HeaderMap) {
    let mut policies = ListSerializer::new();
    let mut limits = ListSerializer::new();
    for (name, state) in decisions.flat_map(item_names) {
        let Ok(name) = StringRef::from_str(&name) else { continue };
        let _ = policies
            .bare_item(name)
            .parameter(key("q"), state.quota.limit())
            .parameter(key("w"), integer(state.quota.window_seconds()));
        let _ = limits
            .bare_item(name)
            .parameter(key("r"), told(state))
            .parameter(key("t"), integer(ceil_seconds(state.reset)));
    }
    for (field, list) in [(RATELIMIT_POLICY, policies), (RATELIMIT, limits)] {
        if let Some(Ok(value)) = list.finish().map(HeaderValue::try_from) {
            // A list may come in several lines: another limiter may have had its say.
            headers.append(field, value);
        }
    }
}

/// A bucket may hold more than it gets in a window, but clients are told of no more than the quota.
fn told(state: &QuotaState) -> u32 {
    state.remaining.min(state.quota.limit())
}

fn key(name: &str) -> &KeyRef {
    KeyRef::from_str(name).expect("a lower-case letter is a key")
}

fn integer(seconds: u64) -> sfv::Integer {
    sfv::Integer::try_from(seconds).unwrap_or(sfv::Integer::MAX)
}

fn legacy<'a>(decisions: impl Iterator<Item = &'a Decision>, headers: &mut HeaderMap) {
    let binding = decisions
        .filter_map(Decision::binding)
        .min_by_key(|state| (!state.exceeded, state.remaining, std::cmp::Reverse(state.reset)));
    if let Some(state) = binding {
        headers.insert(X_LIMIT, state.quota.limit().into());
        headers.insert(X_REMAINING, told(state).into());
        headers.insert(X_RESET, ceil_seconds(state.reset).into());
    }
}
