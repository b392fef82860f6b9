//! Finds a server and connects to it: at a given address, or at the one that sentinels know as the master.

mod credentials;
mod endpoint;
mod handshake;
mod resp;
#[cfg(feature = "redis-sentinel")]
mod sentinels;
mod socket;
#[cfg(feature = "redis-tls")]
mod tls;
mod wire;

#[cfg(feature = "redis-sentinel")]
use std::sync::Arc;

use redis::{ErrorKind, RedisError, RedisResult, Value};

pub(crate) use self::credentials::Provider;
pub use self::credentials::RedisCredentials;
pub(crate) use self::endpoint::{Access, Endpoint};
pub(super) use self::resp::Requests;
#[cfg(feature = "redis-sentinel")]
pub(super) use self::sentinels::Sentinels;
#[cfg(feature = "redis-tls")]
pub use self::tls::RedisTls;
pub(super) use self::wire::Wire;
use super::CONNECT_TIMEOUT;
use super::failure::{is_unwritable, node_of_cluster};

/// The server to connect to.
pub(crate) enum Server {
    Single(Box<Endpoint>),
    #[cfg(feature = "redis-sentinel")]
    Sentinels(Arc<Sentinels>),
}

/// What is wrong with an address, and what to write instead.
pub(super) type Fault = String;

impl Server {
    pub(crate) fn single(url: &str, access: &Access) -> Result<Self, Fault> {
        Ok(Self::Single(Box::new(Endpoint::parse(url, access, Endpoint::GRAMMAR)?)))
    }

    /// The master that `sentinels` know as `master`, which is a name, or a URL whose host is the name.
    #[cfg(feature = "redis-sentinel")]
    pub(crate) fn sentinel(master: &str, sentinels: &[String], access: &Access) -> Result<Self, Fault> {
        Ok(Self::Sentinels(Arc::new(Sentinels::parse(master, sentinels, access)?)))
    }

    /// Returns where the server is, without credentials.
    pub(super) fn location(&self) -> String {
        match self {
            Self::Single(endpoint) => format!("{}, database {}", endpoint.address(), endpoint.database()),
            #[cfg(feature = "redis-sentinel")]
            Self::Sentinels(sentinels) => sentinels.location(),
        }
    }

    /// Opens a connection to a server that takes writes to keys with this prefix. Single steps are bounded here;
    /// callers bound the whole.
    pub(super) async fn connect(&self, key_prefix: &str) -> RedisResult<Wire> {
        match self {
            Self::Single(endpoint) => open(endpoint, key_prefix).await,
            #[cfg(feature = "redis-sentinel")]
            Self::Sentinels(sentinels) => open_master(&sentinels.master().await?, key_prefix).await,
        }
    }
}

#[cfg(feature = "redis-sentinel")]
impl Sentinels {
    /// Opens a connection to the master, unless that is still the server at `address`. Fails unless most
    /// sentinels answer.
    pub(super) async fn connect_elsewhere(
        &self,
        address: &str,
        key_prefix: &str,
    ) -> RedisResult<Option<Wire>> {
        match self.master_elsewhere(address).await? {
            Some(master) => open_master(&master, key_prefix).await.map(Some),
            None => Ok(None),
        }
    }
}

/// Opens a connection to what sentinels call the master. It may have become a replica that they have not heard of, and
/// a replica may take writes, which its master then overwrites. A server that does not say what it is counts as a
/// master, since the user may lack the permission to ask.
///
/// See [Redis's guidelines for clients of Sentinel](https://redis.io/docs/latest/develop/reference/sentinel-clients/),
/// step 3.
#[cfg(feature = "redis-sentinel")]
async fn open_master(endpoint: &Endpoint, key_prefix: &str) -> RedisResult<Wire> {
    let mut connection = open(endpoint, key_prefix).await?;
    let role: RedisResult<Vec<Value>> = connection.query("ROLE", &[]).await;
    if matches!(role.as_deref(), Ok([Value::BulkString(role), ..]) if role == b"slave") {
        let error = (ErrorKind::Io, "the sentinels name a server that is a replica");
        return Err(connection.located(error.into()));
    }
    Ok(connection)
}

async fn open(endpoint: &Endpoint, key_prefix: &str) -> RedisResult<Wire> {
    let mut connection = endpoint.connect(CONNECT_TIMEOUT).await?;
    let serves = ensure_serves(&mut connection, key_prefix).await;
    serves.map_err(|error| connection.located(error))?;
    Ok(connection)
}

/// Returns a key that no counter has, in a slot that depends on `number`.
pub(super) fn unused_key(key_prefix: &str, number: u32) -> String {
    format!("{key_prefix}{{}}{number}")
}

/// Fails if the server takes no writes, or is a node of a cluster. A server that takes no writes accepts the
/// scripts and only refuses their commands, and a node of a cluster accepts them for the keys that it owns.
/// Other errors do not count, since the user may lack permission for these keys alone.
async fn ensure_serves(connection: &mut Wire, key_prefix: &str) -> RedisResult<()> {
    // In two different slots.
    let keys = [1, 2].map(|number| unused_key(key_prefix, number));
    match connection.query::<Value>("UNLINK", &[&keys[0], &keys[1]]).await {
        Err(error) if error.code().is_some_and(is_unwritable) => {
            Err(RedisError::from((ErrorKind::Io, "the server takes no writes", error.to_string())))
        }
        Err(error) => node_of_cluster(&error).map_or(Ok(()), Err),
        Ok(_) => Ok(()),
    }
}
