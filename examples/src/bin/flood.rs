//! Shows what a flood of keys can do to the memory store, and what it can't.
//!
//! ```text
//! cargo run --release --bin flood                    # ten million keys, the default bound of a million
//! cargo run --release --bin flood -- 3000000 50000   # three million keys, a bound of 50,000
//! ```
//!
//! Whoever holds an IPv6 `/32` can send from 16 million `/56` networks, each of which counts as a client of
//! its own. The store holds a million counters (`Builder::max_keys`). While all of them are alive, it refuses
//! new ones: it takes no more memory, and drops nobody's counter to make room.

use std::error::Error;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use axum_rate_limit::{ManualClock, Policy, RateLimiter, StoreError};

/// The policy that the crowd is checked against.
const PAGES: Policy = Policy::new("pages").per_minute(100);
/// The policy whose quota the victim has used up before the crowd comes.
const MAILS: Policy = Policy::new("mails").per_hour(3);
const VICTIM: &str = "victim";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // No subscriber: the store logs that it is full, which would clutter the table.
    let mut arguments = std::env::args().skip(1);
    let keys: u32 = arguments.next().map_or(Ok(10_000_000), |text| text.parse())?;
    let max_keys: usize = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;

    // The clock stands still unless it is advanced, so the table does not depend on how fast this machine is.
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

    // Together with the victim's, there are no more counters than there is room for. Those that have expired
    // make room for as many new ones.
    assert!(first < max_keys && second < max_keys, "more counters than `max_keys`");
    assert_eq!(first, second, "what has expired is in the way of the living");
    Ok(())
}

/// Checks `count` keys, beginning with `start`, and returns how many were admitted.
async fn crowd(limiter: &RateLimiter, start: u32, count: u32) -> Result<usize, Box<dyn Error>> {
    println!("\n{:>10} {:>10} {:>10} {:>10} {:>10}", "keys", "admitted", "refused", "resident", "a check");
    let (mut admitted, mut refused) = (0, 0);
    let step = count.div_ceil(10).max(1);
    let mut since = Instant::now();
    for index in 0..count {
        match limiter.check(&PAGES, client(start + index)).await {
            Ok(decision) => admitted += usize::from(decision.is_allowed()),
            // The store can't count this key, so it is not admitted. A handler's client gets a 503.
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

/// Returns an address in the `/56` network with this number, counted from `2001:db8::` on.
fn client(index: u32) -> IpAddr {
    let network = (0x2001_0db8_u128 << 96) + (u128::from(index) << 72);
    Ipv6Addr::from_bits(network + 1).into()
}

fn is_full(error: &axum_rate_limit::Error) -> bool {
    matches!(error, axum_rate_limit::Error::Store(StoreError::Full { .. }))
}

/// Makes sure that the victim's counter is still as it was.
async fn victim(limiter: &RateLimiter, reset: Duration) -> Result<(), Box<dyn Error>> {
    let decision = limiter.check(&MAILS, VICTIM).await?;
    assert!(!decision.is_allowed() && decision.remaining() == 0, "the victim's counter is lost");
    assert_eq!(decision.retry_after(), Some(reset), "the victim's window is not its own");
    println!("\nThe victim is still denied: 0 of 3 mails left, whole again in {reset:?}.\n");
    Ok(())
}

/// Returns how much of this process is in memory, as reported by Linux, or `-`.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    let kib: Option<u64> = kib.and_then(|kib| kib.parse().ok());
    kib.map_or_else(|| "-".to_owned(), |kib| format!("{} MiB", kib / 1_024))
}
