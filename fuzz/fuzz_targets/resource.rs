//! Fuzzes the resource in a key: all spellings of a method and path must give one key.
//!
//! The first line of an input is the method, and all that follows is the path:
//!
//! ```text
//! GET
//! /a//b/./%63?query
//! ```
#![no_main]

use std::sync::{Arc, Mutex};

use axum_rate_limit::store::{Counter, Operation, Outcome, Reading, Store};
use axum_rate_limit::{Key, Policy, RateLimiter, StoreError};
use http::Method;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;

const POLICY: Policy = Policy::new("p").per_minute(1).by_resource();

/// The longest path that is not hashed in a key.
const MAX_PART: usize = 200;

fuzz_target!(|input: &[u8]| {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let (method, path) = input.split_once('\n').unwrap_or(("GET", input));
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
    let key = stored(&method, path);

    let inner = key.strip_prefix("rl:{p::k::").and_then(|rest| rest.strip_suffix('}'));
    let (verb, resource) = inner.and_then(|inner| inner.split_once(':')).expect("{p::k::METHOD:path}");
    assert!(resource.bytes().all(|byte| byte.is_ascii_graphic() && !b"{}".contains(&byte)), "{key}");
    assert!(resource.len() <= MAX_PART, "{key}");
    assert!(verb.len() <= 7, "{key}");

    let expected = model(path);
    if expected.len() <= MAX_PART {
        assert_eq!(resource, expected);
        assert_eq!(stored(&method, resource), key, "it has two spellings");
    } else {
        assert!(resource.starts_with('#') && resource.len() == 33, "{key}");
    }
    let spelt: String = decoded(path).iter().map(|byte| format!("%{byte:02x}")).collect();
    assert_eq!(stored(&method, &spelt), key, "it has two spellings");
    if method == Method::GET {
        assert_eq!(stored(&Method::HEAD, path), key);
    }
});

/// Returns the normal form of a path, as simply as it can be computed.
fn model(path: &str) -> String {
    let path = decoded(path);
    let segments: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty() && *segment != b".").collect();
    let mut normal = String::new();
    for segment in &segments {
        normal.push('/');
        for byte in *segment {
            if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(byte) {
                normal.push(char::from(*byte));
            } else {
                normal.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    if segments.is_empty() || path.last() == Some(&b'/') {
        normal.push('/');
    }
    normal
}

/// Returns the path without its query, with percent-encoding undone once.
fn decoded(path: &str) -> Vec<u8> {
    let path = path.split('?').next().unwrap_or_default().as_bytes();
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (mut plain, mut at) = (Vec::new(), 0);
    while at < path.len() {
        match (path[at], hex(path.get(at + 1)), hex(path.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                plain.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    plain
}

/// Returns the key that the store is asked for.
fn stored(method: &Method, path: &str) -> String {
    thread_local!(static ASKED: (Runtime, RateLimiter, Arc<Mutex<String>>) = {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let last = Arc::new(Mutex::new(String::new()));
        let builder = RateLimiter::builder().store(Recorder(Arc::clone(&last)));
        let limiter = runtime.block_on(builder.build()).expect("it builds");
        (runtime, limiter, last)
    });
    ASKED.with(|(runtime, limiter, last)| {
        let key = Key::from("k").resource(method, path);
        runtime.block_on(limiter.peek(&POLICY, key)).expect("a decision");
        std::mem::take(&mut *last.lock().expect("no panic"))
    })
}

/// Remembers the last key, and allows everything.
struct Recorder(Arc<Mutex<String>>);

impl Store for Recorder {
    async fn apply(&self, _: Operation, counters: &[Counter<'_>]) -> Result<Outcome, StoreError> {
        if let Some(counter) = counters.first() {
            counter.key.clone_into(&mut self.0.lock().expect("no panic"));
        }
        let fits = |counter: &Counter<'_>| Reading::new(true, 1, counter.quota.window(), None);
        Ok(Outcome::new(false, counters.iter().map(fits)))
    }
}
