//! Settings from environment variables: the URL of Redis, some settings of the builder, and amendments.

use std::borrow::Cow;
use std::env::VarError;

use super::{Builder, Choice};
use crate::amendment;
use crate::error::BuildError;

/// The variable that holds the URL of Redis.
pub(super) const REDIS_URL: &str = "REDIS_URL";

impl Builder {
    /// Takes the store, some settings and amendments from environment variables.
    ///
    /// The limiter counts in the Redis server at `REDIS_URL` if that is set and not empty, else in this process;
    /// the log says which. Policies are [amended](Self::amend_from_env). `RATE_LIMIT_KEY_PREFIX` and
    /// `RATE_LIMIT_TRUSTED_PROXIES` (separated by commas), if set, override [`key_prefix`](Self::key_prefix) and
    /// [`trusted_proxies`](Self::trusted_proxies).
    pub fn from_env(mut self) -> Self {
        self.store = Choice::Environment;
        self.amend_from_env()
    }

    /// Amends policies by environment variables, and takes some settings from them.
    ///
    /// `RATE_LIMIT_<NAME>_PER_SECOND`, `_PER_MINUTE`, `_PER_HOUR`, `_PER_DAY` and `_BURST` take a number; `_SHADOW`
    /// takes `true` or `false`; `_QUOTAS` takes all quotas of the policy, such as `10 per 90s, 1000 per day`, before
    /// the other variables change or add some. The name is in capitals, with `_` for `-` and `.`.
    /// `RATE_LIMIT_SHADOW=true` puts all policies in shadow, including those that are not declared: they count, and
    /// deny nobody. Empty variables are ignored.
    ///
    /// Variables are applied after [`amend`](Self::amend). They change the declared quotas, not those that
    /// [`quotas_by`](crate::Policy::quotas_by) returns, and are refused for those that
    /// [`with_quotas`](crate::Policy::with_quotas) sets. Like
    /// [`from_env`](Self::from_env), this also takes the key prefix and the trusted proxies from the environment, if
    /// they are set there.
    pub fn amend_from_env(mut self) -> Self {
        self.amend_from_env = true;
        self
    }

    /// Sets the prefix of the variables that [`amend_from_env`](Self::amend_from_env) and
    /// [`from_env`](Self::from_env) read, except `REDIS_URL`; default `RATE_LIMIT_`.
    ///
    /// Programs that share an environment need a prefix each, such as `SHOP_RATE_LIMIT_`: a program does not start if a
    /// variable names a policy that it does not declare.
    pub fn env_prefix(mut self, prefix: impl Into<Cow<'static, str>>) -> Self {
        self.env_prefix = prefix.into();
        self
    }

    /// Overrides settings with those of variables that are set.
    pub(super) fn settings_from(mut self, variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| {
            variable(&format!("{}{name}", self.env_prefix)).filter(|value| !value.trim().is_empty())
        };
        let (key_prefix, proxies) = (variable(amendment::KEY_PREFIX), variable(amendment::TRUSTED_PROXIES));
        if let Some(prefix) = key_prefix {
            self.key_prefix = prefix.into();
        }
        if let Some(proxies) = proxies {
            let networks = proxies.split(',').map(|network| network.trim().to_owned());
            self.trusted_proxies = networks.filter(|network| !network.is_empty()).collect();
        }
        self
    }
}

/// Returns the URL of Redis, if the variable holds one.
pub(super) fn redis_url(variable: Result<String, VarError>) -> Result<Option<String>, BuildError> {
    match variable {
        Ok(url) if !url.trim().is_empty() => {
            tracing::info!("rate limits are counted in Redis, since {REDIS_URL} is set");
            Ok(Some(url))
        }
        Ok(_) | Err(VarError::NotPresent) => {
            tracing::info!("rate limits are counted in this process, since {REDIS_URL} is not set");
            Ok(None)
        }
        // The value may be a password, so it is not repeated.
        Err(VarError::NotUnicode(_)) => {
            let problem = "it is not UTF-8: percent-encode what is not ASCII, as `%E9`".to_owned();
            Err(BuildError::Setting { setting: REDIS_URL, problem })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_settings() {
        let builder = Builder::default().key_prefix("own:").trusted_proxies(["192.0.2.0/24"]);
        let builder = builder.settings_from(|variable| {
            Some(match variable {
                "RATE_LIMIT_KEY_PREFIX" => "shop:".to_owned(),
                "RATE_LIMIT_TRUSTED_PROXIES" => "10.0.0.0/8, fd00::/8,".to_owned(),
                _ => return None,
            })
        });
        assert_eq!(builder.key_prefix, "shop:");
        assert_eq!(builder.trusted_proxies, ["10.0.0.0/8", "fd00::/8"]);
        let builder = builder.env_prefix("SHOP_").settings_from(|_| Some(" ".to_owned()));
        assert_eq!(
            (builder.key_prefix.as_ref(), builder.trusted_proxies.len()),
            ("shop:", 2),
            "nothing is set"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_url_that_is_not_utf_8_is_refused_and_not_told() {
        use std::os::unix::ffi::OsStringExt as _;
        let url = std::ffi::OsString::from_vec(b"redis://:secret\xff@localhost".to_vec());
        let error = redis_url(Err(VarError::NotUnicode(url))).expect_err("it is no URL").to_string();
        assert!(error.contains("percent-encode"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
