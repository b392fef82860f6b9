//! Fuzzes the client's address, which no header may forge.
//!
//! The first line of an input chooses the header, and all others are the lines of that header:
//!
//! ```text
//! x-forwarded-for
//! 6.6.6.6, 198.51.100.1
//! 10.0.0.2
//! ```
#![no_main]

use std::net::IpAddr;

use axum_rate_limit::__fuzzing::client_ip;
use axum_rate_limit::ClientIpHeader;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

const TRUSTED: &[&str] = &["10.0.0.0/8", "fd00::/8"];
const PROXY: &str = "10.0.0.1";
const CLIENT: &str = "198.51.100.7";

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|byte| *byte == b'\n');
    let name = lines.next().unwrap_or_default();
    let lines: Vec<&[u8]> = lines.collect();
    match name.first() {
        Some(b'x') => list(&ClientIpHeader::XForwardedFor, "x-forwarded-for", &lines, &[CLIENT]),
        Some(b'f') => {
            let elements = [
                "for=198.51.100.7",
                "host=\"a,b\\\";for=6.6.6.6\";for=\"198.51.100.7:_p\";proto=https",
                "For=\"[::ffff:198.51.100.7]:80\"",
            ];
            list(&ClientIpHeader::Forwarded, "forwarded", &lines, &elements);
        }
        _ => single(&lines),
    }
});

/// Checks a header to which proxies append; `appended` are ways to write the client's address.
fn list(header: &ClientIpHeader, name: &'static str, lines: &[&[u8]], appended: &[&str]) {
    let Some(sent) = headers(name, lines) else { return };
    let told = ask(header, PROXY, &sent);
    assert!(told == ip(PROXY) || stands(told, lines), "{told} is made up");
    assert_eq!(ask(header, "192.0.2.1", &sent), ip("192.0.2.1"), "a peer that is not trusted is believed");
    if *header == ClientIpHeader::XForwardedFor {
        let joined = headers(name, &[&lines.join(&b", "[..])]).expect("its parts are values");
        assert_eq!(ask(header, PROXY, &joined), told, "several lines are not one list");
    }
    let proxied = if *header == ClientIpHeader::Forwarded { "for=10.0.0.2" } else { "10.0.0.2" };
    for own in appended {
        for suffix in [format!(", {own}"), format!(", {own}, {proxied}")] {
            // On a line of the proxy's own, and at the end of the client's last line.
            let own_line = suffix.trim_start_matches(", ").as_bytes();
            let mut more = vec![[lines, &[own_line]].concat()];
            let joined = [lines.last().copied().unwrap_or_default(), suffix.as_bytes()].concat();
            if let Some((_, others)) = lines.split_last() {
                more.push([others, &[joined.as_slice()]].concat());
            }
            for lines in more {
                let headers = headers(name, &lines).expect("its parts are values");
                assert_eq!(ask(header, PROXY, &headers), ip(CLIENT), "the client is forged");
            }
        }
    }
}

/// Checks a header that a proxy overwrites.
fn single(lines: &[&[u8]]) {
    let header = ClientIpHeader::Single(HeaderName::from_static("x-real-ip"));
    let Some(sent) = headers("x-real-ip", lines) else { return };
    let told = ask(&header, PROXY, &sent);
    assert!(told == ip(PROXY) || (lines.len() == 1 && stands(told, lines)), "{told} is made up");
    assert_eq!(ask(&header, "192.0.2.1", &sent), ip("192.0.2.1"), "a peer that is not trusted is believed");
}

fn headers(name: &'static str, lines: &[&[u8]]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(name, HeaderValue::from_bytes(line).ok()?);
    }
    Some(headers)
}

fn ask(header: &ClientIpHeader, peer: &str, headers: &HeaderMap) -> IpAddr {
    client_ip(TRUSTED, header.clone(), ip(peer), headers)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Whether `told` is one of the addresses in `lines`, however it is written there.
fn stands(told: IpAddr, lines: &[&[u8]]) -> bool {
    let text = String::from_utf8_lossy(&lines.join(&b','))
        // RFC 7239 lets any character be escaped.
        .replace('\\', "");
    let is_of_address = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
    text.split(|c: char| !is_of_address(c)).any(|word| {
        // With a port, or without.
        let ends = word.char_indices().filter(|(_, c)| *c == ':').map(|(end, _)| end);
        ends.chain([word.len()]).any(|end| {
            let canonical = |ip| client_ip(&[], ClientIpHeader::XForwardedFor, ip, &HeaderMap::new());
            word[..end].parse().is_ok_and(|ip: IpAddr| canonical(ip) == told)
        })
    })
}
