//! The [`Policy`], a named rule that the attribute or a `const` builder declares.

mod equality;
mod facts;
pub(crate) mod fault;
mod without_quota;

use std::panic::Location;
use std::time::Duration;

use http::request::Parts;
use http::response;

pub use self::without_quota::PolicyWithoutQuota;
use self::without_quota::units;

use crate::algorithm::Algorithm;
use crate::key::{self, KeyPart};
use crate::quota::{Quota, Quotas};
use crate::store::fallback::OnStoreError;

/// A named rule: one or more [`Quota`]s, who shares them, and how a denial is answered.
///
/// The attribute creates a policy; this `const` builder creates one without the attribute, with the same
/// vocabulary and the same checks. In a constant, a broken rule is a compile error.
///
/// ```
/// use axum_rate_limit::Policy;
///
/// const RESOURCES: Policy = Policy::new("resources").per_minute(10).by_resource();
/// ```
///
/// ```compile_fail
/// # use axum_rate_limit::Policy;
/// const NOTHING_PASSES: Policy = Policy::new("resources").per_minute(0);
/// ```
///
/// A policy is declared where [`Policy::new`] is called. Policies of the same name share their counters, so they
/// must be the same rule: [`build`](crate::Builder::build) fails if two policies that are declared by attributes
/// or by [`declare`](crate::Builder::declare) have the same name but differ.
#[derive(Clone, Copy)]
#[must_use = "a policy is changed by value"]
pub struct Policy {
    name: &'static str,
    pub(crate) quotas: Quotas,
    pub(crate) algorithm: Algorithm,
    scope: Scope,
    key: &'static [KeyPart],
    cost: Cost,
    quotas_by: Option<QuotasBy>,
    /// Whether the quotas come from [`with_quotas`](Self::with_quotas), so that amendments don't replace them.
    has_individual_quotas: bool,
    skip_if: Option<SkipIf>,
    give_back_if: Option<GiveBackIf>,
    pub(crate) status: Option<u16>,
    pub(crate) message: Option<&'static str>,
    pub(crate) on_store_error: Option<OnStoreError>,
    pub(crate) shadow: bool,
    location: &'static Location<'static>,
    /// The module and source text of the policy's functions, if an attribute declares it.
    functions: &'static str,
}

/// Returns the quotas for a request, or `None` for the declared ones.
pub(crate) type QuotasBy = fn(&Parts) -> Option<Quotas>;
/// Whether a request is skipped.
pub(crate) type SkipIf = fn(&Parts) -> bool;
/// Whether a request with this response is not to count after all.
pub(crate) type GiveBackIf = fn(&response::Parts) -> bool;

/// How much of a quota one request takes.
#[derive(Clone, Copy)]
pub(crate) enum Cost {
    Fixed(u32),
    By(fn(&Parts) -> u32),
}

/// Whether a key has one quota in all, or one for each resource or route.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Scope {
    /// One quota for everything that the policy is attached to.
    #[default]
    Policy,
    /// A quota for each `METHOD:path` as requested: see [`Policy::by_resource`].
    Resource,
    /// A quota for each `METHOD:template`, such as `GET:/users/{id}`: see [`Policy::by_route`].
    Route,
}

impl Policy {
    /// The default text of a denial.
    pub const MESSAGE: &'static str = "Rate limit exceeded.";

    /// Starts a policy named `name`. It becomes a policy with its first quota.
    ///
    /// The name appears in the keys of the store, in response fields and in the log.
    ///
    /// # Panics
    ///
    /// Panics if `name` is not 1 to 64 characters of `A-Z a-z 0-9 _ - .`. In a constant, this is a compile error.
    #[track_caller]
    #[allow(clippy::new_ret_no_self)] // a policy without a quota must not exist
    pub const fn new(name: &'static str) -> PolicyWithoutQuota {
        let bytes = name.as_bytes();
        assert!(
            !bytes.is_empty() && bytes.len() <= 64,
            "the name of a policy has 1 to 64 characters of `A-Z a-z 0-9 _ - .`"
        );
        let mut index = 0;
        while index < bytes.len() {
            assert!(
                matches!(bytes[index], b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.'),
                "the name of a policy is made of `A-Z a-z 0-9 _ - .`: write `-` instead of any other character"
            );
            index += 1;
        }
        PolicyWithoutQuota::named(name, Location::caller())
    }

    units!(Self);

    /// Adds a quota of `limit` requests per `window`. A request passes only if all quotas allow it.
    ///
    /// # Panics
    ///
    /// Panics as [`Quota::new`], [`Quotas::and`], [`algorithm`](Self::algorithm) and [`cost`](Self::cost) do. In
    /// a constant, this is a compile error.
    #[track_caller]
    pub const fn quota(mut self, limit: u32, window: Duration) -> Self {
        self.quotas = self.quotas.and(Quota::new(limit, window));
        self.checked()
    }

    /// Sets the algorithm that counts the quotas; default [`Algorithm::FixedWindow`].
    ///
    /// # Panics
    ///
    /// Panics if the algorithm can't count the quotas. [`SlidingLog`](Algorithm::SlidingLog) takes limits up to
    /// [`Quota::MAX_LOG`], and no quotas that depend on the request. [`TokenBucket`](Algorithm::TokenBucket)
    /// refills at most once per microsecond, and its [burst](Self::burst) must not take more than 366 days to
    /// refill. In a constant, this is a compile error.
    #[track_caller]
    pub const fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self.checked()
    }

    /// Sets how many requests a token bucket lets pass at once.
    ///
    /// With several quotas, the burst applies to the one with the shortest window. The others let their own
    /// limits pass at once, as all do without a burst.
    ///
    /// ```
    /// use axum_rate_limit::{Algorithm, Policy};
    ///
    /// /// Twenty at once, then five per second.
    /// const SEARCH: Policy =
    ///     Policy::new("search").per_second(5).algorithm(Algorithm::TokenBucket { burst: None }).burst(20);
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if the algorithm is not a token bucket; if `burst` is 0, or not less than the limit of one of the
    /// other quotas; or as [`algorithm`](Self::algorithm) and [`cost`](Self::cost) do. In a constant, this is a
    /// compile error.
    #[track_caller]
    pub const fn burst(mut self, burst: u32) -> Self {
        assert!(
            matches!(self.algorithm, Algorithm::TokenBucket { .. }),
            "`burst` belongs to a token bucket: add `.algorithm(Algorithm::TokenBucket {{ burst: None }})` before"
        );
        self.algorithm = Algorithm::TokenBucket { burst: Some(burst) };
        self.checked()
    }

    /// Sets who shares a quota; default `&[KeyPart::Ip]`.
    ///
    /// With several parts, requests share a quota only if all parts are equal. A part that a request lacks is
    /// replaced by the client's address: requests without it neither share a single quota nor go unlimited.
    ///
    /// # Panics
    ///
    /// Panics if `key` is empty, has a part twice, has [`KeyPart::Global`] beside other parts, or has a header with an
    /// invalid name. In a constant, this is a compile error.
    #[track_caller]
    pub const fn key(mut self, key: &'static [KeyPart]) -> Self {
        if let Some(fault) = key::fault(key) {
            panic!("{}", fault);
        }
        self.key = key;
        self
    }

    /// Sets how much of the quotas one request takes; default 1. A cost of 0 is free: the request is not counted
    /// and never denied.
    ///
    /// # Panics
    ///
    /// Panics if `cost` is more than a quota lets pass at once, since no request would ever pass. After a call of
    /// [`quotas_by`](Self::quotas_by) it may be more, since other quotas may allow it. In a constant, this is a
    /// compile error.
    #[track_caller]
    pub const fn cost(mut self, cost: u32) -> Self {
        self.cost = Cost::Fixed(cost);
        self.checked()
    }

    /// Sets a function that determines how much of the quotas a request takes.
    pub const fn cost_by(mut self, cost: fn(&Parts) -> u32) -> Self {
        self.cost = Cost::By(cost);
        self
    }

    /// Sets a function that chooses the quotas for a request, or returns `None` for the declared ones.
    ///
    /// A function captures nothing. Where the tiers are read from a file, let the authentication put a client's
    /// [`Quotas`] into the request's extensions, and return `parts.extensions.get::<Quotas>().copied()` here.
    ///
    /// The quotas that it returns can't be amended. Quotas that come from elsewhere, such as a table of tiers,
    /// are best built with [`Quota::try_new`] and [`Quotas::try_and`] when that source is read: a panic in this
    /// function happens while a request is served.
    ///
    /// # Panics
    ///
    /// Panics if the algorithm is a sliding log, whose size must be known in advance. In a constant, this is a
    /// compile error.
    #[track_caller]
    pub const fn quotas_by(mut self, quotas: fn(&Parts) -> Option<Quotas>) -> Self {
        self.quotas_by = Some(quotas);
        self.checked()
    }

    /// Returns the same policy with the quotas of a certain client.
    ///
    /// This does for [`check`](crate::RateLimiter::check), [`peek`](crate::RateLimiter::peek),
    /// [`add`](crate::RateLimiter::add), [`give_back`](crate::RateLimiter::give_back) and
    /// [`reset`](crate::RateLimiter::reset), which have no request, what [`quotas_by`](Self::quotas_by) does for a
    /// request. In a handler with this policy these quotas come first, too, and `quotas_by` is not called. No
    /// amendment changes them. A program that declares both policies is refused, as with any two that share a name:
    /// where there is a request, use `quotas_by`.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use axum_rate_limit::{Policy, Quota, Quotas, RateLimiter};
    ///
    /// const API: Policy = Policy::new("api").per_minute(1);
    /// const GOLD: Quotas = Quotas::of(Quota::per_minute(100)).and(Quota::per_day(10_000));
    ///
    /// let limiter = RateLimiter::memory();
    /// for _ in 0..2 {
    ///     assert!(limiter.check(&API.with_quotas(GOLD), "ada").await?.is_allowed());
    /// }
    /// limiter.reset(&API.with_quotas(GOLD), "ada").await?;
    /// # Ok::<(), axum_rate_limit::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if the algorithm is a sliding log, whatever `quotas` are, since its size must be known in advance.
    /// In a constant, this is a compile error.
    #[track_caller]
    pub const fn with_quotas(mut self, quotas: Quotas) -> Self {
        (self.quotas, self.has_individual_quotas) = (quotas, true);
        self.checked()
    }

    /// Sets a function that exempts requests: those for which it returns true are not counted and never denied.
    ///
    /// Use [`client_ip`](crate::client_ip) in it to identify the client. The peer address in the extensions of
    /// the request may be that of a proxy.
    pub const fn skip_if(mut self, skip: fn(&Parts) -> bool) -> Self {
        self.skip_if = Some(skip);
        self
    }

    /// Sets a function that exempts requests by their response: if it returns true, the charge is given back, and
    /// the request has not counted.
    ///
    /// ```
    /// use axum::http::response::Parts;
    /// use axum_rate_limit::Policy;
    ///
    /// /// Five that fail in an hour.
    /// const FAILED_LOG_INS: Policy = Policy::new("failed-log-ins").per_hour(5).give_back_if(succeeded);
    ///
    /// fn succeeded(response: &Parts) -> bool {
    ///     response.status.is_success()
    /// }
    /// ```
    ///
    /// The request is charged first, and the charge is given back before the response is sent, which takes
    /// another call of the store. So concurrent requests can't exceed the quota, and whoever asks again after the
    /// response finds the charge given back. The response may also come from another extractor, or from a layer
    /// between the limiter and the handler. A denial by this policy was not charged in the first place.
    ///
    /// Nothing is given back of a charge that no longer counts, since its window has ended or the bucket has been
    /// refilled meanwhile. So a client that holds requests open saves nothing up (of a token bucket, see SECURITY.md).
    ///
    /// A charge stays if the client disconnects before there is a response, or if the store fails to give it back.
    /// If the store counted the request too late to decide it, its charge is given back once it answers, within five
    /// seconds; SECURITY.md lists the exceptions.
    pub const fn give_back_if(mut self, give_back: fn(&response::Parts) -> bool) -> Self {
        self.give_back_if = Some(give_back);
        self
    }

    /// Sets what to do when the store fails, instead of the limiter's setting.
    pub const fn on_store_error(mut self, on_store_error: OnStoreError) -> Self {
        self.on_store_error = Some(on_store_error);
        self
    }

    /// Puts the policy in shadow: it counts and reports, but never denies, and clients are not told of it.
    pub const fn shadow(mut self) -> Self {
        self.shadow = true;
        self
    }

    /// Keeps a quota for each `METHOD:path` as requested, without the query. `HEAD` counts as `GET`.
    ///
    /// # Panics
    ///
    /// Panics if the policy is [`by_route`](Self::by_route). In a constant, this is a compile error.
    #[track_caller]
    pub const fn by_resource(mut self) -> Self {
        assert!(
            !matches!(self.scope, Scope::Route),
            "`by_resource` and `by_route` exclude each other: keep one"
        );
        self.scope = Scope::Resource;
        self
    }

    /// Keeps a quota for each `METHOD:template`, such as `GET:/users/{id}`. `HEAD` counts as `GET`.
    ///
    /// Requests that match no template, such as those that a limited router serves by `nest_service`, share one
    /// quota per method.
    ///
    /// # Panics
    ///
    /// Panics if the policy is [`by_resource`](Self::by_resource). In a constant, this is a compile error.
    #[track_caller]
    pub const fn by_route(mut self) -> Self {
        assert!(
            !matches!(self.scope, Scope::Resource),
            "`by_resource` and `by_route` exclude each other: keep one"
        );
        self.scope = Scope::Route;
        self
    }

    /// Sets the status of a denial, instead of the limiter's setting.
    ///
    /// # Panics
    ///
    /// Panics if `status` is not from 400 to 599. In a constant, this is a compile error.
    #[track_caller]
    pub const fn status(mut self, status: u16) -> Self {
        if let Some(fault) = fault::of_status(status) {
            panic!("{}", fault);
        }
        self.status = Some(status);
        self
    }

    /// Sets the text of a denial, instead of [`Policy::MESSAGE`], or of one that names the cost of a request that
    /// can never pass.
    ///
    /// # Panics
    ///
    /// Panics if `message` is empty or blank. In a constant, this is a compile error.
    #[track_caller]
    pub const fn message(mut self, message: &'static str) -> Self {
        if let Some(fault) = fault::of_message(message) {
            panic!("{}", fault);
        }
        self.message = Some(message);
        self
    }

    /// Used by the expansion of the attribute only: sets the module and source text of the policy's functions.
    #[doc(hidden)]
    pub const fn __functions(mut self, functions: &'static str) -> Self {
        self.functions = functions;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_knows_where_it_is_declared() {
        let policy = Policy::new("here").per_second(1);
        assert_eq!(policy.location().file(), file!());
    }

    #[test]
    #[should_panic(expected = "`A-Z a-z 0-9 _ - .`")]
    fn names_are_checked() {
        let _ = Policy::new("rl:login");
    }

    #[test]
    #[should_panic(expected = "exclude each other")]
    fn one_scope_only() {
        let _ = Policy::new("x").per_second(1).by_resource().by_route();
    }

    #[test]
    #[should_panic(expected = "belongs to a token bucket")]
    fn a_burst_needs_a_bucket() {
        let _ = Policy::new("x").per_second(1).burst(2);
    }

    #[test]
    fn quotas_of_somebody_are_no_surprise() {
        let quotas = Quotas::of(Quota::per_second(2_000_000));
        let bucket = Policy::new("x").per_second(5).algorithm(Algorithm::TokenBucket { burst: None });
        assert_eq!(bucket.with_quotas(quotas).quotas(), quotas.as_slice());
        let dear = Policy::new("x").per_second(5).cost(5).with_quotas(Quotas::of(Quota::per_second(1)));
        assert_eq!(dear.fixed_cost(), 5);
    }

    #[test]
    #[should_panic(expected = "its quotas must be known")]
    fn a_log_has_quotas_that_are_known() {
        let log = Policy::new("x").per_second(5).algorithm(Algorithm::SlidingLog);
        let _ = log.with_quotas(Quotas::of(Quota::per_second(1)));
    }

    #[test]
    #[should_panic(expected = "400 to 599")]
    fn a_denial_is_an_error() {
        let _ = Policy::new("x").per_second(1).status(200);
    }
}
