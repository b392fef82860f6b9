//! Baselines of whoever lets requests share calls: each waits for one task, which asks for all that wait at once.

use std::collections::HashMap;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::routing::get;
use http::StatusCode;
use http::request::Parts;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisResult};
use tokio::sync::{mpsc, oneshot};

use super::Result;
use super::client::client;
use crate::Column;

/// The window, in milliseconds.
const WINDOW: u64 = 3_600_000;
/// The most that one call asks for.
const MOST: usize = 1_000;

/// A request that waits, and how much has been taken by its client with it.
struct Waiting {
    client: String,
    taken: oneshot::Sender<u32>,
}

#[derive(Clone)]
struct Queue {
    column: Column,
    sender: mpsc::UnboundedSender<Waiting>,
}

/// Answers in the task, without Redis: what waiting costs.
pub(crate) fn answered_by_a_task(column: Column) -> Router {
    let (app, mut queue) = app(column);
    tokio::spawn(async move {
        while let Some(waiting) = queue.recv().await {
            let _ = waiting.taken.send(1);
        }
    });
    app
}

/// What the task asks Redis.
#[derive(Clone, Copy)]
pub(crate) enum Call {
    /// Nothing, and it counts nothing: what sharing calls costs, whatever they are for.
    Ping,
    /// To count: what exact and shared limits cost at least.
    Count,
}

/// Answers in the task, by one call of Redis at a time.
pub(crate) async fn answered_together(column: Column, url: &str, call: Call) -> Result<Router> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let (app, mut queue) = app(column);
    tokio::spawn(async move {
        let mut together = Vec::new();
        while queue.recv_many(&mut together, MOST).await > 0 {
            // The requests that are not answered are refused.
            let _ = match call {
                Call::Ping => ping(&mut connection, together.drain(..)).await,
                Call::Count => count(&mut connection, together.drain(..)).await,
            };
        }
    });
    Ok(app)
}

async fn ping(connection: &mut MultiplexedConnection, all: impl Iterator<Item = Waiting>) -> RedisResult<()> {
    let () = redis::cmd("PING").query_async(connection).await?;
    for waiting in all {
        let _ = waiting.taken.send(1);
    }
    Ok(())
}

async fn count(
    connection: &mut MultiplexedConnection,
    all: impl Iterator<Item = Waiting>,
) -> RedisResult<()> {
    let mut by_client: HashMap<String, Vec<oneshot::Sender<u32>>> = HashMap::new();
    for Waiting { client, taken } in all {
        by_client.entry(client).or_default().push(taken);
    }
    let mut call = Pipeline::new();
    for (client, waiting) in &by_client {
        let key = format!("bench::{client}");
        call.cmd("SET").arg(&key).arg(0).arg("PX").arg(WINDOW).arg("NX").ignore();
        call.cmd("INCRBY").arg(&key).arg(waiting.len());
    }
    let taken: Vec<u32> = call.query_async(connection).await?;
    for (waiting, taken) in by_client.into_values().zip(taken) {
        let first = taken.saturating_sub(u32::try_from(waiting.len()).unwrap_or(u32::MAX));
        for (waiting, taken) in waiting.into_iter().zip(first + 1..) {
            let _ = waiting.send(taken);
        }
    }
    Ok(())
}

fn app(column: Column) -> (Router, mpsc::UnboundedReceiver<Waiting>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Router::new().route("/", get(counted)).with_state(Queue { column, sender }), receiver)
}

async fn counted(_: Counted) -> &'static str {
    "ok"
}

/// An extractor that lets a request pass if it is within the limit.
struct Counted;

impl FromRequestParts<Queue> for Counted {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, queue: &Queue) -> Result<Self, StatusCode> {
        let (taken, answer) = oneshot::channel();
        let waiting = Waiting { client: client(queue.column, parts).await?, taken };
        queue.sender.send(waiting).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
        let taken = answer.await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
        if taken > queue.column.limit() { Err(StatusCode::SERVICE_UNAVAILABLE) } else { Ok(Self) }
    }
}
