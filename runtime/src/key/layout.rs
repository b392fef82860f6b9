//! The layout of a key in the store: `rl:{policy::client::resource}`, with the limiter's prefix.
//!
//! The braces make it the hash tag of a Redis key, so that all quotas of a policy are in one slot of a cluster. No
//! two keys have the same text: a policy's name contains no `:`, a part of the client contains no `,` and no `:`
//! outside brackets, and the resource comes last.

use crate::inline_string::InlineString;

const TAG_START: &str = "{";
const TAG_END: &str = "}";
/// Stands before the client, and before the resource.
const SECTION: &str = "::";
/// Stands between the parts of the client.
const PART: &str = ",";

/// Writes the marks of a key around what its caller writes: one part or more, and then perhaps a resource.
pub(super) struct KeyWriter<'k> {
    key: &'k mut InlineString,
    has_part: bool,
}

impl<'k> KeyWriter<'k> {
    pub(super) fn begin(prefix: &str, policy: &str, key: &'k mut InlineString) -> Self {
        key.push_str(prefix);
        key.push_str(TAG_START);
        key.push_str(policy);
        key.push_str(SECTION);
        Self { key, has_part: false }
    }

    /// Writes no prefix, policy and braces.
    pub(super) fn bare(key: &'k mut InlineString) -> Self {
        Self { key, has_part: false }
    }

    /// Returns where to write the next part of the client.
    #[inline]
    pub(super) fn part(&mut self) -> &mut InlineString {
        if self.has_part {
            self.key.push_str(PART);
        }
        self.has_part = true;
        self.key
    }

    /// Returns where to write the resource.
    #[inline]
    pub(super) fn resource(&mut self) -> &mut InlineString {
        self.key.push_str(SECTION);
        self.key
    }

    #[inline]
    pub(super) fn end(self) {
        self.key.push_str(TAG_END);
    }
}

/// Returns the name of the policy that a key belongs to.
pub(crate) fn policy_of(key: &str) -> Option<&str> {
    let (_prefix, tag) = key.split_once(TAG_START)?;
    let (policy, _rest) = tag.split_once(SECTION)?;
    Some(policy)
}
