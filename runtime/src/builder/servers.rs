//! Settings for Redis: sentinels, credentials and TLS.

#[cfg(feature = "redis-cluster")]
use std::sync::Arc;

use super::Builder;
#[cfg(feature = "redis-sentinel")]
use super::Choice;
use crate::error::{BoxError, BuildError};
use crate::store::Settings;
use crate::store::backend::Backend;
pub(super) use crate::store::redis::Access;
#[cfg(feature = "redis-cluster")]
use crate::store::redis::Cluster;
#[cfg(feature = "redis-tls")]
use crate::store::redis::RedisTls;
use crate::store::redis::{Provider, RedisCredentials, RedisStore, Server};

impl Builder {
    /// Counts in the Redis server that the given sentinels know as `master`.
    ///
    /// `sentinels` are the `redis://` URLs of one or more, with port 26379 unless they have another.
    ///
    /// For each new connection, all sentinels are asked at once which server is the master. One that is down or
    /// silent delays nothing as long as most of them answer; if fewer do, the others are waited for, at most a
    /// second. Every five seconds they are asked again: if most of them answer, a master that they have replaced
    /// is left, though it may still answer. So failovers are followed automatically. Until a failover is over,
    /// the store is unavailable: see [`on_store_error`](Self::on_store_error). What the old master had not
    /// replicated is forgotten, and may be admitted a second time.
    ///
    /// ```
    /// # use axum_rate_limit::RateLimiter;
    /// let builder = RateLimiter::builder()
    ///     .redis_sentinel("main", ["redis://10.0.0.1", "redis://10.0.0.2", "redis://10.0.0.3"]);
    /// # let _ = builder;
    /// ```
    ///
    /// The user and password in a sentinel's URL are for that sentinel. To give the master a user, password or
    /// database, write `master` as a URL with the name in place of the host, such as
    /// `redis://user:password@main/2`. The user and password may also come from
    /// [`redis_credentials`](Self::redis_credentials). `rediss://main` reaches the master over TLS, as a plain
    /// name does if all sentinels have `rediss://` URLs. The master's certificate must be for the address or name
    /// that the sentinels report.
    #[cfg(feature = "redis-sentinel")]
    pub fn redis_sentinel(
        mut self,
        master: impl Into<String>,
        sentinels: impl IntoIterator<Item = impl ToString>,
    ) -> Self {
        let sentinels = sentinels.into_iter().map(|sentinel| sentinel.to_string()).collect();
        self.store = Choice::RedisSentinel { master: master.into(), sentinels };
        self
    }

    /// Asks `provider` for the user and password at each connection to Redis, instead of taking them from the
    /// URL.
    ///
    /// Credentials that change are used from the next connection on. A provider that fails, panics, or takes as long
    /// as a connection may take, is asked again like a server that is unavailable. It runs in a task of its own. Only
    /// the master gets these credentials, not the sentinels.
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

    /// Sets which certificate authorities to trust for `rediss://` URLs, and which client certificate to present;
    /// default: the authorities of the system, and no certificate.
    ///
    /// Other URLs are not affected. The cryptography is that of the process's default `rustls` provider, or
    /// `ring` if the program has chosen none.
    #[cfg(feature = "redis-tls")]
    pub fn redis_tls(mut self, tls: RedisTls) -> Self {
        self.access.tls = Some(tls);
        self
    }
}

/// Makes a store on the server at `url`. An error blames `setting`.
pub(super) fn single_server(
    setting: &'static str,
    url: &str,
    access: &Access,
    settings: Settings,
) -> Result<Backend, BuildError> {
    on_server(setting, Server::single(url, access), settings)
}

/// Makes a store on the server that the sentinels at `urls` know as `master`.
#[cfg(feature = "redis-sentinel")]
pub(super) fn sentinel(
    master: &str,
    urls: &[String],
    access: &Access,
    settings: Settings,
) -> Result<Backend, BuildError> {
    on_server("redis_sentinel", Server::sentinel(master, urls, access), settings)
}

fn on_server(
    setting: &'static str,
    server: Result<Server, String>,
    settings: Settings,
) -> Result<Backend, BuildError> {
    let server = server.map_err(|problem| BuildError::Setting { setting, problem })?;
    Ok(Backend::Redis(RedisStore::on(server, settings)))
}

/// Makes a store on the cluster that the nodes at `urls` belong to.
#[cfg(feature = "redis-cluster")]
pub(super) fn cluster(urls: &[String], access: &Access, settings: Settings) -> Result<Backend, BuildError> {
    let cluster = Cluster::new(urls, access, settings)
        .map_err(|problem| BuildError::Setting { setting: "redis_cluster", problem })?;
    Ok(Backend::Cluster(Arc::new(cluster)))
}
