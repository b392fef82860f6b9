//! The [`Builder`] of a rate limiter: its settings, their defaults and their validation.

mod assembly;
mod environment;
#[cfg(not(feature = "redis"))]
mod no_redis;
#[cfg(feature = "redis")]
mod servers;
mod validation;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::response::IntoResponse;
use http::StatusCode;

#[cfg(not(feature = "redis"))]
use self::no_redis::{Access, single_server};
#[cfg(feature = "redis")]
use self::servers::{Access, single_server};
use crate::amendment::{self, Amend, Amendment};
use crate::clock::Clock;
use crate::http::{Denied, Headers, OnDenied, ResponseSettings};
use crate::key::{ClientIpHeader, NetworkBits};
use crate::policy::Policy;
use crate::store::fallback::OnStoreError;
use crate::store::{AnyStore, Store};

const DEFAULT_MAX_KEYS: usize = 1_000_000;
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(100);
const DEFAULT_KEY_PREFIX: &str = "rl:";

/// A builder for a [`RateLimiter`](crate::RateLimiter). Every setting has a default that suits most services.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use axum_rate_limit::{Headers, OnStoreError, RateLimiter};
/// use http::StatusCode;
///
/// let limiter = RateLimiter::builder()
///     .status(StatusCode::TOO_MANY_REQUESTS)
///     .headers(Headers::Both)
///     .on_store_error(OnStoreError::Deny)
///     .build()
///     .await?;
/// # let _ = limiter;
/// # Ok::<(), axum_rate_limit::Error>(())
/// # }).unwrap();
/// ```
#[must_use = "call `build` to make a limiter of the settings"]
pub struct Builder {
    store: Choice,
    key_prefix: Cow<'static, str>,
    timeout: Duration,
    on_store_error: OnStoreError,
    require_store: bool,
    deny_memory: bool,
    local_share: f64,
    network_bits: NetworkBits,
    trusted_proxies: Vec<String>,
    client_ip_header: Option<ClientIpHeader>,
    access: Access,
    max_keys: usize,
    clock: Clock,
    answers: ResponseSettings,
    declared: Vec<Policy>,
    amendments: Vec<(String, Amend)>,
    amend_from_env: bool,
    env_prefix: Cow<'static, str>,
}

/// The chosen store.
enum Choice {
    Memory,
    #[cfg(feature = "redis")]
    Redis(String),
    #[cfg(feature = "redis-cluster")]
    RedisCluster(Vec<String>),
    #[cfg(feature = "redis-sentinel")]
    RedisSentinel {
        master: String,
        sentinels: Vec<String>,
    },
    Environment,
    Custom(Box<dyn AnyStore>),
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            store: Choice::Memory,
            key_prefix: DEFAULT_KEY_PREFIX.into(),
            timeout: DEFAULT_TIMEOUT,
            on_store_error: OnStoreError::default(),
            require_store: false,
            deny_memory: true,
            local_share: 1.0,
            network_bits: NetworkBits::default(),
            trusted_proxies: Vec::new(),
            client_ip_header: None,
            access: Access::default(),
            max_keys: DEFAULT_MAX_KEYS,
            clock: Clock::default(),
            answers: ResponseSettings::default(),
            declared: Vec::new(),
            amendments: Vec::new(),
            amend_from_env: false,
            env_prefix: amendment::PREFIX.into(),
        }
    }
}

impl Builder {
    /// Counts in this process's memory. This is the default.
    pub fn memory(mut self) -> Self {
        self.store = Choice::Memory;
        self
    }

    /// Counts in the Redis server at `url`.
    ///
    /// The URL is `redis://[user:password@]host[:port][/database]`, the same with `rediss://` for TLS (feature
    /// `redis-tls`), or `redis+unix:///path[?db=number&user=name&pass=word]`. `valkey://`, `valkeys://` and
    /// `unix://` are aliases of the three schemes. In the user and the password, percent-encode characters that
    /// have a meaning in a URL. `?protocol=resp3` selects RESP3.
    #[cfg(feature = "redis")]
    pub fn redis(mut self, url: impl AsRef<str>) -> Self {
        self.store = Choice::Redis(url.as_ref().to_owned());
        self
    }

    /// Counts in the Redis Cluster that the given nodes belong to.
    ///
    /// `nodes` are the `redis://` URLs of one or more nodes. All URLs must have the same scheme, user, password
    /// and protocol, since the limiter uses these for every node that the cluster reports.
    ///
    /// A check of one policy is one call to one node. If several policies on one item have their counters on
    /// different nodes, they are charged one after the other, and when one denies, the charges before it are
    /// given back. Until then, another request may be denied because this one, which is about to be denied, holds
    /// the units that it needs. What was charged to a window that may have ended by then is not given back.
    #[cfg(feature = "redis-cluster")]
    pub fn redis_cluster(mut self, nodes: impl IntoIterator<Item = impl ToString>) -> Self {
        self.store = Choice::RedisCluster(nodes.into_iter().map(|node| node.to_string()).collect());
        self
    }

    /// Counts in a custom store.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Choice::Custom(Box::new(store));
        self
    }

    /// Amends the policy named `policy`, for example to take its limits from configuration.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # use axum_rate_limit::{RateLimiter, rate_limit};
    /// #[rate_limit(name = "reports", per_minute = 5)]
    /// async fn reports() {}
    ///
    /// let limiter = RateLimiter::builder().amend("reports", |policy| policy.per_minute(20)).build().await?;
    /// # let _ = limiter;
    /// # Ok::<(), axum_rate_limit::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// The policy must be declared by an attribute, or by [`declare`](Self::declare).
    pub fn amend(
        mut self,
        policy: impl Into<String>,
        amend: impl FnOnce(Amendment) -> Amendment + Send + 'static,
    ) -> Self {
        self.amendments.push((policy.into(), Box::new(amend)));
        self
    }

    /// Declares policies that no attribute declares, such as those of [`check`](crate::RateLimiter::check).
    ///
    /// Declared policies can be amended, and are checked for conflicts.
    pub fn declare(mut self, policies: impl IntoIterator<Item = Policy>) -> Self {
        self.declared.extend(policies);
        self
    }

    /// Sets the prefix of all keys in the store: printable ASCII without spaces and braces; default `rl:`.
    ///
    /// Limiters that share a store and a prefix share the counters of policies with the same name, so give each
    /// service a prefix of its own.
    pub fn key_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.key_prefix = prefix.into().into();
        self
    }

    /// Sets how long a decision waits for the store before [`on_store_error`](Self::on_store_error) decides instead:
    /// from 1 ms to an hour; default 100 ms. A check that this process was too busy to send in that time has a tenth
    /// of it left, or twice what an answer takes if that is longer, as long as the store answers.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets what to do when the store fails; default [`OnStoreError::Local`].
    pub fn on_store_error(mut self, on_store_error: OnStoreError) -> Self {
        self.on_store_error = on_store_error;
        self
    }

    /// Makes [`build`](Self::build) fail when the store is unavailable, instead of starting without it, and when there
    /// is none: no store is named, and `REDIS_URL` is not set. It is for services of several instances, each of which
    /// would count apart.
    pub fn require_store(mut self) -> Self {
        self.require_store = true;
        self
    }

    /// Sets whether to remember what Redis has denied; default true.
    ///
    /// This process repeats a denial by itself, without asking Redis, if the same key asks for the same again. It does
    /// so until the request can next be admitted, but for at most a second. Denials then cost next to
    /// nothing, and a flood of them does not reach Redis, whether one policy is asked or several. What this
    /// limiter [gives back](crate::RateLimiter::give_back) or [forgets](crate::RateLimiter::reset) takes effect
    /// at once; what another instance gives back or forgets, within that second. No request is admitted that
    /// Redis would deny.
    pub fn deny_memory(mut self, remember: bool) -> Self {
        self.deny_memory = remember;
        self
    }

    /// Sets the share of each quota that this process admits by itself while the store is unavailable: above 0,
    /// at most 1; default 1, the whole quota.
    ///
    /// With [`OnStoreError::Local`], each of `n` instances then counts for itself, so that together they admit up
    /// to `n` times the limit. With a share of `1.0 / n` they keep the limit together, but a client that always
    /// reaches the same instance gets only that share. The share of a quota is rounded up, and lets the
    /// cost of one request pass at once; a token bucket refills at its share.
    pub fn local_share(mut self, share: f64) -> Self {
        self.local_share = share;
        self
    }

    /// Sets the networks of the proxies in front of this service, such as `10.0.0.0/8` or `10.1.2.3`; default
    /// none.
    ///
    /// Only these proxies are believed when the [client IP header](Self::client_ip_header) says that a request
    /// comes from someone else.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// # use axum_rate_limit::RateLimiter;
    /// let limiter = RateLimiter::builder().trusted_proxies(["10.0.0.0/8", "fd00::/8"]).build().await?;
    /// # let _ = limiter;
    /// # Ok::<(), axum_rate_limit::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn trusted_proxies(mut self, networks: impl IntoIterator<Item = impl ToString>) -> Self {
        self.trusted_proxies = networks.into_iter().map(|network| network.to_string()).collect();
        self
    }

    /// Sets the header in which trusted proxies report the client's address; default
    /// [`ClientIpHeader::XForwardedFor`].
    pub fn client_ip_header(mut self, header: ClientIpHeader) -> Self {
        self.client_ip_header = Some(header);
        self
    }

    /// Sets how many leading bits of an IPv4 address tell one client from another, from 0 to 32; default 32.
    pub fn ipv4_prefix(mut self, bits: u8) -> Self {
        self.network_bits.ipv4 = bits;
        self
    }

    /// Sets how many leading bits of an IPv6 address tell one client from another, from 0 to 128; default 56,
    /// since providers hand networks of that size to one subscriber.
    pub fn ipv6_prefix(mut self, bits: u8) -> Self {
        self.network_bits.ipv6 = bits;
        self
    }

    /// Sets the status of a denial whose policy declares none, from 400 to 599; default 503.
    ///
    /// 429 is the status that RFC 6585 defines for too many requests. Choose it if something in front of the
    /// service takes any 5xx for a fault of the service. A denial because the store failed is always 503.
    pub fn status(mut self, status: StatusCode) -> Self {
        self.answers.status = status;
        self
    }

    /// Sets which response fields tell clients about their quotas; default [`Headers::Draft`].
    pub fn headers(mut self, headers: Headers) -> Self {
        self.answers.headers = headers;
        self
    }

    /// Answers denials with RFC 9457 problem details instead of `{"detail": …}`.
    pub fn problem_details(mut self) -> Self {
        self.answers.on_denied = OnDenied::Problem;
        self
    }

    /// Answers denials with a custom response, which may depend on the [request](Denied::request). It has to own its
    /// text: `denied.message().to_owned()`.
    ///
    /// `retry-after` and `cache-control` are added unless the response has them. The rate-limit fields are always
    /// added, as [`headers`](Self::headers) selects them.
    pub fn on_denied<R: IntoResponse>(
        mut self,
        response: impl Fn(&Denied<'_>) -> R + Send + Sync + 'static,
    ) -> Self {
        self.answers.on_denied = OnDenied::Custom(Arc::new(move |denied| response(denied).into_response()));
        self
    }

    /// Sets how many counters this process holds at most, as the store or in place of an unavailable one; default
    /// 1,000,000.
    ///
    /// A million counters take some 180 MB if each is a number and paths are short, and more with
    /// [`SlidingLog`](crate::Algorithm::SlidingLog), which remembers every request. When all counters are in use,
    /// requests that need another one are treated as if the store had failed: see
    /// [`on_store_error`](Self::on_store_error). `Local` denies them.
    pub fn max_keys(mut self, max_keys: usize) -> Self {
        self.max_keys = max_keys;
        self
    }

    /// Sets the clock of the in-process memory to one that a test controls (feature `test-util`).
    ///
    /// On Redis, sliding windows, sliding logs and token buckets follow this clock, too. A fixed window does not:
    /// it is a key that expires, and ends by the server's own clock.
    #[cfg(feature = "test-util")]
    pub fn clock(mut self, clock: &crate::clock::ManualClock) -> Self {
        self.clock = Clock::Manual(clock.clone());
        self
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = match &self.store {
            Choice::Memory => "memory",
            #[cfg(feature = "redis")]
            Choice::Redis(_) => "redis", // the URL may hold a password
            #[cfg(feature = "redis-cluster")]
            Choice::RedisCluster(_) => "redis_cluster",
            #[cfg(feature = "redis-sentinel")]
            Choice::RedisSentinel { .. } => "redis_sentinel",
            Choice::Environment => "environment",
            Choice::Custom(_) => "custom",
        };
        f.debug_struct("Builder")
            .field("store", &store)
            .field("key_prefix", &self.key_prefix)
            .field("timeout", &self.timeout)
            .field("on_store_error", &self.on_store_error)
            .field("require_store", &self.require_store)
            .field("network_bits", &self.network_bits)
            .field("trusted_proxies", &self.trusted_proxies)
            .field("client_ip_header", &self.client_ip_header)
            .field("max_keys", &self.max_keys)
            .field("answers", &self.answers)
            .finish_non_exhaustive()
    }
}
