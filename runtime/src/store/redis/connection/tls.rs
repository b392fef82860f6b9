//! Whom to trust, and who to be, over TLS.

use std::fmt;

use redis::{Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, TlsCertificates};
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Fault;

/// Certificates for `rediss://` URLs: see [`redis_tls`](crate::Builder::redis_tls).
///
/// ```
/// # fn read() -> std::io::Result<axum_rate_limit::RedisTls> {
/// use std::fs::read;
///
/// use axum_rate_limit::RedisTls;
///
/// let tls = RedisTls::new()
///     .root_certificates(read("/etc/redis/ca.pem")?)
///     .client_certificate(read("/etc/redis/client.pem")?, read("/etc/redis/client.key")?);
/// # Ok(tls)
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
#[must_use = "give it to `redis_tls` of a builder"]
pub struct RedisTls {
    roots: Option<Vec<u8>>,
    client: Option<(Vec<u8>, Vec<u8>)>,
}

impl RedisTls {
    /// The certificate authorities that the system trusts, and no client certificate: what holds
    /// without any of this.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificate authorities in `pem`, one or more, and no others.
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots = Some(pem.into());
        self
    }

    /// Shows the server a certificate, or a chain of them with the client's own first. Both are in PEM.
    pub fn client_certificate(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.client = Some((certificate.into(), key.into()));
        self
    }

    /// As the client of Redis wants it.
    pub(super) fn certificates(&self) -> TlsCertificates {
        TlsCertificates {
            client_tls: self
                .client
                .clone()
                .map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key }),
            root_cert: self.roots.clone(),
        }
    }

    /// Finds at once what would fail at every connection.
    fn check(&self) -> Result<(), Fault> {
        let mut store = RootCertStore::empty();
        if let Some(pem) = &self.roots {
            let (added, _) = store.add_parsable_certificates(chain(pem));
            if added == 0 {
                return Err(
                    "`root_certificates` of `redis_tls` holds no certificate: give it the PEM of one"
                        .to_owned(),
                );
            }
        }
        let Some((certificate, key)) = &self.client else { return Ok(()) };
        let chain = chain(certificate);
        if chain.is_empty() {
            return Err(
                "`client_certificate` of `redis_tls` holds no certificate: give it the PEM of one".to_owned()
            );
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
            format!(
                "`client_certificate` of `redis_tls` has no private key ({error}): give it the PEM of one"
            )
        })?;
        ClientConfig::builder()
            .with_root_certificates(store)
            .with_client_auth_cert(chain, key)
            .map(|_| ())
            .map_err(|error| {
                format!("`client_certificate` of `redis_tls`: {error}: give it a certificate and its own key")
            })
    }
}

impl fmt::Debug for RedisTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTls")
            .field("root_certificates", &self.roots.is_some())
            .field("client_certificate", &self.client.is_some())
            .finish()
    }
}

fn chain(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect()
}

/// Makes an endpoint ready for TLS, if it is one for TLS.
pub(super) fn prepare(info: ConnectionInfo, tls: Option<&RedisTls>) -> Result<ConnectionInfo, Fault> {
    if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        return Ok(info);
    }
    // The client of Redis asks for the process's provider, and panics where dependencies bring two and
    // none was chosen. A program that has chosen one keeps it.
    if CryptoProvider::get_default().is_none() {
        let _ = ring::default_provider().install_default();
    }
    let Some(tls) = tls else { return Ok(info) };
    tls.check()?;
    let client = Client::build_with_tls(info, tls.certificates())
        .map_err(|error| format!("{error}: give `redis_tls` certificates and keys in PEM"))?;
    Ok(client.get_connection_info().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_shown() {
        let tls = RedisTls::new().client_certificate("certificate", "hush");
        assert_eq!(format!("{tls:?}"), "RedisTls { root_certificates: false, client_certificate: true }");
    }
}
