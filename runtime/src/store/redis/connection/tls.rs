//! The configuration of TLS: which authorities to trust, and which client certificate to present.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::{CertificateResult, load_native_certs};

use super::Fault;
use super::socket::Tls;

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
    /// Creates a configuration that trusts the certificate authorities of the system, as they are when the
    /// limiter is built, and presents no client certificate. This is also the default without `redis_tls`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificate authorities in `pem`, one or more, and no others.
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots = Some(pem.into());
        self
    }

    /// Presents a client certificate to the server, or a chain of them with the client's own first. `key` is the
    /// private key. Both are in PEM.
    pub fn client_certificate(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.client = Some((certificate.into(), key.into()));
        self
    }

    /// Returns the authorities to trust.
    fn trusted(&self) -> Result<RootCertStore, Fault> {
        let mut store = RootCertStore::empty();
        if let Some(pem) = &self.roots {
            return match store.add_parsable_certificates(chain(pem)) {
                (0, _) => {
                    Err("`root_certificates` of `redis_tls` holds no certificate: give it the PEM of one"
                        .to_owned())
                }
                _ => Ok(store),
            };
        }
        trusted_by_system(load_native_certs())
    }

    /// Builds the configuration of connections. What would fail each of them fails here at once.
    fn config(&self) -> Result<ClientConfig, Fault> {
        // If the program has installed a provider, it is used.
        let provider =
            CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ring::default_provider()));
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("the provider of cryptography has no protocol for TLS: {error}"))?
            .with_root_certificates(self.trusted()?);
        let Some((certificate, key)) = &self.client else { return Ok(config.with_no_client_auth()) };
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
        config.with_client_auth_cert(chain, key).map_err(|error| {
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

/// Returns the authorities that the system trusts, as far as they can be read.
fn trusted_by_system(found: CertificateResult) -> Result<RootCertStore, Fault> {
    let mut store = RootCertStore::empty();
    match store.add_parsable_certificates(found.certs) {
        (0, _) => {
            let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
            let instead = "say by `redis_tls` whom to trust, or install the system's authorities";
            Err(format!("the system trusts no certificate authority{why}: {instead}"))
        }
        _ => Ok(store),
    }
}

fn chain(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect()
}

/// Builds the connector for TLS connections.
pub(super) fn connector(tls: Option<&RedisTls>) -> Result<Tls, Fault> {
    let config = match tls {
        Some(tls) => tls.config(),
        None => RedisTls::new().config(),
    };
    let mut config = config?;
    // Connections are long-lived, so resumption gains little. And a server without a session cache refuses a
    // client that presents a certificate and asks to resume a session.
    config.resumption = Resumption::disabled();
    Ok(Tls::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_that_trusts_nobody_is_no_surprise_at_a_connection() {
        let fault = trusted_by_system(CertificateResult::default()).expect_err("nobody is trusted");
        assert!(fault.contains("trusts no certificate authority: say by `redis_tls`"), "{fault}");
    }

    #[test]
    fn no_key_is_shown() {
        let tls = RedisTls::new().client_certificate("certificate", "hush");
        assert_eq!(format!("{tls:?}"), "RedisTls { root_certificates: false, client_certificate: true }");
    }
}
