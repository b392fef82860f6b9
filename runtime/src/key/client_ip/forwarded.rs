//! The client's address in the elements of `Forwarded` (RFC 7239).

use std::net::IpAddr;

use smallvec::SmallVec;

use super::address;

/// No address is longer, however much of it is escaped.
const LONGEST_VALUE: usize = 128;

/// Returns the address in the `for` of an element: `for=192.0.2.1;proto=https`, `For="[2001:db8::1]:4711"`.
///
/// Returns `None` if there is no address, if it is `unknown` or hidden (`_hidden`), and if the element breaks the
/// grammar. These breaches are forgiven: blanks around a pair and around its `=`, an address that should have
/// been quoted, and names and other unquoted values that are not tokens.
pub(super) fn client(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    let mut rest = Some(element);
    while let Some(pairs) = rest {
        let (pair, others) = split_pair(pairs)?;
        rest = others;
        let pair = pair.trim_ascii();
        if pair.is_empty() {
            continue;
        }
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (pair[..equals].trim_ascii_end(), pair[equals + 1..].trim_ascii_start());
        let value = Value::read(value)?;
        if name.eq_ignore_ascii_case(b"for") && found.replace(value).is_some() {
            return None; // twice, which RFC 7239 forbids
        }
    }
    found?.address()
}

/// Returns the first pair, and what follows its semicolon. `None` if a quote is left open.
fn split_pair(pairs: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let (mut quoted, mut escaped) = (false, false);
    for (index, byte) in pairs.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' if !quoted => return Some((&pairs[..index], Some(&pairs[index + 1..]))),
            _ => {}
        }
    }
    (!quoted).then_some((pairs, None))
}

/// The value of a pair.
enum Value<'a> {
    Token(&'a [u8]),
    /// What is between the quotes.
    Quoted(&'a [u8]),
}

impl<'a> Value<'a> {
    fn read(value: &'a [u8]) -> Option<Self> {
        let Some(inner) = value.strip_prefix(b"\"") else {
            return (!value.iter().any(|byte| b"\"\\".contains(byte))).then_some(Self::Token(value));
        };
        let inner = inner.strip_suffix(b"\"")?;
        // The closing quote is the last byte, and no earlier one.
        let mut escaped = false;
        for byte in inner {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => return None,
                _ => {}
            }
        }
        (!escaped).then_some(Self::Quoted(inner))
    }

    fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Quoted(text) if text.len() > LONGEST_VALUE => None,
            Self::Quoted(text) if text.contains(&b'\\') => {
                let mut plain: SmallVec<[u8; LONGEST_VALUE]> = SmallVec::new();
                let mut bytes = text.iter();
                while let Some(byte) = bytes.next() {
                    plain.push(if *byte == b'\\' { *bytes.next()? } else { *byte });
                }
                address::read(&plain)
            }
            Self::Token(text) | Self::Quoted(text) => address::read(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(element: &str) -> String {
        client(element.as_bytes()).map_or_else(|| "none".to_owned(), |ip| ip.to_string())
    }

    #[test]
    fn is_read_as_rfc_7239_has_it() {
        for element in [
            "for=192.0.2.1",
            "FOR=192.0.2.1;proto=http;by=203.0.113.43",
            " by=203.0.113.43 ; For = 192.0.2.1 ",
            "for=\"192.0.2.1:4711\"",
            "for=\"192.0.2.1:_http\"",
            "for=192.0.2.1:4711",
            "for=\"192\\.0.2\\.1\"",
            ";for=192.0.2.1;;host=\"a,b;for=6.6.6.6\\\"\"",
            "secret=\"\";for=192.0.2.1",
            "for=\"[::ffff:192.0.2.1]\"",
        ] {
            assert_eq!(text(element), "192.0.2.1", "{element}");
        }
        for element in
            ["For=\"[2001:db8:cafe::17]:4711\"", "for=\"[2001:DB8:CAFE::17]\"", "for=[2001:db8:cafe::17]"]
        {
            assert_eq!(text(element), "2001:db8:cafe::17", "{element}");
        }
    }

    #[test]
    fn what_tells_no_address_is_not_guessed() {
        for element in [
            "",
            ";",
            "for",
            "for=",
            "for=\"\"",
            "for=unknown",
            "for=\"_hidden\"",
            "for=_SEVKISEK",
            "proto=http",
            "by=192.0.2.1",
            "for=192.0.2.1;for=192.0.2.2",
            "for=192.0.2.1;For=192.0.2.1",
            "for=\"192.0.2.1",
            "for=192.0.2.1\"",
            "for=\"192.0.2.1\"x",
            "for=\"192.0.2.1\" \"x\"",
            "for=\"192.0.2.1\\\"",
            "for=192\\.0.2.1",
            "for=192.0.2.1 192.0.2.2",
            "for=192.0.2.1;proto",
            "for=192.0.2.1;host=a\"b",
            "192.0.2.1",
        ] {
            assert_eq!(text(element), "none", "{element}");
        }
        assert_eq!(text(&format!("for=\"{}192.0.2.1\"", "\\ ".repeat(1_000))), "none");
    }

    proptest! {
        #[test]
        fn what_a_proxy_writes_is_read(ip in any::<IpAddr>(), port in any::<u16>(), host in "[ -~]{0,20}") {
            let host = host.replace('\\', "\\\\").replace('"', "\\\"");
            let socket = std::net::SocketAddr::new(ip, port);
            let element = format!("host=\"{host}\";for=\"{socket}\";proto=https");
            prop_assert_eq!(client(element.as_bytes()), Some(address::canonical(ip)));
        }

        #[test]
        fn no_element_panics(element in "[for=;\"\\\\,. 0-9\\[\\]:]{0,40}") {
            let _ = client(element.as_bytes());
        }
    }
}
