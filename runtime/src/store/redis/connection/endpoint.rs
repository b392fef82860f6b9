//! Where a server is, and how it is spoken to.

use std::io;
use std::time::Duration;

use redis::{
    ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisConnectionInfo, RedisError,
    RedisResult,
};

use super::Fault;
use super::credentials::Provider;
use super::socket::{self, Tls};
#[cfg(feature = "redis-tls")]
use super::tls::{self, RedisTls};
use super::wire::Wire;

/// How servers are reached, beyond what their URLs say.
#[derive(Clone, Default)]
pub(crate) struct Access {
    #[cfg(feature = "redis-tls")]
    pub(crate) tls: Option<RedisTls>,
    pub(crate) credentials: Option<Provider>,
}

/// One server: its address, and how to greet it.
#[derive(Clone)]
pub(crate) struct Endpoint {
    info: ConnectionInfo,
    tls: Option<Tls>,
    credentials: Option<Provider>,
}

const GRAMMAR: &str =
    "write `redis://[user:password@]host[:port][/database]`, or `redis+unix:///path[?db=number]`";

impl Endpoint {
    /// The endpoint at `url`.
    pub(in super::super) fn parse(url: &str, access: &Access) -> Result<Self, Fault> {
        #[cfg(not(feature = "redis-tls"))]
        if url
            .split_once(':')
            .is_some_and(|(scheme, _)| ["rediss", "valkeys"].contains(&scheme.to_lowercase().as_str()))
        {
            return Err(
                "TLS is not compiled in: enable the feature `redis-tls` of axum-rate-limit".to_owned()
            );
        }
        let info = url.into_connection_info().map_err(|error| format!("{}: {GRAMMAR}", reason(&error)))?;
        if let ConnectionAddr::TcpTls { insecure: true, .. } = info.addr() {
            let instead = "drop `#insecure`, and say by `redis_tls` whom to trust";
            return Err(format!("certificates are always checked: {instead}"));
        }
        let greeting = info.redis_settings();
        if greeting.db() < 0 {
            return Err(format!("no database has a negative number: {GRAMMAR}"));
        }
        // `redis://secret@host` is easily written, and would be silently no authentication at all.
        if greeting.username().is_some() && greeting.password().is_none() && access.credentials.is_none() {
            let instead = "write `user:password@`, or `:password@` where there are no users";
            return Err(format!("there is a user without a password: {instead}"));
        }
        #[cfg(feature = "redis-tls")]
        let tls = match info.addr() {
            ConnectionAddr::TcpTls { .. } => Some(tls::connector(access.tls.as_ref())?),
            _ => None,
        };
        #[cfg(not(feature = "redis-tls"))]
        let tls = None;
        Ok(Self { info, tls, credentials: access.credentials.clone() })
    }

    /// The same greeting at another address.
    #[cfg(any(feature = "redis-cluster", feature = "redis-sentinel"))]
    pub(in super::super) fn at(&self, host: String, port: u16) -> Self {
        let address = match self.info.addr().clone() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure, tls_params }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        Self { info: self.info.clone().set_addr(address), ..self.clone() }
    }

    /// What the URL says.
    #[cfg(any(feature = "redis-cluster", feature = "redis-sentinel"))]
    pub(in super::super) fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// What the URL says of the greeting, with the credentials that hold now.
    async fn greeting(&self) -> RedisResult<RedisConnectionInfo> {
        let greeting = self.info.redis_settings();
        let Some(provider) = &self.credentials else { return Ok(greeting.clone()) };
        let credentials = provider.ask().await.map_err(|error| no_credentials(error.to_string()))?;
        Ok(RedisConnectionInfo::default()
            .set_db(greeting.db())
            .set_protocol(greeting.protocol())
            .set_username(credentials.username)
            .set_password(credentials.password))
    }

    /// Opens a connection, which may take that long at most.
    pub(in super::super) async fn connect(&self, timeout: Duration) -> RedisResult<Wire> {
        let greeting = tokio::time::timeout(timeout, self.greeting())
            .await
            .unwrap_or_else(|_| Err(no_credentials(format!("within {timeout:?}"))))?;
        let connecting = async {
            let socket = socket::open(self.info.addr(), self.tls.as_ref()).await?;
            Wire::greet(socket, &greeting).await
        };
        tokio::time::timeout(timeout, connecting)
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }
}

fn no_credentials(detail: String) -> RedisError {
    (ErrorKind::AuthenticationFailed, "no credentials are provided", detail).into()
}

/// What is wrong, without the client's name for the kind of error.
fn reason(error: &RedisError) -> String {
    let text = error.to_string();
    text.split(" - ").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(url: &str) -> String {
        Endpoint::parse(url, &Access::default()).map(|_| ()).expect_err(url)
    }

    #[test]
    fn what_is_wrong_with_a_url_is_told() {
        for (url, words) in [
            ("localhost:6379", "did not parse: write `redis://"),
            ("http://localhost", "did not parse: write `redis://"),
            ("", "did not parse: write `redis://"),
            ("redis://", "write `redis://"),
            ("redis://0.0.0.0", "wildcard address"),
            ("redis://localhost/first", "Invalid database number: write `redis://"),
            ("redis://localhost/-1", "negative number"),
            ("redis://localhost/?protocol=4", "Invalid protocol version"),
            ("redis://secret@localhost", "user without a password"),
            #[cfg(not(feature = "redis-tls"))]
            ("rediss://localhost", "feature `redis-tls`"),
            #[cfg(feature = "redis-tls")]
            ("rediss://localhost/#insecure", "`redis_tls`"),
        ] {
            let fault = fault(url);
            assert!(fault.contains(words), "{url}: {fault}");
            assert!(!fault.contains("secret"), "no secret is told: {fault}");
        }
    }

    #[test]
    fn what_a_url_says_is_understood() {
        let parse = |url: &str| Endpoint::parse(url, &Access::default()).expect("it is a URL").info;
        let info = parse("valkey://a%40b:p%2Fw@[::1]:7/3?protocol=resp3");
        assert_eq!(*info.addr(), ConnectionAddr::Tcp("::1".to_owned(), 7));
        let greeting = info.redis_settings();
        assert_eq!((greeting.username(), greeting.password(), greeting.db()), (Some("a@b"), Some("p/w"), 3));
        assert!(matches!(greeting.protocol(), redis::ProtocolVersion::RESP3));
    }

    #[cfg(unix)]
    #[test]
    fn what_a_sockets_url_says_is_understood() {
        let parse = |url: &str| Endpoint::parse(url, &Access::default()).expect("it is a URL").info;
        let info = parse("redis+unix:///tmp/a%20b.sock?db=2&user=u&pass=p");
        assert_eq!(*info.addr(), ConnectionAddr::Unix("/tmp/a b.sock".into()));
        let greeting = info.redis_settings();
        assert_eq!((greeting.username(), greeting.password(), greeting.db()), (Some("u"), Some("p"), 2));
    }
}
