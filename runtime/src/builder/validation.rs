//! Validates each setting by itself.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::Builder;
use crate::error::BuildError;
use crate::key::{Proxies, canonical_network};

impl Builder {
    /// Returns the trusted proxies, and the header that they write.
    pub(super) fn proxies(&self) -> Result<Proxies, BuildError> {
        if self.trusted_proxies.is_empty() && self.client_ip_header.is_some() {
            return Err(BuildError::Setting {
                setting: "client_ip_header",
                problem: "no proxy is trusted, so the header is never read: add `trusted_proxies`".to_owned(),
            });
        }
        let fault = |problem| BuildError::Setting { setting: "trusted_proxies", problem };
        let network = |text: &String| {
            let one = || text.parse::<IpAddr>().map(IpNet::from);
            let written = text.parse::<IpNet>().or_else(|_| one()).map_err(|_| {
                fault(format!(
                    "`{text}` is not a network: write `10.0.0.0/8`, `fd00::/8` or one address, each in a string of \
                     its own"
                ))
            })?;
            let network = written.trunc();
            if network != written {
                return Err(fault(format!(
                    "`{text}` is one address of a network, and it is not said which of the two is trusted: write \
                     `{network}` or `{}`",
                    written.addr()
                )));
            }
            Ok(canonical_network(network))
        };
        Ok(Proxies {
            trusted: self.trusted_proxies.iter().map(network).collect::<Result<_, _>>()?,
            header: self.client_ip_header.clone().unwrap_or_default(),
        })
    }

    /// Returns an error for the first setting with an invalid value.
    pub(super) fn validate(&self) -> Result<(), BuildError> {
        let status = self.answers.status;
        let faults = [
            (
                self.timeout < Duration::from_millis(1),
                "timeout",
                "a store needs time to answer: write at least 1 ms",
            ),
            (
                self.timeout > Duration::from_secs(3_600),
                "timeout",
                "no request waits that long for a decision: write 100 ms or the like, and an hour at most",
            ),
            (
                !(self.local_share > 0.0 && self.local_share <= 1.0),
                "local_share",
                "a share of nothing would deny all, and more than 1 exceeds the limit: write 0.5 or the like",
            ),
            (
                self.env_prefix.is_empty(),
                "env_prefix",
                "every variable would be one: write `RATE_LIMIT_` or the like",
            ),
            (self.max_keys == 0, "max_keys", "no key could be counted: write at least 1"),
            (self.network_bits.ipv4 > 32, "ipv4_prefix", "an IPv4 address has 32 bits: write 0 to 32"),
            (self.network_bits.ipv6 > 128, "ipv6_prefix", "an IPv6 address has 128 bits: write 0 to 128"),
            (
                !(status.is_client_error() || status.is_server_error()),
                "status",
                "a denial has an error status: write 400 to 599, such as 429",
            ),
            (
                !self.key_prefix.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'{' && byte != b'}'),
                "key_prefix",
                "a prefix is printable ASCII without blanks and braces: write `rl:` or the like",
            ),
        ];
        match faults.into_iter().find(|(faulty, ..)| *faulty) {
            Some((_, setting, problem)) => Err(BuildError::Setting { setting, problem: problem.to_owned() }),
            None => Ok(()),
        }
    }
}
