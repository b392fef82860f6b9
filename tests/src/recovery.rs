//! Helpers that wait for a limiter to find its store, or to find it again.

use std::time::{Duration, Instant};

use axum_rate_limit::{BuildError, Builder, Decision, Policy, RateLimiter};

/// How long that may take; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Checks until the store decides, and returns its decision.
///
/// # Panics
///
/// If the store never decides.
pub async fn recovered(limiter: &RateLimiter, policy: &Policy, key: &str) -> Decision {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        // A limiter that denies what it can't count returns an error.
        if let Ok(decision) = limiter.check(policy, key).await
            && !decision.is_degraded()
        {
            return decision;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the limiter did not find its store again");
}

/// Builds a limiter with these settings, and retries until it has found its store: on a loaded machine, a
/// connection may take longer than a limiter waits for it.
///
/// # Panics
///
/// If it never finds its store, or if there is another error.
pub async fn built(settings: impl Fn() -> Builder) -> RateLimiter {
    let start = Instant::now();
    loop {
        match settings().require_store().build().await {
            Ok(limiter) => return limiter,
            Err(BuildError::Store(_)) if start.elapsed() < PATIENCE => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Returns why a limiter with these settings can't use its store, and retries while the reason is a lack of
/// time.
///
/// # Panics
///
/// If the limiter can use its store, or if the time is never enough.
pub async fn refusal(settings: impl Fn() -> Builder) -> String {
    let start = Instant::now();
    loop {
        let error = settings().require_store().build().await.expect_err("it is not served").to_string();
        let is_late =
            ["timed out", "within", "none of them answers"].iter().any(|words| error.contains(words));
        if !is_late {
            return error;
        }
        assert!(start.elapsed() < PATIENCE, "{error}");
    }
}

/// Makes sure that a limiter with these settings counts in its store, under a policy `two` for a key `x`.
///
/// # Panics
///
/// If the limiter finds no store, or if a decision is wrong or made without the store.
pub async fn counts(settings: impl Fn() -> Builder) {
    const TWO: Policy = Policy::new("two").per_hour(2);
    let limiter = built(|| settings().timeout(PATIENCE)).await;
    for allowed in [true, true, false] {
        let decision = limiter.check(&TWO, "x").await.expect("a decision");
        assert_eq!((decision.is_allowed(), decision.is_degraded()), (allowed, false));
    }
}
