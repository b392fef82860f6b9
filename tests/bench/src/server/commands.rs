//! Baselines that only send the commands that a limiter on Redis can't do without, by the `redis` crate.

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::routing::get;
use http::StatusCode;
use http::request::Parts;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncCommands, IntoConnectionInfo, RedisResult, Script};

use super::Result;
use super::client::client;
use crate::Column;

/// The window, in seconds.
const WINDOW: i64 = 3600;

/// Counts, and lets the counter expire, in one step.
///
/// KEYS[1] the counter; ARGV[1] the window in ms
const COUNT: &str = "local taken = redis.call('INCR', KEYS[1])
if taken == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return taken";

#[derive(Clone)]
struct Counter {
    column: Column,
    connection: MultiplexedConnection,
    commands: Commands,
}

#[derive(Clone)]
enum Commands {
    Evalsha(Arc<Script>),
    Incr,
    IncrExpire,
}

/// Runs one script per request.
pub(crate) async fn evalsha(column: Column, url: &str) -> Result<Router> {
    app(column, url, Commands::Evalsha(Arc::new(Script::new(COUNT)))).await
}

/// Runs one script per request over a connection with `TCP_NODELAY`.
pub(crate) async fn evalsha_nodelay(column: Column, url: &str) -> Result<Router> {
    let settings = TcpSettings::default().set_nodelay(true);
    let server = url.into_connection_info()?.set_tcp_settings(settings);
    app(column, server, Commands::Evalsha(Arc::new(Script::new(COUNT)))).await
}

/// Sends one `INCR` per request, without any expiry: the minimum.
pub(crate) async fn incr(column: Column, url: &str) -> Result<Router> {
    app(column, url, Commands::Incr).await
}

/// Sends `INCR`, then `EXPIRE` if the counter is new: two steps, as in the FastAPI application.
pub(crate) async fn incr_expire(column: Column, url: &str) -> Result<Router> {
    app(column, url, Commands::IncrExpire).await
}

async fn app(column: Column, server: impl IntoConnectionInfo, commands: Commands) -> Result<Router> {
    let mut connection = redis::Client::open(server)?.get_multiplexed_async_connection().await?;
    if let Commands::Evalsha(script) = &commands {
        script.load_async(&mut connection).await?;
    }
    let counter = Counter { column, connection, commands };
    Ok(Router::new().route("/", get(counted)).with_state(counter))
}

async fn counted(_: Counted) -> &'static str {
    "ok"
}

/// An extractor that lets a request pass if it is within the limit.
struct Counted;

impl FromRequestParts<Counter> for Counted {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, counter: &Counter) -> Result<Self, StatusCode> {
        let client = client(counter.column, parts).await?;
        let taken = counter.clone().take(&format!("bench::{client}")).await;
        let taken = taken.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
        if taken > counter.column.limit() { Err(StatusCode::SERVICE_UNAVAILABLE) } else { Ok(Self) }
    }
}

impl Counter {
    async fn take(mut self, key: &str) -> RedisResult<u32> {
        match &self.commands {
            Commands::Evalsha(script) => {
                script.key(key).arg(WINDOW * 1000).invoke_async(&mut self.connection).await
            }
            Commands::Incr => self.connection.incr(key, 1).await,
            Commands::IncrExpire => {
                let taken = self.connection.incr(key, 1).await?;
                if taken == 1 {
                    let () = self.connection.expire(key, WINDOW).await?;
                }
                Ok(taken)
            }
        }
    }
}
