//! Identifies the client, for limiters that leave that to their caller.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use http::StatusCode;
use http::request::Parts;

use crate::{Column, KEY_HEADER};

/// Returns what tells this client from others: its header under [`Column::Keys`], otherwise its address.
pub(crate) async fn client(column: Column, parts: &mut Parts) -> Result<String, StatusCode> {
    if column == Column::Keys {
        let value = parts.headers.get(KEY_HEADER).and_then(|value| value.to_str().ok());
        return value.map(str::to_owned).ok_or(StatusCode::BAD_REQUEST);
    }
    let address = ConnectInfo::<SocketAddr>::from_request_parts(parts, &()).await;
    address.map(|ConnectInfo(peer)| peer.ip().to_string()).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
