//! One candidate: the same tiny handler behind one limiter, or behind none.
//!
//! ```text
//! server <candidate> <column> [redis url]
//! ```
//!
//! It listens on a free port of loopback, and writes that port to its standard output.

mod axum_governor;
mod axum_limit;
mod bare;
mod client;
mod commands;
mod limitador;
mod ours;
mod tower_governor;
#[cfg(feature = "tower-rate-limiter")]
mod tower_rate_limiter;

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum_rate_limit::Headers;
use bench::Column;
use tokio::net::TcpListener;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// The handler of all candidates.
async fn ok() -> &'static str {
    "ok"
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (candidate, column, url) = match arguments[..] {
        [candidate, column] => (candidate, column, ""),
        [candidate, column, url] => (candidate, column, url),
        _ => return Err("arguments: <candidate> <column> [redis url]".into()),
    };
    let app = app(candidate, column.parse()?, url).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?.port());
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

async fn app(candidate: &str, column: Column, url: &str) -> Result<Router> {
    Ok(match candidate {
        "bare" => bare::plain(),
        "bare-fields" => bare::with_fields(),
        "bare-layer" => bare::with_layer(),
        "bare-denial" => bare::denying(),
        "ours-memory" => ours::memory(column, Headers::Off).await?,
        "ours-memory-fields" => ours::memory(column, Headers::Draft).await?,
        "ours-redis" => ours::redis(column, Headers::Off, url).await?,
        "ours-redis-fields" => ours::redis(column, Headers::Draft, url).await?,
        "evalsha" => commands::evalsha(column, url).await?,
        "incr" => commands::incr(column, url).await?,
        "incr-expire" => commands::incr_expire(column, url).await?,
        "tower_governor" => tower_governor::app(column)?,
        "axum-governor" => axum_governor::app(column)?,
        "axum-limit-redis" => axum_limit::app(column, url).await?,
        "limitador-memory" => limitador::memory(column)?,
        #[cfg(feature = "limitador-redis")]
        "limitador-redis" => limitador::redis(column, url).await?,
        #[cfg(feature = "limitador-redis")]
        "limitador-cached" => limitador::cached(column, url).await?,
        #[cfg(feature = "tower-rate-limiter")]
        "tower-rate-limiter-redis" => tower_rate_limiter::app(column, url).await?,
        _ => return Err(format!("{candidate:?} is not built").into()),
    })
}
