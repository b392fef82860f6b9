//! Stands in for the settings for Redis in a build without it, where `REDIS_URL` is refused.

use crate::error::BuildError;
use crate::store::Settings;
use crate::store::backend::Backend;

/// Nothing, since no server is reached.
#[derive(Default)]
pub(super) struct Access {}

/// Refuses the server at a URL. The error blames `setting`.
pub(super) fn single_server(
    setting: &'static str,
    _url: &str,
    _access: &Access,
    _settings: Settings,
) -> Result<Backend, BuildError> {
    let problem = "it is set, but axum-rate-limit is built without its feature `redis`".to_owned();
    Err(BuildError::Setting { setting, problem })
}
