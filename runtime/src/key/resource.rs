//! Resources: what is asked for, as `METHOD:path` in one spelling.

use http::Method;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};

use super::encoding::shorten;
use crate::inline_string::InlineString;

/// What is encoded in a segment: all but RFC 3986's `pchar`.
const IN_SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Writes `GET:/users/7`.
///
/// The path is decoded as a whole, loses its empty segments and those of one dot, and is encoded again. All
/// spellings that axum's `Path` extractor, or a service that serves files, takes for one path are therefore one
/// resource. Some that axum tells apart, such as `/a%2Fb` and `/a/b`, share it too; otherwise a client would have
/// a quota for each way to spell a wildcard's path. A slash at the end is kept: it makes another route for axum.
#[inline(never)] // it is long, and most keys have none
pub(super) fn write_path(method: &Method, path: &str, out: &mut InlineString) {
    if is_canonical(path) {
        let start = begin(method, out);
        out.push_str(path);
        return shorten(start, out);
    }
    let path: Vec<u8> = percent_decode_str(path).collect();
    let segments = path.split(|byte| *byte == b'/').filter(|segment| !matches!(*segment, b"" | b"."));
    let mut canonical = vec![b"".as_slice()];
    canonical.extend(segments);
    if path.last() == Some(&b'/') || canonical.len() == 1 {
        canonical.push(b"");
    }
    write_segments(method, canonical.into_iter(), out);
}

/// Whether a path is already as [`write_path`] writes it, as most are. A percent-encoded path never counts as
/// such.
fn is_canonical(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
    let mut segments = path.split('/');
    let mut last = segments.next();
    if last != Some("") {
        return false;
    }
    last = segments.next_back();
    let is_segment = |segment: &str| !matches!(segment, "" | ".") && segment.bytes().all(is_plain);
    segments.all(is_segment) && last.is_some_and(|last| last.is_empty() || is_segment(last))
}

/// Writes `GET:/users/%7Bid%7D`: the template as the program declares it, with its braces encoded, since they
/// delimit the hash tag.
#[inline(never)] // it is long, and most keys have none
pub(super) fn write_route(method: &Method, template: &str, out: &mut InlineString) {
    write_segments(method, template.split('/').map(str::as_bytes), out);
}

fn write_segments<'a>(method: &Method, segments: impl Iterator<Item = &'a [u8]>, out: &mut InlineString) {
    let start = begin(method, out);
    for (index, segment) in segments.enumerate() {
        if index > 0 {
            out.push('/');
        }
        percent_encode(segment, IN_SEGMENT).for_each(|piece| out.push_str(piece));
    }
    shorten(start, out);
}

/// Writes the method, and returns where the path begins.
fn begin(method: &Method, out: &mut InlineString) -> usize {
    out.push_str(name(method));
    out.push(':');
    out.len()
}

/// Returns the name that a method counts as. `HEAD` is answered by the handler of `GET`. Invented methods share
/// one name; otherwise a handler that serves any method would give each a quota of its own.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::encoding::MAX_PART;

    fn of_path(method: &Method, path: &str) -> String {
        let mut out = InlineString::default();
        write_path(method, path, &mut out);
        out.as_str().to_owned()
    }

    fn of_route(method: &Method, template: &str) -> String {
        let mut out = InlineString::default();
        write_route(method, template, &mut out);
        out.as_str().to_owned()
    }

    #[test]
    fn one_resource_has_one_spelling() {
        let get = |path| of_path(&Method::GET, path);
        assert_eq!(get("/users/7"), "GET:/users/7");
        for spelling in ["/%75sers/7", "/users/%37", "/%75%73%65%72%73/%37"] {
            assert_eq!(get(spelling), "GET:/users/7");
        }
        for spelling in ["/a/b/c", "/a%2Fb%2fc", "/a//b/./c", "//a/b/c", "/%2e/a/b/c"] {
            assert_eq!(get(spelling), "GET:/a/b/c");
        }
        assert_eq!(get("/"), "GET:/");
        assert_eq!(get("//"), "GET:/");
        assert_ne!(get("/a/"), get("/a"), "axum routes them apart");
        assert_eq!(get("/%40x"), get("/@x"));
        assert_eq!(get("/{x}"), get("/%7bx%7D"));
        assert_ne!(get("/a/../b"), get("/b"), "axum routes them apart");
    }

    #[test]
    fn head_is_get_and_inventions_are_one() {
        assert_eq!(of_path(&Method::HEAD, "/"), of_path(&Method::GET, "/"));
        assert_ne!(of_path(&Method::PUT, "/"), of_path(&Method::POST, "/"));
        let invented = |name: &str| of_path(&Method::from_bytes(name.as_bytes()).unwrap(), "/");
        assert_eq!(invented("FOO1"), invented("FOO2"));
    }

    #[test]
    fn a_template_keeps_inside_the_tag() {
        assert_eq!(of_route(&Method::GET, "/users/{id}"), "GET:/users/%7Bid%7D");
    }

    proptest! {
        /// The fast way writes what the slow way writes.
        #[test]
        fn what_is_canonical_is_left_alone(path in prop_oneof!["/?[a-z/@:.%{]{0,12}", any::<String>()]) {
            let mut slowly = vec![b"GET:".to_vec()];
            let decoded: Vec<u8> = percent_decode_str(&path).collect();
            let segments: Vec<&[u8]> =
                decoded.split(|byte| *byte == b'/').filter(|segment| !matches!(*segment, b"" | b".")).collect();
            for segment in &segments {
                slowly.push(format!("/{}", percent_encode(segment, IN_SEGMENT)).into_bytes());
            }
            if segments.is_empty() || decoded.last() == Some(&b'/') {
                slowly.push(b"/".to_vec());
            }
            let slowly = String::from_utf8(slowly.concat()).unwrap();
            prop_assume!(slowly.len() <= MAX_PART);
            prop_assert_eq!(of_path(&Method::GET, &path), slowly);
        }

        #[test]
        fn encoding_more_changes_nothing(path in "/[a-z/@:~.%]{0,12}", which in any::<usize>()) {
            let plain: Vec<char> = path.chars().collect();
            let at = which % plain.len();
            prop_assume!(plain[at] != '/' && !path.contains('%'));
            let spelt: String = plain.iter().enumerate()
                .map(|(index, c)| if index == at { format!("%{:02x}", *c as u32) } else { c.to_string() })
                .collect();
            prop_assert_eq!(of_path(&Method::GET, &path), of_path(&Method::GET, &spelt));
        }

        #[test]
        fn normalising_twice_changes_nothing(path in any::<String>()) {
            let once = of_path(&Method::GET, &path);
            // A second decoding may undo what is still encoded; no path is decoded twice.
            if let Some(path) = once.strip_prefix("GET:").filter(|path| !path.contains(['#', '%'])) {
                prop_assert_eq!(of_path(&Method::GET, path), once.clone());
            }
        }
    }
}
