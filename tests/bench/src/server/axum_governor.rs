//! axum-governor: a layer that counts in memory, with token buckets, and writes fields by default.

use std::num::NonZeroU32;

use axum::Router;
use axum::routing::get;
use axum_governor::{GovernorConfigBuilder, GovernorLayer, Header, PeerIp, Quota};
use http::HeaderName;

use super::{Result, ok};
use crate::{Column, KEY_HEADER};

static KEY: HeaderName = HeaderName::from_static(KEY_HEADER);

pub(crate) fn app(column: Column) -> Result<Router> {
    let app = Router::new().route("/", get(ok));
    let limit = NonZeroU32::new(column.limit()).ok_or("a limit is not 0")?;
    let quota = Quota::requests_per_hour(limit);
    let builder = GovernorConfigBuilder::default();
    Ok(if column == Column::Keys {
        app.layer(GovernorLayer::new(builder.with_extractor(Header(&KEY)).quota_default(quota).finish()?))
    } else {
        let builder = builder.with_extractor(PeerIp::default()).expect_connect_info();
        app.layer(GovernorLayer::new(builder.quota_default(quota).finish()?))
    })
}
