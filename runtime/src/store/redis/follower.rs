//! Follows the sentinels: leaves a master that they have replaced, though it still answers.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::sleep;

use super::connection::{Sentinels, Wire};
use super::failure::Failure;
use super::in_time;
use super::lane::Lane;
use crate::error::StoreError;

/// How long sentinels are believed before they are asked again. They may have replaced a master that they can't
/// reach, but that can be reached from here: what is counted there is counted apart from all others.
const PERIOD: Duration = Duration::from_secs(5);

/// Asks the sentinels, while a lane is served by a master of theirs, whether that is still the master. A lane whose
/// limiter is gone is not kept for that.
pub(super) struct Follower {
    sentinels: Arc<Sentinels>,
    lane: Weak<Lane>,
}

impl Follower {
    /// Serves `lane` through a connection to a master, instead of that of `generation`, and later through those to its
    /// successors.
    pub(super) fn attach(sentinels: Arc<Sentinels>, lane: &Arc<Lane>, generation: Option<u64>, wire: Wire) {
        let address = wire.address().to_owned();
        if let Some(generation) = lane.attach(generation, wire) {
            let follower = Self { sentinels, lane: Arc::downgrade(lane) };
            tokio::spawn(follower.follow(address, generation));
        }
    }

    /// Follows the sentinels until the lane has no connection, or one that was not made here.
    async fn follow(self, mut address: String, mut generation: u64) {
        loop {
            // With jitter, so that the instances of a service do not ask in step.
            sleep(PERIOD.mul_f64(fastrand::f64() / 2.0 + 0.75)).await;
            let Some(lane) = self.lane.upgrade().filter(|lane| lane.is_served_by(generation)) else { return };
            match in_time(self.successor(&lane, &address)).await {
                Ok(None) => {}
                Ok(Some(wire)) => {
                    let successor = wire.address().to_owned();
                    let Some(next) = lane.attach(Some(generation), wire) else { return };
                    tracing::info!(
                        from = address,
                        to = successor,
                        "the sentinels have switched to another master"
                    );
                    (address, generation) = (successor, next);
                }
                // The master that serves is better than none.
                Err(failure) => {
                    let error = StoreError::from(failure);
                    tracing::debug!(%error, "could not find out whether there is another master");
                }
            }
        }
    }

    /// Returns a connection to the master, if that is another one than at `address`.
    async fn successor(&self, lane: &Lane, address: &str) -> Result<Option<Wire>, Failure> {
        let connecting = self.sentinels.connect_elsewhere(address, &lane.common.key_prefix);
        let Some(mut wire) = connecting.await? else { return Ok(None) };
        lane.common.scripts.prepare(&mut wire).await?;
        Ok(Some(wire))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;
    use crate::store::Settings;
    use crate::store::redis::common::Common;
    use crate::store::redis::connection::Access;

    /// It would have to wait for the next time that the sentinels are asked.
    #[tokio::test]
    async fn a_lane_whose_limiter_is_gone_is_forgotten_at_once() {
        let lane = Arc::new(Lane::new(Common::new(Settings::of_a_test(), false)));
        let sentinels = Sentinels::parse("main", &["redis://192.0.2.7".to_owned()], &Access::default());
        let (near, mut far) = duplex(64);
        let wire = Wire::over(Box::pin(near), String::new());
        Follower::attach(Arc::new(sentinels.expect("it is one")), &lane, None, wire);
        lane.detach();
        assert_eq!(far.read_to_end(&mut Vec::new()).await.expect("it ends"), 0);
        assert_eq!(Arc::strong_count(&lane), 1);
    }
}
