//! TLS to the broker: rustls with ring; files are read anew for each connection, so that a renewed
//! certificate needs no restart.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, pem};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::Tls;

/// Why TLS could not be agreed on.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of certificates or keys cannot be used.
    #[error("cannot use {} as PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// The file has no certificate in it, or the system has none at all.
    #[error("no certificate authority found in {place}; set [broker] ca_file")]
    NoAuthorities {
        /// A file, or the system's store.
        place: String,
    },
    /// Certificate and key do not fit, or are of a kind that cannot be used.
    #[error("the certificate or key of [broker] cert_file and key_file cannot be used")]
    Identity(#[source] rustls::Error),
    /// The host in the URL cannot be a certificate's name.
    #[error("the broker's host name {host:?} cannot stand in a certificate")]
    Name {
        /// From the config.
        host: String,
        /// Why.
        source: InvalidDnsNameError,
    },
    /// The handshake failed: expired, unknown authority, another name, no common version.
    #[error("the handshake with the broker failed; check [broker] url, ca_file and the board's clock")]
    Handshake(#[source] io::Error),
}

/// Speaks TLS over `stream` to `host`.
pub async fn connect(config: &Tls, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, TlsError> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|source| TlsError::Name { host: host.into(), source })?;
    TlsConnector::from(Arc::new(client(config)?)).connect(name, stream).await.map_err(TlsError::Handshake)
}

fn client(config: &Tls) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Identity)?
        .with_root_certificates(authorities(config)?);
    match &config.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((cert_file, key_file)) => {
            let key = PrivateKeyDer::from_pem_file(key_file)
                .map_err(|source| TlsError::Pem { path: key_file.clone(), source })?;
            builder.with_client_auth_cert(certificates(cert_file)?, key).map_err(TlsError::Identity)
        }
    }
}

fn authorities(config: &Tls) -> Result<RootCertStore, TlsError> {
    let (found, place) = match &config.ca_file {
        Some(path) => (certificates(path)?, path.display().to_string()),
        None => (rustls_native_certs::load_native_certs().certs, "the system's store".into()),
    };
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found);
    if usable == 0 { Err(TlsError::NoAuthorities { place }) } else { Ok(roots) }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| TlsError::Pem { path: path.into(), source })
}
