#![doc = include_str!("../README.md")]
//!
//! # A tour
//!
//! * [`rate_limit`] is the attribute; its page lists all arguments.
//! * [`RateLimiter`] is the layer that serves it; [`Builder`] has the settings.
//! * [`Policy`] and [`Quota`] are what the attribute declares, [`policies`] lists them.
//! * [`Key`] is who shares a quota, [`Decision`] what came of it; [`Decisions`] and [`Charge`] are
//!   extractors for handlers.
//! * [`guide`] helps to choose algorithm, key and limits.
//! * [`Denied`] is what a denial is made of, [`Headers`] what clients are told.
//! * `openapi` describes denials to [utoipa](https://docs.rs/utoipa), with the feature of that name.
//! * [`store`] has the model of the counters, and the trait for a store of your own.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod algorithm;
mod amendment;
mod builder;
mod clock;
mod decision;
mod error;
pub mod guide;
mod http;
mod in_force;
mod key;
mod limiter;
#[cfg(feature = "openapi")]
pub mod openapi;
mod policy;
mod quota;
mod rate_limiter;
mod registry;
mod sometimes;
pub mod store;
mod telemetry;
mod text;

#[cfg(feature = "macros")]
pub use axum_rate_limit_macros::rate_limit;

pub use crate::algorithm::Algorithm;
pub use crate::amendment::Amendment;
pub use crate::builder::Builder;
#[cfg(feature = "test-util")]
pub use crate::clock::ManualClock;
pub use crate::decision::{Decision, QuotaState};
pub use crate::error::{BoxError, BuildError, Error, StoreError};
pub use crate::http::{
    Charge, Decisions, Denied, Headers, NoLayer, RateLimitService, Reason, ResponseFuture, client_ip,
};
pub use crate::key::{ClientIpHeader, Key, KeyPart};
pub use crate::policy::{Named, Policy, Scope};
pub use crate::quota::{InvalidQuota, Quota, Quotas};
pub use crate::rate_limiter::RateLimiter;
pub use crate::registry::policies;
pub use crate::store::guarded::OnStoreError;
#[cfg(feature = "redis")]
pub use crate::store::redis::RedisCredentials;
#[cfg(feature = "redis-tls")]
pub use crate::store::redis::RedisTls;

/// For the expansion of the attribute alone; may change in any release.
#[doc(hidden)]
pub mod __private {
    pub use inventory;

    pub use crate::http::{Guarded, Permit, Policies, guard};
    pub use crate::registry::Declaration;
}

/// For the fuzz targets alone; there is no such module in a program.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod __fuzzing {
    use std::net::IpAddr;

    use http::HeaderMap;

    use crate::ClientIpHeader;
    use crate::key::Proxies;

    /// Whose request it is that comes from `peer` with `headers`, where `trusted` networks have the proxies.
    pub fn client_ip(trusted: &[&str], header: ClientIpHeader, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let trusted = trusted.iter().map(|network| network.parse().expect("a network")).collect();
        Proxies { trusted, header }.client(peer, headers)
    }
}
