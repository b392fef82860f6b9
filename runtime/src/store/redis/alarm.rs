//! One timer for many calls, which are mostly answered before it goes off.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is set again when it goes off, and not for each call.
///
/// Setting it for each call would wake the runtime's driver each time, which costs more than the rest of a call.
/// Deadlines mostly move forward, so when it goes off for a call long past, it is set for the current one.
#[derive(Debug)]
pub(super) struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    /// Creates an alarm that is not set. Needs a runtime.
    pub(super) fn new() -> Self {
        Self(Box::pin(sleep_until(Instant::now())))
    }

    /// Returns the output of `future`, or `None` at `deadline`. Costs least if no earlier deadline was later.
    pub(super) async fn within<T>(
        &mut self,
        deadline: Instant,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|context| {
            if let Poll::Ready(done) = future.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            if self.0.deadline() > deadline {
                self.0.as_mut().reset(deadline);
            }
            while self.0.as_mut().poll(context).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(None);
                }
                self.0.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}

/// The timers for acting though nothing has arrived.
pub(super) struct Alarms {
    /// When to look whether another call may follow.
    pub(super) look_up: Alarm,
    /// When the first call in flight is too late.
    pub(super) give_up: Alarm,
}

impl Alarms {
    pub(super) fn new() -> Self {
        Self { look_up: Alarm::new(), give_up: Alarm::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_off_at_the_deadline_of_the_call_at_hand() {
        let mut alarm = Alarm::new();
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(alarm.within(after(10), ready(1)).await, Some(1));
        assert_eq!(alarm.within(after(20), pending::<()>()).await, None);
        assert_eq!(Instant::now(), after(20));
        let soon = tokio::time::sleep(Duration::from_millis(5));
        assert_eq!(alarm.within(after(100), soon).await, Some(()));
        assert_eq!(alarm.within(after(130), pending::<()>()).await, None);
        assert_eq!(Instant::now(), after(130));
        assert_eq!(alarm.within(after(120), pending::<()>()).await, None, "it is too late already");
        assert_eq!(alarm.within(after(190), sleep_until(after(131))).await, Some(()));
        assert_eq!(alarm.within(after(160), pending::<()>()).await, None);
        assert_eq!(Instant::now(), after(160), "one that is sooner");
    }
}
