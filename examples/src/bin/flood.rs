//! Shows what a crowd of keys can do to the memory store, and what it can't.
//!
//! ```text
//! cargo run --release --bin flood                    # ten million keys, the default bound of a million
//! cargo run --release --bin flood -- 3000000 50000   # so many keys, and a bound of your own
//! ```
//!
//! Whoever has an IPv6 network of 32 bits can send from 16 million networks of 56, and each of these is a
//! client of its own. The store holds a million counters (`Builder::max_keys`), and when all of them are
//! alive it refuses newcomers: it takes no more memory, and drops nobody's counter to make room.

use std::error::Error;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use axum_rate_limit::{ManualClock, Policy, RateLimiter, StoreError};

/// What the crowd asks for.
const PAGES: Policy = Policy::new("pages").per_minute(100);
/// What the victim has used up before the crowd comes.
const MAILS: Policy = Policy::new("mails").per_hour(3);
const VICTIM: &str = "victim";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // No subscriber: what the store says in the log when it is full would stand in the table.
    let mut arguments = std::env::args().skip(1);
    let keys: u32 = arguments.next().map_or(Ok(10_000_000), |text| text.parse())?;
    let max_keys: usize = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;

    // It stands still unless it is moved, or the table would depend on how fast this machine is.
    let clock = ManualClock::default();
    let limiter = RateLimiter::builder().max_keys(max_keys).clock(&clock).build().await?;

    while limiter.check(&MAILS, VICTIM).await?.is_allowed() {}
    clock.advance(Duration::from_secs(10));

    println!("{keys} keys, none asked about twice, in a store of {max_keys}; one counter is the victim's:");
    let first = crowd(&limiter, 0, keys).await?;
    victim(&limiter, Duration::from_secs(3_590)).await?;

    // The crowd's minute is over, the victim's hour is not.
    clock.advance(Duration::from_secs(60));
    println!("a minute later, as many other keys:");
    let second = crowd(&limiter, keys, keys).await?;
    victim(&limiter, Duration::from_secs(3_530)).await?;

    // With the victim's counter, no more than there is room for; and the dead make room for as many.
    assert!(first < max_keys && second < max_keys, "more counters than `max_keys`");
    assert_eq!(first, second, "what has expired is in the way of the living");
    Ok(())
}

/// Asks about `count` keys, the first of them being `start`, and tells how many were admitted.
async fn crowd(limiter: &RateLimiter, start: u32, count: u32) -> Result<usize, Box<dyn Error>> {
    println!("\n{:>10} {:>10} {:>10} {:>10} {:>10}", "keys", "admitted", "refused", "resident", "a check");
    let (mut admitted, mut refused) = (0, 0);
    let step = count.div_ceil(10).max(1);
    let mut since = Instant::now();
    for index in 0..count {
        match limiter.check(&PAGES, client(start + index)).await {
            Ok(decision) => admitted += usize::from(decision.is_allowed()),
            // Nothing is known of it, so it does not pass: a handler's client is answered with 503.
            Err(error) if is_full(&error) => refused += 1,
            Err(error) => return Err(error.into()),
        }
        let done = index + 1;
        if done % step == 0 || done == count {
            let asked = if done % step == 0 { step } else { done % step };
            let (each, resident) = (since.elapsed() / asked, resident());
            println!("{done:>10} {admitted:>10} {refused:>10} {resident:>10} {:>7} ns", each.as_nanos());
            since = Instant::now();
        }
    }
    Ok(admitted)
}

/// The networks of 56 bits in `2001:db8::/32` and after it.
fn client(index: u32) -> IpAddr {
    let network = (0x2001_0db8_u128 << 96) + (u128::from(index) << 72);
    Ipv6Addr::from_bits(network + 1).into()
}

fn is_full(error: &axum_rate_limit::Error) -> bool {
    matches!(error, axum_rate_limit::Error::Store(StoreError::Full { .. }))
}

/// Whether the victim's counter is still as it was.
async fn victim(limiter: &RateLimiter, reset: Duration) -> Result<(), Box<dyn Error>> {
    let decision = limiter.check(&MAILS, VICTIM).await?;
    assert!(!decision.is_allowed() && decision.remaining() == 0, "the victim's counter is lost");
    assert_eq!(decision.retry_after(), Some(reset), "the victim's window is not its own");
    println!("\nThe victim is still denied: 0 of 3 mails left, whole again in {reset:?}.\n");
    Ok(())
}

/// How much of the process is in memory, as Linux tells it.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    let kib: Option<u64> = kib.and_then(|kib| kib.parse().ok());
    kib.map_or_else(|| "-".to_owned(), |kib| format!("{} MiB", kib / 1_024))
}
