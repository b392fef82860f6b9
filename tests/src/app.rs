//! An application served on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Client;

/// An application on a free port of loopback, with a client for it; it ends with this value.
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
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let server = tokio::spawn(async move {
            axum::serve(listener, service).await.expect("the server runs until it is stopped");
        });
        Self { client: Client::at(address), server }
    }
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
