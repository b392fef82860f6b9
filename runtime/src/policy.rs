//! A named rule: what the attribute declares.

mod facts;
mod fault;
mod named;
mod sameness;

use std::panic::Location;
use std::time::Duration;

use http::request::Parts;
use http::response;

pub use self::named::Named;
use self::named::units;

use crate::algorithm::Algorithm;
use crate::key::KeyPart;
use crate::quota::{Quota, Quotas};
use crate::store::guarded::OnStoreError;

/// A named rule: one or more [`Quota`]s, what they are kept for, and what a denial says.
///
/// The attribute makes one; this `const` builder makes one without it, with the same words and the
/// same checks. In a constant a broken rule is a compile error.
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
/// A policy is declared where [`Policy::new`] is called. Two declarations of the same name share
/// their counters, so they must be the same otherwise: [`build`](crate::Builder::build) refuses a
/// program in which those of attributes, and of [`declare`](crate::Builder::declare), differ.
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
    /// Whether the quotas are those of somebody, whatever is declared or amended.
    is_of_somebody: bool,
    skip_if: Option<SkipIf>,
    give_back_if: Option<GiveBackIf>,
    pub(crate) status: Option<u16>,
    pub(crate) message: Option<&'static str>,
    pub(crate) on_store_error: Option<OnStoreError>,
    pub(crate) shadow: bool,
    location: &'static Location<'static>,
    /// The text of the functions, where the attribute tells it.
    functions: &'static str,
}

/// The quotas of whoever asks, or `None` for those declared.
pub(crate) type QuotasBy = fn(&Parts) -> Option<Quotas>;
/// Whether a request is passed over.
pub(crate) type SkipIf = fn(&Parts) -> bool;
/// Whether a request that was answered so is not to be counted after all.
pub(crate) type GiveBackIf = fn(&response::Parts) -> bool;

/// How much of a quota one request takes.
#[derive(Clone, Copy)]
pub(crate) enum Cost {
    Fixed(u32),
    By(fn(&Parts) -> u32),
}

/// What a quota is kept for, besides the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Scope {
    /// One quota for all that the policy stands on.
    #[default]
    Policy,
    /// A quota for each `METHOD:path` as asked for: [`Policy::by_resource`].
    Resource,
    /// A quota for each `METHOD:template`, such as `GET:/users/{id}`: [`Policy::by_route`].
    Route,
}

impl Policy {
    /// What a denial says if nothing else is declared.
    pub const MESSAGE: &'static str = "Rate limit exceeded.";

    /// Begins a policy; the next call gives it a quota.
    ///
    /// The name stands in the keys of the store, in response fields and in the log.
    ///
    /// # Panics
    ///
    /// If `name` is not 1 to 64 characters of `A-Z a-z 0-9 _ - .`. In a constant that is a compile
    /// error.
    #[track_caller]
    #[allow(clippy::new_ret_no_self)] // a policy without a quota must not exist
    pub const fn new(name: &'static str) -> Named {
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
        Named { name, location: Location::caller() }
    }

    units!(Self);

    /// Adds a quota: `limit` requests in each `window`. A request passes if all quotas allow it.
    ///
    /// # Panics
    ///
    /// As [`Quota::new`] and [`Quotas::and`] do, and if the [algorithm](Self::algorithm) can't count
    /// it. In a constant that is a compile error.
    #[track_caller]
    pub const fn quota(mut self, limit: u32, window: Duration) -> Self {
        self.quotas = self.quotas.and(Quota::new(limit, window));
        self.checked()
    }

    /// Counts by `algorithm`; default [`Algorithm::FixedWindow`].
    ///
    /// # Panics
    ///
    /// If the algorithm can't count the quotas: [`SlidingLog`](Algorithm::SlidingLog) takes counts up
    /// to [`Quota::MAX_LOG`], and none that depend on who asks;
    /// [`TokenBucket`](Algorithm::TokenBucket) refills at most once a microsecond, and a burst must not
    /// take more than 366 days to refill. In a constant that is a compile error.
    #[track_caller]
    pub const fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self.checked()
    }

    /// How many requests a token bucket lets pass at once. Of several quotas it is that of the shortest window; the
    /// others let their own counts pass.
    ///
    /// # Panics
    ///
    /// If the algorithm is none that has a burst; if one of the other quotas allows no more at once; or as
    /// [`algorithm`](Self::algorithm) does. In a constant that is a compile error.
    #[track_caller]
    pub const fn burst(mut self, burst: u32) -> Self {
        assert!(
            matches!(self.algorithm, Algorithm::TokenBucket { .. }),
            "`burst` belongs to a token bucket: add `.algorithm(Algorithm::TokenBucket {{ burst: None }})` before"
        );
        self.algorithm = Algorithm::TokenBucket { burst: Some(burst) };
        self.checked()
    }

    /// Who shares a quota; default `&[KeyPart::Ip]`. Of several parts all must be the same.
    ///
    /// A part that a request lacks is replaced by the client's address: it is never one quota for all
    /// who lack it, and never none.
    ///
    /// # Panics
    ///
    /// If there is no part, or the name of a header is none. In a constant that is a compile error.
    #[track_caller]
    pub const fn key(mut self, key: &'static [KeyPart]) -> Self {
        assert!(!key.is_empty(), "a key has at least one part: write `&[KeyPart::Ip]`");
        let mut index = 0;
        while index < key.len() {
            assert!(
                key[index].is_valid(),
                "this is not a header name: write `KeyPart::Header(\"x-api-key\")` or the like"
            );
            index += 1;
        }
        self.key = key;
        self
    }

    /// How much of the quotas one request takes; default 1. One of 0 is free: it is not counted and
    /// never denied.
    ///
    /// # Panics
    ///
    /// If it is more than a quota, so that no request would pass. In a constant that is a compile error. Beside
    /// [`quotas_by`](Self::quotas_by), which is to come before, it may be: of another quota it may be less.
    #[track_caller]
    pub const fn cost(mut self, cost: u32) -> Self {
        self.cost = Cost::Fixed(cost);
        self.checked()
    }

    /// How much of the quotas a request takes, as it tells itself.
    pub const fn cost_by(mut self, cost: fn(&Parts) -> u32) -> Self {
        self.cost = Cost::By(cost);
        self
    }

    /// The quotas of whoever asks; those declared if the function answers `None`. What it answers can't
    /// be amended. Those that come from elsewhere, such as a table of tiers, are best made when that is read, by
    /// [`Quota::try_new`] and [`Quotas::try_and`]: what panics here does so in a request.
    ///
    /// # Panics
    ///
    /// If the policy keeps a sliding log, whose size must be known. In a constant that is a compile
    /// error.
    #[track_caller]
    pub const fn quotas_by(mut self, quotas: fn(&Parts) -> Option<Quotas>) -> Self {
        self.quotas_by = Some(quotas);
        self.checked()
    }

    /// The same policy with the quotas of somebody: what [`quotas_by`](Self::quotas_by) answers for a request, for
    /// [`check`](crate::RateLimiter::check), [`peek`](crate::RateLimiter::peek), [`add`](crate::RateLimiter::add),
    /// [`give_back`](crate::RateLimiter::give_back) and [`reset`](crate::RateLimiter::reset), which know none. An
    /// amendment changes all but the quotas then.
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
    /// If the policy keeps a sliding log, whose size must be known, whatever `quotas` are. In a constant that is a compile
    /// error.
    #[track_caller]
    pub const fn with_quotas(mut self, quotas: Quotas) -> Self {
        (self.quotas, self.is_of_somebody) = (quotas, true);
        self.checked()
    }

    /// Passes over requests of which the function says so: they are not counted and never denied. Whose request it is,
    /// also behind a proxy, [`client_ip`](crate::client_ip) tells; the peer in its extensions may be that proxy.
    pub const fn skip_if(mut self, skip: fn(&Parts) -> bool) -> Self {
        self.skip_if = Some(skip);
        self
    }

    /// Gives a request back what it was charged if the function says so of the answer: then it has not counted.
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
    /// It is charged first, and given back before the answer is sent, which takes another call of the store: so many at
    /// once are not more than the quota, and whoever comes after the answer finds what was given back. The answer may
    /// also be that of another extractor, or of a layer between the limiter and the handler; one that is a denial of
    /// this policy was charged nothing. Who hangs up before there is an answer is charged, and so is whoever can't be
    /// given it back since the store fails, or was denied since it was too late to answer.
    pub const fn give_back_if(mut self, give_back: fn(&response::Parts) -> bool) -> Self {
        self.give_back_if = Some(give_back);
        self
    }

    /// What to do when the store fails, instead of what the limiter is built with.
    pub const fn on_store_error(mut self, on_store_error: OnStoreError) -> Self {
        self.on_store_error = Some(on_store_error);
        self
    }

    /// Counts and reports, and never denies. Clients are told nothing of it.
    pub const fn shadow(mut self) -> Self {
        self.shadow = true;
        self
    }

    /// Keeps a quota for each `METHOD:path` as asked for, without the query; `HEAD` counts as `GET`.
    ///
    /// # Panics
    ///
    /// If the policy is [`by_route`](Self::by_route). In a constant that is a compile error.
    #[track_caller]
    pub const fn by_resource(mut self) -> Self {
        assert!(
            !matches!(self.scope, Scope::Route),
            "`by_resource` and `by_route` exclude each other: keep one"
        );
        self.scope = Scope::Resource;
        self
    }

    /// Keeps a quota for each `METHOD:template`, such as `GET:/users/{id}`; and one for all that has no
    /// template, as what a limited router serves by `nest_service`.
    ///
    /// # Panics
    ///
    /// If the policy is [`by_resource`](Self::by_resource). In a constant that is a compile error.
    #[track_caller]
    pub const fn by_route(mut self) -> Self {
        assert!(
            !matches!(self.scope, Scope::Resource),
            "`by_resource` and `by_route` exclude each other: keep one"
        );
        self.scope = Scope::Route;
        self
    }

    /// The status of a denial, instead of what the limiter is built with.
    ///
    /// # Panics
    ///
    /// If `status` is not from 400 to 599. In a constant that is a compile error.
    #[track_caller]
    pub const fn status(mut self, status: u16) -> Self {
        assert!(
            400 <= status && status <= 599,
            "the status of a denial is an error status: write 400 to 599, such as 429"
        );
        self.status = Some(status);
        self
    }

    /// The text of a denial, instead of [`Policy::MESSAGE`].
    ///
    /// # Panics
    ///
    /// If `message` is empty. In a constant that is a compile error.
    #[track_caller]
    pub const fn message(mut self, message: &'static str) -> Self {
        let is_blank = message.trim_ascii().is_empty();
        assert!(!is_blank, "the message of a denial is empty: write what a client should read");
        self.message = Some(message);
        self
    }

    /// For the expansion of the attribute alone: how the functions are written in it.
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
