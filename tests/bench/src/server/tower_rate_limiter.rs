//! tower-rate-limiter on Redis: a layer that counts in fixed windows, and writes fields by default.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::Request;
use tower_rate_limiter::{IpKeyExtractor, KeyExtractor, RateLimitError, RateLimitLayer, RedisStore};

use super::{Result, ok};
use crate::{Column, KEY_HEADER};

const WINDOW: Duration = Duration::from_hours(1);

pub(crate) async fn app(column: Column, url: &str) -> Result<Router> {
    let connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let store = RedisStore::new(connection);
    let limit = u64::from(column.limit());
    let app = Router::new().route("/", get(ok));
    Ok(if column == Column::Keys {
        app.layer(RateLimitLayer::builder(ByHeader).limit(limit).window(WINDOW).with_store(store).build()?)
    } else {
        let builder = RateLimitLayer::builder(IpKeyExtractor::new());
        app.layer(builder.limit(limit).window(WINDOW).with_store(store).build()?)
    })
}

#[derive(Clone)]
struct ByHeader;

impl KeyExtractor for ByHeader {
    type Key = String;

    fn extract<B>(&self, request: &Request<B>) -> Result<String, RateLimitError> {
        let value = request.headers().get(KEY_HEADER).and_then(|value| value.to_str().ok());
        value
            .map(str::to_owned)
            .ok_or_else(|| RateLimitError::Key("no_key".to_owned(), "no header".to_owned()))
    }
}
