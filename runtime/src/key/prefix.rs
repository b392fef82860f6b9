//! How much of an address tells one client from another.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Text;
use super::client_ip::address::canonical;

/// How many leading bits of an address tell one client from another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prefixes {
    pub(crate) ipv4: u8,
    pub(crate) ipv6: u8,
}

/// A whole IPv4 address; of an IPv6 address the 56 bits that providers hand to one subscriber
/// (RIPE-690), who has all addresses below.
impl Default for Prefixes {
    fn default() -> Self {
        Self { ipv4: 32, ipv6: 56 }
    }
}

impl Prefixes {
    /// Writes the network of `ip`: `192.0.2.7`, `192.0.2.0/24`, `[2001:db8::/56]`.
    pub(super) fn write(self, ip: IpAddr, out: &mut Text) {
        let _ = match canonical(ip) {
            IpAddr::V4(ip) if self.ipv4 >= 32 => {
                // What most clients have, without the machinery that formats.
                let (mut text, mut len) = ([b'.'; 16], 0);
                for octet in ip.octets() {
                    let mut digits = itoa::Buffer::new();
                    let digits = digits.format(octet).as_bytes();
                    text[len..len + digits.len()].copy_from_slice(digits);
                    len += digits.len() + 1;
                }
                out.push_ascii(&text[..len - 1]);
                Ok(())
            }
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.ipv4)).unwrap_or(0);
                write!(out, "{}/{}", Ipv4Addr::from(u32::from(ip) & mask), self.ipv4)
            }
            IpAddr::V6(ip) if self.ipv6 >= 128 => write!(out, "[{ip}]"),
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.ipv6)).unwrap_or(0);
                write!(out, "[{}/{}]", Ipv6Addr::from(u128::from(ip) & mask), self.ipv6)
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(prefixes: Prefixes, ip: &str) -> String {
        let mut out = Text::default();
        prefixes.write(ip.parse().unwrap(), &mut out);
        out.as_str().to_owned()
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert_eq!(written(Prefixes::default(), "::ffff:192.0.2.7"), "192.0.2.7");
    }

    #[test]
    fn addresses_are_cut() {
        let cut = Prefixes { ipv4: 24, ipv6: 48 };
        assert_eq!(written(cut, "192.0.2.7"), "192.0.2.0/24");
        assert_eq!(written(cut, "2001:db8:1:2::3"), "[2001:db8:1::/48]");
        let whole = Prefixes { ipv4: 32, ipv6: 128 };
        assert_eq!(written(whole, "2001:db8::3"), "[2001:db8::3]");
        let nothing = Prefixes { ipv4: 0, ipv6: 0 };
        assert_eq!(written(nothing, "192.0.2.7"), "0.0.0.0/0");
        assert_eq!(written(nothing, "2001:db8::3"), "[::/0]");
    }
}
