//! A server's address, and how to connect to it.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::{
    ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisConnectionInfo, RedisError,
    RedisResult, ServerError, Value,
};

use tokio::time::Instant;

use super::Fault;
use super::credentials::Provider;
use super::socket::{self, Tls};
#[cfg(feature = "redis-tls")]
use super::tls::{self, RedisTls};
use super::wire::Wire;

/// How to reach servers, beyond what their URLs say.
#[derive(Clone, Default)]
pub(crate) struct Access {
    #[cfg(feature = "redis-tls")]
    pub(crate) tls: Option<RedisTls>,
    pub(crate) credentials: Option<Provider>,
}

/// One server: its address, and how to greet it, that is, which handshake precedes the first call.
#[derive(Clone)]
pub(crate) struct Endpoint {
    info: ConnectionInfo,
    tls: Option<Tls>,
    credentials: Option<Provider>,
}

/// The hint for a URL whose user or password ends too early, at a character that is not encoded.
const ENCODED: &str =
    "in a user and a password write `%2F` for `/`, `%3F` for `?`, `%23` for `#` and `%40` for `@`";

impl Endpoint {
    /// The hint for the URL of a standalone server.
    pub(super) const GRAMMAR: &str =
        "write `redis://[user:password@]host[:port][/database]`, or `redis+unix:///path[?db=number]`";

    /// Parses the endpoint at `url`. `grammar` is the hint for a URL that is wrong.
    pub(in super::super) fn parse(url: &str, access: &Access, grammar: &str) -> Result<Self, Fault> {
        #[cfg(not(feature = "redis-tls"))]
        if url
            .split_once(':')
            .is_some_and(|(scheme, _)| ["rediss", "valkeys"].contains(&scheme.to_lowercase().as_str()))
        {
            return Err(
                "TLS is not compiled in: enable the feature `redis-tls` of axum-rate-limit".to_owned()
            );
        }
        let instead = if is_cut_short(url) { ENCODED } else { grammar };
        if let Some(fault) = ignored(url) {
            return Err(format!("{fault}: {instead}"));
        }
        let info = url.into_connection_info().map_err(|error| format!("{}: {instead}", reason(&error)))?;
        if let ConnectionAddr::TcpTls { insecure: true, .. } = info.addr() {
            let instead = "drop `#insecure`, and say by `redis_tls` whom to trust";
            return Err(format!("certificates are always checked: {instead}"));
        }
        let greeting = info.redis_settings();
        if greeting.db() < 0 {
            return Err(format!("no database has a negative number: {grammar}"));
        }
        // `redis://secret@host` is an easy mistake, and would silently mean no authentication at all.
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

    /// Parses each of `urls`. The error says which of them is wrong, and calls it a `what`.
    #[cfg(any(feature = "redis-cluster", feature = "redis-sentinel"))]
    pub(in super::super) fn each(
        what: &str,
        urls: &[String],
        parse: impl Fn(&str) -> Result<Self, Fault>,
    ) -> Result<Vec<Self>, Fault> {
        let one = |(index, url): (usize, &String)| {
            parse(url).map_err(|fault| format!("{what} {} of {}: {fault}", index + 1, urls.len()))
        };
        urls.iter().enumerate().map(one).collect()
    }

    /// Whether this server is greeted as `other` is.
    #[cfg(feature = "redis-cluster")]
    pub(in super::super) fn is_greeted_as(&self, other: &Self) -> bool {
        let (own, others) = (self.info.redis_settings(), other.info.redis_settings());
        let credentials_agree = || {
            // The credentials of a provider replace those of the URL.
            self.credentials.is_some()
                || (own.username(), own.password()) == (others.username(), others.password())
        };
        self.tls.is_some() == other.tls.is_some()
            && own.protocol() == others.protocol()
            && credentials_agree()
    }

    /// Returns the same endpoint at another address.
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

    /// Returns what the URL says.
    #[cfg(any(feature = "redis-cluster", feature = "redis-sentinel"))]
    pub(in super::super) fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// Returns the settings for the handshake: those of the URL, with the provider's current credentials, if any.
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

    /// Opens a connection. Asking for the credentials may take up to `timeout`, and connecting three quarters of it.
    pub(in super::super) async fn connect(&self, timeout: Duration) -> RedisResult<Wire> {
        let greeting = tokio::time::timeout(timeout, self.greeting())
            .await
            .unwrap_or_else(|_| Err(no_credentials(format!("within {timeout:?}"))))?;
        let address = self.address();
        let greet = move |socket| Wire::greet(socket, greeting.clone(), address.clone());
        // Sooner than callers give up, so that they are told which address has refused, and why.
        let deadline = Instant::now() + timeout * 3 / 4;
        socket::open(self.info.addr(), self.tls.as_ref(), deadline, greet)
            .await
            .map_err(|error| located(&self.address(), self.explained(error)))
    }

    /// Returns the same error, with a hint if the server has hung up without a word, as one does that wants TLS.
    fn explained(&self, error: RedisError) -> RedisError {
        use io::ErrorKind::{ConnectionReset, UnexpectedEof};
        match io_error(&error) {
            Some(cause)
                if self.is_plain_tcp() && [ConnectionReset, UnexpectedEof].contains(&cause.kind()) =>
            {
                let hint = "if it wants TLS, write `rediss://`; a proxy that lacks some of Redis's commands won't do";
                io::Error::new(cause.kind(), format!("{cause} before it was greeted; {hint}")).into()
            }
            _ => error,
        }
    }

    fn is_plain_tcp(&self) -> bool {
        matches!(self.info.addr(), ConnectionAddr::Tcp(..))
    }

    /// Returns the number of the database.
    pub(in super::super) fn database(&self) -> i64 {
        self.info.redis_settings().db()
    }

    /// Returns the address: `host:port`, or the path of a socket.
    pub(in super::super) fn address(&self) -> String {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }
                if host.contains(':') =>
            {
                format!("[{host}]:{port}")
            }
            address => address.to_string(),
        }
    }
}

/// Returns the same error with the address in its text.
pub(super) fn located(address: &str, error: RedisError) -> RedisError {
    if let Some(error) = io_error(&error) {
        return io::Error::new(error.kind(), format!("{address}: {error}")).into();
    }
    if let Some(said) = error.source().and_then(|source| source.downcast_ref::<ServerError>()) {
        // Only an error that is parsed from a server's reply has a code, so the reply is rebuilt and parsed again.
        let said = format!("-{} {address}: {}\r\n", said.code(), said.details().unwrap_or_default());
        let said = redis::parse_redis_value(said.as_bytes()).and_then(Value::extract_error);
        return said.err().unwrap_or(error);
    }
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    let text = format!("{address}: {}{detail}", reason(&error));
    match error.kind() {
        // Such an error is its text alone; others name their kind.
        ErrorKind::Io => io::Error::other(text).into(),
        kind => (kind, "the server does not serve", text).into(),
    }
}

/// Returns the input or output error that this is, if it is one.
pub(super) fn io_error(error: &RedisError) -> Option<&io::Error> {
    error.source()?.downcast_ref::<Arc<BoxedError>>()?.downcast_ref()
}

/// An error that is not the `redis` crate's own, as a [`RedisError`] holds it behind an [`Arc`].
type BoxedError = dyn std::error::Error + Send + Sync;

/// Finds a part of a URL that would be silently ignored. The message does not repeat that part, since it may
/// belong to a password.
fn ignored(url: &str) -> Option<&'static str> {
    let url = redis::parse_redis_url(url)?;
    let is_socket = url.scheme().ends_with("unix");
    let means = |key: &str| key == "protocol" || (is_socket && ["db", "user", "pass"].contains(&key));
    if let Some((key, _)) = url.query_pairs().find(|(key, _)| !means(key)) {
        return Some(match key.as_ref() {
            _ if is_socket => "behind the `?` of a socket stand `db`, `user`, `pass` and `protocol` alone",
            "db" => "the database does not stand behind a `?`",
            _ => "behind the `?` stands `protocol=resp2` or `protocol=resp3` alone",
        });
    }
    if is_socket && (!url.username().is_empty() || url.password().is_some()) {
        return Some("user and password of a socket stand behind its path, as `?user=name&pass=word`");
    }
    // `Endpoint::parse` refuses `#insecure` with a message of its own.
    let is_known = |fragment: &str| fragment == "insecure" && ["rediss", "valkeys"].contains(&url.scheme());
    url.fragment().filter(|fragment| !is_known(fragment)).map(|_| "nothing stands behind a `#`")
}

/// Whether the user or password seems to end too early, at a character that should be percent-encoded.
fn is_cut_short(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split_once(['/', '?', '#']).is_some_and(|(_, rest)| rest.contains('@'))
}

fn no_credentials(detail: String) -> RedisError {
    (ErrorKind::AuthenticationFailed, "no credentials are provided", detail).into()
}

/// Returns what is wrong, without the `redis` crate's name for the kind of error.
fn reason(error: &RedisError) -> String {
    let text = error.to_string();
    text.split(" - ").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Endpoint, Fault> {
        Endpoint::parse(url, &Access::default(), Endpoint::GRAMMAR)
    }

    fn fault(url: &str) -> String {
        parse(url).map(|_| ()).expect_err(url)
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
            ("redis://:se/cret@localhost", "`%2F` for `/`"),
            ("redis://:se#cret@localhost", "`%23` for `#`"),
            ("redis://user:1/secret@localhost", "`%2F` for `/`"),
            ("redis://user:1#secret@localhost", "`%23` for `#`"),
            ("redis://user:1?secret@localhost", "`%3F` for `?`"),
            ("redis://localhost#secret", "nothing stands behind a `#`: write `redis://"),
            ("redis://localhost#insecure", "nothing stands behind a `#`: write `redis://"),
            ("redis://localhost?db=2", "the database does not stand behind a `?`: write `redis://"),
            ("redis://localhost?protocl=resp3", "`protocol=resp2` or `protocol=resp3` alone"),
            ("valkey://localhost/2?protocol=resp3&secret=x", "`protocol=resp2` or `protocol=resp3` alone"),
            #[cfg(not(feature = "redis-tls"))]
            ("rediss://localhost", "feature `redis-tls`"),
            #[cfg(feature = "redis-tls")]
            ("rediss://localhost/#insecure", "`redis_tls`"),
            #[cfg(feature = "redis-tls")]
            ("rediss://localhost/#other", "nothing stands behind a `#`"),
            #[cfg(unix)]
            ("redis+unix:///tmp/a.sock?database=2", "`db`, `user`, `pass` and `protocol` alone"),
            #[cfg(unix)]
            ("redis+unix:///tmp/a.sock#secret", "nothing stands behind a `#`"),
            #[cfg(unix)]
            ("unix://user:secret@localhost/tmp/a.sock", "as `?user=name&pass=word`"),
        ] {
            let fault = fault(url);
            assert!(fault.contains(words), "{url}: {fault}");
            assert!(!fault.contains("secret"), "no secret is told: {fault}");
        }
    }

    #[test]
    fn an_error_says_where_it_was_met_and_is_what_it_was() {
        let endpoint = parse("redis://user:secret@[::1]:7").expect("it is a URL");
        let said = |text: &[u8]| {
            let said = redis::parse_redis_value(text).and_then(Value::extract_error);
            said.expect_err("it is an error")
        };
        for error in [
            io::Error::from(io::ErrorKind::ConnectionRefused).into(),
            io::Error::from(io::ErrorKind::TimedOut).into(),
            (ErrorKind::Io, "it is silent").into(),
            (ErrorKind::AuthenticationFailed, "it failed").into(),
            (ErrorKind::Client, "it failed", "in detail".to_owned()).into(),
            said(b"-NOAUTH Authentication required.\r\n"),
            said(b"-LOADING it is not ready\r\n"),
            said(b"-MISCONF\r\n"),
        ] {
            let located = located(&endpoint.address(), error.clone());
            let text = located.to_string();
            assert_eq!((located.kind(), located.code()), (error.kind(), error.code()), "{text}");
            assert_eq!(located.is_timeout(), error.is_timeout(), "{text}");
            assert_eq!(located.is_connection_refusal(), error.is_connection_refusal(), "{text}");
            assert!(text.contains("[::1]:7: ") && !text.contains("secret"), "{text}");
            let what = error.detail().map_or_else(|| reason(&error), str::to_owned);
            assert!(text.contains(&what), "{text}");
            assert!(!text.contains("Io"), "{text}");
        }
    }

    #[test]
    fn what_a_url_says_is_understood() {
        let parse = |url: &str| parse(url).expect("it is a URL").info;
        let info = parse("valkey://a%40b:p%2Fw@[::1]:7/3?protocol=resp3");
        assert_eq!(*info.addr(), ConnectionAddr::Tcp("::1".to_owned(), 7));
        let greeting = info.redis_settings();
        assert_eq!((greeting.username(), greeting.password(), greeting.db()), (Some("a@b"), Some("p/w"), 3));
        assert!(matches!(greeting.protocol(), redis::ProtocolVersion::RESP3));
    }

    #[cfg(unix)]
    #[test]
    fn what_a_sockets_url_says_is_understood() {
        let parse = |url: &str| parse(url).expect("it is a URL").info;
        let info = parse("redis+unix:///tmp/a%20b.sock?db=2&user=u&pass=p");
        assert_eq!(*info.addr(), ConnectionAddr::Unix("/tmp/a b.sock".into()));
        let greeting = info.redis_settings();
        assert_eq!((greeting.username(), greeting.password(), greeting.db()), (Some("u"), Some("p"), 2));
    }
}
