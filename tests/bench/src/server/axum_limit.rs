//! axum-limit on Redis: an extractor that counts in fixed windows, as ours does.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::routing::get;
use axum_limit::{FixedWindowPerHour, FixedWindowPolicy, Key, LimitState, RedisBackend, StorageKey};
use http::StatusCode;
use http::request::Parts;

use super::Result;
use crate::{Column, DENIED_LIMIT, KEY_HEADER, NO_LIMIT};

type Limited<const LIMIT: usize, K> = FixedWindowPerHour<LIMIT, K, RedisBackend>;
type Limits<K> = LimitState<K, FixedWindowPolicy, RedisBackend>;

pub(crate) async fn app(column: Column, url: &str) -> Result<Router> {
    let redis = RedisBackend::connect(url).await?;
    Ok(match column {
        Column::Hot => Router::new().route("/", get(hot)).with_state(Limits::<ByIp>::new(redis)),
        Column::Keys => Router::new().route("/", get(keys)).with_state(Limits::<ByHeader>::new(redis)),
        Column::Denied => Router::new().route("/", get(denied)).with_state(Limits::<ByIp>::new(redis)),
    })
}

async fn hot(_: Limited<{ NO_LIMIT as usize }, ByIp>) -> &'static str {
    "ok"
}

async fn keys(_: Limited<{ NO_LIMIT as usize }, ByHeader>) -> &'static str {
    "ok"
}

async fn denied(_: Limited<{ DENIED_LIMIT as usize }, ByIp>) -> &'static str {
    "ok"
}

#[derive(Clone)]
struct ByIp(SocketAddr);

impl Key for ByIp {
    type Extractor = ConnectInfo<SocketAddr>;

    fn from_extractor(ConnectInfo(peer): &Self::Extractor) -> Self {
        Self(*peer)
    }
}

impl StorageKey for ByIp {
    fn storage_key(&self) -> String {
        self.0.ip().to_string()
    }
}

#[derive(Clone)]
struct ByHeader(String);

impl<S: Sync> FromRequestParts<S> for ByHeader {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let value = parts.headers.get(KEY_HEADER).and_then(|value| value.to_str().ok());
        value.map(|value| Self(value.to_owned())).ok_or(StatusCode::BAD_REQUEST)
    }
}

impl Key for ByHeader {
    type Extractor = Self;

    fn from_extractor(header: &Self) -> Self {
        header.clone()
    }
}

impl StorageKey for ByHeader {
    fn storage_key(&self) -> String {
        self.0.clone()
    }
}
