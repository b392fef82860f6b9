//! Counters in Redis, shared by all who use it.
//!
//! A check is a place in a [`batch`], which a [`lane`] sends as one call of the [`script`]. What Redis has
//! [denied](denials) is not asked again before it can be admitted. What stands in Redis, and under which
//! [`key`], is said in `apply.lua`.

mod batch;
mod connection;
mod denials;
mod key;
mod lane;
mod script;

use std::sync::Arc;
use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use self::batch::Check;
use self::connection::{Connection, Server};
use self::denials::Denials;
use self::lane::Lane;
use self::script::Decider;
use super::{Counter, Operation, Outcome};
use crate::clock::Clock;
use crate::error::StoreError;

/// How long a new connection may take. It is only opened in the background and at start-up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// What a store in Redis is built with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The deadline of a decision.
    pub(crate) timeout: Duration,
    pub(crate) deny_memory: bool,
    pub(crate) clock: Clock,
}

/// Counters behind one connection that all checks share.
pub(crate) struct RedisStore {
    server: Server,
    decider: Arc<Decider>,
    denials: Arc<Denials>,
    lane: Arc<Lane>,
}

impl RedisStore {
    /// A store on one server, that is not connected yet.
    ///
    /// The error says what is wrong with `url`, and what to write instead.
    pub(crate) fn single(url: &str, settings: Settings) -> Result<Self, String> {
        let server = Server::single(url).map_err(|error| {
            format!(
                "{error}: write `redis://[user:password@]host[:port][/database]`, or `redis+unix:///path`"
            )
        })?;
        Ok(Self::on(server, settings))
    }

    fn on(server: Server, settings: Settings) -> Self {
        let Settings { timeout, deny_memory, clock } = settings;
        let decider = Arc::new(Decider::new(clock.clone()));
        let denials = Arc::new(Denials::new(deny_memory, clock));
        let lane = Arc::new(Lane::new(Arc::clone(&decider), Arc::clone(&denials), timeout));
        Self { server, decider, denials, lane }
    }

    /// Applies `operation` to `counters`, of which there is one at least, before the deadline.
    pub(crate) async fn apply(
        &self,
        operation: Operation,
        counters: &[Counter<'_>],
    ) -> Result<Outcome, StoreError> {
        let check = Check::new(&self.denials.hasher, operation, counters);
        if let Some(denied) = self.denials.recall(&check) {
            return Ok(denied);
        }
        self.lane.decide(&check).await
    }

    /// Opens a new connection, makes sure that it serves, and uses it from now on.
    pub(crate) async fn connect(&self) -> Result<(), StoreError> {
        let opening = async {
            #[allow(irrefutable_let_patterns)]
            let Connection::Single(mut connection) = self.server.connect(CONNECT_TIMEOUT).await? else {
                return Err(RedisError::from((ErrorKind::Io, "a cluster")));
            };
            self.decider.load(&mut connection).await?;
            is_master(&mut connection).await?;
            Ok(connection)
        };
        let connection = tokio::time::timeout(CONNECT_TIMEOUT, opening)
            .await
            .map_err(|_| StoreError::Timeout(CONNECT_TIMEOUT))?
            .map_err(store_error)?;
        self.lane.attach(connection);
        Ok(())
    }

    pub(crate) fn close(&self) {
        self.lane.detach();
    }
}

/// Nobody asks a store that is gone; the task that sends must not wait for it.
impl Drop for RedisStore {
    fn drop(&mut self) {
        self.close();
    }
}

/// A replica takes the script, and refuses what it does. Who may not ask for the role is believed.
async fn is_master(connection: &mut redis::aio::MultiplexedConnection) -> Result<(), RedisError> {
    let role: Result<Vec<redis::Value>, RedisError> = redis::cmd("ROLE").query_async(connection).await;
    match role.ok().and_then(|role| role.into_iter().next()) {
        Some(redis::Value::BulkString(role)) if role == b"slave" => {
            Err((ErrorKind::Io, "READONLY the server is a replica").into())
        }
        _ => Ok(()),
    }
}

/// Tells what is wrong with the server, or the way there, from what is wrong with the request.
fn store_error(error: RedisError) -> StoreError {
    if is_away(&error) { StoreError::Unreachable(error.into()) } else { StoreError::Refused(error.into()) }
}

/// Whether another connection may lead to a server that serves.
fn is_away(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io
        | ErrorKind::AuthenticationFailed
        | ErrorKind::ClusterConnectionNotFound
        | ErrorKind::Parse => true,
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::ReadOnly
                | ServerErrorKind::MasterDown
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
        ),
        _ => false,
    }
}
