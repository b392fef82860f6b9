//! Tells when a request lacks a part of its policy's key, and is counted by its client's address instead. That may be
//! meant, for clients that are not logged in; or the authentication comes too late for the limit to see the user.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::KeyPart;
use crate::log_throttle::OncePerPolicy;

thread_local! {
    /// The policies that this thread has told of.
    static TOLD_HERE: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
}

/// Logs that a request lacks this part of the key, once for each policy.
#[cold]
pub(super) fn tell(policy: &'static str, part: &KeyPart) {
    /// The policies that any thread has told of. Most requests need not look here.
    static TOLD: OncePerPolicy = OncePerPolicy::new();
    if TOLD_HERE.with_borrow_mut(|told| told.insert(policy)) && TOLD.is_first(policy) {
        tracing::info!(
            policy,
            lacks = ?part,
            "a request lacks a part of its key, and is counted by its client's address instead: if all requests do, \
             insert what the key reads outside of the limited handler, router function or module \
             (logged once for each policy)"
        );
    }
}
