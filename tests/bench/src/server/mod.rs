//! The server of one candidate: the same tiny handler behind one limiter, or behind none.
//!
//! ```text
//! server <candidate> <column> [redis url]
//! ```
//!
//! It listens on a free port of loopback, and writes the port to its standard output.

mod axum_governor;
mod axum_limit;
mod bare;
mod client;
mod commands;
mod limitador;
mod ours;
mod shared;
mod tower_governor;
#[cfg(feature = "tower-rate-limiter")]
mod tower_rate_limiter;

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;

use axum::extract::Request;
use axum::response::Response;
use axum::{Router, ServiceExt};
use axum_rate_limit::Headers;
use tokio::net::TcpListener;
use tower_service::Service;

use self::shared::Call;
use crate::Column;

/// A result with any kind of error.
pub type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// The handler of all candidates.
async fn ok() -> &'static str {
    "ok"
}

/// Serves the candidate that the program's arguments name, until the process is killed.
///
/// # Errors
///
/// If the arguments are invalid, or if the candidate can't start.
///
/// # Panics
///
/// If there can be no runtime.
#[tokio::main]
pub async fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (candidate, column, url) = match arguments[..] {
        [candidate, column] => (candidate, column, ""),
        [candidate, column, url] => (candidate, column, url),
        _ => return Err("arguments: <candidate> <column> [redis url]".into()),
    };
    let serve = app(candidate, column.parse()?, url).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?.port());
    serve(listener).await?;
    Ok(())
}

/// A function that serves an application on a listener.
type Serve = Box<dyn FnOnce(TcpListener) -> Pin<Box<dyn Future<Output = io::Result<()>>>>>;

fn router(router: Router) -> Serve {
    service(router.with_state(()))
}

fn service<S>(service: S) -> Serve
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    let service = ServiceExt::into_make_service_with_connect_info::<SocketAddr>(service);
    Box::new(|listener| Box::pin(axum::serve(listener, service).into_future()))
}

/// Serves a router with the limiter around it, as in the documentation.
fn limited((router, limiter): ours::Limited) -> Serve {
    let service = limiter.layer(router).into_make_service_with_connect_info::<SocketAddr>();
    Box::new(|listener| Box::pin(axum::serve(listener, service).into_future()))
}

async fn app(candidate: &str, column: Column, url: &str) -> Result<Serve> {
    Ok(match candidate {
        "bare" => router(bare::plain()),
        "bare-fields" => router(bare::with_fields()),
        "bare-layer" => router(bare::with_layer()),
        "bare-denial" => router(bare::denying()),
        "ours-memory" => router(ours::inside(ours::memory(column, Headers::Off).await?)),
        "ours-memory-fields" => router(ours::inside(ours::memory(column, Headers::Draft).await?)),
        "ours-memory-outermost" => limited(ours::memory(column, Headers::Off).await?),
        "ours-memory-outermost-fields" => limited(ours::memory(column, Headers::Draft).await?),
        "ours-redis" => router(ours::inside(ours::redis(column, Headers::Off, url).await?)),
        "ours-redis-fields" => router(ours::inside(ours::redis(column, Headers::Draft, url).await?)),
        "ours-redis-outermost" => limited(ours::redis(column, Headers::Off, url).await?),
        "ours-redis-outermost-fields" => limited(ours::redis(column, Headers::Draft, url).await?),
        "task" => router(shared::answered_by_a_task(column)),
        "shared" => router(shared::answered_together(column, url, Call::Count).await?),
        "shared-ping" => router(shared::answered_together(column, url, Call::Ping).await?),
        "evalsha" => router(commands::evalsha(column, url).await?),
        "evalsha-nodelay" => router(commands::evalsha_nodelay(column, url).await?),
        "incr" => router(commands::incr(column, url).await?),
        "incr-expire" => router(commands::incr_expire(column, url).await?),
        "tower_governor" => router(tower_governor::app(column)?),
        "tower_governor-outermost" => tower_governor::outermost()?,
        "axum-governor" => router(axum_governor::app(column)?),
        "axum-limit-redis" => router(axum_limit::app(column, url).await?),
        "limitador-memory" => router(limitador::memory(column)?),
        #[cfg(feature = "limitador-redis")]
        "limitador-redis" => router(limitador::redis(column, url).await?),
        #[cfg(feature = "limitador-redis")]
        "limitador-cached" => router(limitador::cached(column, url).await?),
        #[cfg(feature = "tower-rate-limiter")]
        "tower-rate-limiter-redis" => router(tower_rate_limiter::app(column, url).await?),
        _ => return Err(format!("{candidate:?} is not built").into()),
    })
}
