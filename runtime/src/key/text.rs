//! The text of a key, in place unless it is long.

use std::fmt;

use smallvec::SmallVec;

/// How much has room in place: a prefix, a name, an address and a short path.
const IN_PLACE: usize = 88;

/// ASCII text that is appended to. Most keys fit in place, and take no memory of their own.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Text(SmallVec<[u8; IN_PLACE]>);

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        // Only `str`s have been appended, and cut where one was.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(super) fn push_str(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn push(&mut self, character: char) {
        self.push_str(character.encode_utf8(&mut [0; 4]));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What stands from `start` on, where something was appended.
    pub(super) fn since(&self, start: usize) -> &[u8] {
        &self.0[start..]
    }

    /// Forgets what stands from `start` on, where something was appended.
    pub(super) fn truncate(&mut self, start: usize) {
        self.0.truncate(start);
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_str(text);
        Ok(())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}
