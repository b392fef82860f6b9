//! A policy that has no quota yet.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::{Cost, Policy, Scope};
use crate::algorithm::Algorithm;
use crate::key::KeyPart;
use crate::quota::{Quota, Quotas};

/// A policy that has a name, and needs a quota to become a [`Policy`].
#[derive(Clone, Copy)]
#[must_use = "a name is no policy yet: call `per_minute` or another quota"]
pub struct PolicyWithoutQuota {
    pub(super) name: &'static str,
    pub(super) location: &'static Location<'static>,
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
    units!(Policy);

    /// Adds a quota of `limit` requests per `window`.
    ///
    /// # Panics
    ///
    /// Panics if `limit` is 0, or if `window` is not a whole number of milliseconds from 1 ms to 366 days. In a
    /// constant, this is a compile error.
    #[track_caller]
    pub const fn quota(self, limit: u32, window: Duration) -> Policy {
        Policy {
            name: self.name,
            quotas: Quotas::of(Quota::new(limit, window)),
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
            location: self.location,
            functions: "",
        }
    }
}

impl fmt::Debug for PolicyWithoutQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyWithoutQuota").field("name", &self.name).finish_non_exhaustive()
    }
}
