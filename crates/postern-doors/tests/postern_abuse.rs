//! The postern against those who are inside, or half inside, and mean harm: what they hold is bounded and comes back.
//!
//! The attacker speaks QUIC by himself, with the prelude of the protocol and no client of ours; the honest one has the
//! client of `postern-net`.

use std::net::UdpSocket;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use postern_doors::gate::{DoorSockets, Gate, GateOptions};
use postern_doors::postern::{Postern, PosternOptions, Proof, Prover};
use postern_doors::{Policy, Recipients};
use postern_net::door::{DoorAddress, DoorClient, DoorClientOptions, KeyPair, Link, PublicKey, Purse, ServerProfile};
use postern_proto::door::limits::{CHALLENGE_BYTES, HELLO_BYTES_MIN};
use postern_proto::door::{Challenge, CloseCode, Frame, FrameReader, Keyring, Master, PeerClass, hello};
use postern_proto::envelope::Via;
use postern_proto::mode::{Mode, Modes};
use postern_proto::session::SessionOptions;
use postern_spool::{Spool, SpoolOptions};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, ConnectionId, Endpoint, RecvStream, SendStream};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Says of every key that it is what the name says: the friend is known, all others are proven.
struct Everybody;

impl Prover for Everybody {
    fn prove(&self, domain: &str, _: Option<&str>, _: &PublicKey, answer: Box<dyn FnOnce(Proof) + Send>) {
        let org = domain.to_owned();
        answer(if domain == "friend.example" { Proof::Pinned { org } } else { Proof::Proven { org } });
    }
}

struct Site {
    postern: Postern,
    key: PublicKey,
    dir: tempfile::TempDir,
}

impl Site {
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(SpoolOptions::new(dir.path().join("spool"))).unwrap();
        let sockets = DoorSockets::open("127.0.0.1:0".parse().unwrap()).unwrap();
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let keys = Keyring::new(&Master::new([7; 32]), now_s);
        let gate = Arc::new(Mutex::new(Gate::new(keys, GateOptions::default(), [5; 16])));
        let own = KeyPair::from_pkcs8(&KeyPair::generate().unwrap()).unwrap();
        let mut session = SessionOptions::new("mx.example.com".into(), Via::Postern);
        session.author = true;
        // What a body may be behind its floor: the test cannot wait for three minutes.
        session.limits.body = Duration::from_secs(4);
        let options =
            PosternOptions::new(sockets, gate, ServerProfile::new(&own), [1; 32], Arc::new(Everybody), session);
        let policy = Policy { domains: [("example.com".to_owned(), Recipients::Any)].into(), ..Policy::default() };
        let modes = Modes { default: Mode::Collect, ..Modes::default() };
        let (policy, modes) = (Arc::new(ArcSwap::from_pointee(policy)), Arc::new(ArcSwap::from_pointee(modes)));
        let postern = Postern::start(spool, policy, modes, options).unwrap();
        Self { postern, key: own.public().clone(), dir }
    }

    async fn friend(&self) -> Link {
        let key = KeyPair::from_pkcs8(&KeyPair::generate().unwrap()).unwrap();
        let purse = Purse::open(&self.dir.path().join("purse")).unwrap();
        let client = DoorClient::new(DoorClientOptions::new(key, "friend.example".to_owned(), purse));
        let (addresses, keys) = (vec![self.postern.addr()], vec![self.key.clone()]);
        let door = DoorAddress { domain: "example.com".to_owned(), addresses, keys, alternates: Vec::new() };
        client.connect(&door).await.unwrap()
    }

    /// HELLO and CHALLENGE. A socket waits a second for the answer.
    fn cookie(&self, socket: &UdpSocket, nonce: u64) -> [u8; 38] {
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let nonce = nonce.to_be_bytes();
        let mut datagram = [0; HELLO_BYTES_MIN];
        hello(nonce, &mut datagram);
        for _ in 0..10 {
            socket.send_to(&datagram, self.postern.addr()).unwrap();
            let mut answer = [0; CHALLENGE_BYTES];
            if socket.recv_from(&mut answer).is_ok()
                && let Some(challenge) = Challenge::parse(&answer, nonce)
            {
                return challenge.token();
            }
        }
        panic!("no CHALLENGE came");
    }

    /// A handshake of QUIC and TLS, and not a word after it.
    async fn intrude(&self) -> Connection {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        // A cookie is for one connection, and of one nonce and second there is one.
        let token = self.cookie(&socket, socket.local_addr().unwrap().port().into());
        socket.set_read_timeout(None).unwrap();
        let endpoint =
            Endpoint::new(quinn::EndpointConfig::default(), None, socket, Arc::new(quinn::TokioRuntime)).unwrap();
        // Who does not read is soon not written to.
        let mut transport = quinn::TransportConfig::default();
        transport.stream_receive_window(256_u32.into());
        let mut dcid = [9; 16];
        dcid[..2].copy_from_slice(&endpoint.local_addr().unwrap().port().to_be_bytes());
        let mut config = quinn::ClientConfig::new(Arc::new(tls()));
        config
            .transport_config(Arc::new(transport))
            .initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&dcid)))
            .token_store(Arc::new(OneToken(Mutex::new(Some(Bytes::copy_from_slice(&token))))));
        endpoint.connect_with(config, self.postern.addr(), "postern.invalid").unwrap().await.unwrap()
    }

    /// As a proven peer, its control stream open.
    async fn insider(&self) -> (Connection, SendStream, RecvStream) {
        let connection = self.intrude().await;
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&ident("evil.example")).await.unwrap();
        let mut frames = FrameReader::new();
        let mut buffer = [0; 2_048];
        loop {
            match frames.next().unwrap() {
                Some(Frame::Accept { class, .. }) => {
                    assert_eq!(class, PeerClass::Proven);
                    return (connection, send, receive);
                }
                Some(other) => panic!("{other:?}"),
                None => {
                    let read = receive.read(&mut buffer).await.unwrap().unwrap();
                    frames.push(&buffer[..read]);
                }
            }
        }
    }
}

fn ident(domain: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    Frame::Ident { domain: domain.to_owned(), owner: None, vouches: Vec::new() }.encode(&mut frame);
    frame
}

fn tls() -> QuicClientConfig {
    let der = PrivateKeyDer::Pkcs8(KeyPair::generate().unwrap().into());
    let key = rustls::crypto::ring::sign::any_supported_type(&der).unwrap();
    let shown = vec![CertificateDer::from(key.public_key().unwrap().to_vec())];
    let certified = Arc::new(rustls::sign::CertifiedKey::new(shown, key));
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified)));
    config.alpn_protocols = vec![b"postern-smtp/1".to_vec()];
    config.enable_sni = false;
    QuicClientConfig::try_from(config).unwrap()
}

/// An attacker does not care whom he talks to.
#[derive(Debug)]
struct Anybody;

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
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

struct OneToken(Mutex<Option<Bytes>>);

impl quinn::TokenStore for OneToken {
    fn insert(&self, _: &str, _: Bytes) {}

    fn take(&self, _: &str) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What the server ended the connection with.
async fn end_of(connection: &Connection) -> u64 {
    let reason = tokio::time::timeout(Duration::from_secs(10), connection.closed()).await.expect("closed in time");
    match reason {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("{other:?}"),
    }
}

async fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(15);
    while !done() {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One message on a new stream; the last reply.
async fn deliver(link: &Link) -> String {
    let mut stream = link.open().await.unwrap();
    let body = "From: bob@friend.example\r\nSubject: x\r\n\r\nhello\r\n";
    let text = format!(
        "EHLO x\r\nMAIL FROM:<bob@friend.example>\r\nRCPT TO:<ann@example.com>\r\nBDAT {} LAST\r\n{body}QUIT\r\n",
        body.len()
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut replies = String::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut replies)).await.expect("in time").unwrap();
    replies.lines().rev().nth(1).unwrap_or_default().to_owned()
}

/// An Initial that the gate lets through and that QUIC cannot make sense of, or that nobody goes on with.
fn initial(dcid: u64, token: &[u8; 38]) -> Vec<u8> {
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

/// The first datagram of a real handshake, taken from the wire by a socket in the middle.
async fn abandon_after_the_first_datagram(site: &Site) {
    let outside = UdpSocket::bind("127.0.0.1:0").unwrap();
    let token = site.cookie(&outside, 1);
    // quinn sends to the trap; its datagram goes on from the socket that the cookie is for, and nothing comes back.
    let trap = UdpSocket::bind("127.0.0.1:0").unwrap();
    trap.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(tls()));
    config
        .initial_dst_cid_provider(Arc::new(|| ConnectionId::new(&[8; 16])))
        .token_store(Arc::new(OneToken(Mutex::new(Some(Bytes::copy_from_slice(&token))))));
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connecting = endpoint.connect_with(config, trap.local_addr().unwrap(), "postern.invalid").unwrap();
    let addr = site.postern.addr();
    let sender = tokio::task::spawn_blocking(move || {
        let mut datagram = [0; 2_048];
        let (read, _) = trap.recv_from(&mut datagram).unwrap();
        outside.send_to(&datagram[..read], addr).unwrap();
    });
    sender.await.unwrap();
    drop(connecting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_handshake_expires_at_its_deadline_and_gives_its_place_back() {
    let site = Site::open();
    let began = Instant::now();
    abandon_after_the_first_datagram(&site).await;
    let mute = site.intrude().await;
    wait("both are under way", || site.postern.stats().snapshot().begun == 2).await;
    wait("both have expired", || site.postern.stats().snapshot().expired == 2).await;
    let took = began.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(6)).contains(&took), "strangers have 3 s: {took:?}");
    assert_eq!(end_of(&mute).await, u64::from(CloseCode::TooSlow.code()));
    wait("their places are free", || site.postern.stats().snapshot().shaking == 0).await;
    let stats = site.postern.stats().snapshot();
    assert_eq!((stats.open, stats.accepted, stats.window_bytes), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_below_the_floor_is_ended_and_its_neighbours_go_on() {
    let site = Site::open();
    let (evil, _control, _frames) = site.insider().await;
    let (mut slow, mut replies) = evil.open_bi().await.unwrap();
    slow.write_all(b"EHLO x\r\nMAIL FROM:<a@evil.example>\r\nRCPT TO:<ann@example.com>\r\nBDAT 100000 LAST\r\n")
        .await
        .unwrap();
    let drip = tokio::spawn(async move {
        while slow.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let began = Instant::now();
    let mut said = Vec::new();
    let mut buffer = [0; 1_024];
    let friend = site.friend().await;
    let neighbour = async {
        let (mut send, mut receive) = evil.open_bi().await.unwrap();
        for _ in 0..4 {
            send.write_all(b"EHLO x\r\nNOOP\r\n").await.unwrap();
            assert!(receive.read(&mut [0; 2_048]).await.unwrap().is_some(), "a neighbour on the same connection");
            assert!(deliver(&friend).await.starts_with("250"), "a friend");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let slow = tokio::time::timeout(Duration::from_secs(15), async {
        while let Ok(Some(read)) = replies.read(&mut buffer).await {
            said.extend_from_slice(&buffer[..read]);
        }
    });
    let (ended, ()) = tokio::join!(slow, neighbour);
    assert!(ended.is_ok(), "still there after {:?}", began.elapsed());
    let said = String::from_utf8_lossy(&said);
    assert!(said.lines().last().is_some_and(|line| line.starts_with("421 4.4.2")), "{said}");
    drip.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insider_that_fills_everything_holds_what_its_class_may_and_a_friend_is_served() {
    let site = Site::open();
    let (evil, _control, _frames) = site.insider().await;
    let limits = PeerClass::Proven.limits();
    let mut held = Vec::new();
    for _ in 0..limits.streams {
        let (mut send, receive) = tokio::time::timeout(Duration::from_secs(5), evil.open_bi()).await.unwrap().unwrap();
        send.write_all("EHLO x\r\nNOOP\r\n".repeat(8).as_bytes()).await.unwrap();
        held.push((send, receive));
    }
    let one_more = tokio::time::timeout(Duration::from_millis(500), evil.open_bi()).await;
    assert!(one_more.is_err(), "a stream more than the class has");
    wait("all streams are sessions", || site.postern.stats().snapshot().streams == u64::from(limits.streams)).await;
    // Nobody reads the replies: what is taken now fills windows.
    let mut taken = 0_u64;
    for (send, _) in &mut held {
        let noise = [b'x'; 16_384];
        while let Ok(Ok(written)) = tokio::time::timeout(Duration::from_secs(1), send.write(&noise)).await {
            taken += written as u64;
            assert!(taken < 64 << 20, "octets are taken without an end");
        }
    }
    let stats = site.postern.stats().snapshot();
    println!("{taken} octets taken, {stats:?}");
    assert_eq!((stats.streams, stats.window_bytes), (u64::from(limits.streams), limits.window_bytes));
    assert!((limits.window_bytes * 3 / 4..=limits.window_bytes).contains(&taken), "{taken} octets taken");
    let friend = site.friend().await;
    for _ in 0..5 {
        let reply = deliver(&friend).await;
        assert!(reply.starts_with("250"), "{reply}");
    }
    drop((held, evil));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_on_the_control_stream_closes_the_connection_as_a_protocol_error() {
    let site = Site::open();
    let (twice, mut control, _frames) = site.insider().await;
    control.write_all(&ident("evil.example")).await.unwrap();
    assert_eq!(end_of(&twice).await, u64::from(CloseCode::Protocol.code()), "IDENT twice");
    // An announcement of more than a frame may have; and an item that is none.
    for (what, octets) in [("oversized", &[0xff, 0xff][..]), ("garbage", &[0, 4, 0xff, 0xff, 0xff, 0xff][..])] {
        let (inside, mut control, _frames) = site.insider().await;
        control.write_all(octets).await.unwrap();
        assert_eq!(end_of(&inside).await, u64::from(CloseCode::Protocol.code()), "{what} after ACCEPT");
        let outside = site.intrude().await;
        let (mut control, _frames) = outside.open_bi().await.unwrap();
        control.write_all(octets).await.unwrap();
        assert_eq!(end_of(&outside).await, u64::from(CloseCode::Protocol.code()), "{what} in the place of IDENT");
    }
    assert_eq!(site.postern.stats().snapshot().protocol_errors, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cookies_of_one_address_beyond_the_budget_admit_nobody() {
    let site = Site::open();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tokens: Vec<_> = (0..300).map(|nonce| site.cookie(&socket, nonce)).collect();
    let began = Instant::now();
    for (n, token) in tokens.iter().enumerate() {
        socket.send_to(&initial(n as u64, token), site.postern.addr()).unwrap();
    }
    wait("the gate has seen them", || site.postern.gate().received >= 600).await;
    let (gate, seconds) = (site.postern.gate(), began.elapsed().as_secs_f64());
    let bytes = site.postern.shared_gate().lock().unwrap().bytes();
    println!("{gate:?} in {seconds} s; {bytes} octets of tables");
    // Fifty a second, and half a second's worth at once after a quiet time.
    let budget = 25.0 + 50.0 * seconds + 1.0;
    assert!(gate.admitted_cookie > 0 && (gate.admitted_cookie as f64) <= budget, "{} of 300", gate.admitted_cookie);
    assert_eq!(gate.admitted_cookie + gate.appointments, 300, "the others were told to come later");
}
