//! TLS on both sides: certificates that can be replaced while running, and the two configurations.
//!
//! Always the ring provider, named explicitly: a process-wide default provider would be a global
//! that any dependency could change. TLS 1.2 and 1.3. Used by the doors (server) and the client pump.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use arc_swap::ArcSwap;
use postern_proto::envelope::TlsFacts;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, CommonState, DigitallySignedStruct, ProtocolVersion, ServerConfig, SignatureScheme};

/// Where a certificate lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the certificate, then its chain.
    pub cert: PathBuf,
    /// PEM: PKCS #8, PKCS #1 or SEC 1, without a passphrase.
    pub key: PathBuf,
}

/// Why a certificate cannot be used, which file it is about, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file could not be read.
    #[error("{}: {error}; give the path of a PEM file that the user postern runs as may read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// No certificate in the file, or what is there is not one.
    #[error("{}: no usable certificate ({why}); it needs PEM blocks of BEGIN CERTIFICATE, the server's own first", path.display())]
    Certificate {
        /// Which.
        path: PathBuf,
        /// The parser's words.
        why: String,
    },
    /// No private key in the file, or one of an unknown kind.
    #[error("{}: no usable private key ({why}); it needs one PEM block of BEGIN PRIVATE KEY, without a passphrase", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// The parser's words.
        why: String,
    },
    /// Certificate and key are not a pair.
    #[error("{} and {}: the certificate is for another key; renew both, or name the files of one pair", cert.display(), key.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A certificate of our own could not be made or written.
    #[error("{}: {why}; make the directory writable, or name certificate files in the configuration", path.display())]
    Make {
        /// Where.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
}

/// A certificate that can be replaced while connections come in. Clones share it.
#[derive(Clone, Debug)]
pub struct ReloadableCert {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    files: CertificateFiles,
    current: ArcSwap<CertifiedKey>,
}

impl ReloadableCert {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] names file and cure.
    pub fn load(files: CertificateFiles) -> Result<Self, TlsError> {
        let current = ArcSwap::from_pointee(read_pair(&files)?);
        Ok(Self { shared: Arc::new(Shared { files, current }) })
    }

    /// Reads the files again; new connections get the new certificate. On error the old one stays.
    ///
    /// # Errors
    /// [`TlsError`] names file and cure.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.shared.current.store(Arc::new(read_pair(&self.shared.files)?));
        Ok(())
    }

    /// The chain now in use, DER, the server's own certificate first.
    pub fn chain(&self) -> Vec<Vec<u8>> {
        self.shared.current.load().cert.iter().map(|cert| cert.to_vec()).collect()
    }

    /// Where it was read from.
    pub fn files(&self) -> &CertificateFiles {
        &self.shared.files
    }
}

impl ResolvesServerCert for Shared {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn read_pair(files: &CertificateFiles) -> Result<CertifiedKey, TlsError> {
    let read = |path: &Path| fs::read(path).map_err(|error| TlsError::Read { path: path.into(), error });
    let (cert_pem, key_pem) = (read(&files.cert)?, read(&files.key)?);
    let bad_cert = |why: String| TlsError::Certificate { path: files.cert.clone(), why };
    let bad_key = |why: String| TlsError::Key { path: files.key.clone(), why };
    let chain = CertificateDer::pem_slice_iter(&cert_pem)
        .collect::<Result<Vec<_>, pem::Error>>()
        .map_err(|error| bad_cert(error.to_string()))?;
    if chain.is_empty() {
        return Err(bad_cert("none found".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| bad_key(error.to_string()))?;
    match CertifiedKey::from_der(chain, key, &ring::default_provider()) {
        Ok(pair) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(TlsError::Mismatch { cert: files.cert.clone(), key: files.key.clone() })
        }
        Err(error @ rustls::Error::InvalidCertificate(_)) => Err(bad_cert(error.to_string())),
        Err(error) => Err(bad_key(error.to_string())),
    }
}

/// Makes `cert.pem` and `key.pem` (0600) in `dir` unless both are there already.
///
/// Senders at large do not verify (RFC 7435), so a certificate of our own already hides mail from
/// everybody who only listens. Where a domain has published more, [`crate::published`] says so.
///
/// # Errors
/// [`TlsError::Make`].
pub fn self_signed(dir: &Path, names: &[String]) -> Result<CertificateFiles, TlsError> {
    let files = CertificateFiles { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
    if files.cert.exists() && files.key.exists() {
        return Ok(files);
    }
    let failed = |path: &Path, why: &dyn std::fmt::Display| TlsError::Make { path: path.into(), why: why.to_string() };
    let made = rcgen::generate_simple_self_signed(names.to_vec()).map_err(|error| failed(dir, &error))?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| failed(dir, &error))?;
    // The key first: a crash between the two leaves a pair that is made anew.
    write_file(&files.key, made.signing_key.serialize_pem().as_bytes(), 0o600)
        .map_err(|error| failed(&files.key, &error))?;
    write_file(&files.cert, made.cert.pem().as_bytes(), 0o644).map_err(|error| failed(&files.cert, &error))?;
    Ok(files)
}

/// Whole or not at all: written beside, synced, renamed.
fn write_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let beside = path.with_extension("new");
    let _ = fs::remove_file(&beside);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// The server side.
///
/// Kept small for thousands of idle connections: no session cache (tickets carry the state: one ring
/// key, rotated by rustls), one ticket after a TLS 1.3 handshake instead of two, no early data, no
/// ALPN. rustls gives its record buffers back while a connection is idle. Fragments stay at
/// 16 KiB, because smaller ones cost CPU on every message and save nothing at rest.
pub fn server_config(cert: &ReloadableCert) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the ring provider serves TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&cert.shared) as Arc<dyn ResolvesServerCert>);
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    match ring::Ticketer::new() {
        Ok(ticketer) => config.ticketer = ticketer,
        Err(error) => tracing::warn!(%error, "TLS session tickets are off"),
    }
    config.send_tls13_tickets = 1;
    Arc::new(config)
}

/// The client side, opportunistic: **no certificate is verified**, as SMTP to a next hop that has
/// published nothing cannot know what to verify against (RFC 7435). The signature over the handshake
/// is checked, so that the facts told about the session are true.
pub fn client_config() -> Arc<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Unverified { algorithms: provider.signature_verification_algorithms };
    Arc::new(
        client_builder(provider).dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth(),
    )
}

pub(crate) fn client_builder(
    provider: Arc<CryptoProvider>,
) -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the ring provider serves TLS 1.2 and 1.3")
}

/// What is worth telling about a session whose handshake is done.
pub fn facts(session: &CommonState) -> Option<TlsFacts> {
    let version = match session.protocol_version()? {
        ProtocolVersion::TLSv1_3 => "TLSv1.3".to_owned(),
        ProtocolVersion::TLSv1_2 => "TLSv1.2".to_owned(),
        other => format!("{other:?}"),
    };
    let suite = session.negotiated_cipher_suite()?.suite();
    Some(TlsFacts { version, cipher: suite.as_str().unwrap_or("unknown").to_owned() })
}

/// Takes any certificate.
#[derive(Debug)]
struct Unverified {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

mod authenticated;

pub use authenticated::{Expected, authenticated_config};

#[cfg(test)]
mod tests;
