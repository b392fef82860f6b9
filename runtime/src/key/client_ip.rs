//! Whose address it is, when proxies stand between.
//!
//! Each proxy appends the address it was reached from, so the list in the header is true from the
//! right up to the first address that no trusted proxy has written. Whatever stands left of that
//! anyone may have sent.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

/// What HTTP lets stand around the members of a list.
const BLANK: [char; 2] = [' ', '\t'];
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The header in which trusted proxies tell the client's address.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ClientIpHeader {
    /// `X-Forwarded-For`: a list, to which each proxy appends.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239): a list, to which each proxy appends.
    Forwarded,
    /// A header with one address, which the proxy overwrites: `CF-Connecting-IP`, `X-Real-IP`, …
    ///
    /// Only where the proxy is known to overwrite it, or clients name themselves.
    Single(HeaderName),
}

/// Which peers are proxies, and where they tell the client's address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    pub(crate) trusted: Vec<IpNet>,
    pub(crate) header: ClientIpHeader,
}

impl Proxies {
    /// The client's address: the peer's, unless the peer is trusted and says otherwise.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return peer;
        }
        match &self.header {
            ClientIpHeader::XForwardedFor => {
                let hops = |line: Cow<'_, str>| line.rsplit(',').map(address).collect::<Vec<_>>();
                self.walk(peer, lines(headers, &X_FORWARDED_FOR).flat_map(hops))
            }
            ClientIpHeader::Forwarded => {
                self.walk(peer, lines(headers, &header::FORWARDED).flat_map(|line| forwarded_hops(&line)))
            }
            ClientIpHeader::Single(name) => {
                let mut values = headers.get_all(name).iter();
                let only = values.next().filter(|_| values.next().is_none());
                only.and_then(|value| address(value.to_str().ok()?)).unwrap_or(peer)
            }
        }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// From the last hop to the first that no trusted proxy is. A hop that is no address ends the
    /// walk at the one before, which is the last that is known to be true.
    fn walk(&self, peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut client = peer;
        for hop in hops {
            let Some(hop) = hop else { break };
            client = hop;
            if !self.trusts(hop) {
                break;
            }
        }
        client
    }
}

/// The lines of a header, the last first. Bytes that are no text must not hide those that are.
fn lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = Cow<'a, str>> {
    headers.get_all(name).iter().rev().map(|value| String::from_utf8_lossy(value.as_bytes()))
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim_matches(BLANK);
    let bracketed = || hop.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let address = hop
        .parse::<IpAddr>()
        .ok()
        .or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
        .or_else(|| bracketed().map(IpAddr::V6))?;
    Some(address.to_canonical())
}

/// The addresses in a line of `Forwarded`, the last first; `None` for an element that tells none, or
/// is not of the grammar.
fn forwarded_hops(line: &str) -> Vec<Option<IpAddr>> {
    match split_outside_quotes(line, ',') {
        Some(elements) => elements.into_iter().rev().map(forwarded_for).collect(),
        None => vec![None],
    }
}

/// The address in the `for` of an element.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in split_outside_quotes(element, ';')? {
        let (name, value) = pair.split_once('=')?;
        if name.trim_matches(BLANK).eq_ignore_ascii_case("for")
            && found.replace(unquoted(value.trim_matches(BLANK))?).is_some()
        {
            return None; // twice, which RFC 7239 forbids
        }
    }
    address(&found?)
}

/// `None` if a quote is left open.
fn split_outside_quotes(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if c == separator && !quoted => {
                parts.push(&text[start..index]);
                start = index + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!quoted).then_some(parts)
}

/// A token as it is, a quoted string without its quotes.
fn unquoted(value: &str) -> Option<String> {
    let Some(inner) = value.strip_prefix('"') else {
        return (!value.contains('"')).then(|| value.to_owned());
    };
    let inner = inner.strip_suffix('"')?;
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        text.push(if c == '\\' { chars.next()? } else { c });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn proxies(header: ClientIpHeader) -> Proxies {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        Proxies { trusted: trusted.to_vec(), header }
    }

    fn client(header: ClientIpHeader, peer: &str, name: &'static str, values: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        proxies(header).client(peer.parse().unwrap(), &headers).to_string()
    }

    fn x_forwarded_for(peer: &str, values: &[&str]) -> String {
        client(ClientIpHeader::XForwardedFor, peer, "x-forwarded-for", values)
    }

    fn forwarded(value: &str) -> String {
        client(ClientIpHeader::Forwarded, "10.0.0.1", "forwarded", &[value])
    }

    #[test]
    fn nobody_else_is_believed() {
        assert_eq!(x_forwarded_for("192.0.2.1", &["198.51.100.1"]), "192.0.2.1");
        assert_eq!(x_forwarded_for("::ffff:192.0.2.1", &["198.51.100.1"]), "192.0.2.1");
    }

    #[test]
    fn the_last_hop_that_is_no_proxy_is_the_client() {
        assert_eq!(x_forwarded_for("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(x_forwarded_for("::ffff:10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(x_forwarded_for("10.0.0.1", &["6.6.6.6, 198.51.100.1, 10.0.0.2"]), "198.51.100.1");
        assert_eq!(x_forwarded_for("10.0.0.1", &["6.6.6.6", "198.51.100.1", "10.0.0.2"]), "198.51.100.1");
        assert_eq!(x_forwarded_for("10.0.0.1", &["10.0.0.3,10.0.0.2"]), "10.0.0.3", "all are proxies");
        assert_eq!(x_forwarded_for("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn hops_may_have_ports_and_brackets() {
        for hop in ["198.51.100.1:4711", "::ffff:198.51.100.1", "[::ffff:198.51.100.1]:4711"] {
            assert_eq!(x_forwarded_for("10.0.0.1", &[hop]), "198.51.100.1");
        }
        for hop in ["2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:4711", " 2001:DB8::1\t"] {
            assert_eq!(x_forwarded_for("10.0.0.1", &[hop]), "2001:db8::1");
        }
    }

    #[test]
    fn what_is_no_address_ends_the_walk_at_the_last_true_one() {
        for garbage in ["unknown", "", "198.51.100", "198.51.100.1 198.51.100.2", "[198.51.100.1]", "ä"] {
            assert_eq!(x_forwarded_for("10.0.0.1", &[&format!("6.6.6.6, {garbage}, 10.0.0.2")]), "10.0.0.2");
            assert_eq!(x_forwarded_for("10.0.0.1", &["6.6.6.6", garbage]), "10.0.0.1");
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_has_it() {
        assert_eq!(forwarded("for=198.51.100.1"), "198.51.100.1");
        assert_eq!(forwarded("For=\"[2001:db8:cafe::17]:4711\""), "2001:db8:cafe::17");
        assert_eq!(forwarded("for=6.6.6.6, FOR=198.51.100.1;proto=http;by=203.0.113.43"), "198.51.100.1");
        assert_eq!(forwarded("for=198.51.100.1, for=\"10.0.0.9:80\" ; host=\"a,b;c\\\"d\""), "198.51.100.1");
    }

    #[test]
    fn forwarded_that_tells_no_address_is_not_guessed() {
        for value in [
            "for=6.6.6.6, for=unknown",
            "for=6.6.6.6, for=_hidden",
            "for=6.6.6.6, proto=http",
            "for=6.6.6.6, for=7.7.7.7;for=8.8.8.8",
            "for=6.6.6.6, for=\"7.7.7.7",
            "for=6.6.6.6, for=7.7.7.7\"",
            "for=6.6.6.6,",
            "for",
            "",
        ] {
            assert_eq!(forwarded(value), "10.0.0.1", "{value}");
        }
    }

    #[test]
    fn a_single_address_is_the_only_one() {
        let header = || ClientIpHeader::Single(HeaderName::from_static("cf-connecting-ip"));
        let client = |values: &[&str]| client(header(), "10.0.0.1", "cf-connecting-ip", values);
        assert_eq!(client(&["198.51.100.1"]), "198.51.100.1");
        assert_eq!(client(&["198.51.100.1", "198.51.100.2"]), "10.0.0.1");
        assert_eq!(client(&["198.51.100.1, 198.51.100.2"]), "10.0.0.1");
        assert_eq!(client(&[]), "10.0.0.1");
    }

    proptest! {
        /// Whatever a client sends, a proxy that appends the client's address settles the matter.
        #[test]
        fn no_prefix_forges_an_address(sent in "[ -~\u{80}-\u{ff}]{0,40}") {
            let appended = format!("{sent}, 198.51.100.1");
            prop_assert_eq!(x_forwarded_for("10.0.0.1", &[&appended]), "198.51.100.1");
            prop_assert_eq!(x_forwarded_for("10.0.0.1", &[&sent, "198.51.100.1"]), "198.51.100.1");
            let own_line = client(
                ClientIpHeader::Forwarded, "10.0.0.1", "forwarded", &[&sent, "for=198.51.100.1"],
            );
            prop_assert_eq!(own_line, "198.51.100.1");
        }

        /// On one line, an open quote may swallow what the proxy appended; then the proxy's own
        /// address stands.
        #[test]
        fn no_open_quote_forges_an_address(sent in "[ -~]{0,40}") {
            let client = forwarded(&format!("{sent}, for=198.51.100.1"));
            prop_assert!(["198.51.100.1", "10.0.0.1"].contains(&client.as_str()), "{}", client);
        }
    }
}
