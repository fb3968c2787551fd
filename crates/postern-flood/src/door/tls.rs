//! The TLS and QUIC side of whoever we play: raw public keys (RFC 7250), one configuration per attempt.
//!
//! The friends of a flood are written apart from the door client of `postern-net`, so that they can speak to stock servers
//! too, count what they wait for, and misbehave. Owns no socket.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postern_net::door::KeyPair;
use postern_proto::door::limits::{ALPN, CID_BYTES};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use quinn::rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use quinn::rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use quinn::rustls::pki_types::pem::PemObject;
use quinn::rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use quinn::rustls::sign::CertifiedKey;
use quinn::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, PeerIncompatible, SignatureScheme, version,
};
use quinn::{ConnectionId, TokenStore, TransportConfig, VarInt};

use bytes::Bytes;

use crate::plan::FloodError;

/// What stands where TLS wants a name; never sent.
pub(super) const NO_NAME: &str = "postern.invalid";

/// A key of ours, as TLS wants it.
#[derive(Clone)]
pub(super) struct Identity(Arc<CertifiedKey>);

impl Identity {
    /// A key that no door has heard of.
    pub(super) fn unknown() -> Result<Self, FloodError> {
        let der = KeyPair::generate().map_err(|error| FloodError::Plan(error.to_string()))?;
        Self::of(PrivatePkcs8KeyDer::from(der))
    }

    /// The key in a PEM file.
    pub(super) fn load(path: &Path) -> Result<Self, FloodError> {
        let bad = |why: String| FloodError::Plan(format!("{}: {why}", path.display()));
        Self::of(PrivatePkcs8KeyDer::from_pem_file(path).map_err(|error| bad(error.to_string()))?)
    }

    fn of(der: PrivatePkcs8KeyDer<'static>) -> Result<Self, FloodError> {
        let bad = |why: String| FloodError::Plan(format!("no private key: {why}"));
        let key = ring::sign::any_supported_type(&PrivateKeyDer::Pkcs8(der)).map_err(|error| bad(error.to_string()))?;
        let spki = key.public_key().ok_or_else(|| bad("it does not tell its public key".to_owned()))?;
        let shown = vec![CertificateDer::from(spki.as_ref().to_vec())];
        Ok(Self(Arc::new(CertifiedKey::new(shown, key))))
    }

    /// As a client of the door, that expects this key (SubjectPublicKeyInfo) or takes any.
    pub(super) fn client(&self, expected: Option<Vec<u8>>) -> Arc<ClientConfig> {
        let provider = Arc::new(provider());
        let verifier = Arc::new(Expect { key: expected, provider: Arc::clone(&provider) });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .expect("ring has suites of TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&self.0))));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Arc::new(config)
    }
}

/// X25519 and AES-128-GCM: what the figures of the design were measured with.
pub(super) fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.kx_groups = vec![ring::kx_group::X25519];
    provider.cipher_suites = vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider
}

/// How one attempt is made: the connection id and the token go together.
pub(super) fn attempt(tls: &Arc<ClientConfig>, dcid: [u8; CID_BYTES], token: Option<Vec<u8>>) -> quinn::ClientConfig {
    let crypto = QuicClientConfig::try_from(Arc::clone(tls)).expect("a suite that protects Initials is there");
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&dcid)));
    config.token_store(Arc::new(Once(Mutex::new(token))));
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .mtu_discovery_config(None)
        .receive_window(VarInt::from_u32(RECEIVE_BYTES))
        .keep_alive_interval(Some(Duration::from_secs(5)))
        // The first guess: with quinn's 333 ms a lost first packet would cost a second, and the door be blamed for it.
        .initial_rtt(Duration::from_millis(50));
    config.transport_config(Arc::new(transport));
    config
}

/// What is taken of replies before they are read.
pub(super) const RECEIVE_BYTES: u32 = 256 * 1024;

/// Gives its token once: in the attempt that it was made for.
struct Once(Mutex<Option<Vec<u8>>>);

impl TokenStore for Once {
    fn insert(&self, _: &str, _: Bytes) {}

    fn take(&self, _: &str) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().map(Into::into)
    }
}

/// A server is its key.
#[derive(Debug)]
struct Expect {
    key: Option<Vec<u8>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Expect {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.key {
            Some(key) if key[..] != shown[..] => Err(CertificateError::ApplicationVerificationFailure.into()),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(shown.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
