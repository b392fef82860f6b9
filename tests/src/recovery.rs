//! Waiting for a limiter to find its store again.

use std::time::{Duration, Instant};

use axum_rate_limit::{Decision, Policy, RateLimiter};

/// How long it may take; a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the store decides, and not this process or nobody.
///
/// # Panics
///
/// If it never does.
pub async fn recovered(limiter: &RateLimiter, policy: &Policy, key: &str) -> Decision {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        // A limiter that denies what it can't count gives no decision.
        if let Ok(decision) = limiter.check(policy, key).await
            && !decision.is_degraded()
        {
            return decision;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the limiter did not find its store again");
}
