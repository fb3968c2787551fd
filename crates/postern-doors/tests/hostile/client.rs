//! A peer of the postern for the tests: its key, its way through the gate, its control stream and
//! its mail. It does what door/1 says and, where a test wants it, less.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern_net::door::{KeyPair, PublicKey};
use postern_proto::door::limits::{ALPN, HELLO_BYTES_MIN};
use postern_proto::door::{Challenge, Frame, FrameReader, hello, ticket};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, ConnectionId, Endpoint, RecvStream, SendStream, TokenStore, TransportConfig};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::{DigitallySignedStruct, SignatureScheme};

/// What a client keeps of its own until the server has it.
pub(crate) const SEND_WINDOW_BYTES: u64 = 1 << 20;

/// A peer and its key.
pub(crate) struct Peer {
    pub(crate) domain: String,
    pub(crate) key: PublicKey,
    tls: Arc<QuicClientConfig>,
}

/// A ticket and its key.
pub(crate) type Held = ([u8; 54], [u8; 16]);

/// A connection that was let in.
pub(crate) struct Link {
    pub(crate) connection: quinn::Connection,
    pub(crate) tickets: Vec<Held>,
    /// Kept open.
    _control: (SendStream, RecvStream),
    _endpoint: Endpoint,
}

/// How it was not let in.
#[derive(Debug)]
pub(crate) enum Refused {
    /// PARK.
    Parked(u32),
    /// In any other way.
    #[expect(dead_code, reason = "for the message of a failed test")]
    Ended(ConnectionError),
}

impl Peer {
    pub(crate) fn new(domain: &str) -> Self {
        let der = KeyPair::generate().unwrap();
        let key = KeyPair::from_pkcs8(&der).unwrap().public().clone();
        let signing = ring::sign::any_supported_type(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der))).unwrap();
        let shown = vec![CertificateDer::from(key.spki().to_vec())];
        let certified = Arc::new(rustls::sign::CertifiedKey::new(shown, signing));
        let provider = Arc::new(ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified)));
        tls.alpn_protocols = vec![ALPN.to_vec()];
        Self { domain: domain.to_owned(), key, tls: Arc::new(QuicClientConfig::try_from(tls).unwrap()) }
    }

    /// Through the gate and the handshake, no further.
    pub(crate) async fn shake(
        &self,
        door: SocketAddr,
        ticket: Option<Held>,
    ) -> Result<(Endpoint, quinn::Connection), ConnectionError> {
        let dcid: [u8; 16] = random();
        let token = match ticket {
            Some((ticket, key)) => ticket::token_of(&ticket, &key, &dcid, now_s()).to_vec(),
            None => tokio::task::spawn_blocking(move || cookie(door)).await.unwrap().to_vec(),
        };
        let mut config = quinn::ClientConfig::new(Arc::clone(&self.tls) as _);
        let mut transport = TransportConfig::default();
        transport.send_window(SEND_WINDOW_BYTES).max_idle_timeout(Some(Duration::from_secs(60).try_into().unwrap()));
        config
            .transport_config(Arc::new(transport))
            .token_store(Arc::new(Once(Mutex::new(Some(token.into())))))
            .initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&dcid)));
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let connection = endpoint.connect_with(config, door, "postern.invalid").unwrap().await?;
        Ok((endpoint, connection))
    }

    /// All the way in.
    pub(crate) async fn enter(&self, door: SocketAddr, ticket: Option<Held>) -> Result<Link, Refused> {
        let (endpoint, connection) = self.shake(door, ticket).await.map_err(Refused::Ended)?;
        let (mut send, mut receive) = connection.open_bi().await.map_err(Refused::Ended)?;
        let mut ident = Vec::new();
        Frame::Ident { domain: self.domain.clone(), owner: None, vouches: Vec::new() }.encode(&mut ident);
        let _gone = send.write_all(&ident).await;
        let (mut reader, mut tickets, mut accepted) = (FrameReader::new(), Vec::new(), false);
        let wanted = if ticket.is_some() { 2 } else { 4 };
        let mut buffer = [0; 4_096];
        // ACCEPT and its tickets are said in one breath.
        while !accepted || tickets.len() < wanted {
            let Ok(Some(read)) = receive.read(&mut buffer).await else {
                return Err(Refused::Ended(connection.closed().await));
            };
            reader.push(&buffer[..read]);
            while let Some(frame) = reader.next().unwrap() {
                match frame {
                    Frame::Accept { .. } => accepted = true,
                    Frame::Ticket { ticket, key, .. } => tickets.push((ticket, key)),
                    Frame::Park { retry_after_s } => return Err(Refused::Parked(retry_after_s)),
                    other => panic!("{other:?}"),
                }
            }
        }
        Ok(Link { connection, tickets, _control: (send, receive), _endpoint: endpoint })
    }
}

impl Link {
    /// A mail stream.
    pub(crate) async fn stream(&self) -> Mail {
        let (send, receive) = self.connection.open_bi().await.unwrap();
        Mail { send, receive, read: Vec::new() }
    }

    /// The code by which the server closes.
    pub(crate) async fn closed(&self) -> u64 {
        match self.connection.closed().await {
            ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("{other}"),
        }
    }
}

/// One mail stream.
pub(crate) struct Mail {
    pub(crate) send: SendStream,
    receive: RecvStream,
    read: Vec<u8>,
}

impl Mail {
    pub(crate) async fn say(&mut self, text: &str) {
        self.send.write_all(text.as_bytes()).await.unwrap();
    }

    /// The next line, without its end; empty at the end of the stream.
    pub(crate) async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.read.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return String::from_utf8_lossy(&line).trim_end().to_owned();
            }
            let mut buffer = [0; 2_048];
            match self.receive.read(&mut buffer).await {
                Ok(Some(read)) => self.read.extend_from_slice(&buffer[..read]),
                _ => return String::new(),
            }
        }
    }

    /// The next whole reply: its last line.
    pub(crate) async fn reply(&mut self) -> String {
        loop {
            let line = self.line().await;
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }
}

/// A message to ann@example.com, without waiting.
pub(crate) fn flight(from: &str, body: &str) -> String {
    let message = format!("From: {from}\r\nSubject: x\r\n\r\n{body}\r\n");
    format!("MAIL FROM:<{from}>\r\nRCPT TO:<ann@example.com>\r\nBDAT {} LAST\r\n{message}", message.len())
}

/// HELLO, CHALLENGE, and the cookie in it.
fn cookie(door: SocketAddr) -> [u8; 38] {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let nonce: [u8; 8] = random();
    let mut packet = [0; HELLO_BYTES_MIN];
    hello(nonce, &mut packet);
    socket.send_to(&packet, door).unwrap();
    let mut answer = [0; 100];
    let (read, _) = socket.recv_from(&mut answer).unwrap();
    Challenge::parse(&answer[..read], nonce).unwrap().token()
}

fn now_s() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u32::try_from(now.as_secs()).unwrap()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// Gives one token, once.
struct Once(Mutex<Option<bytes::Bytes>>);

impl TokenStore for Once {
    fn insert(&self, _: &str, _: bytes::Bytes) {}

    fn take(&self, _: &str) -> Option<bytes::Bytes> {
        self.0.lock().unwrap().take()
    }
}

/// The tests know their server.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
