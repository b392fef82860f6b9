//! End-to-end tests of identity: two requests share a key in the store if, and only if, they come from the same
//! client and ask for the same thing, however they are spelt.
//!
//! A request is made from a meaning and a spelling. A recording store tells which key it was asked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::MockConnectInfo;
use axum::routing::{self, get};
use axum_rate_limit::store::{Counter, Operation, Outcome, Reading, Store};
use axum_rate_limit::{RateLimiter, StoreError, rate_limit};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode};
use proptest::prelude::*;
use proptest::sample::select;
use tower::ServiceExt as _;

fn user(parts: &Parts) -> Option<String> {
    parts.extensions.get::<User>().map(|User(name)| name.clone())
}

#[derive(Clone)]
struct User(String);

#[rate_limit(name = "by-ip", per_hour = 1)]
async fn by_ip() {}

#[rate_limit(name = "by-header", per_hour = 1, key = header("x-api-key"))]
async fn by_header() {}

#[rate_limit(name = "by-text", per_hour = 1, key = user)]
async fn by_text() {}

#[rate_limit(name = "by-all", per_hour = 1, key = (ip, header("x-api-key"), user))]
async fn by_all() {}

#[rate_limit(name = "by-two", per_hour = 1, key = (user, header("x-api-key")), by_route)]
async fn by_two() {}

#[rate_limit(name = "resource", per_hour = 1, key = global, by_resource)]
async fn resource() {}

#[rate_limit(name = "file", per_hour = 1, key = user, by_resource)]
async fn file() {}

#[rate_limit(name = "nested", per_hour = 1, key = global, by_resource)]
fn nested() -> Router {
    Router::new()
        .route("/users/{id}", routing::any(|| async {}))
        .route("/files/{*path}", routing::any(|| async {}))
}

#[rate_limit(name = "routes", per_hour = 1, key = global, by_route)]
fn routes() -> Router {
    Router::new()
        .route("/users/{id}", routing::any(|| async {}))
        .route("/files/{*path}", routing::any(|| async {}))
}

/// Where a request goes: the name of the policy, the template, and whether the path or the template counts.
struct Place {
    policy: &'static str,
    template: &'static str,
    key: &'static [Who],
    counts: Counts,
}

#[derive(Clone, Copy, PartialEq)]
enum Counts {
    Nothing,
    Path,
    Template,
}

/// What a part of a key is taken from.
#[derive(Clone, Copy)]
enum Who {
    Ip,
    Header,
    User,
    All,
}

const PLACES: [Place; 15] = [
    place("by-ip", "/by-ip", &[Who::Ip], Counts::Nothing),
    place("by-header", "/by-header", &[Who::Header], Counts::Nothing),
    place("by-text", "/by-text", &[Who::User], Counts::Nothing),
    place("by-all", "/by-all", &[Who::Ip, Who::Header, Who::User], Counts::Nothing),
    place("by-two", "/by-two/{id}", &[Who::User, Who::Header], Counts::Template),
    place("by-two", "/twice/by-two/{id}", &[Who::User, Who::Header], Counts::Template),
    place("resource", "/users/{id}", &[Who::All], Counts::Path),
    place("resource", "/api/users/{id}", &[Who::All], Counts::Path),
    place("file", "/files/{*path}", &[Who::User], Counts::Path),
    place("nested", "/v1/users/{id}", &[Who::All], Counts::Path),
    place("nested", "/v1/files/{*path}", &[Who::All], Counts::Path),
    place("nested", "/v2/{tenant}/users/{id}", &[Who::All], Counts::Path),
    place("routes", "/r1/users/{id}", &[Who::All], Counts::Template),
    place("routes", "/r1/files/{*path}", &[Who::All], Counts::Template),
    place("routes", "/r2/{tenant}/users/{id}", &[Who::All], Counts::Template),
];

const fn place(policy: &'static str, template: &'static str, key: &'static [Who], counts: Counts) -> Place {
    Place { policy, template, key, counts }
}

fn app(limiter: RateLimiter) -> Router {
    Router::new()
        .route("/by-ip", routing::any(by_ip))
        .route("/by-header", routing::any(by_header))
        .route("/by-text", routing::any(by_text))
        .route("/by-all", routing::any(by_all))
        .route("/by-two/{id}", routing::any(by_two))
        .nest("/twice", Router::new().route("/by-two/{id}", routing::any(by_two)))
        .route("/users/{id}", routing::any(resource))
        .nest("/api", Router::new().route("/users/{id}", routing::any(resource)))
        .route("/files/{*path}", routing::any(file))
        .nest("/v1", nested())
        .nest("/v2", Router::new().nest("/{tenant}", nested()))
        .nest("/r1", routes())
        .nest("/r2", Router::new().nest("/{tenant}", routes()))
        .layer(limiter)
}

/// What a request means.
#[derive(Clone, Debug)]
struct Meaning {
    place: usize,
    address: IpAddr,
    api_key: Option<Vec<u8>>,
    user: Option<String>,
    method: &'static str,
    /// The values of the template's parameters.
    words: [String; 2],
}

/// How a request is written.
#[derive(Clone, Debug)]
struct Spelling {
    /// Random bytes, which choose between the ways to write each thing.
    chances: Vec<u8>,
}

/// What two requests must have in common to share a quota, according to this test.
#[derive(Debug, PartialEq)]
struct Identity {
    policy: &'static str,
    who: Vec<Part>,
    what: Option<(&'static str, String)>,
}

#[derive(Debug, PartialEq)]
enum Part {
    V4(Ipv4Addr),
    /// The first 56 bits.
    V6(u128),
    Header(Vec<u8>),
    User(String),
    All,
}

impl Meaning {
    fn identity(&self, path: &str) -> Identity {
        let place = &PLACES[self.place];
        let address = || match self.address {
            IpAddr::V4(ip) => Part::V4(ip),
            IpAddr::V6(ip) => Part::V6(u128::from(ip) >> 72),
        };
        let header = || self.api_key.clone().filter(|value| !value.is_empty()).map(Part::Header);
        let user = || self.user.clone().filter(|name| !name.is_empty()).map(Part::User);
        let part = |who: &Who| match who {
            Who::Ip => address(),
            Who::Header => header().unwrap_or_else(address),
            Who::User => user().unwrap_or_else(address),
            Who::All => Part::All,
        };
        let method = match self.method {
            "GET" | "HEAD" => "GET",
            known @ ("POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS" | "TRACE") => known,
            _ => "other",
        };
        let what = match place.counts {
            Counts::Nothing => None,
            Counts::Path => Some((method, normal(path))),
            Counts::Template => Some((method, place.template.to_owned())),
        };
        Identity { policy: place.policy, who: place.key.iter().map(part).collect(), what }
    }
}

/// Undoes the percent-encoding of a path, and removes empty segments and `.`.
fn normal(path: &str) -> String {
    let mut plain = Vec::new();
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let mut hex = || bytes.next().and_then(|byte| char::from(byte).to_digit(16)).expect("it is encoded");
        plain.push(if byte == b'%' { u8::try_from(hex() * 16 + hex()).expect("a byte") } else { byte });
    }
    let plain = String::from_utf8(plain).expect("it was text");
    let segments: Vec<&str> =
        plain.split('/').filter(|segment| !segment.is_empty() && *segment != ".").collect();
    let slash = if plain.ends_with('/') { "/" } else { "" };
    format!("/{}{slash}", segments.join("/"))
}

impl Spelling {
    fn choose(&mut self, ways: u8) -> u8 {
        self.chances.rotate_left(1);
        self.chances[0] % ways
    }

    fn byte(&mut self, byte: u8) -> String {
        match self.choose(4) {
            0 | 1 if byte.is_ascii_alphanumeric() || b"-._~@:!$&'()*+,;=".contains(&byte) => {
                char::from(byte).to_string()
            }
            2 => format!("%{byte:02x}"),
            _ => format!("%{byte:02X}"),
        }
    }

    fn word(&mut self, word: &str) -> String {
        word.bytes().map(|byte| self.byte(byte)).collect()
    }

    /// Returns the path, without a query.
    fn path(&mut self, meaning: &Meaning) -> String {
        let mut words = meaning.words.iter();
        let mut path = String::new();
        for segment in PLACES[meaning.place].template.split('/').skip(1) {
            path.push('/');
            match segment {
                "{id}" | "{tenant}" => {
                    path.push_str(&self.word(words.next().expect("as many as there are places")));
                }
                "{*path}" => {
                    for (index, word) in meaning.words.iter().enumerate() {
                        let separators = ["/", "//", "/./", "/%2e//", "%2F", "%2f"];
                        if index > 0 {
                            path.push_str(separators[usize::from(self.choose(6))]);
                        }
                        path.push_str(&self.word(word));
                    }
                }
                plain => path.push_str(plain),
            }
        }
        path
    }

    /// Returns the address of the peer, and the lines of `X-Forwarded-For`.
    fn address(&mut self, address: IpAddr) -> (IpAddr, Vec<String>) {
        let way = self.choose(8);
        let proxies = ["10.0.0.1", "::ffff:10.0.0.1", "fd00::1"];
        let proxy: IpAddr = proxies[usize::from(self.choose(3))].parse().expect("an address");
        let forged = ["6.6.6.6, ", "unknown,", "", "10.0.0.2, \","][usize::from(self.choose(4))];
        let said = match (address, way) {
            (IpAddr::V4(ip), 1) => return (ip.to_ipv6_mapped().into(), vec!["6.6.6.6".to_owned()]),
            (IpAddr::V4(ip), 2) => {
                let [a, b, c, d] = ip.octets().map(u16::from);
                let translated = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a << 8 | b, c << 8 | d);
                return (translated.into(), Vec::new());
            }
            (ip, 0..=2) => return (ip, vec!["6.6.6.6".to_owned()]),
            (IpAddr::V4(ip), 3) => format!("{ip}:4711"),
            (IpAddr::V4(ip), 4) => format!("::ffff:{ip}"),
            (IpAddr::V4(ip), 5) => format!("[::{ip}]:80"),
            (IpAddr::V6(ip), 3) => format!("[{ip}]:4711"),
            (IpAddr::V6(ip), 4) => format!("{ip}%eth0"),
            (IpAddr::V6(ip), 5) => ip.to_string().to_uppercase(),
            (ip, _) => ip.to_string(),
        };
        let lines = match self.choose(3) {
            0 => vec![format!("{forged}{said}")],
            1 => vec![format!("{forged}{said}, 10.0.0.2")],
            _ => vec![forged.to_owned(), said, "fd00::2".to_owned()],
        };
        (proxy, lines)
    }
}

fn request(meaning: &Meaning, mut spelling: Spelling) -> (Request<Body>, Identity) {
    let path = spelling.path(meaning);
    let identity = meaning.identity(&path);
    let query = ["", "?", "?x=/y", "?a=%2F&b"][usize::from(spelling.choose(4))];
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::from_bytes(meaning.method.as_bytes()).expect("a method");
    *request.uri_mut() = format!("{path}{query}").parse().expect("a path");
    if let Some(value) = &meaning.api_key {
        request.headers_mut().insert("x-api-key", HeaderValue::from_bytes(value).expect("a value"));
    }
    if let Some(name) = &meaning.user {
        request.extensions_mut().insert(User(name.clone()));
    }
    let (peer, lines) = spelling.address(meaning.address);
    for line in lines {
        request.headers_mut().append("x-forwarded-for", line.parse().expect("a value"));
    }
    request.extensions_mut().insert(MockConnectInfo(SocketAddr::new(peer, 1234)));
    (request, identity)
}

/// A store that allows everything, and remembers the last key that it was asked for.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Option<String>>>);

impl Store for Recorder {
    async fn apply(&self, _: Operation, counters: &[Counter<'_>]) -> Result<Outcome, StoreError> {
        if let Some(counter) = counters.first() {
            *self.0.lock().expect("no panic") = Some(counter.key.to_owned());
        }
        let fits = |counter: &Counter<'_>| Reading::new(true, 1, counter.quota.window(), None);
        Ok(Outcome::new(true, counters.iter().map(fits)))
    }
}

/// Generates texts that look like parts of keys, and others.
fn texts() -> impl Strategy<Value = String> {
    let traps = select(vec![
        "192.0.2.7",
        "[2001:db8::/56]",
        "2001:db8::1",
        "*",
        "::",
        ":",
        ",",
        "a,b",
        "a%2Cb",
        "{a}",
        "}",
        "#0123",
        "=0123",
        "GET:/",
        "",
    ]);
    prop_oneof![
        3 => traps.prop_map(str::to_owned),
        2 => "[a-c]{1,2}",
        1 => any::<String>(),
        1 => "(x|y){190,210}",
    ]
}

fn meanings() -> impl Strategy<Value = Meaning> {
    let v4 = (0..3_u8).prop_map(|last| IpAddr::from([192, 0, 2, 5 + last]));
    let v6 = select(vec!["2001:db8::1", "2001:db8:0:ff::2", "2001:db8:0:100::1", "2002:c000:207::1", "::1"])
        .prop_map(|ip| ip.parse().expect("an address"));
    let value = texts()
        .prop_map(String::into_bytes)
        .prop_filter("a value", |value| HeaderValue::from_bytes(value).is_ok());
    let word = prop_oneof![
        3 => "[a-c]{1,2}",
        1 => select(vec![".", "..", "%", "%41", "a/b", "{x}", "ä", "a b", "?", "a."]).prop_map(str::to_owned),
        1 => "[x-z]{60,120}",
    ];
    (
        0..PLACES.len(),
        prop_oneof![v4, v6],
        proptest::option::of(value),
        proptest::option::of(texts()),
        select(vec!["GET", "HEAD", "POST", "PUT", "DELETE", "FOO1", "FOO2"]),
        [word.clone(), word],
    )
        .prop_map(|(place, address, api_key, user, method, words)| Meaning {
            place,
            address,
            api_key,
            user,
            method,
            words,
        })
}

fn spellings() -> impl Strategy<Value = Spelling> {
    proptest::collection::vec(any::<u8>(), 16..40).prop_map(|chances| Spelling { chances })
}

/// Generates two meanings: half of the time they are independent, otherwise they differ in few things, if any.
fn pairs() -> impl Strategy<Value = (Meaning, Meaning)> {
    (meanings(), meanings(), any::<[u8; 6]>(), any::<bool>()).prop_map(|(one, other, same, almost)| {
        let keep = |index: usize| almost && same[index] < 200;
        let pick = |index: usize| if keep(index) { one.clone() } else { other.clone() };
        let mixed = Meaning {
            place: if keep(0) { one.place } else { other.place },
            address: pick(1).address,
            api_key: pick(2).api_key,
            user: pick(3).user,
            method: pick(4).method,
            words: pick(5).words,
        };
        (one, mixed)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_500, ..ProptestConfig::default() })]

    #[test]
    fn one_key_is_one_identity((one, other) in pairs(), first in spellings(), second in spellings(), third in spellings()) {
        thread_local!(static WORLD: (tokio::runtime::Runtime, Router, Recorder) = {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let recorder = Recorder::default();
            let builder = RateLimiter::builder().store(recorder.clone());
            let builder = builder.trusted_proxies(["10.0.0.0/8", "fd00::/8"]);
            let router = app(runtime.block_on(builder.build()).expect("it builds"));
            (runtime, router, recorder)
        });
        let asked = [(&one, first), (&one, second), (&other, third)].map(|(meaning, spelling)| {
            let (request, identity) = request(meaning, spelling);
            let line = format!("{} {} {:?}", request.method(), request.uri(), request.headers());
            let (status, key) = WORLD.with(|(runtime, router, recorder)| {
                let answer = runtime.block_on(router.clone().oneshot(request)).expect("infallible");
                (answer.status(), recorder.0.lock().expect("no panic").take())
            });
            (status, key, identity, line)
        });
        for (status, key, _, line) in &asked {
            prop_assert_eq!(*status, StatusCode::OK, "{}", line);
            let key = key.as_deref().unwrap_or_default();
            let inner = key.strip_prefix("rl:{").and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
            let is_plain = inner.bytes().all(|byte| byte.is_ascii_graphic() && !b"{}".contains(&byte));
            prop_assert!(!inner.is_empty() && is_plain && inner.len() < 1_000, "{} for {}", key, line);
        }
        for (left, right) in [(0, 1), (0, 2), (1, 2)] {
            let ((_, key, identity, line), (_, other_key, other_identity, other_line)) = (&asked[left], &asked[right]);
            prop_assert_eq!(
                key == other_key,
                identity == other_identity,
                "\n{:?} {:?} {}\n{:?} {:?} {}",
                key, identity, line, other_key, other_identity, other_line
            );
        }
    }
}

/// Paths that axum distinguishes are distinguished, and paths that it does not route are not charged.
#[tokio::test]
async fn what_axum_routes_elsewhere_is_something_else() {
    let recorder = Recorder::default();
    let limiter = RateLimiter::builder().store(recorder.clone()).build().await.expect("it builds");
    let peer = MockConnectInfo(SocketAddr::from(([192, 0, 2, 1], 1)));
    let router = Router::new()
        .route("/a", get(resource))
        .route("/a/", get(resource))
        .route("/{id}/c", get(resource))
        .layer(limiter)
        .layer(peer);
    let mut keys = Vec::new();
    for (path, status) in [
        ("/a", 200),
        ("/a/", 200),
        ("/a/c", 200),
        ("/../c", 200),
        ("//a", 404),
        ("/./a", 404),
        ("/a//", 404),
        ("/%61", 404),
        ("/x/y/c", 404),
    ] {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let answer = router.clone().oneshot(request).await.expect("infallible");
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let key = recorder.0.lock().expect("no panic").take();
        assert_eq!(key.is_some(), status == 200, "{path}");
        keys.extend(key);
    }
    let paths = ["/a", "/a/", "/a/c", "/../c"].map(|path| format!("rl:{{resource::*::GET:{path}}}"));
    assert_eq!(keys, paths);
}

/// A key that a program makes of an address is the key of that client's requests.
#[tokio::test]
async fn a_key_made_of_an_address_is_that_of_a_request() {
    let recorder = Recorder::default();
    let limiter = RateLimiter::builder().store(recorder.clone()).build().await.expect("it builds");
    let by_ip = axum_rate_limit::policies().into_iter().find(|policy| policy.name() == "by-ip");
    for text in ["192.0.2.7", "::ffff:192.0.2.7", "::192.0.2.7", "64:ff9b::192.0.2.7"] {
        let ip: IpAddr = text.parse().expect("an address");
        let _ = limiter.peek(by_ip.expect("it is declared"), ip).await.expect("a decision");
        let key = recorder.0.lock().expect("no panic").take();
        assert_eq!(key.as_deref(), Some("rl:{by-ip::192.0.2.7}"), "{text}");
    }
}

#[tokio::test]
async fn a_client_is_known_outside_of_policies() {
    let builder = RateLimiter::builder().trusted_proxies(["10.0.0.1"]);
    let limiter = builder.build().await.expect("it builds");
    let request = |peer: Option<[u8; 4]>| {
        let (mut parts, ()) = Request::get("/")
            .header("x-forwarded-for", "192.0.2.9")
            .body(())
            .expect("a request")
            .into_parts();
        if let Some(peer) = peer {
            parts.extensions.insert(MockConnectInfo(SocketAddr::from((peer, 1234))));
        }
        parts
    };
    for (peer, client) in [
        (Some([10, 0, 0, 1]), Some([192, 0, 2, 9])),
        (Some([10, 0, 0, 2]), Some([10, 0, 0, 2])),
        (None, None),
    ] {
        assert_eq!(limiter.client_ip(&request(peer)), client.map(IpAddr::from));
    }
}
