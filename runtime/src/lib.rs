#![doc = include_str!("../README.md")]
//!
//! # A tour
//!
//! * [`rate_limit`] is the attribute; its page lists all arguments.
//! * [`RateLimiter`] is the layer that enforces the attributes; [`Builder`] configures it.
//! * [`Policy`] and [`Quota`] are what the attribute declares; [`policies`] lists the declared policies.
//! * [`Key`] identifies who shares a quota; [`Decision`] is the result of a check.
//! * [`Decisions`], [`Charge`] and [`RequestLimiter`] are extractors for handlers.
//! * [`client_ip`] is the client's address, for the functions of policies and for handlers.
//! * [`guide`] helps to choose an algorithm, a key and limits.
//! * [`Denied`] describes a denial, for custom responses; [`Headers`] selects the response fields that tell
//!   clients about their quotas.
//! * `openapi`, with the feature of that name, describes denials to [utoipa](https://docs.rs/utoipa).
//! * `ManualClock`, with the feature `test-util`, is a clock that tests move.
//! * [`store`] defines how counters behave, and has the trait for custom stores.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod algorithm;
mod amendment;
mod ask;
mod builder;
mod clock;
mod decision;
mod error;
pub mod guide;
mod http;
mod in_force;
mod inline_string;
mod key;
mod limiter;
mod log_throttle;
#[cfg(feature = "openapi")]
pub mod openapi;
mod policy;
mod quota;
mod rate_limiter;
mod registry;
pub mod store;
mod telemetry;

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
    Charge, Decisions, Denial, Denied, Headers, NoLayer, RateLimitService, Reason, RequestLimiter,
    ResponseFuture, client_ip,
};
pub use crate::key::{ClientIpHeader, Key, KeyPart};
pub use crate::policy::{Policy, PolicyWithoutQuota, Scope};
pub use crate::quota::{InvalidQuota, Quota, Quotas};
pub use crate::rate_limiter::RateLimiter;
pub use crate::registry::policies;
pub use crate::store::Store;
pub use crate::store::fallback::OnStoreError;
#[cfg(feature = "redis")]
pub use crate::store::redis::RedisCredentials;
#[cfg(feature = "redis-tls")]
pub use crate::store::redis::RedisTls;

/// Used by the expansion of the attribute only; may change in any release.
#[doc(hidden)]
pub mod __private {
    pub use inventory;

    pub use crate::http::{Guarded, Permit, Policies, guard};
    pub use crate::registry::Declaration;
}

/// Used by the fuzz targets only; absent from normal builds.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod __fuzzing {
    use std::net::IpAddr;

    use http::HeaderMap;

    use crate::ClientIpHeader;
    use crate::key::Proxies;

    /// Returns the client's address for a request from `peer` with `headers`, if the proxies are in the `trusted`
    /// networks.
    pub fn client_ip(trusted: &[&str], header: ClientIpHeader, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let trusted = trusted.iter().map(|network| network.parse().expect("a network")).collect();
        Proxies { trusted, header }.client(peer, headers)
    }
}
