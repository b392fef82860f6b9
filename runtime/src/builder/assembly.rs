//! Builds the limiter from the settings.

use std::sync::Arc;

use super::environment::{REDIS_URL, redis_url};
use super::{Access, Builder, Choice, single_server};
use crate::amendment;
use crate::error::BuildError;
use crate::in_force::InForce;
use crate::limiter::Limiter;
use crate::policy::Policy;
use crate::rate_limiter::{RateLimiter, Shared};
use crate::registry;
use crate::store::backend::Backend;
use crate::store::fallback::StoreWithFallback;
use crate::store::{MemoryStore, Settings};

impl Builder {
    /// Builds the limiter, and connects it to its store.
    ///
    /// The current Tokio runtime drives the connection. Checks can be made in other runtimes, too, if these have
    /// timers. While the current runtime does not run, because nobody drives it or its only thread is blocked, checks
    /// in other runtimes are late: they are decided at their deadline, as [`on_store_error`](Self::on_store_error)
    /// says. After three in a row, another connection is made in the runtime of such a check, which has to run between
    /// checks as well, not only while it waits for one. Outside of any runtime, a limiter in memory, on a single
    /// server or behind sentinels can be asked; a check of another one may panic.
    ///
    /// # Errors
    ///
    /// Returns an error if
    ///
    /// * two policies of the program have the same name but differ, or one has the name that response fields give
    ///   to a quota of another: the error says where both are declared;
    /// * a setting has an invalid value, or an amendment is invalid, or for a policy that nobody declares: the error
    ///   says what to write instead;
    /// * the store is unavailable, or there is none, and [`require_store`](Self::require_store) is set.
    ///
    /// # Panics
    ///
    /// Panics outside of a Tokio runtime with timers, unless the limiter counts in memory.
    pub async fn build(self) -> Result<RateLimiter, BuildError> {
        let require_store = self.require_store;
        let limiter = self.assemble()?;
        let Limiter { store, key_prefix, .. } = &limiter.0.limiter;
        match store.start().await {
            Err(error) if require_store => return Err(error.into()),
            Err(error) => store.start_without(&error),
            Ok(()) => {
                if let Some(at) = store.location() {
                    tracing::info!(
                        at,
                        key_prefix = &**key_prefix,
                        "the rate limiter is connected to its store"
                    );
                }
            }
        }
        Ok(limiter)
    }

    /// Builds the limiter, which is not connected to its store yet.
    pub(crate) fn assemble(mut self) -> Result<RateLimiter, BuildError> {
        if self.amend_from_env {
            self = self.settings_from(|variable| {
                // What is not UTF-8 is refused like any other invalid prefix or network.
                std::env::var_os(variable).map(|value| value.to_string_lossy().into_owned())
            });
        }
        self.validate()?;
        let proxies = self.proxies()?;
        if proxies.trusts_everyone() {
            tracing::warn!(
                "everyone is a trusted proxy, so that every client may say that it is another one, with quotas of its \
                 own: write the addresses of your proxies alone, as in `.trusted_proxies([\"10.0.0.0/8\"])`"
            );
        }
        let mut declared: Vec<Policy> = registry::policies().into_iter().copied().collect();
        declared.append(&mut self.declared);
        registry::ensure_no_conflict(&declared)?;
        let variables = self.amend_from_env.then(std::env::vars_os).into_iter().flatten();
        let amended = amendment::apply(self.amendments, &self.env_prefix, variables, &declared)?;
        let policies = InForce::new(&declared, &amended)?;
        let memory = MemoryStore::with_clock(self.max_keys, self.clock.clone());
        let settings = Settings {
            timeout: self.timeout,
            key_prefix: self.key_prefix.as_ref().into(),
            deny_memory: self.deny_memory,
            clock: self.clock.clone(),
        };
        let backend = backend(self.store, &self.access, settings)?;
        if self.require_store && backend.is_none() {
            return Err(BuildError::Setting {
                setting: "require_store",
                problem: format!(
                    "there is no store to require, and each instance would count apart: set {REDIS_URL} and call \
                     `from_env`, or name the store, as by `redis`"
                ),
            });
        }
        let store = match backend {
            Some(backend) => StoreWithFallback::remote(backend, self.timeout, memory, self.local_share),
            None => StoreWithFallback::memory(memory),
        };
        let limiter = Limiter {
            store,
            clock: self.clock,
            key_prefix: self.key_prefix,
            network_bits: self.network_bits,
            proxies,
            on_store_error: self.on_store_error,
            policies,
        };
        Ok(RateLimiter(Arc::new(Shared { limiter, answers: self.answers })))
    }
}

/// Makes the store outside of this process that `choice` asks for, if it asks for one.
fn backend(choice: Choice, access: &Access, settings: Settings) -> Result<Option<Backend>, BuildError> {
    Ok(match choice {
        Choice::Memory => None,
        Choice::Environment => match redis_url(std::env::var(REDIS_URL))? {
            Some(url) => Some(single_server(REDIS_URL, &url, access, settings)?),
            None => None,
        },
        #[cfg(feature = "redis")]
        Choice::Redis(url) => Some(single_server("redis", &url, access, settings)?),
        #[cfg(feature = "redis-cluster")]
        Choice::RedisCluster(urls) => Some(super::servers::cluster(&urls, access, settings)?),
        #[cfg(feature = "redis-sentinel")]
        Choice::RedisSentinel { master, sentinels } => {
            Some(super::servers::sentinel(&master, &sentinels, access, settings)?)
        }
        Choice::Custom(store) => Some(Backend::Custom(store)),
    })
}
