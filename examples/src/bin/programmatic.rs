//! Shows a limit without HTTP: background jobs send mails, a limited number per customer.
//!
//! ```text
//! cargo run --bin programmatic                                  # ends by itself, after four seconds
//! REDIS_URL=redis://127.0.0.1/ cargo run --bin programmatic     # shares its limits with other instances
//! ```

use std::time::{Duration, Instant};

use axum_rate_limit::{Error, Policy, RateLimiter};

/// Two mails per two seconds for each customer. The first mail opens a window; when it ends, two more
/// may be sent. (A real service would use `.per_hour(20)` or the like.)
///
/// No attribute uses this policy, so `axum_rate_limit::policies()` does not list it. It need not be
/// registered anywhere before it is passed to [`RateLimiter::check`].
const MAILS: Policy = Policy::new("mails").quota(2, Duration::from_secs(2));

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt::init();

    // Redis if REDIS_URL is set, otherwise this process's memory. The limiter is not a layer here.
    let limiter = RateLimiter::from_env().await?;
    let start = Instant::now();

    // Clones are cheap and share their counters. Ada's five mails take three windows. Ben's two pass at
    // once, since each customer has a quota of their own.
    let ada = tokio::spawn(send_mails(limiter.clone(), "ada", 5, start));
    let ben = tokio::spawn(send_mails(limiter.clone(), "ben", 2, start));
    ben.await??;
    ada.await??;

    // `peek` returns what `check` would, but takes nothing.
    let decision = limiter.peek(&MAILS, "ada").await?;
    report(start, &format!("peek: ada has {} of 2 mails left", decision.remaining()));

    // `reset` forgets what a key has used, for example because the customer pays for more.
    limiter.reset(&MAILS, "ada").await?;
    let decision = limiter.peek(&MAILS, "ada").await?;
    report(start, &format!("reset: ada has {} of 2 mails left", decision.remaining()));

    limiter.close().await;
    Ok(())
}

/// Sends `count` mails to `customer`, and waits whenever the limit says so.
async fn send_mails(
    limiter: RateLimiter,
    customer: &'static str,
    count: u32,
    start: Instant,
) -> Result<(), Error> {
    for number in 1..=count {
        // The key says who shares a quota: any text, or an address. This is a loop, not an `if`, since
        // another job or another instance may be faster after the wait.
        //
        // (`check_within` would do the waiting. This example prints each wait instead.)
        //
        // `check` fails if the store is away and the limiter is built with `OnStoreError::Deny`, or if the
        // memory store is full. A denial is not an error.
        while let Some(wait) = limiter.check(&MAILS, customer).await?.retry_after() {
            report(start, &format!("{customer}: mail {number} has to wait {wait:.1?}"));
            tokio::time::sleep(wait).await;
        }
        report(start, &format!("{customer}: mail {number} sent"));
    }
    Ok(())
}

fn report(start: Instant, text: &str) {
    println!("{:4.1} s  {text}", start.elapsed().as_secs_f32());
}
