//! Warnings about client addresses that look wrong, each logged once with the line to write.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use http::{HeaderMap, HeaderName};

use super::{ClientIpHeader, FORWARDED, Proxies, X_FORWARDED_FOR};

/// How many requests of a process are all inspected: what is wrong mostly shows in the first ones.
const FIRST_INSPECTED: u32 = 10_000;
/// One in this many later requests is inspected.
const LATER_ONE_IN: u32 = 1_024;
/// The most that goes to the log of what somebody else has written, in bytes.
const LONGEST_EXCERPT: usize = 64;

static CF_CONNECTING_IP: HeaderName = HeaderName::from_static("cf-connecting-ip");
static X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// A sign that the trusted proxies or their header are not set up right.
#[derive(Debug, PartialEq)]
pub(super) enum Misconfiguration<'a> {
    /// A peer that is not trusted says whom a request comes from, in a `header` that may not be the one to `read`.
    NotTrusted { peer: IpAddr, header: ClientIpHeader, read: &'a ClientIpHeader },
    /// A trusted proxy does not say whom a request comes from where it should; `other` is where it seems to.
    Silent { peer: IpAddr, header: &'a HeaderName, other: Option<ClientIpHeader> },
    /// What a trusted proxy says is not an address.
    Unreadable { peer: IpAddr, header: &'a HeaderName, value: &'a [u8] },
}

impl Proxies {
    /// Returns what looks wrong when `peer` sends `headers`, from which `client` was derived.
    pub(super) fn misconfiguration<'a>(
        &'a self,
        peer: IpAddr,
        client: IpAddr,
        headers: &'a HeaderMap,
    ) -> Option<Misconfiguration<'a>> {
        if client != peer {
            return None;
        }
        if !self.trusts(peer) {
            let read = &self.header;
            return forwarding(headers).map(|header| Misconfiguration::NotTrusted { peer, header, read });
        }
        let header = self.header.name();
        match headers.get_all(header).iter().next_back() {
            None => Some(Misconfiguration::Silent { peer, header, other: forwarding(headers) }),
            // A proxy may send requests of its own.
            Some(_) if self.hops(headers).next().is_some_and(|hop| hop.is_some()) => None,
            Some(value) => Some(Misconfiguration::Unreadable { peer, header, value: value.as_bytes() }),
        }
    }
}

/// Returns the header in which a proxy seems to say whom a request comes from.
fn forwarding(headers: &HeaderMap) -> Option<ClientIpHeader> {
    let single = |name: &HeaderName| headers.contains_key(name).then(|| ClientIpHeader::Single(name.clone()));
    if headers.contains_key(&X_FORWARDED_FOR) {
        return Some(ClientIpHeader::XForwardedFor);
    }
    if headers.contains_key(&FORWARDED) {
        return Some(ClientIpHeader::Forwarded);
    }
    single(&CF_CONNECTING_IP).or_else(|| single(&X_REAL_IP))
}

impl Misconfiguration<'_> {
    /// Logs what `found` returns, unless this process has logged one of its kind. Not every request is inspected.
    pub(super) fn tell_once(found: impl FnOnce() -> Option<Self>) {
        static LOOKED: AtomicU32 = AtomicU32::new(0);
        let looked = LOOKED.load(Ordering::Relaxed);
        if looked < FIRST_INSPECTED {
            // Nothing is lost if two concurrent requests count as one.
            LOOKED.store(looked + 1, Ordering::Relaxed);
            Self::tell(found);
        } else if fastrand::u32(..LATER_ONE_IN) == 0 {
            Self::tell(found);
        }
    }

    #[cold]
    fn tell(found: impl FnOnce() -> Option<Self>) {
        static TOLD: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];
        let Some(found) = found() else { return };
        if !TOLD[found.kind()].swap(true, Ordering::Relaxed) {
            tracing::warn!("{found} (logged once)");
        }
    }

    fn kind(&self) -> usize {
        match self {
            Self::NotTrusted { .. } => 0,
            Self::Silent { .. } => 1,
            Self::Unreadable { .. } => 2,
        }
    }
}

impl fmt::Display for Misconfiguration<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTrusted { peer, header, read } => {
                write!(
                    f,
                    "a request from {peer} has a field `{}`, which is not believed, since {peer} is no trusted proxy: \
                     if it is your proxy, all its clients share one quota until you write `RateLimiter::builder()\
                     .trusted_proxies([\"{peer}\"])",
                    header.name(),
                )?;
                if header != *read {
                    write!(f, "{}", Setting(header))?;
                }
                f.write_str(
                    "`, with the addresses of all your proxies; if it is not, the field is forged and all is well",
                )
            }
            Self::Silent { peer, header, other: Some(other) } => write!(
                f,
                "a request from the trusted proxy {peer} has no field `{header}`, but `{}`: if that is what the \
                 proxy writes, add `{}` to the limiter's builder, or all its clients share one quota",
                other.name(),
                Setting(other),
            ),
            Self::Silent { peer, header, other: None } => write!(
                f,
                "a request from the trusted proxy {peer} has no field `{header}`, so it counts as the proxy's own: \
                 if it is not, as a health check is, make the proxy append its client's address there, or name the \
                 field that it writes with `.client_ip_header(…)`, or all its clients share one quota",
            ),
            Self::Unreadable { peer, header, value } => write!(
                f,
                "the field `{header}` of a request from the trusted proxy {peer} does not end in an address but in \
                 `{}`, so the request counts as the proxy's own: make the proxy append its client's address, or \
                 name the field that it writes with `.client_ip_header(…)`, or all its clients share one quota",
                excerpt(value),
            ),
        }
    }
}

/// What to add to the builder if the proxies write this header.
struct Setting<'a>(&'a ClientIpHeader);

impl fmt::Display for Setting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ClientIpHeader::XForwardedFor => f.write_str(".client_ip_header(ClientIpHeader::XForwardedFor)"),
            ClientIpHeader::Forwarded => f.write_str(".client_ip_header(ClientIpHeader::Forwarded)"),
            ClientIpHeader::Single(name) => {
                write!(f, ".client_ip_header(ClientIpHeader::Single(HeaderName::from_static(\"{name}\")))")
            }
        }
    }
}

/// Returns the end of a value, in printable ASCII.
fn excerpt(value: &[u8]) -> String {
    let start = value.len().saturating_sub(LONGEST_EXCERPT);
    let dots = if start > 0 { "…" } else { "" };
    format!("{dots}{}", value[start..].escape_ascii())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn told(trusted: &[&str], header: ClientIpHeader, peer: &str, fields: &[(&'static str, &str)]) -> String {
        let trusted = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let proxies = Proxies { trusted, header };
        let peer = peer.parse().unwrap();
        let client = proxies.client(peer, &headers);
        proxies.misconfiguration(peer, client, &headers).map_or_else(String::new, |found| found.to_string())
    }

    fn default(trusted: &[&str], peer: &str, fields: &[(&'static str, &str)]) -> String {
        told(trusted, ClientIpHeader::default(), peer, fields)
    }

    const PROXIES: &[&str] = &["10.0.0.0/8"];

    #[test]
    fn what_is_well_is_not_doubted() {
        assert_eq!(default(&[], "192.0.2.1", &[]), "");
        assert_eq!(default(&[], "192.0.2.1", &[("host", "example.com")]), "");
        assert_eq!(default(PROXIES, "192.0.2.1", &[]), "");
        assert_eq!(default(PROXIES, "10.0.0.1", &[("x-forwarded-for", "192.0.2.1")]), "");
        assert_eq!(
            default(PROXIES, "10.0.0.1", &[("x-forwarded-for", "10.0.0.1")]),
            "",
            "it asks for itself"
        );
    }

    #[test]
    fn a_proxy_that_nobody_trusts_is_told_how_to_be() {
        let fields = [("x-forwarded-for", "6.6.6.6")];
        for trusted in [&[], PROXIES] {
            let told = default(trusted, "172.16.0.9", &fields);
            assert!(told.contains(".trusted_proxies([\"172.16.0.9\"])`"), "{told}");
        }
        let told = default(&[], "fd00::1", &[("forwarded", "for=6.6.6.6")]);
        let line = ".trusted_proxies([\"fd00::1\"]).client_ip_header(ClientIpHeader::Forwarded)`";
        assert!(told.contains(line), "{told}");
        let told = default(&[], "172.16.0.9", &[("x-real-ip", "6.6.6.6")]);
        assert!(told.contains("HeaderName::from_static(\"x-real-ip\")"), "{told}");
    }

    #[test]
    fn a_proxy_that_says_nothing_is_told_what_to_say() {
        let told = default(PROXIES, "10.0.0.1", &[]);
        assert!(told.contains("has no field `x-forwarded-for`"), "{told}");
        assert_eq!(default(&["0.0.0.0/0"], "10.0.0.1", &[]), told, "also where everyone is trusted");
        let told = default(PROXIES, "10.0.0.1", &[("cf-connecting-ip", "192.0.2.1")]);
        assert!(told.contains("HeaderName::from_static(\"cf-connecting-ip\")"), "{told}");
        assert!(told.contains("add `.client_ip_header("), "{told}");
    }

    #[test]
    fn a_proxy_that_writes_the_default_where_another_is_read_is_told_so() {
        let fields = [("x-forwarded-for", "192.0.2.1")];
        let setting = ".client_ip_header(ClientIpHeader::XForwardedFor)`";
        for peer in ["10.0.0.1", "172.16.0.9"] {
            let told = told(PROXIES, ClientIpHeader::Forwarded, peer, &fields);
            assert!(told.contains(setting), "{told}");
        }
        let told = told(&[], ClientIpHeader::Forwarded, "172.16.0.9", &[("forwarded", "for=192.0.2.1")]);
        assert!(told.contains(".trusted_proxies([\"172.16.0.9\"])`"), "it is read already: {told}");
    }

    #[test]
    fn a_proxy_that_talks_nonsense_is_quoted_in_part() {
        let told = default(PROXIES, "10.0.0.1", &[("x-forwarded-for", "192.0.2.1, unknown")]);
        assert!(told.contains("`192.0.2.1, unknown`"), "{told}");
        let nonsense = format!("{}\u{1b}[31m ä", "x".repeat(10_000)).replace('\u{1b}', "\t");
        let told = default(PROXIES, "10.0.0.1", &[("x-forwarded-for", &nonsense)]);
        assert!(told.len() < 600 && told.contains("\\t[31m \\xc3\\xa4`"), "{told}");
        let single = ClientIpHeader::Single(X_REAL_IP.clone());
        let told = told_twice(single);
        assert!(told.contains("`x-real-ip`"), "{told}");
    }

    fn told_twice(header: ClientIpHeader) -> String {
        told(PROXIES, header, "10.0.0.1", &[("x-real-ip", "192.0.2.1"), ("x-real-ip", "192.0.2.2")])
    }
}
