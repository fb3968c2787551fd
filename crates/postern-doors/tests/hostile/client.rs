//! A peer of the postern for the tests: its key, its way through the gate, its control stream and
//! its mail. It does what door/1 says and, where a test wants it, less.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern_net::door::{KeyPair, PublicKey};
use postern_proto::door::limits::{ALPN, CHALLENGE_BYTES, COOKIE_TOKEN_BYTES, HELLO_BYTES_MIN};
use postern_proto::door::{Challenge, Frame, FrameReader, PeerClass, hello, ticket};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, ConnectionId, Endpoint, RecvStream, SendStream, TokenStore, TransportConfig};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::blunt::PATIENCE;
use crate::tampered::{Script, Tampered};

/// What a client keeps of its own until the server has it.
pub(crate) const SEND_WINDOW_BYTES: u64 = 1 << 20;

/// A peer and its key.
pub(crate) struct Peer {
    pub(crate) domain: String,
    pub(crate) key: PublicKey,
    tls: Arc<dyn quinn::crypto::ClientConfig>,
    /// Of each stream.
    receive_window: u32,
}

/// A ticket and its key.
pub(crate) type Held = ([u8; 54], [u8; 16]);

/// A connection that was let in.
pub(crate) struct Link {
    pub(crate) connection: quinn::Connection,
    pub(crate) class: PeerClass,
    pub(crate) tickets: Vec<Held>,
    /// Kept open.
    pub(crate) control: (SendStream, RecvStream),
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
        let tls = Arc::new(QuicClientConfig::try_from(tls).unwrap());
        Self { domain: domain.to_owned(), key, tls, receive_window: 64 << 10 }
    }

    /// Who does not read is soon not written to.
    pub(crate) fn that_reads_little(self) -> Self {
        Self { receive_window: 256, ..self }
    }

    /// Once it is in, a script writes its packets.
    pub(crate) fn that_follows(self, script: &Script) -> Self {
        Self { tls: Arc::new(Tampered { honest: self.tls, script: script.clone() }), ..self }
    }

    /// Its first frame.
    pub(crate) fn ident(&self) -> Vec<u8> {
        let mut ident = Vec::new();
        Frame::Ident { domain: self.domain.clone(), owner: None, vouches: Vec::new() }.encode(&mut ident);
        ident
    }

    /// For one attempt with this connection id and token.
    fn config(&self, dcid: [u8; 16], token: Vec<u8>) -> quinn::ClientConfig {
        let mut config = quinn::ClientConfig::new(Arc::clone(&self.tls));
        let mut transport = TransportConfig::default();
        transport
            .send_window(SEND_WINDOW_BYTES)
            .stream_receive_window(self.receive_window.into())
            .max_idle_timeout(Some(Duration::from_secs(60).try_into().unwrap()));
        config
            .transport_config(Arc::new(transport))
            .token_store(Arc::new(Once(Mutex::new(Some(token.into())))))
            .initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&dcid)));
        config
    }

    /// The first datagram of a handshake, taken from the wire by a socket in the middle, and nothing after it.
    pub(crate) async fn begin_and_leave(&self, door: SocketAddr) {
        let token = tokio::task::spawn_blocking(move || cookie(door)).await.unwrap();
        // quinn sends to the trap; what it sent goes on from another socket, and nothing comes back.
        let (trap, outside) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        trap.set_read_timeout(Some(PATIENCE)).unwrap();
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let config = self.config(random(), token.to_vec());
        let connecting = endpoint.connect_with(config, trap.local_addr().unwrap(), "postern.invalid").unwrap();
        let sender = tokio::task::spawn_blocking(move || {
            let mut datagram = [0; 2_048];
            let (read, _) = trap.recv_from(&mut datagram).unwrap();
            outside.send_to(&datagram[..read], door).unwrap();
        });
        sender.await.unwrap();
        drop(connecting);
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
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let connection = endpoint.connect_with(self.config(dcid, token), door, "postern.invalid").unwrap().await?;
        Ok((endpoint, connection))
    }

    /// All the way in.
    pub(crate) async fn enter(&self, door: SocketAddr, ticket: Option<Held>) -> Result<Link, Refused> {
        let (endpoint, connection) = self.shake(door, ticket).await.map_err(Refused::Ended)?;
        let (mut send, mut receive) = connection.open_bi().await.map_err(Refused::Ended)?;
        let _gone = send.write_all(&self.ident()).await;
        let (mut reader, mut tickets, mut accepted) = (FrameReader::new(), Vec::new(), None);
        let wanted = if ticket.is_some() { 2 } else { 4 };
        let mut buffer = [0; 4_096];
        // ACCEPT and its tickets are said in one breath.
        while accepted.is_none() || tickets.len() < wanted {
            let Ok(Some(read)) = receive.read(&mut buffer).await else {
                return Err(Refused::Ended(connection.closed().await));
            };
            reader.push(&buffer[..read]);
            while let Some(frame) = reader.next().unwrap() {
                match frame {
                    Frame::Accept { class, .. } => accepted = Some(class),
                    Frame::Ticket { ticket, key, .. } => tickets.push((ticket, key)),
                    Frame::Park { retry_after_s } => return Err(Refused::Parked(retry_after_s)),
                    other => panic!("{other:?}"),
                }
            }
        }
        let class = accepted.unwrap();
        Ok(Link { connection, class, tickets, control: (send, receive), _endpoint: endpoint })
    }
}

impl Link {
    /// A mail stream.
    pub(crate) async fn stream(&self) -> Mail {
        let (send, receive) = self.connection.open_bi().await.unwrap();
        Mail { send, replies: Replies { receive, read: Vec::new() } }
    }

    /// One message on a stream of its own; the reply to it.
    pub(crate) async fn deliver(&self, from: &str) -> String {
        let mut mail = self.stream().await;
        mail.say(&format!("EHLO x\r\n{}QUIT\r\n", flight(from, "Hello"))).await;
        for _ in 0..3 {
            mail.reply().await;
        }
        mail.reply().await
    }

    /// The code by which the server closes.
    pub(crate) async fn closed(&self) -> u64 {
        closed(&self.connection).await
    }
}

/// The code by which the server closes.
pub(crate) async fn closed(connection: &quinn::Connection) -> u64 {
    match connection.closed().await {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("{other}"),
    }
}

/// One mail stream.
pub(crate) struct Mail {
    pub(crate) send: SendStream,
    pub(crate) replies: Replies,
}

/// The server's half of it.
pub(crate) struct Replies {
    receive: RecvStream,
    read: Vec<u8>,
}

impl Mail {
    pub(crate) async fn say(&mut self, text: &str) {
        self.send.write_all(text.as_bytes()).await.unwrap();
    }

    /// See [`Replies::line`].
    pub(crate) async fn line(&mut self) -> String {
        self.replies.line().await
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

impl Replies {
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
}

/// A message to ann@example.com, without waiting.
pub(crate) fn flight(from: &str, body: &str) -> String {
    let message = format!("From: {from}\r\nSubject: x\r\n\r\n{body}\r\n");
    format!("MAIL FROM:<{from}>\r\nRCPT TO:<ann@example.com>\r\nBDAT {} LAST\r\n{message}", message.len())
}

/// HELLO, CHALLENGE, and the cookie in it. Waits so long for the answer that it must be lost, and asks again.
pub(crate) fn cookie(door: SocketAddr) -> [u8; COOKIE_TOKEN_BYTES] {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE / 4)).unwrap();
    let nonce: [u8; 8] = random();
    let mut packet = [0; HELLO_BYTES_MIN];
    hello(nonce, &mut packet);
    for _ in 0..4 {
        socket.send_to(&packet, door).unwrap();
        let mut answer = [0; CHALLENGE_BYTES];
        if socket.recv_from(&mut answer).is_ok()
            && let Some(challenge) = Challenge::parse(&answer, nonce)
        {
            return challenge.token();
        }
    }
    panic!("no CHALLENGE came");
}

/// An Initial that the gate lets through and that QUIC cannot make sense of.
pub(crate) fn initial(dcid: u64, token: &[u8; COOKIE_TOKEN_BYTES]) -> Vec<u8> {
    let mut datagram = vec![0xc0, 0, 0, 0, 1, 16];
    datagram.extend_from_slice(&[dcid.to_be_bytes(), dcid.to_be_bytes()].concat());
    datagram.extend_from_slice(&[0, 38]);
    datagram.extend_from_slice(token);
    // The rest of the datagram: a length of two octets, and noise.
    let rest = HELLO_BYTES_MIN - datagram.len() - 2;
    datagram.extend_from_slice(&(0x4000 | rest as u16).to_be_bytes());
    datagram.resize(HELLO_BYTES_MIN, 0x5a);
    datagram
}

pub(crate) fn now_s() -> u32 {
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
