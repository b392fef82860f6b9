//! Shows a limit without HTTP: a job in the background sends mails, so many to each customer.
//!
//! ```text
//! cargo run --bin programmatic                                  # ends by itself, after four seconds
//! REDIS_URL=redis://127.0.0.1/ cargo run --bin programmatic     # shares its limits with others
//! ```

use std::time::{Duration, Instant};

use axum_rate_limit::{Error, Policy, RateLimiter};

/// Two mails in two seconds for each customer: the first mail opens a window, and when that ends
/// there are two again. (In earnest it would be `.per_hour(20)` or the like.)
///
/// No attribute names this policy. So it is not among `axum_rate_limit::policies()`, and need not be
/// told to anyone before [`RateLimiter::check`] is asked about it.
const MAILS: Policy = Policy::new("mails").quota(2, Duration::from_secs(2));

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt::init();

    // Redis if REDIS_URL is set, else this process's memory. It is no layer of anything here.
    let limiter = RateLimiter::from_env().await?;
    let start = Instant::now();

    // A clone is cheap, and counts in the same place. Ada's five mails take three windows; Ben's two
    // pass at once, since a customer's quota is no one else's.
    let ada = tokio::spawn(send_mails(limiter.clone(), "ada", 5, start));
    let ben = tokio::spawn(send_mails(limiter.clone(), "ben", 2, start));
    ben.await??;
    ada.await??;

    // `peek` tells what `check` would say, and takes nothing.
    let decision = limiter.peek(&MAILS, "ada").await?;
    report(start, &format!("peek: ada has {} of 2 mails left", decision.remaining()));

    // `reset` forgets what a key has used, say when a customer pays for more.
    limiter.reset(&MAILS, "ada").await?;
    let decision = limiter.peek(&MAILS, "ada").await?;
    report(start, &format!("reset: ada has {} of 2 mails left", decision.remaining()));

    limiter.close().await;
    Ok(())
}

/// Sends `count` mails to `customer`, and waits wherever the limit says so.
async fn send_mails(
    limiter: RateLimiter,
    customer: &'static str,
    count: u32,
    start: Instant,
) -> Result<(), Error> {
    for number in 1..=count {
        // The key says who shares a quota: any text, or an address. A loop and not an `if`, since
        // after the wait another job, or another instance, may have been faster.
        //
        // (`check_within` waits by itself; here each wait is to be seen.)
        //
        // `check` fails only if the limiter is built with `OnStoreError::Deny` and the store is away.
        // A denial is no error.
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
