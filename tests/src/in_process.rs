//! Requests to an application in this process, without a server.

use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request};
use axum::http::HeaderMap;
use tower::ServiceExt as _;

/// A response, read to its end.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The header fields.
    pub head: HeaderMap,
    /// The body.
    pub body: String,
}

impl Reply {
    /// Returns a field, empty if there is none.
    pub fn field(&self, name: &str) -> &str {
        self.head.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Sends a request from 192.0.2.7 to `app`.
///
/// # Panics
///
/// If it is no request, or the body of the response is no text.
pub async fn send(app: &Router, method: &str, path: &str, body: &str) -> Reply {
    let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned()));
    reply(app, request.expect("a request")).await
}

/// Sends `request` to `app`, from 192.0.2.7 unless it has another peer.
///
/// # Panics
///
/// If the body of the response is no text.
pub async fn reply(app: &Router, mut request: Request) -> Reply {
    let peer = ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 1234)));
    request.extensions_mut().get_or_insert(peer);
    let Ok(response) = app.clone().oneshot(request).await;
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.expect("a body");
    let body = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    Reply { status: parts.status.as_u16(), head: parts.headers, body }
}
