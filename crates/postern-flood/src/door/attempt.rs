//! A QUIC client without a policy: a throwaway key, any server key, and for each attempt a connection id and a token.
//!
//! Friends and bots of the generator are both made of it. It does not verify whom it talks to: the target is this
//! machine's own ([`crate::target`]), and a measured server may have been started a second ago.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use postern_proto::door::limits::{ALPN, CID_BYTES};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connecting, ConnectionId, Endpoint, TransportConfig};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use tokio_rustls::rustls::crypto::{WebPkiSupportedAlgorithms, ring as provider, verify_tls13_signature_with_raw_key};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, DigitallySignedStruct, PeerIncompatible, SignatureScheme};

/// What all attempts of one key share.
#[derive(Clone)]
pub(super) struct Dialler {
    tls: Arc<QuicClientConfig>,
    transport: Arc<TransportConfig>,
}

impl Dialler {
    /// With this private key (PKCS #8, DER, Ed25519).
    ///
    /// # Errors
    /// It is no such key.
    pub(super) fn new(pkcs8: &[u8]) -> Result<Self, rustls::Error> {
        let key = provider::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.to_vec()))?;
        let spki = key.public_key().ok_or(rustls::Error::General("a key without its public half".into()))?;
        let shown = vec![CertificateDer::from(spki.as_ref().to_vec())];
        let certified = Arc::new(CertifiedKey::new(shown, key));
        let mut crypto = provider::default_provider();
        crypto.kx_groups = vec![provider::kx_group::X25519];
        let verifier = Anybody(crypto.signature_verification_algorithms);
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(crypto))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        let tls = QuicClientConfig::try_from(config).map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut transport = TransportConfig::default();
        transport.max_concurrent_uni_streams(0_u8.into()).keep_alive_interval(Some(KEEP_ALIVE)).initial_rtt(FIRST_RTT);
        Ok(Self { tls: Arc::new(tls), transport: Arc::new(transport) })
    }

    /// Begins a connection; with the empty token, one like any QUIC client's.
    ///
    /// # Errors
    /// The endpoint is closed.
    pub(super) fn dial(
        &self,
        endpoint: &Endpoint,
        target: SocketAddr,
        dcid: [u8; CID_BYTES],
        token: &[u8],
    ) -> Result<Connecting, quinn::ConnectError> {
        let mut config = ClientConfig::new(Arc::clone(&self.tls) as _);
        let token = (!token.is_empty()).then(|| Bytes::copy_from_slice(token));
        config
            .transport_config(Arc::clone(&self.transport))
            .initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&dcid)))
            .token_store(Arc::new(OneToken(Mutex::new(token))));
        endpoint.connect_with(config, target, "postern.invalid")
    }
}

/// Links that wait for the next message stay open, also at a stock server (30 s).
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// On loopback a round trip is no time; quinn's own guess of 333 ms would make each lost first datagram cost a second.
const FIRST_RTT: Duration = Duration::from_millis(100);

struct OneToken(Mutex<Option<Bytes>>);

impl quinn::TokenStore for OneToken {
    fn insert(&self, _server_name: &str, _token: Bytes) {}

    fn take(&self, _server_name: &str) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _key: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature_with_raw_key(message, &SubjectPublicKeyInfoDer::from(key.as_ref()), signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
