//! Speaks the protocol of Redis: writes commands, and finds where answers end.
//!
//! See the [specification](https://redis.io/docs/latest/develop/reference/protocol-spec/). The `redis` crate
//! parses the answers, except for the most common kinds, which are parsed here.

use redis::{ErrorKind, RedisError, RedisResult, Value};

/// Commands, as they are sent.
#[derive(Debug, Default)]
pub(in super::super) struct Requests {
    pub(super) bytes: Vec<u8>,
    /// How many have been added since they were last counted.
    pub(super) commands: usize,
    /// How many arguments of the last one are still to be added.
    missing: usize,
}

impl Requests {
    /// Begins a command with this name and this number of arguments, which are to follow.
    pub(in super::super) fn command(&mut self, name: &str, arguments: usize) {
        debug_assert_eq!(self.missing, 0, "the command before is not complete");
        self.commands += 1;
        self.missing = arguments + 1;
        self.head(b'*', arguments + 1);
        self.argument(name.as_bytes());
    }

    pub(in super::super) fn argument(&mut self, argument: &[u8]) {
        self.pieces(&[argument]);
    }

    /// Adds one argument, put together from pieces.
    pub(in super::super) fn pieces(&mut self, pieces: &[&[u8]]) {
        debug_assert_ne!(self.missing, 0, "the command is complete");
        self.missing = self.missing.saturating_sub(1);
        self.head(b'$', pieces.iter().map(|piece| piece.len()).sum());
        for piece in pieces {
            self.bytes.extend_from_slice(piece);
        }
        self.bytes.extend_from_slice(b"\r\n");
    }

    pub(in super::super) fn number(&mut self, number: impl itoa::Integer) {
        self.argument(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Drops all but the first `bytes` bytes. What remains has been counted already.
    pub(super) fn truncate(&mut self, bytes: usize) {
        self.bytes.truncate(bytes);
        (self.commands, self.missing) = (0, 0);
    }

    /// Whether the last command has all of its arguments.
    pub(super) fn are_complete(&self) -> bool {
        self.missing == 0
    }

    fn head(&mut self, kind: u8, length: usize) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }
}

/// Returns where the first answer in `bytes` ends, or `None` if it is incomplete.
pub(super) fn end(bytes: &[u8]) -> RedisResult<Option<usize>> {
    // `open` is how many values are still to come.
    let (mut at, mut open) = (0, 1_usize);
    while open > 0 {
        let Some((kind, text)) = line(bytes, &mut at) else { return Ok(None) };
        open -= 1;
        // Null has a length of -1.
        let length = || number(text).map(|length| usize::try_from(length).ok()).ok_or_else(unreadable);
        match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {}
            b'$' | b'!' | b'=' => {
                if let Some(length) = length()? {
                    at = at.checked_add(length).and_then(|end| end.checked_add(2)).ok_or_else(unreadable)?;
                }
            }
            b'*' | b'~' | b'>' => {
                open = open.checked_add(length()?.unwrap_or(0)).ok_or_else(unreadable)?;
            }
            b'%' => open = pairs(open, length()?.unwrap_or(0))?,
            // The value that an attribute describes follows it.
            b'|' => open = pairs(open, length()?.unwrap_or(0))?.checked_add(1).ok_or_else(unreadable)?,
            _ => return Err(unreadable()),
        }
        if at > bytes.len() {
            return Ok(None);
        }
    }
    Ok(Some(at))
}

fn pairs(open: usize, pairs: usize) -> RedisResult<usize> {
    pairs.checked_mul(2).and_then(|values| open.checked_add(values)).ok_or_else(unreadable)
}

/// Parses a complete answer.
pub(super) fn value(answer: &[u8]) -> RedisResult<Value> {
    short(answer).map_or_else(|| redis::parse_redis_value(answer), Ok)
}

/// Whether the answer is a push message, which the server sends without having been asked.
pub(super) fn is_push(answer: &[u8]) -> bool {
    answer.starts_with(b">")
}

/// Parses the common answers: a number, a simple string, or a list of numbers and nulls.
fn short(answer: &[u8]) -> Option<Value> {
    let mut at = 0;
    let mut next = || line(answer, &mut at);
    match next()? {
        (b':', text) => number(text).map(Value::Int),
        (b'+', b"OK") => Some(Value::Okay),
        (b'+', word) => Some(Value::SimpleString(std::str::from_utf8(word).ok()?.to_owned())),
        (b'*', length) => {
            let length = number(length)?.try_into().ok()?;
            // Reserves no more than the answer could hold, whatever length it claims.
            let mut values = Vec::with_capacity(answer.len().min(length));
            for _ in 0..length {
                values.push(match next()? {
                    (b':', text) => Value::Int(number(text)?),
                    (b'$', b"-1") | (b'_', b"") => Value::Nil,
                    _ => return None,
                });
            }
            Some(Value::Array(values))
        }
        _ => None,
    }
}

/// Returns the next line, split into its first byte, which tells the type, and the rest.
fn line<'a>(bytes: &'a [u8], at: &mut usize) -> Option<(u8, &'a [u8])> {
    let rest = bytes.get(*at..)?;
    let length = rest.windows(2).position(|end| end == b"\r\n")?;
    *at += length + 2;
    // An empty line gets a type that does not exist.
    Some(rest[..length].split_first().map_or((b'\r', &[][..]), |(kind, text)| (*kind, text)))
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn unreadable() -> RedisError {
    (ErrorKind::Parse, "the server does not speak the protocol of Redis").into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any answer that a server may send.
    fn answer() -> impl Strategy<Value = Vec<u8>> {
        let line = |kinds: &'static str, text: &'static str| {
            let kind = proptest::sample::select(kinds.chars().collect::<Vec<_>>());
            (kind, text).prop_map(|(kind, text)| format!("{kind}{text}\r\n").into_bytes())
        };
        let blob = proptest::collection::vec(any::<u8>(), 0..20)
            .prop_map(|bytes| [format!("${}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat());
        let fixed = [
            "$-1",
            "*-1",
            "$-2",
            ":+5",
            "+OK",
            "_",
            "#t",
            "#f",
            ",1.5",
            ",inf",
            "(12345678901234567890",
            "*0",
            "%0",
        ];
        let fixed =
            proptest::sample::select(fixed.to_vec()).prop_map(|text| format!("{text}\r\n").into_bytes());
        let number = any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes());
        let one = prop_oneof![4 => number, 1 => line("+-", "[A-Z]{1,6} [a-z ]{0,9}"), 1 => blob, 1 => fixed];
        one.prop_recursive(3, 24, 6, |part| {
            let list =
                (proptest::sample::select(vec!['*', '~', '%', '|']), proptest::collection::vec(part, 1..7));
            list.prop_map(|(kind, mut parts)| {
                let count = match kind {
                    '%' => {
                        parts.truncate(parts.len() / 2 * 2);
                        parts.len() / 2
                    }
                    // One more: the value that the attribute describes.
                    '|' => {
                        parts.truncate((parts.len() - 1) / 2 * 2 + 1);
                        parts.len() / 2
                    }
                    _ => parts.len(),
                };
                [format!("{kind}{count}\r\n").into_bytes(), parts.concat()].concat()
            })
        })
    }

    proptest! {
        #[test]
        fn an_answer_ends_where_it_ends(answer in answer(), next in answer()) {
            prop_assert_eq!(end(&answer), Ok(Some(answer.len())));
            prop_assert_eq!(end(&[answer.clone(), next].concat()), Ok(Some(answer.len())));
            for length in 0..answer.len() {
                prop_assert_eq!(end(&answer[..length]), Ok(None));
            }
        }

        #[test]
        fn an_answer_says_what_the_redis_crate_reads(answer in answer()) {
            let read = redis::parse_redis_value(&answer);
            prop_assert_eq!(format!("{:?}", value(&answer)), format!("{read:?}"));
        }

        #[test]
        fn no_bytes_are_too_much(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(Some(end)) = end(&bytes) {
                prop_assert!(end <= bytes.len());
                let _ = value(&bytes[..end]);
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for bytes in ["HTTP/1.1 400 Bad Request\r\n", "\r\n", "*x\r\n", "$\r\n", "$99999999999999999999\r\n"]
        {
            assert!(end(bytes.as_bytes()).is_err(), "{bytes}");
        }
        let endless = format!("*3\r\n%{}\r\n", i64::MAX);
        assert!(end(endless.as_bytes()).is_err(), "{endless}");
    }
}
