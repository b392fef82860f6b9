//! Where Redis is, and how it is reached.

use super::Builder;
#[cfg(feature = "redis-sentinel")]
use super::Choice;
use crate::error::{BoxError, BuildError};
use crate::store::Settings;
#[cfg(feature = "redis-cluster")]
use crate::store::redis::Access;
#[cfg(feature = "redis-tls")]
use crate::store::redis::RedisTls;
use crate::store::redis::{Provider, RedisCredentials, RedisStore, Server};
use crate::store::remote::Place;

impl Builder {
    /// Counts in the Redis server that these sentinels call `master`: `redis://` URLs of one or more, with
    /// port 26379 unless they say otherwise.
    ///
    /// At every connection they are asked anew which server is the master, all at once, so that none that
    /// is down or silent holds anything up as long as most of them answer; if fewer do, the others are waited
    /// for, a second at most. Every five seconds they are asked again, so that a master that most of them know to be
    /// replaced is left though it still answers. A failover is followed by itself. Until it is over the store is away: see
    /// [`on_store_error`](Self::on_store_error). What the old master had not yet replicated is forgotten, and
    /// may be admitted a second time.
    ///
    /// ```
    /// # use axum_rate_limit::RateLimiter;
    /// let builder = RateLimiter::builder()
    ///     .redis_sentinel("main", ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"]);
    /// # let _ = builder;
    /// ```
    ///
    /// User and password in a sentinel's URL are for that sentinel. What the master needs to know is in
    /// `master`, when that is a URL with the name in the place of the host, as
    /// `redis://user:password@main/2`; its user and password may also come from
    /// [`redis_credentials`](Self::redis_credentials). `rediss://main` reaches it over TLS, as a plain name
    /// does if all sentinels have `rediss://` URLs; its certificate must be for the address or name that
    /// the sentinels tell.
    #[cfg(feature = "redis-sentinel")]
    pub fn redis_sentinel(
        mut self,
        master: impl Into<String>,
        sentinels: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let sentinels = sentinels.into_iter().map(Into::into).collect();
        self.store = Choice::RedisSentinel { master: master.into(), sentinels };
        self
    }

    /// Asks `provider` for user and password at each connection to Redis, instead of taking them from the
    /// URL: credentials that change are used from the next connection on.
    ///
    /// A provider that fails, or takes as long as a connection may, is asked again as a server that is
    /// away. Sentinels are not greeted with these credentials, only the master.
    ///
    /// ```
    /// use axum_rate_limit::{RateLimiter, RedisCredentials};
    ///
    /// let builder = RateLimiter::builder().redis("redis://localhost").redis_credentials(|| async {
    ///     let password = std::fs::read_to_string("/run/secrets/redis")?;
    ///     Ok(RedisCredentials::new("limiter", password.trim()))
    /// });
    /// # let _ = builder;
    /// ```
    pub fn redis_credentials<F, C>(mut self, provider: F) -> Self
    where
        F: Fn() -> C + Send + Sync + 'static,
        C: Future<Output = Result<RedisCredentials, BoxError>> + Send + 'static,
    {
        self.access.credentials = Some(Provider::new(provider));
        self
    }

    /// Whom to trust where the URL is `rediss://`, and what to show there; default: the certificate
    /// authorities of the system, and nothing. Other URLs are not concerned.
    ///
    /// The cryptography is the process's default of `rustls`; where a program has chosen none, `ring`.
    #[cfg(feature = "redis-tls")]
    pub fn redis_tls(mut self, tls: RedisTls) -> Self {
        self.access.tls = Some(tls);
        self
    }
}

/// A store on `server`; `setting` is to blame if that is none.
pub(super) fn place(
    setting: &'static str,
    server: Result<Server, String>,
    settings: Settings,
) -> Result<Place, BuildError> {
    let server = server.map_err(|problem| BuildError::Setting { setting, problem })?;
    Ok(Place::Redis(RedisStore::on(server, settings)))
}

/// A store on the cluster that the nodes at `urls` belong to.
#[cfg(feature = "redis-cluster")]
pub(super) fn cluster(urls: &[String], access: &Access, settings: Settings) -> Result<Place, BuildError> {
    let store = RedisStore::cluster(urls, access, settings)
        .map_err(|problem| BuildError::Setting { setting: "redis_cluster", problem })?;
    Ok(Place::Redis(store))
}
