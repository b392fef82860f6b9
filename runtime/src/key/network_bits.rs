//! The networks of clients: how much of an address tells one client from another.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::inline_string::InlineString;

/// How many leading bits of an address tell one client from another: the length of a client's network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NetworkBits {
    pub(crate) ipv4: u8,
    pub(crate) ipv6: u8,
}

/// A whole IPv4 address, and 56 bits of an IPv6 address: providers hand such a prefix to one subscriber
/// (RIPE-690), who has all addresses below it.
impl Default for NetworkBits {
    fn default() -> Self {
        Self { ipv4: 32, ipv6: 56 }
    }
}

impl NetworkBits {
    /// Writes the network of `ip`, which is [canonical](super::client_ip::address::canonical): `192.0.2.7`,
    /// `192.0.2.0/24`, `[2001:db8::/56]`.
    pub(crate) fn write_network(self, ip: IpAddr, out: &mut InlineString) {
        match ip {
            IpAddr::V4(ip) if self.ipv4 >= 32 => write_whole(ip, out),
            ip => self.write_masked(ip, out),
        }
    }

    #[inline(never)] // most addresses are written without the formatting machinery
    fn write_masked(self, ip: IpAddr, out: &mut InlineString) {
        let _ = match ip {
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

/// The digits of each number from 0 to 255 with a dot after them, and their length including the dot.
const OCTETS: [([u8; 4], u8); 256] = {
    let mut octets = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let (digits, len) = &mut octets[octet];
        let mut unit = 100;
        while unit > 0 {
            if octet >= unit || unit == 1 {
                digits[*len as usize] = b"0123456789"[octet / unit % 10];
                *len += 1;
            }
            unit /= 10;
        }
        *len += 1;
        octet += 1;
    }
    octets
};

/// Writes a whole IPv4 address, as most clients have, without the formatting machinery.
fn write_whole(ip: Ipv4Addr, out: &mut InlineString) {
    let (mut text, mut len) = ([b'.'; 16], 0);
    for octet in ip.octets() {
        let (digits, digits_len) = &OCTETS[usize::from(octet)];
        text[len..len + 4].copy_from_slice(digits);
        len += usize::from(*digits_len);
    }
    // Checks the whole array, since its fixed size is looked at in one step.
    let text = std::str::from_utf8(&text).unwrap_or_default();
    out.push_str(&text[..len - 1]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bits: NetworkBits, ip: &str) -> String {
        let mut out = InlineString::default();
        bits.write_network(ip.parse().unwrap(), &mut out);
        out.as_str().to_owned()
    }

    #[test]
    fn a_whole_address_is_written_as_elsewhere() {
        for octet in 0..=u8::MAX {
            let ip = Ipv4Addr::new(octet, 255, octet, octet).to_string();
            assert_eq!(written(NetworkBits::default(), &ip), ip);
        }
    }

    #[test]
    fn addresses_are_cut() {
        let cut = NetworkBits { ipv4: 24, ipv6: 48 };
        assert_eq!(written(cut, "192.0.2.7"), "192.0.2.0/24");
        assert_eq!(written(cut, "2001:db8:1:2::3"), "[2001:db8:1::/48]");
        let whole = NetworkBits { ipv4: 32, ipv6: 128 };
        assert_eq!(written(whole, "2001:db8::3"), "[2001:db8::3]");
        let nothing = NetworkBits { ipv4: 0, ipv6: 0 };
        assert_eq!(written(nothing, "192.0.2.7"), "0.0.0.0/0");
        assert_eq!(written(nothing, "2001:db8::3"), "[::/0]");
    }
}
