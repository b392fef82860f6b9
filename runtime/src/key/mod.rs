//! Keys: who shares a quota.

mod client_ip;
mod conversions;
mod encoding;
mod lack;
mod layout;
mod network_bits;
mod part;
mod resource;

use std::fmt;
use std::net::IpAddr;

use http::Method;
use http::request::Parts;
use smallvec::{SmallVec, smallvec};

use self::layout::KeyWriter;
use crate::inline_string::InlineString;
use crate::policy::{Policy, Scope};

pub use client_ip::ClientIpHeader;
pub(crate) use client_ip::Proxies;
pub(crate) use client_ip::address::canonical_network;
pub(crate) use layout::policy_of;
pub(crate) use network_bits::NetworkBits;
pub use part::KeyPart;
pub(crate) use part::fault;

/// Who shares a quota: a client and, where a policy tells resources apart, what it asks for.
///
/// ```
/// use std::net::{IpAddr, Ipv4Addr};
/// use axum_rate_limit::Key;
/// use http::Method;
///
/// let customer = Key::from("client-7");
/// let visitor = Key::from(IpAddr::from(Ipv4Addr::LOCALHOST)).resource(&Method::GET, "/hardwork/");
/// let account = Key::from(7_u64); // for any other type, its text: `Key::from(uuid.to_string())`
/// # let _ = (customer, visitor, account);
/// ```
///
/// No two different keys are ever the same in the store, whatever they are made of, except for addresses of one
/// network (by [`ipv6_prefix`](crate::Builder::ipv6_prefix), 56 bits by default, and
/// [`ipv4_prefix`](crate::Builder::ipv4_prefix)). What could end a part is percent-encoded. A header, or a part
/// that is longer than 200 bytes when encoded, is replaced by the first 128 bits of its SHA-256.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key {
    parts: SmallVec<[PartValue; 1]>,
    resource: Option<InlineString>,
}

/// What a client has where a policy declares a [`KeyPart`].
#[derive(Clone, PartialEq, Eq, Hash)]
enum PartValue {
    Ip(IpAddr),
    Global,
    Text(String),
    Header(Vec<u8>),
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

/// A key needs the client's address, and the request has no peer address.
#[derive(Debug)]
pub(crate) struct NoPeer;

/// Writes the key under which `policy` counts `request`. What `write_client` writes replaces the parts that the
/// request lacks.
pub(crate) fn of_request(
    prefix: &str,
    policy: &Policy,
    request: &Parts,
    target: &Target<'_>,
    write_client: impl Fn(&mut InlineString) -> Result<(), NoPeer>,
    key: &mut InlineString,
) -> Result<(), NoPeer> {
    let mut key = KeyWriter::begin(prefix, policy.name(), key);
    for part in policy.key_parts() {
        if !part.write(request, &write_client, key.part())? {
            lack::tell(policy.name(), part);
        }
    }
    match target {
        Target::Anything => {}
        Target::Resource(method, path) => resource::write_path(method, path, key.resource()),
        Target::Route(method, template) => resource::write_route(method, template, key.resource()),
    }
    key.end();
    Ok(())
}

impl Key {
    /// Adds a part, for a policy whose [key](Policy::key) has several. Of two resources the first counts.
    ///
    /// The address takes the place of each part that a request lacks, so a request without either has the key
    /// `Key::from(ip).and(ip)`.
    #[must_use]
    pub fn and(mut self, other: impl Into<Self>) -> Self {
        let other = other.into();
        self.parts.extend(other.parts);
        self.resource = self.resource.or(other.resource);
        self
    }

    /// Returns the key of a client that sends `value`, under a policy whose key is [`KeyPart::Header`].
    pub fn header(value: impl AsRef<[u8]>) -> Self {
        PartValue::Header(value.as_ref().to_vec()).into()
    }

    /// Returns the key that all share, under a policy whose key is [`KeyPart::Global`].
    pub fn global() -> Self {
        PartValue::Global.into()
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

    /// Returns why no request has this key under `policy`, and what to write instead; `None` if one may have it.
    pub(crate) fn misfit(&self, policy: &Policy) -> Option<&'static str> {
        let (own, declared) = (self.parts.len(), policy.key_parts().len());
        match (policy.scope(), &self.resource) {
            _ if own > declared => Some("it has more parts than the policy's key"),
            _ if own < declared => Some("it has fewer parts than the policy's key: add one with `Key::and`"),
            (Scope::Resource, None) => Some("the policy has a quota for each resource: add `Key::resource`"),
            (Scope::Route, None) => Some("the policy has a quota for each route: add `Key::route`"),
            (Scope::Policy, Some(_)) => {
                Some("the policy has no quota for each resource or route: leave that out")
            }
            _ => policy.key_parts().iter().zip(&self.parts).find_map(|(declared, own)| own.misfit(declared)),
        }
    }

    /// Puts the client's address in place of what is empty, as for a request that lacks a part of the key: all who
    /// leave it out must not share a quota.
    pub(crate) fn or_client(mut self, client: impl Fn() -> Option<IpAddr>) -> Self {
        for part in self.parts.iter_mut().filter(|part| part.is_empty()) {
            if let Some(ip) = client() {
                *part = PartValue::Ip(ip);
            }
        }
        self
    }

    /// Narrows the key to `target`, unless it is narrowed already.
    pub(crate) fn narrowed_to(self, target: &Target<'_>) -> Self {
        match *target {
            _ if self.resource.is_some() => self,
            Target::Anything => self,
            Target::Resource(method, path) => self.resource(method, path),
            Target::Route(method, template) => self.route(method, template),
        }
    }

    /// Returns the text of the key under `policy`.
    pub(crate) fn in_store(&self, prefix: &str, policy: &Policy, network_bits: NetworkBits) -> InlineString {
        let mut text = InlineString::default();
        let mut key = KeyWriter::begin(prefix, policy.name(), &mut text);
        self.write(network_bits, &mut key);
        key.end();
        text
    }

    fn write(&self, network_bits: NetworkBits, key: &mut KeyWriter<'_>) {
        for part in &self.parts {
            part.write(network_bits, key.part());
        }
        if let Some(resource) = &self.resource {
            key.resource().push_str(resource.as_str());
        }
    }
}

impl PartValue {
    /// Returns why no request has this in place of a `declared` part, and what to write instead. A request that lacks a
    /// part has the client's address there; and in place of an address, jobs and the like have texts of their own.
    fn misfit(&self, declared: &KeyPart) -> Option<&'static str> {
        match (declared, self) {
            (KeyPart::Ip, Self::Text(text)) if text.parse::<IpAddr>().is_ok() => Some(
                "the policy's key is an address there: write `text.parse::<IpAddr>()?`, since a text is another key",
            ),
            (KeyPart::Header(_), Self::Text(_)) => {
                Some("the policy's key has a header there: write `Key::header(value)`")
            }
            (KeyPart::Global, own) if *own != Self::Global => {
                Some("the policy's key is the same for all there: write `Key::global()`")
            }
            (KeyPart::Ip | KeyPart::By(_), Self::Header(_)) => Some("the policy's key has no header there"),
            (KeyPart::Ip | KeyPart::By(_) | KeyPart::Header(_), Self::Global) => {
                Some("the policy's key is not the same for all there")
            }
            _ => None,
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Ip(_) | Self::Global => false,
            Self::Text(text) => text.is_empty(),
            Self::Header(value) => value.is_empty(),
        }
    }

    fn write(&self, network_bits: NetworkBits, out: &mut InlineString) {
        match self {
            Self::Ip(ip) => network_bits.write_network(*ip, out),
            Self::Global => encoding::write_global(out),
            Self::Text(text) => encoding::write_text(text, out),
            Self::Header(value) => encoding::write_header(value, out),
        }
    }
}

/// Tells the key as it is in the store, where headers are hashed.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = InlineString::default();
        self.write(NetworkBits::default(), &mut KeyWriter::bare(&mut text));
        write!(f, "Key({})", text.as_str())
    }
}

impl From<PartValue> for Key {
    fn from(part: PartValue) -> Self {
        Self { parts: smallvec![part], resource: None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Policy = Policy::new("p").per_minute(1).by_resource();

    fn stored(key: impl Into<Key>) -> String {
        key.into().in_store("rl:", &POLICY, NetworkBits::default()).as_str().to_owned()
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
    fn a_key_that_no_request_has_is_told_what_it_lacks() {
        const PAIRS: &[KeyPart] = &[KeyPart::Ip, KeyPart::Header("x-api-key")];
        let plain = Policy::new("p").per_minute(1);
        let key = || Key::from("x");
        let narrow = || key().resource(&Method::GET, "/");
        for (policy, key, misfit) in [
            (plain, key(), None),
            (plain, "192.0.2.7".into(), Some("write `text.parse::<IpAddr>()?`")),
            (plain, narrow(), Some("leave that out")),
            (plain, key().and("y"), Some("more parts")),
            (plain.key(PAIRS), key(), Some("add one with `Key::and`")),
            (plain.by_resource(), narrow(), None),
            (plain.by_resource(), key(), Some("add `Key::resource`")),
            (plain.by_route(), key().route(&Method::GET, "/"), None),
            (plain.by_route(), key(), Some("add `Key::route`")),
            (plain, Key::header("x"), Some("no header there")),
            (plain.key(PAIRS), key().and(Key::header("x")), None),
            (plain.key(&[KeyPart::Header("x-api-key")]), key(), Some("write `Key::header(value)`")),
            (plain.key(&[KeyPart::Header("x-api-key")]), IpAddr::from([192, 0, 2, 7]).into(), None),
            (plain.key(&[KeyPart::Global]), key(), Some("write `Key::global()`")),
            (plain.key(&[KeyPart::By(|_| None)]), key(), None),
            (plain.key(&[KeyPart::By(|_| None)]), Key::global(), Some("not the same for all")),
        ] {
            let told = key.misfit(&policy);
            let is_right =
                told.map_or(misfit.is_none(), |told| misfit.is_some_and(|misfit| told.contains(misfit)));
            assert!(is_right, "{policy:?} {key:?}: {told:?}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let key = Key::header("s3cret").and("x").resource(&Method::GET, "/");
        let shown = format!("{key:?}");
        assert!(shown.starts_with("Key(=") && shown.ends_with(",x::GET:/)"), "{shown}");
        assert!(!shown.contains("s3cret"), "{shown}");
        assert_eq!(format!("{:?}", Key::from(IpAddr::from([192, 0, 2, 7]))), "Key(192.0.2.7)");
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
            prop_assert_eq!(policy_of(&stored), Some(POLICY.name()));
            let inner = stored.strip_prefix("rl:{").and_then(|rest| rest.strip_suffix('}'));
            let inner = inner.expect("braces around the key");
            let stays = inner.bytes().all(|byte| byte.is_ascii_graphic() && !b"{}".contains(&byte));
            prop_assert!(stays, "{}", stored);
        }
    }
}
