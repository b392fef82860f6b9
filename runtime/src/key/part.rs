//! The parts of a policy's key: what of a request tells who shares a quota.

use std::fmt;

use http::request::Parts;

use super::{NoPeer, encoding};
use crate::inline_string::InlineString;

/// One part of a key: see [`Policy::key`](crate::Policy::key).
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum KeyPart {
    /// The client's address.
    Ip,
    /// One quota that all share.
    Global,
    /// The value of a header. Whoever can send any value has any number of quotas, so use a header that something
    /// before the limit has checked. The value is hashed in the store, since it may be a secret. Of several lines of
    /// that name, the first counts.
    Header(&'static str),
    /// What a function reads from the request; `None` if the request lacks it.
    By(fn(&Parts) -> Option<String>),
}

/// Returns what is wrong with a key of these parts, and what to write instead.
pub(crate) const fn fault(parts: &[KeyPart]) -> Option<&'static str> {
    if parts.is_empty() {
        return Some("a key has at least one part: write `&[KeyPart::Ip]`");
    }
    let mut index = 0;
    while index < parts.len() {
        if !parts[index].is_valid() {
            return Some("this is not a header name: write `KeyPart::Header(\"x-api-key\")` or the like");
        }
        if matches!(parts[index], KeyPart::Global) && parts.len() > 1 {
            return Some(
                "`KeyPart::Global` makes no difference beside other parts: leave it out, or write \
                 `&[KeyPart::Global]` in a policy of its own, for a quota that all share",
            );
        }
        let mut other = 0;
        while other < index {
            if parts[other].repeats(&parts[index]) {
                return Some("a part is in the key twice: write each once");
            }
            other += 1;
        }
        index += 1;
    }
    None
}

impl KeyPart {
    /// Whether both parts are certain to be the same. Functions can't be compared.
    const fn repeats(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ip, Self::Ip) => true,
            (Self::Header(one), Self::Header(other)) => {
                let (one, other) = (one.as_bytes(), other.as_bytes());
                let mut index = 0;
                while index < one.len() && index < other.len() {
                    if !one[index].eq_ignore_ascii_case(&other[index]) {
                        return false;
                    }
                    index += 1;
                }
                one.len() == other.len()
            }
            _ => false,
        }
    }

    const fn is_valid(&self) -> bool {
        let Self::Header(name) = self else { return true };
        let bytes = name.as_bytes();
        let mut index = 0;
        while index < bytes.len() {
            // A token of RFC 9110.
            if !matches!(bytes[index], b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'!' | b'#'..=b'\'' | b'*' | b'+'
                | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
            {
                return false;
            }
            index += 1;
        }
        !bytes.is_empty()
    }

    /// Whether two parts are the same. Two functions are if `functions_agree`: see
    /// [`Policy::is_same_rule`](crate::Policy::is_same_rule).
    pub(crate) fn agrees(&self, other: &Self, functions_agree: bool) -> bool {
        match (self, other) {
            (Self::Ip, Self::Ip) | (Self::Global, Self::Global) => true,
            (Self::By(_), Self::By(_)) => functions_agree,
            (Self::Header(one), Self::Header(other)) => one.eq_ignore_ascii_case(other),
            _ => false,
        }
    }

    /// Writes this part of the request or, if the request lacks it, what `write_client` writes. Returns whether the
    /// request has it.
    pub(super) fn write(
        &self,
        request: &Parts,
        write_client: impl Fn(&mut InlineString) -> Result<(), NoPeer>,
        key: &mut InlineString,
    ) -> Result<bool, NoPeer> {
        if matches!(self, Self::Ip) {
            return write_client(key).map(|()| true);
        }
        let has_it = self.write_own(request, key);
        if !has_it {
            write_client(key)?;
        }
        Ok(has_it)
    }

    /// Writes this part of the request, and returns whether the request has it.
    #[inline(never)] // most keys need none of it, and it is long
    fn write_own(&self, request: &Parts, key: &mut InlineString) -> bool {
        match self {
            Self::Ip => return false,
            Self::Global => encoding::write_global(key),
            Self::Header(name) => {
                let value = request.headers.get(*name).filter(|value| !value.is_empty());
                let Some(value) = value else { return false };
                encoding::write_header(value.as_bytes(), key);
            }
            Self::By(read) => {
                let Some(text) = read(request).filter(|text| !text.is_empty()) else { return false };
                encoding::write_text(&text, key);
            }
        }
        true
    }
}

impl fmt::Debug for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip => f.write_str("Ip"),
            Self::Global => f.write_str("Global"),
            Self::Header(name) => f.debug_tuple("Header").field(name).finish(),
            Self::By(_) => f.write_str("By(..)"),
        }
    }
}
