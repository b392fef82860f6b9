//! Helpers that the examples share: where they listen, and how they shut down.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum_rate_limit::RateLimiter;
use tokio::net::TcpListener;

/// Serves `app` until the process is asked to stop, then closes `limiter`.
///
/// `tries` are shell commands to try while the example runs; see [`listen`].
///
/// # Errors
///
/// If the address can't be bound, or if serving fails.
pub async fn serve(app: Router, limiter: RateLimiter, tries: &str) -> io::Result<()> {
    let listener = listen(tries).await?;

    // The limiter tells clients apart by their address, which `with_connect_info` puts into each request.
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(shutdown())
        .await?;

    // No more requests arrive, so the connection to the store can be closed.
    limiter.close().await;
    println!("Bye.");
    Ok(())
}

/// Binds the address given by the environment variables `HOST` and `PORT` (default `127.0.0.1:3000`).
///
/// Prints the address and `tries`, in which it replaces the word `ADDRESS`.
///
/// # Errors
///
/// If the address is invalid or in use; the error names it.
pub async fn listen(tries: &str) -> io::Result<TcpListener> {
    let host = std::env::var("HOST").unwrap_or_else(|_| "127.0.0.1".to_owned());
    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    let listener = TcpListener::bind(format!("{host}:{port}"))
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("can't listen on {host}:{port}: {error}")))?;
    let address = listener.local_addr()?.to_string();
    println!("Listening on http://{address} - try:\n");
    for line in tries.trim().lines() {
        println!("  {}", line.trim().replace("ADDRESS", &address));
    }
    println!("\nCtrl-C ends it.");
    Ok(listener)
}

/// Waits for Ctrl-C, or for SIGTERM, which Kubernetes sends before it removes a pod.
pub async fn shutdown() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else {
            let _ = interrupt.await;
            return;
        };
        tokio::select! {
            _ = interrupt => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    let _ = interrupt.await;
}
