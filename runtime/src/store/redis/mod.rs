//! The store that counts in Redis, whose counters all instances of a service share.
//!
//! A check gets a place in a [`batch`] in the [`queue`] of a [`lane`], and a [`courier`] sends the batch as one
//! [`call`]. Its checks hold tickets for the answer:
//!
//! ```text
//! Check ── Queue::place ──▶ UnsentCall { Batch, Call } ── Session::depart ──▶ Flight { Batch, Call, Question }
//!               │                                                                                      │
//!               │                                                                               Question::hear
//!               ▼                                                                                      │
//!        Ticket { Place, Call } ◀── Call::finish ── Answers ◀── Scripts::answers ── replies ◀──────────┘
//! ```
//!
//! Calls that overlap are an [`exchange`], and what is kept of a connection from call to call is its
//! [`session`]. A call is a [`question`] of one or more [`part`]s, mostly one, and a [`script`] or a [`transaction`]
//! decides each of them. The [`answers`] say what each check is told. What Redis has [denied](denials) is not asked
//! again before it can be admitted. A [`cluster`] has a lane to each of its masters, and all of these have what is
//! [`common`] to them.
//!
//! [`key`] says what counters are called in Redis, and `apply.lua` what they hold. `take.lua` is the short way
//! for what most checks ask, and [`windows`] often saves it from asking for a TTL.

mod alarm;
mod answers;
mod batch;
mod call;
#[cfg(feature = "redis-cluster")]
mod cluster;
mod common;
mod connection;
mod courier;
mod denials;
mod distance;
mod exchange;
mod failure;
mod flight;
#[cfg(feature = "redis-sentinel")]
mod follower;
mod key;
mod lane;
mod late;
mod own_deadline;
mod owned_counter;
mod pace;
mod part;
mod plan;
mod question;
mod queue;
mod renounced;
mod rules;
mod script;
mod session;
mod silence;
mod transaction;
mod windows;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::batch::Check;
pub(crate) use self::call::Ticket;
#[cfg(feature = "redis-cluster")]
pub(crate) use self::cluster::Cluster;
use self::common::Common;
pub use self::connection::RedisCredentials;
#[cfg(feature = "redis-tls")]
pub use self::connection::RedisTls;
pub(crate) use self::connection::{Access, Provider, Server};
use self::failure::Failure;
#[cfg(feature = "redis-sentinel")]
use self::follower::Follower;
use self::lane::Lane;
pub(crate) use self::late::LateCheck;
use super::{Counter, Operation, Outcome, Settings};
use crate::error::StoreError;

/// How long it may take to open a connection, including TLS and asking the sentinels. Connections are opened
/// only in the background and at start-up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long it is believed what Redis has said about a counter, which others may change.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Counters in one Redis server, behind one connection that all checks share.
pub(crate) struct RedisStore {
    server: Server,
    lane: Arc<Lane>,
}

impl RedisStore {
    /// Creates a store on `server`, which is not connected yet.
    pub(crate) fn on(server: Server, settings: Settings) -> Self {
        Self { server, lane: Arc::new(Lane::new(Common::new(settings, false))) }
    }

    /// Creates a check, with the hashes of its keys.
    pub(crate) fn check<'a, 'k>(&self, operation: Operation, counters: &'a [Counter<'k>]) -> Check<'a, 'k> {
        self.lane.common.check(operation, counters)
    }

    /// Returns the answer to a check that is known to be denied.
    pub(crate) fn recall(&self, check: &Check<'_, '_>) -> Option<Outcome> {
        self.lane.common.denials.recall(check)
    }

    /// Has a check of at least one counter decided before the deadline.
    pub(crate) fn begin(&self, check: &Check<'_, '_>) -> Result<Ticket, StoreError> {
        Ok(self.lane.enqueue(check)?)
    }

    /// Returns what is left of a check that was [begun](Self::begin), if it was late.
    pub(crate) fn late(&self, ticket: &Ticket) -> Option<LateCheck> {
        ticket.late(&self.lane)
    }

    /// Applies `operation` to `counters`, of which there is at least one, before the deadline. Also returns what is
    /// left of the check if it was late.
    pub(crate) async fn apply(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
    ) -> (Result<Outcome, StoreError>, Option<LateCheck>) {
        let (decided, late) = self.lane.decide(&self.check(operation, counters)).await;
        (decided.map_err(StoreError::from), late)
    }

    /// Returns where the server is, without credentials.
    pub(crate) fn location(&self) -> String {
        self.server.location()
    }

    /// Opens a new connection, makes sure that it serves, and uses it from now on, unless another one has been opened
    /// in the meantime.
    pub(crate) async fn connect(&self) -> Result<(), StoreError> {
        let generation = self.lane.generation();
        let connecting = async {
            let mut connection = self.server.connect(&self.lane.common.key_prefix).await?;
            self.lane.common.scripts.prepare(&mut connection).await?;
            Ok(connection)
        };
        let connection = in_time(connecting).await?;
        match &self.server {
            Server::Single(_) => {
                self.lane.attach(generation, connection);
            }
            #[cfg(feature = "redis-sentinel")]
            Server::Sentinels(sentinels) => {
                Follower::attach(Arc::clone(sentinels), &self.lane, generation, connection);
            }
        }
        Ok(())
    }

    /// Whether the connection is missing.
    pub(crate) fn is_lost(&self) -> bool {
        !self.lane.is_attached()
    }

    /// Has `act` called when the connection has stopped serving, whether a check waits at that time or not.
    pub(crate) fn on_lost(&self, act: impl Fn(StoreError) + Send + Sync + 'static) {
        self.lane.common.on_lost(act);
    }

    /// Ends the courier, which would otherwise go on waiting for checks.
    pub(crate) fn close(&self) {
        self.lane.detach();
    }
}

/// Gives up connecting after [`CONNECT_TIMEOUT`].
async fn in_time<T>(connecting: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
    connected.unwrap_or(Err(Failure::Timeout(CONNECT_TIMEOUT)))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::connection::Wire;
    use super::*;
    use crate::quota::Quota;
    use crate::store::backend::Backend;

    fn store() -> RedisStore {
        let server = Server::single("redis://192.0.2.7", &Access::default()).expect("it is one");
        RedisStore::on(server, Settings::of_a_test())
    }

    /// Otherwise each limiter that a program has ever had would keep its connection.
    #[tokio::test]
    async fn a_store_that_is_dropped_hangs_up() {
        let store = store();
        let (near, mut far) = duplex(64);
        store.lane.attach(None, Wire::over(Box::pin(near), String::new()));
        drop(Backend::Redis(store));
        assert_eq!(far.read_to_end(&mut Vec::new()).await.expect("it ends"), 0);
    }

    /// It may have waited in a runtime that did not run.
    #[tokio::test]
    async fn who_connects_later_than_another_hangs_up() {
        let store = store();
        let [(first, _served), (second, mut late)] = [duplex(64), duplex(64)];
        let generation = store.lane.generation();
        assert!(store.lane.attach(generation, Wire::over(Box::pin(first), String::new())).is_some());
        assert!(store.lane.attach(generation, Wire::over(Box::pin(second), String::new())).is_none());
        assert_eq!(late.read_to_end(&mut Vec::new()).await.expect("it ends"), 0);
        assert!(!store.is_lost());
    }

    /// The server may have counted each of them.
    #[tokio::test]
    async fn no_call_in_flight_is_told_that_there_was_no_connection() {
        let store = store();
        let (near, mut server) = duplex(64 * 1024);
        store.lane.attach(None, Wire::over(Box::pin(near), String::new()));
        let counters = ["one", "other"].map(|key| [Counter::new(key, Quota::per_minute(1))]);
        let asked = counters.each_ref().map(|counter| store.apply(Operation::Take, counter));
        let [one, other] = asked;
        let later = async {
            // An eighth of the timeout: then a call follows that is not answered.
            tokio::time::sleep(store.lane.common.timeout / 4).await;
            other.await
        };
        let hanging_up = async {
            let mut heard = Vec::new();
            while !has(&heard, b"other") {
                assert!(server.read_buf(&mut heard).await.expect("it is open") > 0);
            }
            drop(server);
        };
        let (one, other, ()) = tokio::join!(one, later, hanging_up);
        for (decided, _) in [one, other] {
            let error = decided.expect_err("nobody has answered").to_string();
            assert!(!error.contains("there is no connection"), "{error}");
        }
    }

    fn has(heard: &[u8], text: &[u8]) -> bool {
        heard.windows(text.len()).any(|part| part == text)
    }
}
