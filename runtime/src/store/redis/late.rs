//! Gives back what Redis has charged too late: for a check that was refused without Redis, or whose charge is given
//! back before it is known whether there was one.
//!
//! A check whose deadline passes is decided without Redis. Redis may charge it all the same, and its answer, should it
//! still arrive, says so. Whoever has no use for such a charge renounces it. What is renounced is given back as soon as
//! the answer tells that it was charged, as far as it still counts by then. A connection that is given up because the
//! server is silent goes on listening for that. A check that a cluster has redirected has less time than the call that
//! it shares, so it may be late although the call is not.
//!
//! On a busy machine, a task may be told that its check was late only when the answer is there already. What it then
//! renounces goes through the connection that serves by then, or else the next.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::answers::Answers;
use super::batch::Place;
use super::call::Call;
use super::lane::Lane;
use super::renounced::{Renounced, charged};
use crate::store::{ChargeTime, Counter};

/// What is left of a check that was late.
pub(crate) struct LateCheck {
    pub(super) lane: Arc<Lane>,
    pub(super) call: Arc<Call>,
    pub(super) place: Place,
}

impl fmt::Debug for LateCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateCheck").finish_non_exhaustive()
    }
}

/// The charges of a call that are made for checks that were late.
#[derive(Default)]
pub(super) struct LateCharges(Mutex<Known>);

/// What is known about them.
#[derive(Default)]
struct Known {
    /// When the call was made that the last answers are to.
    made: Option<ChargeTime>,
    /// The answers that came after the call had been found late, which may be those to a part of it.
    late: Option<Answers>,
    /// The charges that are renounced, should they be made.
    renounced: Vec<Renounced>,
}

impl LateCheck {
    /// Gives `counters` back, if Redis has charged them or should turn out to have charged them. They are those of the
    /// check from the one with the index `first` on.
    pub(crate) fn renounce(&self, first: usize, counters: &[Counter<'_>]) {
        self.renounce_counters(first, counters, |counter| (counter.cost, 0));
    }

    /// Does the same with a part of what the check `cost`, of which as much as `earlier` has been renounced before.
    pub(crate) fn renounce_part(&self, first: usize, counters: &[Counter<'_>], cost: u32, earlier: u32) {
        self.renounce_counters(first, counters, |_| (cost, earlier));
    }

    fn renounce_counters(
        &self,
        first: usize,
        counters: &[Counter<'_>],
        of_whole: impl Fn(&Counter<'_>) -> (u32, u32),
    ) {
        let Some(renounced) = Renounced::new(self.place, first, counters, of_whole) else { return };
        if let Some(charged) = self.call.renounce(renounced, self.lane.common.now_micros()) {
            self.lane.give_back(&charged);
        }
    }
}

impl LateCharges {
    /// Records what is renounced `now`. Returns it if it is known to be charged. The call was answered `in_time`, if at
    /// all.
    pub(super) fn renounce(
        &self,
        renounced: Renounced,
        in_time: Option<&Answers>,
        now: u64,
    ) -> Option<Renounced> {
        let mut known = self.0.lock();
        let answers = known.late.as_ref().or(in_time).filter(|answers| renounced.is_decided(answers));
        // While the time is not known, whoever brings the answers has not yet taken what is renounced.
        if let Some((answers, time)) = answers.zip(known.made) {
            return charged(vec![renounced], answers, time, now).pop();
        }
        known.renounced.push(renounced);
        None
    }

    /// Records that the call that was made then is answered now: `late`, or else `in_time`. Returns what is renounced
    /// and charged.
    pub(super) fn answer(
        &self,
        in_time: Option<&Answers>,
        late: Option<Answers>,
        made: ChargeTime,
    ) -> Vec<Renounced> {
        let mut known = self.0.lock();
        known.made = Some(made);
        known.late = late.or(known.late.take());
        let Known { late, renounced, .. } = &mut *known;
        let Some(answers) = late.as_ref().or(in_time) else { return Vec::new() };
        let all = std::mem::take(renounced).into_iter();
        let (decided, undecided) = all.partition(|renounced| renounced.is_decided(answers));
        *renounced = undecided;
        charged(decided, answers, made, made.answered)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;
    use crate::quota::Quota;
    use crate::store::Settings;
    use crate::store::redis::common::Common;
    use crate::store::redis::connection::Wire;
    use crate::store::redis::failure::Failure;

    fn connect(lane: &Arc<Lane>) -> DuplexStream {
        let (near, far) = duplex(4_096);
        lane.attach(None, Wire::over(Box::pin(near), String::new())).expect("there is no other");
        far
    }

    async fn expect_asked(server: &mut DuplexStream, key: &str) {
        let mut asked = Vec::new();
        while !asked.windows(key.len()).any(|part| part == key.as_bytes()) {
            let reading = tokio::time::timeout(Duration::from_secs(30), server.read_buf(&mut asked));
            assert!(reading.await.expect("it is sent").expect("it is open") > 0);
        }
    }

    #[tokio::test]
    async fn what_is_known_to_be_charged_waits_for_a_connection_that_can_send_it() {
        let lane = Arc::new(Lane::new(Common::new(Settings::of_a_test(), false)));
        let give_back = |key: &str| {
            let (place, counter) = (Place { group: 0, before: 0 }, [Counter::new(key, Quota::per_hour(1))]);
            let renounced = Renounced::new(place, 0, &counter, |_| (1, 0));
            lane.give_back(&renounced.expect("it is something"));
        };
        give_back("without one");
        let _lost = connect(&lane);
        give_back("not yet sent");
        // The courier has not run.
        assert!(lane.lose(None, &Failure::NoConnection));
        let mut server = connect(&lane);
        // Both are asked in one call.
        expect_asked(&mut server, "not yet sent").await;
    }
}
