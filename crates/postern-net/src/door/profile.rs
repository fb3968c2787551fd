//! The profile: TLS 1.3 with raw public keys both ways, and QUIC's limits by class of peer.
//!
//! One place for both ends, so that they cannot drift apart. A verifier here takes any well-formed
//! key (server side) or the keys that were expected (client side); whose key it is and what it may do is
//! decided by the caller after the handshake. None of quinn's defaults that cost memory is left as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use postern_proto::door::PeerClass;
use postern_proto::door::limits::ALPN;
use postern_proto::envelope::TlsFacts;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ConnectionIdGenerator, EndpointConfig, MtuDiscoveryConfig, TransportConfig, ValidationTokenConfig, VarInt,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring as provider, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::{
    CertificateError, CipherSuite, DigitallySignedStruct, DistinguishedName, PeerIncompatible, SignatureScheme,
};

use super::key::{KeyPair, PublicKey};

/// Connection attempts that wait for the listener. Each keeps its first datagram, 1.5 KiB: 192 KiB in all. Full:
/// the next one is refused, and its owner tries again.
const INCOMING_MAX: usize = 128;
/// What a waiting attempt may keep beyond its first datagram: the second of a post-quantum ClientHello, once
/// repeated. More is dropped, and QUIC sends it again.
const INCOMING_BYTES_EACH: u64 = 3 * 1500;
/// The same for all of them.
const INCOMING_BYTES_ALL: u64 = INCOMING_MAX as u64 * INCOMING_BYTES_EACH;
/// TLS messages that arrive out of order. A whole handshake with raw keys takes 0.5 KiB here, 1.7 KiB with a
/// post-quantum group. More breaks the connection off.
const CRYPTO_BYTES: usize = 4096;
/// What the server holds of its own words until they are acknowledged: SMTP replies and frames, some
/// tens of octets each. Full: the session waits with its next reply.
const SERVER_SEND_BYTES: u64 = 64 * 1024;
/// The same at the client, where the mail is: what 100 ms at 320 Mbit/s has under way.
const CLIENT_SEND_BYTES: u64 = 4 << 20;
/// What the client takes of a server's replies before it reads them: 1,000 pipelined replies of 64 octets.
const CLIENT_RECEIVE_BYTES: u32 = 64 * 1024;
/// The same for all streams of a connection.
pub(super) const CLIENT_RECEIVE_BYTES_ALL: u32 = 4 * CLIENT_RECEIVE_BYTES;
/// Silence after which a connection is over without a word. The client's keep-alive comes twice in it, and a lost one is
/// sent again. The handshake's own deadline is the listener's.
const IDLE: Duration = Duration::from_secs(30);
/// How often the client shows that it lives. Below 20 s, because that is as long as many NATs remember a UDP
/// flow, and migration is off: a new port on the outside would end the connection. The client ends links that
/// carry nothing by itself, so this does not keep idle ones alive for ever.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Between two stateless resets. quinn's 20 ms would let a server that was killed tell 50 links a second, and who is not
/// told waits for the next repetition, which doubles. Strangers cause none: the gate passes only ids that are ours, so two
/// doors cannot answer each other's resets either. A thousand a second of 40 octets cost a thousandth of a core.
const RESET_INTERVAL: Duration = Duration::from_millis(1);
/// The first guess of the round trip. quinn's 333 ms would make a lost first datagram cost a second.
const FIRST_RTT: Duration = Duration::from_millis(100);
/// Stands where TLS wants a server's name. It is never sent (no SNI: the door has one key, and a
/// listener on the wire need not learn the domain) and never compared: keys are.
pub(super) const NO_NAME: &str = "postern.invalid";

/// The server's configurations by class, made once for each key: TLS is shared, the transport differs. Clones are the same.
#[derive(Clone, Debug)]
pub struct ServerProfile {
    by_class: Arc<ArcSwap<ByClass>>,
}

type ByClass = [Arc<quinn::ServerConfig>; PeerClass::ALL.len()];

impl ServerProfile {
    /// For a server that shows this key.
    pub fn new(keys: &KeyPair) -> Self {
        Self { by_class: Arc::new(ArcSwap::from_pointee(by_class(keys))) }
    }

    /// Shows another key from now on. Handshakes that have begun and connections that are open keep what they have.
    pub fn show(&self, keys: &KeyPair) {
        self.by_class.store(Arc::new(by_class(keys)));
    }

    /// For `Incoming::accept_with`.
    pub fn of(&self, class: PeerClass) -> Arc<quinn::ServerConfig> {
        Arc::clone(&self.by_class.load()[class as usize])
    }
}

/// The server's configuration for peers of a class. The endpoint itself takes the stranger's.
pub fn server_config(keys: &KeyPair, class: PeerClass) -> quinn::ServerConfig {
    with_transport(server_tls(keys), class)
}

/// The configuration of a server's endpoint.
///
/// `reset_secret` keys stateless resets (RFC 9000 section 10.3). Derived from the door's master it outlives a restart, and
/// clients of the process before learn within a round trip that their connection is gone. `cid` makes the connection
/// ids, 16 octets, that the gate knows again.
pub fn endpoint_config<F>(reset_secret: &[u8; 32], cid: F) -> EndpointConfig
where
    F: Fn() -> Box<dyn ConnectionIdGenerator> + Send + Sync + 'static,
{
    let mut config = plain_endpoint(reset_secret);
    config.cid_generator(cid).min_reset_interval(RESET_INTERVAL);
    config
}

/// An endpoint with quinn's own connection ids: the client's.
pub(super) fn plain_endpoint(reset_secret: &[u8; 32]) -> EndpointConfig {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, reset_secret);
    let mut config = EndpointConfig::new(Arc::new(key));
    config.grease_quic_bit(false).supported_versions(vec![1]);
    config
}

/// The key that the other side proved to own. `None` before the handshake is done.
///
/// At the server that is also "some key, nobody knows whose".
pub fn peer_key(connection: &quinn::Connection) -> Option<PublicKey> {
    let shown = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    PublicKey::from_spki(shown.first()?).ok()
}

/// What the Received field says of a mail stream's TLS. There is but one suite, and quinn does not tell.
pub fn tls_facts() -> TlsFacts {
    TlsFacts { version: "TLSv1.3".to_owned(), cipher: "TLS13_AES_128_GCM_SHA256".to_owned() }
}

/// Gives a connection the streams and the window of a class, when the server has learnt more about the peer than the
/// gate knew.
///
/// What can be raised: streams at once, receive window and (the listener's own) deadlines and lifetime.
/// What stays as at accept: the window of a single stream, the idle timeout, MTU discovery. So a peer who
/// came as a stranger and is known gets 64 KiB a stream until he comes again with a ticket. Lowering takes
/// effect only as streams end and data is read.
pub fn raise(connection: &quinn::Connection, class: PeerClass) {
    let limits = class.limits();
    connection.set_receive_window(window(limits.window_bytes));
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(limits.streams + 1));
}

fn by_class(keys: &KeyPair) -> ByClass {
    let tls = server_tls(keys);
    PeerClass::ALL.map(|class| Arc::new(with_transport(Arc::clone(&tls), class)))
}

fn with_transport(tls: Arc<QuicServerConfig>, class: PeerClass) -> quinn::ServerConfig {
    let mut config = quinn::ServerConfig::with_crypto(tls);
    // Tokens are ours (tickets, cookies): quinn's are neither sent nor asked for.
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0);
    config
        .transport_config(Arc::new(server_transport(class)))
        .validation_token_config(tokens)
        .migration(false)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES_EACH)
        .incoming_buffer_size_total(INCOMING_BYTES_ALL);
    config
}

fn server_transport(class: PeerClass) -> TransportConfig {
    let limits = class.limits();
    let mut config = TransportConfig::default();
    let window = window(limits.window_bytes);
    let small = class < PeerClass::Vouched;
    config
        // One more than mail streams: the control stream.
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.streams + 1))
        .receive_window(window)
        .stream_receive_window(window)
        .send_window(SERVER_SEND_BYTES)
        .max_idle_timeout(Some(idle(IDLE)))
        .mtu_discovery_config((!small).then(MtuDiscoveryConfig::default));
    common(&mut config);
    config
}

pub(super) fn client_transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(CLIENT_RECEIVE_BYTES_ALL))
        .stream_receive_window(VarInt::from_u32(CLIENT_RECEIVE_BYTES))
        .send_window(CLIENT_SEND_BYTES)
        .max_idle_timeout(Some(idle(IDLE)))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(FIRST_RTT);
    common(&mut config);
    config
}

/// What is the same at both ends and in every class.
fn common(config: &mut TransportConfig) {
    config
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0)
        .crypto_buffer_size(CRYPTO_BYTES)
        .allow_spin(false);
}

fn window(bytes: u64) -> VarInt {
    VarInt::from_u64(bytes).expect("windows are megabytes at most")
}

fn idle(time: Duration) -> quinn::IdleTimeout {
    time.try_into().expect("an idle timeout is seconds")
}

/// ring, named explicitly. X25519 only: ring has no post-quantum group, and the other two curves would be
/// more code for strangers to reach. One suite, the one that TLS 1.3 makes everybody have (RFC 8446 section 9.1).
fn crypto() -> Arc<CryptoProvider> {
    let mut ring = provider::default_provider();
    ring.kx_groups = vec![provider::kx_group::X25519];
    ring.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(ring)
}

fn server_tls(keys: &KeyPair) -> Arc<QuicServerConfig> {
    Arc::new(QuicServerConfig::try_from(server_rustls(keys)).expect("the ring provider has AES-128-GCM"))
}

fn server_rustls(keys: &KeyPair) -> rustls::ServerConfig {
    let crypto = crypto();
    let verifier = AnyKey { algorithms: crypto.signature_verification_algorithms };
    let mut config = rustls::ServerConfig::builder_with_provider(crypto)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the ring provider serves TLS 1.3")
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(keys.certified())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Early data can be replayed. Resumption saves a quarter of a handshake, and its tickets neither survive a
    // restart of the client nor can they be shared by its processes: the door's own tickets carry the trust.
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config
}

/// The client's TLS for one attempt: shows `keys`, takes a key whose SHA-256 is one of `expected`.
///
/// The second value tells after the attempt whether the server showed another one.
pub(super) fn client_tls(keys: &KeyPair, expected: &[[u8; 32]]) -> (Arc<QuicClientConfig>, WrongKeyShown) {
    let (config, wrong) = client_rustls(keys, expected);
    (Arc::new(QuicClientConfig::try_from(config).expect("the ring provider has AES-128-GCM")), wrong)
}

fn client_rustls(keys: &KeyPair, expected: &[[u8; 32]]) -> (rustls::ClientConfig, WrongKeyShown) {
    let crypto = crypto();
    let wrong = WrongKeyShown::default();
    let verifier = OneOf {
        expected: expected.to_vec(),
        algorithms: crypto.signature_verification_algorithms,
        wrong: Arc::clone(&wrong),
    };
    let mut config = rustls::ClientConfig::builder_with_provider(crypto)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the ring provider serves TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(keys.certified())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_early_data = false;
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    (config, wrong)
}

/// Set when the server showed a key that was not expected of it: quinn tells only that TLS failed.
pub(super) type WrongKeyShown = Arc<AtomicBool>;

/// Signatures that the two kinds of keys make.
const SCHEMES: [SignatureScheme; 2] = [SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256];

fn verify(
    message: &[u8],
    key: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    verify_tls13_signature_with_raw_key(message, &SubjectPublicKeyInfoDer::from(key.as_ref()), signed, algorithms)
}

/// Takes any key of the two kinds: whose it is, is asked later.
#[derive(Debug)]
struct AnyKey {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match PublicKey::from_spki(key) {
            Ok(_) if chain.is_empty() => Ok(ClientCertVerified::assertion()),
            _ => Err(CertificateError::BadEncoding.into()),
        }
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
        verify(message, key, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Takes the keys that this server is expected to have.
#[derive(Debug)]
struct OneOf {
    /// As TLSA records and known keys have in common: SHA-256.
    expected: Vec<[u8; 32]>,
    algorithms: WebPkiSupportedAlgorithms,
    wrong: WrongKeyShown,
}

impl ServerCertVerifier for OneOf {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let key = PublicKey::from_spki(key).ok();
        if chain.is_empty() && key.as_ref().is_some_and(|key| self.expected.contains(&key.sha256())) {
            return Ok(ServerCertVerified::assertion());
        }
        self.wrong.store(true, Ordering::Relaxed);
        Err(CertificateError::ApplicationVerificationFailure.into())
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
        verify(message, key, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
