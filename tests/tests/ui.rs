//! Tests of what the compiler says about the attribute: what it accepts, and what it refuses in which words.

/// `TRYBUILD=overwrite cargo test -p tests --test ui` renews the `.stderr` files.
#[test]
fn ui() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("ui/fail/*.rs");
    cases.pass("ui/pass/*.rs");
}
