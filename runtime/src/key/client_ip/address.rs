//! Addresses as proxies write them, and the one address that a client is known by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// The blanks that HTTP allows around the members of a list.
const BLANK: [char; 2] = [' ', '\t'];

/// Reads `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
///
/// A port may be obfuscated, as in RFC 7239 (`_http`), and an IPv6 address may have a zone, as operating systems
/// write that of a neighbour (`fe80::1%eth0`). Neither tells one client from another.
pub(super) fn read(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?.trim_matches(BLANK);
    let address = if let Some(rest) = hop.strip_prefix('[') {
        let (inner, port) = rest.split_once(']')?;
        (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(())?;
        v6(inner)?
    } else {
        match hop.split_once(':') {
            // An IPv6 address has at least two colons.
            Some((ip, port)) if !port.contains(':') => {
                is_port(port).then_some(())?;
                v4(ip)?
            }
            Some(_) => v6(hop)?,
            None => v4(hop)?,
        }
    };
    Some(canonical(address))
}

fn v4(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(IpAddr::V4)
}

fn v6(text: &str) -> Option<IpAddr> {
    let ip = match text.split_once('%') {
        // An interface may have any name, even one with blanks.
        Some((ip, zone)) => (!zone.is_empty()).then_some(ip)?,
        None => text,
    };
    ip.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// Whether `text` is RFC 7239's `node-port`.
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(name) => {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !name.is_empty() && name.bytes().all(is_plain)
        }
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// Returns the one address that a client is known by, whether it comes as IPv4 or as IPv6.
///
/// These become IPv4:
///
/// * `::ffff:192.0.2.1`, IPv4-mapped (RFC 4291, 2.5.5.2): what a socket for both families reports.
/// * `::192.0.2.1`, IPv4-compatible (2.5.5.1, deprecated): it has no other use. `::`, `::1` and all others whose
///   IPv4 address is `0.…`, which no client has, stay as they are.
/// * `64:ff9b::192.0.2.1`, the well-known prefix of translators (RFC 6052): how IPv4 clients reach an IPv6-only
///   service. Cut to its first 56 bits, it would be one quota for all of IPv4. It must not stand for private
///   addresses (3.1), so one that does is not taken for an internal host.
///
/// These stay IPv6, since the IPv4 address in them is not the client's, or is not known to be:
///
/// * 6to4 (`2002::/16`) and Teredo (`2001::/32`), both deprecated: anyone may write any IPv4 address into one,
///   even that of a trusted proxy. Their prefix tells clients apart like that of any other subscriber.
/// * A translator's own prefix, including that for local use (`64:ff9b:1::/48`, RFC 8215): only the translator
///   knows where in the address the client's is. Behind one, ask for more bits with
///   [`ipv6_prefix`](crate::Builder::ipv6_prefix).
#[inline]
pub(crate) fn canonical(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    canonical_v6(v6)
}

fn canonical_v6(v6: Ipv6Addr) -> IpAddr {
    let [.., a, b, c, d] = v6.octets();
    let v4 = Ipv4Addr::new(a, b, c, d);
    let is_inside = || v4.is_private() || v4.is_loopback() || v4.is_link_local();
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, _, _] => IpAddr::V4(v4),
        [0, 0, 0, 0, 0, 0, _, _] if a != 0 => IpAddr::V4(v4),
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] if a != 0 && !is_inside() => IpAddr::V4(v4),
        _ => IpAddr::V6(v6),
    }
}

/// Returns a network in terms of the addresses that clients are known by: one whose addresses are [canonical] as
/// IPv4 becomes IPv4. Any other network, such as one that also contains other addresses, stays as it is.
pub(crate) fn canonical_network(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let (IpAddr::V4(v4), Some(bits)) = (canonical_v6(v6.network()), v6.prefix_len().checked_sub(96)) else {
        return network;
    };
    Ipv4Net::new(v4, bits).map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(hop: &str) -> String {
        read(hop.as_bytes()).map_or_else(|| "none".to_owned(), |ip| ip.to_string())
    }

    #[test]
    fn ports_brackets_and_blanks_tell_nothing() {
        for hop in [
            "192.0.2.1",
            "192.0.2.1:4711",
            "192.0.2.1:_http",
            " \t192.0.2.1 ",
            "::ffff:192.0.2.1",
            "[::ffff:c000:201]:4711",
            "::192.0.2.1",
            "[::192.0.2.1]:_p",
            "64:ff9b::192.0.2.1",
        ] {
            assert_eq!(text(hop), "192.0.2.1", "{hop}");
        }
        for hop in ["2001:db8::1", "[2001:db8::1]", "[2001:DB8:0::1]:4711", "[2001:db8::1]:_a.b-c_d"] {
            assert_eq!(text(hop), "2001:db8::1", "{hop}");
        }
        for hop in ["fe80::1%eth0", "[fe80::1%25br-lan.7]:80", "FE80::1%3", "[fe80::1%vEthernet (x y)]:80"] {
            assert_eq!(text(hop), "fe80::1", "{hop}");
        }
    }

    #[test]
    fn what_is_no_address_is_not_guessed() {
        for hop in [
            "",
            " ",
            "unknown",
            "_hidden",
            "198.51.100",
            "198.51.100.1.",
            "198.051.100.001",
            "3325256705",
            "198.51.100.1:",
            "198.51.100.1:http",
            "198.51.100.1:_",
            "198.51.100.1:123456",
            "198.51.100.1:+80",
            "[198.51.100.1]",
            "198.51.100.1%eth0",
            "198.51.100.1 198.51.100.2",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]80",
            "[2001:db8::1]:",
            "[[2001:db8::1]]",
            "2001:db8::1%",
            "2001:db8:::1",
            "::ffff:198.51.100.1:80x",
            "example.com",
            "unix:",
        ] {
            assert_eq!(text(hop), "none", "{hop}");
        }
        assert_eq!(read(b"198.51.100.1\xff"), None);
    }

    fn canonical_text(ip: &str) -> String {
        canonical(ip.parse().unwrap()).to_string()
    }

    #[test]
    fn an_ipv4_client_is_one_in_all_clothes() {
        for ip in ["192.0.2.1", "::ffff:192.0.2.1", "::192.0.2.1", "64:ff9b::c000:201"] {
            assert_eq!(canonical_text(ip), "192.0.2.1");
        }
    }

    #[test]
    fn what_is_not_the_clients_ipv4_address_stays() {
        for ip in [
            "::",
            "::1",
            "::2",
            "::ff",
            "2002:c000:201::1",
            "2001:0:c000:201::1",
            "64:ff9b:1::c000:201",
            "64:ff9b::1:c000:201",
            "64:ff9b::a00:1",
            "64:ff9b::7f00:1",
            "64:ff9b::",
            "1::192.0.2.1",
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(canonical(ip), ip);
        }
    }

    #[test]
    fn a_network_is_that_of_the_clients_in_it() {
        for (written, meant) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("fd00::/8", "fd00::/8"),
            ("::ffff:10.0.0.1/128", "10.0.0.1/32"),
            ("::10.0.0.1/128", "10.0.0.1/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::10.0.0.0/104", "10.0.0.0/8"),
            ("64:ff9b::192.0.2.0/120", "192.0.2.0/24"),
            ("64:ff9b::10.0.0.0/104", "64:ff9b::a00:0/104"),
            ("64:ff9b::/96", "64:ff9b::/96"),
            ("::ffff:0:0/95", "::fffe:0:0/95"),
            ("::/0", "::/0"),
            ("::1/128", "::1/128"),
        ] {
            let network = canonical_network(written.parse::<IpNet>().unwrap().trunc());
            assert_eq!(network.to_string(), meant, "{written}");
        }
    }

    proptest! {
        #[test]
        fn one_spelling_is_enough(ip in any::<IpAddr>()) {
            prop_assert_eq!(canonical(canonical(ip)), canonical(ip));
        }

        #[test]
        fn mapped_is_what_the_standard_library_says(ip in any::<Ipv4Addr>()) {
            prop_assert_eq!(canonical(ip.to_ipv6_mapped().into()), IpAddr::V4(ip));
        }

        #[test]
        fn what_is_written_is_read(ip in any::<IpAddr>(), port in any::<u16>()) {
            let socket = std::net::SocketAddr::new(ip, port).to_string();
            prop_assert_eq!(read(ip.to_string().as_bytes()), Some(canonical(ip)));
            prop_assert_eq!(read(socket.as_bytes()), Some(canonical(ip)));
        }

        #[test]
        fn no_text_panics(hop in any::<Vec<u8>>()) {
            let _ = read(&hop);
        }
    }
}
