//! A policy that has no quota yet.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use http::{request, response};

use super::{Cost, Policy, Scope};
use crate::algorithm::Algorithm;
use crate::key::KeyPart;
use crate::quota::Quotas;
use crate::store::fallback::OnStoreError;

/// A policy that has a name, and needs a quota to become a [`Policy`].
///
/// The methods may come in any order: what is set before the first quota is checked with it.
///
/// ```
/// use axum_rate_limit::Policy;
///
/// const RESOURCES: Policy = Policy::new("resources").by_resource().per_minute(10);
/// ```
///
/// ```compile_fail
/// # use axum_rate_limit::Policy;
/// const UNLIMITED: Policy = Policy::new("resources").by_resource();
/// ```
#[derive(Clone, Copy)]
#[must_use = "a name is no policy yet: call `per_minute` or another quota"]
pub struct PolicyWithoutQuota {
    /// Has no quota, and so never leaves this struct as it is.
    policy: Policy,
}

/// The methods that set what a [`Policy`] has beside quotas.
macro_rules! settings {
    ($($name:ident($($argument:ident: $type:ty)?);)*) => {
        $(
            #[doc = concat!("As [`Policy::", stringify!($name), "`].")]
            #[track_caller]
            pub const fn $name(self $(, $argument: $type)?) -> Self {
                Self { policy: self.policy.$name($($argument)?) }
            }
        )*
    };
}

/// The methods of [`PolicyWithoutQuota`] and [`Policy`] that add a quota over a unit of time.
macro_rules! units {
    ($result:ty) => {
        /// Adds a quota of `limit` requests per second.
        ///
        /// # Panics
        ///
        /// Panics as [`quota`](Self::quota) does.
        #[track_caller]
        pub const fn per_second(self, limit: u32) -> $result {
            self.quota(limit, crate::quota::SECOND)
        }

        /// Adds a quota of `limit` requests per minute.
        ///
        /// # Panics
        ///
        /// Panics as [`quota`](Self::quota) does.
        #[track_caller]
        pub const fn per_minute(self, limit: u32) -> $result {
            self.quota(limit, crate::quota::MINUTE)
        }

        /// Adds a quota of `limit` requests per hour.
        ///
        /// # Panics
        ///
        /// Panics as [`quota`](Self::quota) does.
        #[track_caller]
        pub const fn per_hour(self, limit: u32) -> $result {
            self.quota(limit, crate::quota::HOUR)
        }

        /// Adds a quota of `limit` requests per 24 hours.
        ///
        /// # Panics
        ///
        /// Panics as [`quota`](Self::quota) does.
        #[track_caller]
        pub const fn per_day(self, limit: u32) -> $result {
            self.quota(limit, crate::quota::DAY)
        }
    };
}

pub(super) use units;

impl PolicyWithoutQuota {
    pub(super) const fn named(name: &'static str, location: &'static Location<'static>) -> Self {
        let policy = Policy {
            name,
            quotas: Quotas::UNLIMITED,
            algorithm: Algorithm::FixedWindow,
            scope: Scope::Policy,
            key: &[KeyPart::Ip],
            cost: Cost::Fixed(1),
            quotas_by: None,
            has_individual_quotas: false,
            skip_if: None,
            give_back_if: None,
            status: None,
            message: None,
            on_store_error: None,
            shadow: false,
            location,
            functions: "",
        };
        Self { policy }
    }

    units!(Policy);

    /// Adds a quota of `limit` requests per `window`.
    ///
    /// # Panics
    ///
    /// Panics if `limit` is 0, if `window` is not a whole number of milliseconds from 1 ms to 366 days, or if the quota
    /// does not fit what was set before. In a constant, this is a compile error.
    #[track_caller]
    pub const fn quota(self, limit: u32, window: Duration) -> Policy {
        self.policy.quota(limit, window)
    }

    settings! {
        algorithm(algorithm: Algorithm);
        burst(burst: u32);
        key(key: &'static [KeyPart]);
        cost(cost: u32);
        cost_by(cost: fn(&request::Parts) -> u32);
        quotas_by(quotas: fn(&request::Parts) -> Option<Quotas>);
        skip_if(skip: fn(&request::Parts) -> bool);
        give_back_if(give_back: fn(&response::Parts) -> bool);
        on_store_error(on_store_error: OnStoreError);
        shadow();
        by_resource();
        by_route();
        status(status: u16);
        message(message: &'static str);
    }
}

impl fmt::Debug for PolicyWithoutQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyWithoutQuota").field("name", &self.policy.name).finish_non_exhaustive()
    }
}
