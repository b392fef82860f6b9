//! tower_governor: a layer that counts in memory, with token buckets.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::Request;
use tower_governor::governor::GovernorConfigBuilder;
use tower_governor::key_extractor::KeyExtractor;
use tower_governor::{GovernorError, GovernorLayer};
use tower_layer::Layer as _;

use super::{Result, Serve, ok, service};
use crate::{Column, KEY_HEADER};

pub(crate) fn app(column: Column) -> Result<Router> {
    let (app, (period, burst)) = (Router::new().route("/", get(ok)), quota(column)?);
    let mut builder = GovernorConfigBuilder::default();
    builder.period(period).burst_size(burst);
    Ok(if column == Column::Keys {
        let config = builder.key_extractor(ByHeader).finish().ok_or("a quota is not 0")?;
        app.layer(GovernorLayer::new(Arc::new(config)))
    } else {
        app.layer(GovernorLayer::new(Arc::new(builder.finish().ok_or("a quota is not 0")?)))
    })
}

/// Puts one layer around the router, instead of one around each route.
pub(crate) fn outermost() -> Result<Serve> {
    let (app, (period, burst)) = (Router::new().route("/", get(ok)).with_state(()), quota(Column::Hot)?);
    let config = GovernorConfigBuilder::default().period(period).burst_size(burst).finish();
    let layer = GovernorLayer::new(Arc::new(config.ok_or("a quota is not 0")?));
    Ok(service(layer.layer(app)))
}

/// Returns how long it takes until one more request may pass, and how many may pass at once.
fn quota(column: Column) -> Result<(Duration, u32)> {
    let limit = NonZeroU32::new(column.limit()).ok_or("a limit is not 0")?;
    Ok((Duration::from_hours(1) / limit.get(), limit.get()))
}

#[derive(Clone)]
struct ByHeader;

impl KeyExtractor for ByHeader {
    type Key = String;

    fn extract<T>(&self, request: &Request<T>) -> Result<String, GovernorError> {
        let value = request.headers().get(KEY_HEADER).and_then(|value| value.to_str().ok());
        value.map(str::to_owned).ok_or(GovernorError::UnableToExtractKey)
    }
}
