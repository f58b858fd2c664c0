//! TLS to the broker: rustls with ring; files are read anew for each connection, so that a renewed
//! certificate needs no restart.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, UnixTime, pem};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::base::UnixMicros;
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
    /// One side does not trust the other, or they speak no common TLS; what to do about it in words.
    #[error("{advice}")]
    Handshake {
        /// What is wrong and where it is mended.
        advice: String,
        /// What rustls said.
        source: io::Error,
    },
}

/// Speaks TLS over `stream` to `host`.
pub async fn connect(config: &Tls, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, TlsError> {
    let host = config.server_name.as_deref().unwrap_or(host);
    let name = ServerName::try_from(host.to_owned())
        .map_err(|source| TlsError::Name { host: host.into(), source })?;
    let connecting = TlsConnector::from(Arc::new(client(config)?)).connect(name, stream).await;
    connecting.map_err(|source| TlsError::Handshake { advice: advice(&source), source })
}

/// An error of a socket that TLS is spoken over: a broker that wants to see a certificate says so only
/// after the handshake (RFC 8446 §4.4.2.4).
pub fn of_socket(error: io::Error) -> Result<TlsError, io::Error> {
    match error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        true => Ok(TlsError::Handshake { advice: advice(&error), source: error }),
        false => Err(error),
    }
}

/// What is wrong with a handshake, and where it is mended.
fn advice(error: &io::Error) -> String {
    let date = |time: &UnixTime| UnixMicros(time.as_secs().saturating_mul(1_000_000)).to_string();
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return "the broker broke off the TLS handshake: is this port TLS?".into();
    };
    match error {
        rustls::Error::InvalidCertificate(why) => match why {
            CertificateError::ExpiredContext { time, not_after } => format!(
                "the broker's certificate has expired on {}, and this board's clock says {}: renew it, or set the clock",
                date(not_after),
                date(time)
            ),
            CertificateError::NotValidYetContext { time, not_before } => format!(
                "the broker's certificate holds from {} on, and this board's clock says {}: set the clock",
                date(not_before),
                date(time)
            ),
            CertificateError::NotValidForNameContext { expected, presented } => format!(
                "the broker's certificate is for {}, not for {:?}: write one of those names into [broker] url or \
                 server_name",
                presented.join(", "),
                expected.to_str()
            ),
            // Another authority of the same name shows in the signature only.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the broker's certificate is signed by nobody that we trust: set [broker] ca_file to its authority".into()
            }
            _ => "the broker's certificate cannot be trusted".into(),
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => {
                "the broker wants to see a certificate of ours: set [broker] cert_file and key_file".into()
            }
            AlertDescription::NoApplicationProtocol => {
                "the broker speaks none of the protocols in [broker] alpn".into()
            }
            AlertDescription::UnrecognisedName => {
                "the broker does not know the name that we asked for: see [broker] url and server_name".into()
            }
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied => "the broker does not accept our certificate ([broker] cert_file)".into(),
            _ => "the broker broke off the TLS handshake".into(),
        },
        rustls::Error::InvalidMessage(_) => "the broker does not speak TLS on this port: see [broker] url".into(),
        _ => "the TLS handshake with the broker failed".into(),
    }
}

/// `check`'s question: are the files what they are named as?
pub fn look(config: &Tls) -> Result<(), TlsError> {
    client(config).map(drop)
}

fn client(config: &Tls) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Identity)?
        .with_root_certificates(authorities(config)?);
    let mut client = match &config.identity {
        None => builder.with_no_client_auth(),
        Some((cert_file, key_file)) => {
            let key = PrivateKeyDer::from_pem_file(key_file)
                .map_err(|source| TlsError::Pem { path: key_file.clone(), source })?;
            builder.with_client_auth_cert(certificates(cert_file)?, key).map_err(TlsError::Identity)?
        }
    };
    client.alpn_protocols = config.alpn.iter().map(|protocol| protocol.clone().into_bytes()).collect();
    Ok(client)
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
