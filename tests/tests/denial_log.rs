//! Tests of what the log says about denials at its finer levels.
//!
//! They have a program of their own: if several threads set subscribers of different levels at once, `tracing` may
//! hold on to the wrong one.

use axum_rate_limit::{Policy, RateLimiter};
use tests::Log;
use tracing::Level;

#[tokio::test]
async fn the_log_names_who_is_denied_where_it_has_every_detail() {
    const MAILS: Policy = Policy::new("mails").per_hour(1);
    for (level, names) in [(Level::DEBUG, false), (Level::TRACE, true)] {
        let (log, _guard) = Log::up_to(level);
        let limiter = RateLimiter::memory();
        for _ in 0..2 {
            let _ = limiter.check(&MAILS, "client-7").await.expect("a decision");
        }
        let denials = log.lines_with("DEBUG", &["policy=\"mails\"", "outcome=\"denied\""]);
        assert_eq!(denials.len(), 1, "{:?}", log.lines());
        assert_eq!(denials[0].contains("client-7"), names, "{denials:?}");
    }
}
