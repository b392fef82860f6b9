//! The text of a key, in place unless it is long.

use std::fmt;
use std::hash::{Hash, Hasher};

use arrayvec::ArrayString;

/// How much has room in place: a prefix, a name, an address and a short path.
const IN_PLACE: usize = 96;

/// ASCII text that is appended to. Most keys fit in place, and take no memory of their own.
#[derive(Clone, Default)]
pub(crate) struct Text {
    place: ArrayString<IN_PLACE>,
    /// All of it, once it has outgrown its place.
    long: Option<String>,
}

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        self.long.as_ref().map_or(self.place.as_str(), String::as_str)
    }

    pub(super) fn push_str(&mut self, text: &str) {
        if let Some(long) = &mut self.long {
            long.push_str(text);
        } else if self.place.try_push_str(text).is_err() {
            self.long = Some([self.place.as_str(), text].concat());
        }
    }

    /// Appends what is known to be ASCII.
    pub(super) fn push_ascii(&mut self, text: &[u8]) {
        self.push_str(std::str::from_utf8(text).unwrap_or_default());
    }

    pub(super) fn push(&mut self, character: char) {
        self.push_str(character.encode_utf8(&mut [0; 4]));
    }

    pub(super) fn len(&self) -> usize {
        self.as_str().len()
    }

    /// Takes away what stands from `start` on, where something was appended.
    pub(super) fn split_off(&mut self, start: usize) -> String {
        let kept = Self::from(&self.as_str()[..start]);
        let all = std::mem::replace(self, kept);
        all.as_str()[start..].to_owned()
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
            for piece in &pieces {
                text.push_str(piece);
            }
            let all = pieces.concat();
            prop_assert_eq!((text.as_str(), text.len()), (all.as_str(), all.len()));
            let cut = cut % (all.len() + 1);
            prop_assert_eq!(text.split_off(cut), &all[cut..]);
            text.push_str("+");
            prop_assert_eq!(text.as_str(), format!("{}+", &all[..cut]));
        }
    }
}
