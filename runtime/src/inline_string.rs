//! A text buffer that allocates only if the text is long.

use std::fmt;
use std::hash::{Hash, Hasher};

use arrayvec::ArrayString;

/// How many bytes fit in place: a key made of a prefix, a name, an address and a short path; or the value of a
/// response field for two quotas.
const IN_PLACE: usize = 80;

/// A buffer for ASCII text. Most keys and response fields fit in place and need no allocation.
#[derive(Clone)]
pub(crate) enum InlineString {
    Short(ArrayString<IN_PLACE>),
    Long(String),
}

impl Default for InlineString {
    fn default() -> Self {
        Self::Short(ArrayString::new())
    }
}

impl InlineString {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Short(text) => text,
            Self::Long(text) => text,
        }
    }

    #[inline] // most pieces are constants, which reduces this to a move
    pub(crate) fn push_str(&mut self, text: &str) {
        if let Self::Short(short) = self
            && short.try_push_str(text).is_ok()
        {
            return;
        }
        self.push_long(text);
    }

    #[cold]
    fn push_long(&mut self, text: &str) {
        match self {
            Self::Short(short) => *self = Self::Long([short, text].concat()),
            Self::Long(long) => long.push_str(text),
        }
    }

    pub(crate) fn push_number(&mut self, number: u64) {
        self.push_str(itoa::Buffer::new().format(number));
    }

    pub(crate) fn push(&mut self, character: char) {
        self.push_str(character.encode_utf8(&mut [0; 4]));
    }

    pub(crate) fn len(&self) -> usize {
        self.as_str().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Splits off what has been appended since the length was `start`.
    pub(crate) fn split_off(&mut self, start: usize) -> String {
        let kept = Self::from(&self.as_str()[..start]);
        let all = std::mem::replace(self, kept);
        all.as_str()[start..].to_owned()
    }
}

impl From<&str> for InlineString {
    fn from(text: &str) -> Self {
        let mut new = Self::default();
        new.push_str(text);
        new
    }
}

impl PartialEq for InlineString {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for InlineString {}

impl Hash for InlineString {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Write for InlineString {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_str(text);
        Ok(())
    }
}

impl fmt::Debug for InlineString {
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
            let mut text = InlineString::default();
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
