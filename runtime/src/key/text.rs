//! The text of a key, in place unless it is long.

use std::fmt;
use std::hash::{Hash, Hasher};

/// How much has room in place: a prefix, a name, an address and a short path.
const IN_PLACE: usize = 96;

/// ASCII text that is appended to. Most keys fit in place, and take no memory of their own.
#[derive(Clone)]
pub(crate) struct Text {
    len: usize,
    place: [u8; IN_PLACE],
    /// All of it, once it has outgrown its place.
    long: String,
}

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        if self.len > IN_PLACE {
            return &self.long;
        }
        // Only `str`s have been appended, and cut where one was.
        std::str::from_utf8(&self.place[..self.len]).unwrap_or_default()
    }

    pub(super) fn push_str(&mut self, text: &str) {
        let end = self.len + text.len();
        if end <= IN_PLACE {
            self.place[self.len..end].copy_from_slice(text.as_bytes());
        } else {
            if self.len <= IN_PLACE {
                self.long = self.as_str().to_owned();
            }
            self.long.push_str(text);
        }
        self.len = end;
    }

    /// Appends what is known to be ASCII.
    pub(super) fn push_ascii(&mut self, text: &[u8]) {
        self.push_str(std::str::from_utf8(text).unwrap_or_default());
    }

    pub(super) fn push(&mut self, character: char) {
        self.push_str(character.encode_utf8(&mut [0; 4]));
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes away what stands from `start` on, where something was appended.
    pub(super) fn split_off(&mut self, start: usize) -> String {
        let kept = Self::from(&self.as_str()[..start]);
        let all = std::mem::replace(self, kept);
        all.as_str()[start..].to_owned()
    }
}

impl Default for Text {
    fn default() -> Self {
        Self { len: 0, place: [0; IN_PLACE], long: String::new() }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let mut new = Self::default();
        new.push_str(text);
        new
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_was_appended(pieces in proptest::collection::vec("[ -~]{0,50}", 0..8), cut in any::<usize>()) {
            let mut text = Text::default();
            pieces.iter().for_each(|piece| text.push_str(piece));
            let all = pieces.concat();
            prop_assert_eq!((text.as_str(), text.len()), (all.as_str(), all.len()));
            let cut = cut % (all.len() + 1);
            prop_assert_eq!(text.split_off(cut), &all[cut..]);
            text.push_str("+");
            prop_assert_eq!(text.as_str(), format!("{}+", &all[..cut]));
        }
    }
}
