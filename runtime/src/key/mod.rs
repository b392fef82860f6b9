//! Keys: who shares a quota.

mod client_ip;
mod prefix;
mod resource;

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};

use http::Method;
use http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};
use smallvec::{SmallVec, smallvec};

use crate::inline_string::InlineString;
use crate::policy::Policy;

pub use client_ip::ClientIpHeader;
pub(crate) use client_ip::Proxies;
pub(crate) use client_ip::address::canonical_network;
pub(crate) use prefix::Prefixes;

const HEX: [u8; 16] = *b"0123456789abcdef";

/// The part that all clients share.
const GLOBAL: char = '*';

/// The longest part of a key, as encoded. A longer one is hashed.
const MAX_PART: usize = 200;

/// What is encoded in a text: all that could end a part, leave the hash tag or spoil a line of `redis-cli`.
const IN_TEXT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'@').remove(b'+');

/// Who shares a quota: a client and, where a policy tells resources apart, what it asks for.
///
/// ```
/// use std::net::{IpAddr, Ipv4Addr};
/// use axum_rate_limit::Key;
/// use http::Method;
///
/// let customer = Key::from("client-7");
/// let visitor = Key::from(IpAddr::from(Ipv4Addr::LOCALHOST)).resource(&Method::GET, "/hardwork/");
/// # let _ = (customer, visitor);
/// ```
///
/// No two different keys are ever the same in the store, whatever they are made of, except for addresses of one
/// network (by [`ipv6_prefix`](crate::Builder::ipv6_prefix), 56 bits by default, and
/// [`ipv4_prefix`](crate::Builder::ipv4_prefix)). What could end a part is percent-encoded. A header, or a part
/// that is longer than 200 bytes when encoded, is replaced by the first 128 bits of its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    parts: SmallVec<[Part; 1]>,
    resource: Option<InlineString>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    Ip(IpAddr),
    Global,
    Text(String),
    Header(Vec<u8>),
}

/// One part of a key: see [`Policy::key`].
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum KeyPart {
    /// The client's address.
    Ip,
    /// One quota that all share.
    Global,
    /// The value of a header. Whoever can send any value has any number of quotas, so use a header that something
    /// before the limit has checked. The value is hashed in the store, since it may be a secret.
    Header(&'static str),
    /// What a function reads from the request; `None` if the request lacks it.
    By(fn(&Parts) -> Option<String>),
}

impl KeyPart {
    pub(crate) const fn is_valid(&self) -> bool {
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

    /// Whether two parts are the same, as far as a program can tell: see [`Policy::is_same_rule`].
    pub(crate) fn is_same(&self, other: &Self, one_declaration: bool) -> bool {
        match (self, other) {
            (Self::Ip, Self::Ip) | (Self::Global, Self::Global) => true,
            (Self::By(_), Self::By(_)) => one_declaration,
            (Self::Header(one), Self::Header(other)) => one.eq_ignore_ascii_case(other),
            _ => false,
        }
    }

    /// Writes this part of the request or, if the request lacks it, the client's address.
    fn write<E>(
        &self,
        request: &Parts,
        client: impl Fn() -> Result<IpAddr, E>,
        cut: Prefixes,
        key: &mut InlineString,
    ) -> Result<(), E> {
        if matches!(self, Self::Ip) || !self.write_own(request, key) {
            cut.write(client()?, key);
        }
        Ok(())
    }

    /// Writes this part of the request, and returns whether the request has it.
    #[inline(never)] // most keys need none of it, and it is long
    fn write_own(&self, request: &Parts, key: &mut InlineString) -> bool {
        match self {
            Self::Global => {
                key.push(GLOBAL);
                return true;
            }
            Self::Header(name) => {
                if let Some(value) = request.headers.get(*name).filter(|value| !value.is_empty()) {
                    write_hash('=', value.as_bytes(), key);
                    return true;
                }
            }
            Self::By(read) => {
                if let Some(text) = read(request).filter(|text| !text.is_empty()) {
                    write_text(&text, key);
                    return true;
                }
            }
            Self::Ip => {}
        }
        false
    }
}

/// What a quota is kept for, besides the client.
pub(crate) enum Target<'a> {
    /// Everything that the policy stands on.
    Anything,
    /// This path.
    Resource(&'a Method, &'a str),
    /// This template.
    Route(&'a Method, &'a str),
}

/// Writes the key under which `policy` counts `request`. The address that `client` returns replaces the parts
/// that the request lacks.
pub(crate) fn of_request<E>(
    (prefix, policy, cut): (&str, &Policy, Prefixes),
    request: &Parts,
    asked: &Target<'_>,
    client: impl Fn() -> Result<IpAddr, E>,
    key: &mut InlineString,
) -> Result<(), E> {
    begin(prefix, policy, key);
    for (index, part) in policy.key_parts().iter().enumerate() {
        if index > 0 {
            key.push(',');
        }
        part.write(request, &client, cut, key)?;
    }
    match asked {
        Target::Anything => {}
        Target::Resource(method, path) => {
            key.push_str("::");
            resource::write_path(method, path, key);
        }
        Target::Route(method, template) => {
            key.push_str("::");
            resource::write_route(method, template, key);
        }
    }
    key.push_str("}");
    Ok(())
}

/// Writes `rl:{name::`.
///
/// The key is `{name::client::resource}` with the limiter's prefix. The braces make it the hash tag of a Redis
/// key, so that all quotas of a policy are in one slot of a cluster. No two keys have the same text: a name
/// contains no `:`, a part contains no `,` and no `:` outside brackets, and the resource comes last.
fn begin(prefix: &str, policy: &Policy, key: &mut InlineString) {
    key.push_str(prefix);
    key.push_str("{");
    key.push_str(policy.name());
    key.push_str("::");
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

impl Key {
    /// Adds a part, for a policy whose [key](Policy::key) has several. Of two resources the first counts.
    #[must_use]
    pub fn and(mut self, other: impl Into<Self>) -> Self {
        let other = other.into();
        self.parts.extend(other.parts);
        self.resource = self.resource.or(other.resource);
        self
    }

    /// Returns the key of a client that sends `value`, under a policy whose key is [`KeyPart::Header`].
    pub fn header(value: impl AsRef<[u8]>) -> Self {
        Part::Header(value.as_ref().to_vec()).into()
    }

    /// Returns the key that all share, under a policy whose key is [`KeyPart::Global`].
    pub fn global() -> Self {
        Part::Global.into()
    }

    /// Narrows the key to a method and path, under a policy that is [`by_resource`](Policy::by_resource). `HEAD`
    /// counts as `GET`, the query is left out, and percent-encoding is normalized, as for a request.
    #[must_use]
    pub fn resource(self, method: &Method, path: &str) -> Self {
        let path = path.split('?').next().unwrap_or_default();
        let mut resource = InlineString::default();
        resource::write_path(method, path, &mut resource);
        Self { resource: Some(resource), ..self }
    }

    /// Narrows the key to a route, such as `/users/{id}`, under a policy that is [`by_route`](Policy::by_route).
    #[must_use]
    pub fn route(self, method: &Method, template: &str) -> Self {
        let mut resource = InlineString::default();
        resource::write_route(method, template, &mut resource);
        Self { resource: Some(resource), ..self }
    }

    /// Returns the text of the key under `policy`.
    pub(crate) fn in_store(&self, prefix: &str, policy: &Policy, cut: Prefixes) -> InlineString {
        let mut key = InlineString::default();
        begin(prefix, policy, &mut key);
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                key.push(',');
            }
            match part {
                Part::Ip(ip) => cut.write(*ip, &mut key),
                Part::Global => key.push(GLOBAL),
                Part::Text(text) => write_text(text, &mut key),
                Part::Header(value) => write_hash('=', value, &mut key),
            }
        }
        if let Some(resource) = &self.resource {
            key.push_str("::");
            key.push_str(resource.as_str());
        }
        key.push('}');
        key
    }
}

impl From<Part> for Key {
    fn from(part: Part) -> Self {
        Self { parts: smallvec![part], resource: None }
    }
}

/// Identifies a client by its address, which a limiter cuts to its [prefix](crate::Builder::ipv6_prefix).
impl From<IpAddr> for Key {
    fn from(ip: IpAddr) -> Self {
        Part::Ip(client_ip::address::canonical(ip)).into()
    }
}

/// Identifies a client, or anything else, by a text of yours. It is never the same as an address.
impl From<String> for Key {
    fn from(text: String) -> Self {
        Part::Text(text).into()
    }
}

/// Identifies a client, or anything else, by a text of yours. It is never the same as an address.
impl From<&str> for Key {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

fn write_text(text: &str, key: &mut InlineString) {
    // An IPv6 address is written in brackets, which no text keeps. An IPv4 address is plain, so the first
    // character of a text that looks like one is encoded.
    let is_ipv4 = text.parse::<Ipv4Addr>().is_ok();
    let (first, rest) = text.split_at(usize::from(is_ipv4));
    let start = key.len();
    for byte in first.bytes() {
        let _ = write!(key, "%{byte:02X}");
    }
    utf8_percent_encode(rest, IN_TEXT).for_each(|piece| key.push_str(piece));
    if key.len() - start > MAX_PART {
        key.split_off(start);
        write_hash('#', text.as_bytes(), key);
    }
}

/// Writes `mark` and the first 128 bits of the SHA-256 of `bytes`. A text keeps no `#` or `=`, and a resource no
/// `#`.
fn write_hash(mark: char, bytes: &[u8], out: &mut InlineString) {
    out.push(mark);
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(Sha256::digest(bytes)) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    out.push_str(std::str::from_utf8(&digits).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Policy = Policy::new("p").per_minute(1).by_resource();

    fn stored(key: impl Into<Key>) -> String {
        key.into().in_store("rl:", &POLICY, Prefixes::default()).as_str().to_owned()
    }

    #[test]
    fn reads_as_documented() {
        let ip: IpAddr = "192.0.2.7".parse().unwrap();
        assert_eq!(stored(Key::from(ip)), "rl:{p::192.0.2.7}");
        assert_eq!(
            stored(Key::from(ip).resource(&Method::GET, "/hardwork/?x=1")),
            "rl:{p::192.0.2.7::GET:/hardwork/}"
        );
        assert_eq!(stored(Key::from("client-7")), "rl:{p::client-7}");
        let ip: IpAddr = "2001:db8:1:2:3::4".parse().unwrap();
        assert_eq!(stored(ip), "rl:{p::[2001:db8:1::/56]}");
    }

    #[test]
    fn a_text_is_no_address() {
        for text in ["192.0.2.7", "2001:db8:1::/56", "[2001:db8:1::/56]", "::1", "::ffff:192.0.2.7"] {
            let stored_text = stored(text);
            for ip in ["192.0.2.7", "2001:db8:1::", "::1"] {
                assert_ne!(stored_text, stored(Key::from(ip.parse::<IpAddr>().unwrap())));
            }
        }
    }

    #[test]
    fn long_parts_are_hashed() {
        let long = "x".repeat(10_000);
        let other = format!("{}y", "x".repeat(9_999));
        assert!(stored(Key::from(long.as_str())).len() < 60);
        assert_ne!(stored(Key::from(long.as_str())), stored(Key::from(other.as_str())));
        let path = format!("/{long}");
        assert!(stored(Key::from("c").resource(&Method::GET, &path)).len() < 60);
    }

    fn keys() -> impl Strategy<Value = Key> {
        let texts = prop_oneof!["[a:,*%{}#/\\[\\]0-9.]{0,6}", any::<String>(), Just("::".to_owned())];
        let client = prop_oneof![
            texts.clone().prop_map(Key::from),
            texts.clone().prop_map(Key::header),
            any::<[u8; 4]>().prop_map(|ip| Key::from(IpAddr::from(ip)))
        ];
        let several = proptest::collection::vec(client, 1..3)
            .prop_map(|keys| keys.into_iter().reduce(Key::and).expect("at least one"));
        (several, proptest::option::of(texts)).prop_map(|(key, path)| match path {
            Some(path) => key.resource(&Method::GET, &format!("/{path}")),
            None => key,
        })
    }

    proptest! {
        #[test]
        fn different_keys_differ_in_the_store(one in keys(), other in keys()) {
            let equal = one == other;
            prop_assert_eq!(equal, stored(one) == stored(other));
        }

        #[test]
        fn a_key_stays_in_its_hash_tag(key in keys()) {
            let stored = stored(key);
            let inner = stored.strip_prefix("rl:{").and_then(|rest| rest.strip_suffix('}'));
            let inner = inner.expect("braces around the key");
            let stays = inner.bytes().all(|byte| byte.is_ascii_graphic() && !b"{}".contains(&byte));
            prop_assert!(stays, "{}", stored);
        }
    }
}
