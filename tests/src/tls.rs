//! Servers that clients reach over TLS, with certificates that the tests make themselves.

use std::fmt;
use std::fs::write;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

use crate::RedisServer;
use crate::redis::{free_port, owned};

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

static AUTHORITIES: AtomicU32 = AtomicU32::new(0);

/// A certificate and its private key, in PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl Authority {
    /// Creates an authority that nobody trusts yet.
    ///
    /// # Panics
    ///
    /// If there is no randomness.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("it has no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Two authorities that share a name would be mistaken for each other, and their signatures for forgeries.
        let number = AUTHORITIES.fetch_add(1, Ordering::Relaxed);
        params.distinguished_name.push(DnType::CommonName, format!("authority {number} of the tests"));
        let key = KeyPair::generate().expect("there is randomness");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("it signs itself") }
    }

    /// Returns the authority's own certificate, in PEM.
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a certificate for `names`, to a server or a client.
    ///
    /// # Panics
    ///
    /// If they are not valid names.
    pub fn certify(&self, names: &[&str]) -> Certificate {
        let mut params = CertificateParams::new(owned(names)).expect("they are names");
        params.distinguished_name.push(DnType::CommonName, names[0]);
        let key = KeyPair::generate().expect("there is randomness");
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority signs");
        Certificate { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// A server with a port for TLS, and a plain one for the test.
#[derive(Debug)]
pub struct TlsServer {
    server: RedisServer,
    port: u16,
}

impl TlsServer {
    /// Starts a server with a certificate for `127.0.0.1` and `localhost`, signed by `authority`. If
    /// `asks_clients`, it serves only clients with a certificate from the same authority.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start(authority: &Authority, asks_clients: bool) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the server");
        lay_out(directory.path(), authority);
        let mut port = 0;
        let server = RedisServer::start_in(directory, |_| {
            port = free_port();
            [owned(&["--save", "", "--tls-port", &port.to_string()]), arguments(asks_clients)].concat()
        });
        let server = server.await;
        Self { server, port }
    }

    /// Starts a sentinel that watches over `master` under `name`; both are reached over TLS.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn sentinel(authority: &Authority, name: &str, master: &Self) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the sentinel");
        lay_out(directory.path(), authority);
        let file = directory.path().join("sentinel.conf");
        let monitor = format!("sentinel monitor {name} 127.0.0.1 {} 1\n", master.port);
        write(&file, monitor).expect("the directory is writable");
        let file = file.to_str().expect("it is a plain path").to_owned();
        let mut port = 0;
        let server = RedisServer::start_in(directory, |_| {
            port = free_port();
            let own =
                owned(&[&file, "--sentinel", "--tls-replication", "yes", "--tls-port", &port.to_string()]);
            [own, arguments(false)].concat()
        });
        let server = server.await;
        Self { server, port }
    }

    /// Returns the URL for TLS; `host` is a name or an address of the server.
    pub fn url(&self, host: &str) -> String {
        format!("rediss://{host}:{}", self.port)
    }

    /// Returns the server as reached over its plain port.
    pub fn plain(&mut self) -> &mut RedisServer {
        &mut self.server
    }
}

/// Writes a server's certificate, its key and the authority's certificate to `directory`.
pub(crate) fn lay_out(directory: &Path, authority: &Authority) {
    let server = authority.certify(&["127.0.0.1", "localhost"]);
    let write = |name: &str, pem: &str| write(directory.join(name), pem).expect("the directory is writable");
    write("authority.pem", &authority.certificate());
    write("server.pem", &server.certificate);
    write("server.key", &server.key);
}

/// Returns the arguments that make a server use the files of [`lay_out`].
pub(crate) fn arguments(asks_clients: bool) -> Vec<String> {
    let ask = if asks_clients { "yes" } else { "no" };
    owned(&[
        "--tls-ca-cert-file",
        "authority.pem",
        "--tls-cert-file",
        "server.pem",
        "--tls-key-file",
        "server.key",
        "--tls-auth-clients",
        ask,
    ])
}
