//! Paces the probes of a store that is away, with backoff and jitter.

use std::future::pending;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

/// The pause before the second probe. The pauses double from there, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// When a store came back the last time, and how soon it was probed.
#[derive(Debug, Default)]
pub(crate) struct Recovery(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    back: Option<Instant>,
    /// The pause before the first probe.
    first: Duration,
}

impl Recovery {
    /// Notes that the store is back now.
    pub(crate) fn note(&self) {
        self.0.lock().back = Some(Instant::now());
    }

    /// Returns the pauses of the next recovery. A store that takes connections and loses them must not be
    /// stormed: if it was back just now, its first probe is later than the last time.
    pub(crate) fn pauses(&self) -> Pauses {
        let mut last = self.0.lock();
        let was_just_back = last.back.is_some_and(|back| back.elapsed() < LAST_PAUSE);
        last.first = if was_just_back { longer(last.first) } else { Duration::ZERO };
        Pauses(last.first)
    }
}

/// The pause before each probe. There is normally none before the first: what breaks is more often a connection
/// than a server, and then the store is back before many have noticed. The other pauses grow, and have jitter,
/// so that the instances of a service do not probe in step.
pub(crate) struct Pauses(Duration);

impl Pauses {
    pub(crate) async fn wait(&mut self) {
        self.wait_or(pending()).await;
    }

    /// Waits for the next pause to pass, or for `wake`.
    pub(crate) async fn wait_or(&mut self, wake: impl Future<Output = ()>) {
        let pause = self.0;
        self.0 = longer(pause);
        if !pause.is_zero() {
            let _ = timeout(pause.mul_f64(fastrand::f64() + 0.5), wake).await;
        }
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).clamp(FIRST_PAUSE, LAST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn waits(pauses: &mut Pauses) -> u128 {
        let start = Instant::now();
        pauses.wait().await;
        start.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_asked_at_once_and_then_ever_more_rarely() {
        let mut pauses = Recovery::default().pauses();
        assert_eq!(waits(&mut pauses).await, 0);
        for pause in [50, 100, 200, 400, 800, 1_000, 1_000] {
            let waited = waits(&mut pauses).await;
            assert!((pause / 2..=pause * 3 / 2 + 1).contains(&waited), "{waited} ms instead of {pause}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lost_as_soon_as_it_is_back_is_asked_ever_more_rarely() {
        let recovery = Recovery::default();
        for pause in [0, 50, 100, 200, 400, 800, 1_000, 1_000] {
            let waited = waits(&mut recovery.pauses()).await;
            assert!((pause / 2..=pause * 3 / 2 + 1).contains(&waited), "{waited} ms instead of {pause}");
            recovery.note();
        }
        tokio::time::advance(LAST_PAUSE).await;
        assert_eq!(waits(&mut recovery.pauses()).await, 0);
    }
}
