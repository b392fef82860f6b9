//! Who asks, for the limiters that are told by whoever calls them.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use http::StatusCode;
use http::request::Parts;

use crate::{Column, KEY_HEADER};

/// What tells this client from others: its address, or its header.
pub(crate) async fn client(column: Column, parts: &mut Parts) -> Result<String, StatusCode> {
    if column == Column::Keys {
        let value = parts.headers.get(KEY_HEADER).and_then(|value| value.to_str().ok());
        return value.map(str::to_owned).ok_or(StatusCode::BAD_REQUEST);
    }
    let address = ConnectInfo::<SocketAddr>::from_request_parts(parts, &()).await;
    address.map(|ConnectInfo(peer)| peer.ip().to_string()).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
