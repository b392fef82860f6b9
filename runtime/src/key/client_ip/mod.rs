//! Finds the client's address when there are proxies in between.
//!
//! Each proxy appends the address that it was reached from. Read from the right, the list in the header is
//! therefore true up to the first address that no trusted proxy has written. Anyone may have sent what stands to
//! the left of that, and it is not looked at.

pub(super) mod address;
mod forwarded;
mod list;
mod misconfiguration;

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

use self::list::{Grammar, Members};
use self::misconfiguration::Misconfiguration;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED: HeaderName = header::FORWARDED;

/// The most hops that are read; nobody has more proxies in a row.
const MAX_HOPS: usize = 32;

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
    /// Use it only if the proxy is known to overwrite it; otherwise clients choose their own address.
    Single(HeaderName),
}

impl ClientIpHeader {
    fn name(&self) -> &HeaderName {
        match self {
            Self::XForwardedFor => &X_FORWARDED_FOR,
            Self::Forwarded => &FORWARDED,
            Self::Single(name) => name,
        }
    }
}

/// Which peers are proxies, and where they tell the client's address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    pub(crate) trusted: Vec<IpNet>,
    pub(crate) header: ClientIpHeader,
}

/// Reads the address in a member.
type Read = fn(&[u8]) -> Option<IpAddr>;

impl Proxies {
    /// Returns the client's address: that of the peer, unless the peer is trusted and says otherwise.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = address::canonical(peer);
        let client = if self.trusts(peer) { self.walk(peer, headers) } else { peer };
        Misconfiguration::tell_once(|| self.misconfiguration(peer, client, headers));
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Whether a trusted network contains all addresses.
    pub(crate) fn trusts_everyone(&self) -> bool {
        self.trusted.iter().any(|network| network.prefix_len() == 0)
    }

    /// Walks from the last hop to the first that is no trusted proxy. A hop that is no address ends the walk at
    /// the one before it, which is the last that is known to be true.
    fn walk(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        for hop in self.hops(headers) {
            let Some(hop) = hop else { break };
            client = hop;
            if !self.trusts(hop) {
                break;
            }
        }
        client
    }

    /// Returns the hops that the proxies tell, the nearest first, each read on demand; `None` stands for what is
    /// no address. Several lines of a list are one list. Several lines of a single address contradict each other,
    /// and count as no address.
    fn hops<'a>(&'a self, headers: &'a HeaderMap) -> impl Iterator<Item = Option<IpAddr>> + 'a {
        let header = &self.header;
        let lines = headers.get_all(header.name());
        let (grammar, read): (Grammar, Read) = match header {
            ClientIpHeader::XForwardedFor => (Grammar::Plain, address::read),
            ClientIpHeader::Forwarded => (Grammar::Quoting, forwarded::client),
            ClientIpHeader::Single(_) => (Grammar::Whole, address::read),
        };
        let is_contradictory = matches!(header, ClientIpHeader::Single(_)) && lines.iter().nth(1).is_some();
        let members = lines.iter().rev().flat_map(move |line| Members::new(grammar, line.as_bytes()));
        members.map(move |member| member.filter(|_| !is_contradictory).and_then(read)).take(MAX_HOPS)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

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
    fn what_is_no_address_ends_the_walk_at_the_last_true_one() {
        for garbage in ["unknown", "", "198.51.100", "198.51.100.1 198.51.100.2", "[198.51.100.1]", "ä"] {
            assert_eq!(x_forwarded_for("10.0.0.1", &[&format!("6.6.6.6, {garbage}, 10.0.0.2")]), "10.0.0.2");
            assert_eq!(x_forwarded_for("10.0.0.1", &["6.6.6.6", garbage]), "10.0.0.1");
        }
    }

    #[test]
    fn forwarded_is_a_list_too() {
        assert_eq!(forwarded("for=198.51.100.1"), "198.51.100.1");
        assert_eq!(forwarded("for=6.6.6.6, FOR=198.51.100.1;proto=http;by=203.0.113.43"), "198.51.100.1");
        assert_eq!(forwarded("for=198.51.100.1, for=\"10.0.0.9:80\" ; host=\"a,b;c\\\"d\""), "198.51.100.1");
        for value in ["for=6.6.6.6, for=unknown", "for=6.6.6.6, proto=http", "for=6.6.6.6,", "for", ""] {
            assert_eq!(forwarded(value), "10.0.0.1", "{value}");
        }
    }

    #[test]
    fn no_more_hops_are_read_than_anyone_has() {
        let hops = |count: usize| format!("198.51.100.1{}", ", 10.0.0.2".repeat(count));
        assert_eq!(x_forwarded_for("10.0.0.1", &[&hops(MAX_HOPS - 1)]), "198.51.100.1");
        assert_eq!(x_forwarded_for("10.0.0.1", &[&hops(MAX_HOPS)]), "10.0.0.2");
        let lines = vec!["10.0.0.2"; 1_000];
        assert_eq!(x_forwarded_for("10.0.0.1", &lines), "10.0.0.2");
        let proxies = proxies(ClientIpHeader::XForwardedFor);
        let headers =
            HeaderMap::from_iter([(X_FORWARDED_FOR.clone(), HeaderValue::from_str(&hops(6_000)).unwrap())]);
        assert_eq!(proxies.hops(&headers).count(), MAX_HOPS);
    }

    #[test]
    fn a_proxy_that_ipv6_carries_is_the_same_proxy() {
        assert_eq!(x_forwarded_for("::ffff:10.0.0.1", &["198.51.100.1, ::10.0.0.2"]), "198.51.100.1");
        // Anyone may have such an address.
        assert_eq!(x_forwarded_for("2002:a00:1::1", &["198.51.100.1"]), "2002:a00:1::1");
        assert_eq!(x_forwarded_for("64:ff9b::a00:1", &["198.51.100.1"]), "64:ff9b::a00:1");
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

    /// What a client that knows how these headers are written may send.
    fn sent() -> impl Strategy<Value = String> {
        let address = prop_oneof![
            any::<IpAddr>().prop_map(|ip| ip.to_string()),
            any::<SocketAddr>().prop_map(|socket| socket.to_string()),
            Just("10.0.0.9".to_owned()),
            Just("unknown".to_owned()),
            "[ -~\u{80}-\u{ff}]{0,20}",
        ];
        let piece = prop_oneof![
            4 => address,
            2 => "(for=|FOR=|host=|proto=|;|,|, |\"|\\\\|\\[|\\])",
            1 => Just("for=\"[::1]:80\"".to_owned()),
        ];
        proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    fn headers() -> impl Strategy<Value = ClientIpHeader> {
        let single = ClientIpHeader::Single(HeaderName::from_static("x-real-ip"));
        prop_oneof![Just(ClientIpHeader::XForwardedFor), Just(ClientIpHeader::Forwarded), Just(single)]
    }

    fn name(header: &ClientIpHeader) -> &'static str {
        match header {
            ClientIpHeader::XForwardedFor => "x-forwarded-for",
            ClientIpHeader::Forwarded => "forwarded",
            ClientIpHeader::Single(_) => "x-real-ip",
        }
    }

    proptest! {
        /// Whatever a client sends, a proxy that appends the client's address settles the matter, on a line of
        /// its own or on the client's.
        #[test]
        fn nothing_that_is_sent_forges_an_address(sent in sent(), own_line in any::<bool>()) {
            for (header, appended) in [
                (ClientIpHeader::XForwardedFor, "198.51.100.1"),
                (ClientIpHeader::Forwarded, "for=198.51.100.1"),
                (ClientIpHeader::Forwarded, "host=\"a,b\\\"\";for=\"198.51.100.1:80\";proto=https"),
            ] {
                let name = name(&header);
                let line = format!("{sent}, {appended}");
                let lines = if own_line { vec![sent.as_str(), appended] } else { vec![line.as_str()] };
                prop_assert_eq!(client(header, "10.0.0.1", name, &lines), "198.51.100.1");
            }
        }

        /// Two proxies in a row append one after the other.
        #[test]
        fn two_proxies_in_a_row_are_passed(sent in sent(), own_line in any::<bool>()) {
            let lines = [format!("{sent}, 198.51.100.1"), "10.0.0.2".to_owned()];
            let joined = [lines.join(", ")];
            let lines: Vec<&str> = if own_line { &lines[..] } else { &joined[..] }.iter().map(String::as_str).collect();
            prop_assert_eq!(x_forwarded_for("10.0.0.1", &lines), "198.51.100.1");
        }

        /// A peer that is not trusted may send anything.
        #[test]
        fn a_peer_that_is_not_trusted_is_the_client(sent in sent(), header in headers(), peer in any::<IpAddr>()) {
            prop_assume!(!proxies(header.clone()).trusts(address::canonical(peer)));
            let told = client(header.clone(), &peer.to_string(), name(&header), &[&sent]);
            prop_assert_eq!(told, address::canonical(peer).to_string());
        }

        /// No address is made up: it is the peer's, or it stands in a header.
        #[test]
        fn an_address_stands_somewhere(lines in proptest::collection::vec(sent(), 0..3), header in headers()) {
            let values: Vec<&str> = lines.iter().map(String::as_str).collect();
            let told: IpAddr = client(header.clone(), "10.0.0.1", name(&header), &values).parse().unwrap();
            let is_hex = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
            let text = lines.join(",").replace('\\', "");
            let stands = text.split(|c: char| !is_hex(c)).any(|word| {
                // With a port, or without.
                let ends = word.char_indices().filter(|(_, c)| *c == ':').map(|(end, _)| end);
                ends.chain([word.len()]).any(|end| address::read(&word.as_bytes()[..end]) == Some(told))
            });
            prop_assert!(stands || told.to_string() == "10.0.0.1", "{} of {:?}", told, lines);
        }
    }
}
