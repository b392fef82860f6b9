//! A program that is put together wrongly and keeps no log, like most tests of applications.

use axum::Router;
use axum::routing::get;
use axum_rate_limit::rate_limit;
use tests::send;

#[rate_limit(name = "unheard", per_minute = 5)]
async fn handler() {}

#[tokio::test]
#[ignore = "the program that the other test runs"]
async fn without_a_layer() {
    assert_eq!(send(&Router::new().route("/", get(handler)), "GET", "/", "").await.status, 500);
}

#[cfg(debug_assertions)]
#[test]
fn a_debug_build_says_what_lacks() {
    let this = std::env::current_exe().expect("this program");
    let run = std::process::Command::new(this)
        .args(["--ignored", "--exact", "without_a_layer", "--nocapture"])
        .output();
    let run = run.expect("it runs");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    assert!(said.contains("axum-rate-limit: a rate-limited route has no limiter"), "{said}");
}
