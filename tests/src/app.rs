//! An application under test, served on loopback.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;

use axum::Router;
use axum_rate_limit::RateLimitService;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Client;

/// An application on a free port of loopback, with a client for it. It stops when this value is dropped.
#[derive(Debug)]
pub struct App {
    client: Client,
    server: JoinHandle<()>,
}

impl App {
    /// Serves `router` as the README does.
    ///
    /// # Panics
    ///
    /// If loopback has no free port.
    pub async fn serve(router: Router) -> Self {
        let listener = listen().await;
        let address = listener.local_addr().expect("it is bound");
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let server = axum::serve(listener, service).into_future();
        Self::run(address, server)
    }

    /// Serves a router that is wrapped in a limiter.
    ///
    /// # Panics
    ///
    /// If loopback has no free port.
    pub async fn serve_inside(limiter: RateLimitService<Router>) -> Self {
        let listener = listen().await;
        let address = listener.local_addr().expect("it is bound");
        let service = limiter.into_make_service_with_connect_info::<SocketAddr>();
        let server = axum::serve(listener, service).into_future();
        Self::run(address, server)
    }

    fn run(address: SocketAddr, server: impl Future<Output = io::Result<()>> + Send + 'static) -> Self {
        let server = tokio::spawn(async { server.await.expect("the server runs until it is stopped") });
        Self { client: Client::at(address), server }
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port")
}

impl Deref for App {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.server.abort();
    }
}
