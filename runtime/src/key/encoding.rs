//! How the parts of a key are encoded, so that no two are alike and none ends another.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use crate::inline_string::InlineString;

/// The longest part of a key, as encoded. A longer one is hashed.
pub(super) const MAX_PART: usize = 200;

/// The part that all clients share.
const GLOBAL: char = '*';
/// Precedes the hash of a header. A text keeps no such character.
const HEADER: char = '=';
/// Precedes the hash of what is too long. Neither a text nor a resource keeps such a character.
const LONG: char = '#';

const HEX: [u8; 16] = *b"0123456789abcdef";

/// What is encoded in a text: all that could end a part, leave the hash tag or spoil a line of `redis-cli`.
const IN_TEXT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'@').remove(b'+');

pub(super) fn write_global(out: &mut InlineString) {
    out.push(GLOBAL);
}

/// Writes the hash of a header, which may be a secret.
pub(super) fn write_header(value: &[u8], out: &mut InlineString) {
    write_hash(HEADER, value, out);
}

pub(super) fn write_text(text: &str, out: &mut InlineString) {
    // An IPv6 address is written in brackets, which no text keeps. An IPv4 address is plain, so the first
    // character of a text that looks like one is encoded.
    let is_ipv4 = text.parse::<Ipv4Addr>().is_ok();
    let (first, rest) = text.split_at(usize::from(is_ipv4));
    let start = out.len();
    for byte in first.bytes() {
        let _ = write!(out, "%{byte:02X}");
    }
    utf8_percent_encode(rest, IN_TEXT).for_each(|piece| out.push_str(piece));
    if out.len() - start > MAX_PART {
        out.split_off(start);
        write_hash(LONG, text.as_bytes(), out);
    }
}

/// Replaces what has been written since `start` by its hash, if it is long.
pub(super) fn shorten(start: usize, out: &mut InlineString) {
    if out.len() - start > MAX_PART {
        let long = out.split_off(start);
        write_hash(LONG, long.as_bytes(), out);
    }
}

/// Writes `mark` and the first 128 bits of the SHA-256 of `bytes`.
fn write_hash(mark: char, bytes: &[u8], out: &mut InlineString) {
    out.push(mark);
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(Sha256::digest(bytes)) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    out.push_str(std::str::from_utf8(&digits).unwrap_or_default());
}
