//! The profile between two real endpoints on the loopback.

use std::net::{Ipv4Addr, UdpSocket};

use quinn::{ConnectionError, Endpoint, TokioRuntime, WriteError};
use tokio::time::{Instant, timeout};

use super::*;

fn key() -> KeyPair {
    KeyPair::from_pkcs8(&KeyPair::generate().expect("made")).expect("a key")
}

fn endpoint(server: Option<quinn::ServerConfig>) -> Endpoint {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    Endpoint::new(plain_endpoint(&[7; 32]), server, socket, Arc::new(TokioRuntime)).expect("an endpoint")
}

/// Both ends of one handshake, or what each got instead.
async fn handshake(
    server: quinn::ServerConfig,
    client: rustls::ClientConfig,
) -> (Result<quinn::Connection, ConnectionError>, Result<quinn::Connection, ConnectionError>, [Endpoint; 2]) {
    let (server, near) = (endpoint(Some(server)), endpoint(None));
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).expect("a config")));
    config.transport_config(Arc::new(client_transport()));
    let connecting = near.connect_with(config, server.local_addr().expect("bound"), NO_NAME).expect("started");
    let accepted = async { server.accept().await.expect("an attempt").await };
    let (far, connected) = tokio::join!(accepted, connecting);
    (far, connected, [server, near])
}

#[tokio::test]
async fn both_sides_know_each_other_by_raw_keys_of_either_kind() {
    let p256 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key").serialize_der();
    let p256 = KeyPair::from_pkcs8(&p256).expect("P-256");
    for (server, client) in [(key(), p256.clone()), (p256, key())] {
        let expected = [key().public().sha256(), server.public().sha256()];
        let (tls, wrong) = client_rustls(&client, &expected);
        let (far, near, _endpoints) = handshake(server_config(&server, PeerClass::Proven), tls).await;
        let (far, near) = (far.expect("accepted"), near.expect("connected"));
        assert_eq!(peer_key(&near).as_ref(), Some(server.public()));
        assert_eq!(peer_key(&far).as_ref(), Some(client.public()));
        assert!(!wrong.load(Ordering::Relaxed));
    }
}

#[tokio::test]
async fn a_profile_shows_the_key_that_it_was_given_last_to_whoever_expects_either() {
    let (old, new) = (key(), key());
    let profile = ServerProfile::new(&old);
    let copy = profile.clone();
    for shown in [&old, &new] {
        copy.show(shown);
        let (tls, _) = client_rustls(&key(), &[old.public().sha256(), new.public().sha256()]);
        let server = quinn::ServerConfig::clone(&profile.of(PeerClass::Known));
        let (_far, near, _endpoints) = handshake(server, tls).await;
        assert_eq!(peer_key(&near.expect("connected")).as_ref(), Some(shown.public()));
    }
}

#[tokio::test]
async fn a_server_with_another_key_is_refused_and_told_apart() {
    let server = key();
    let (tls, wrong) = client_rustls(&key(), &[key().public().sha256()]);
    let (far, near, _endpoints) = handshake(server_config(&server, PeerClass::Proven), tls).await;
    assert!(wrong.load(Ordering::Relaxed));
    assert!(matches!(near, Err(ConnectionError::TransportError(_))), "{near:?}");
    assert!(far.is_err());
}

#[tokio::test]
async fn another_application_protocol_is_refused() {
    let server = key();
    let (mut tls, wrong) = client_rustls(&key(), &[server.public().sha256()]);
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let (_far, near, _endpoints) = handshake(server_config(&server, PeerClass::Proven), tls).await;
    // Alert 120, no_application_protocol (RFC 7301 section 3.2).
    let Err(ConnectionError::ConnectionClosed(close)) = near else { panic!("{near:?}") };
    assert_eq!(close.error_code, quinn::TransportErrorCode::crypto(120));
    assert!(!wrong.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_client_without_a_key_or_with_a_certificate_is_refused() {
    let server = key();
    let verifier = || OneOf {
        expected: vec![server.public().sha256()],
        algorithms: crypto().signature_verification_algorithms,
        wrong: WrongKeyShown::default(),
    };
    let builder = || {
        rustls::ClientConfig::builder_with_provider(crypto())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier()))
    };
    let made = rcgen::generate_simple_self_signed(vec!["friend.example".to_owned()]).expect("a certificate");
    let private = made.signing_key.serialize_der().try_into().expect("a key");
    let with_certificate = builder().with_client_auth_cert(vec![made.cert.der().clone()], private).expect("a pair");
    for mut tls in [builder().with_no_client_auth(), with_certificate] {
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let (far, _near, _endpoints) = handshake(server_config(&server, PeerClass::Proven), tls).await;
        assert!(far.is_err());
    }
}

#[test]
fn a_class_has_its_own_transport_and_all_share_tls() {
    let profile = ServerProfile::new(&key());
    let of = |class| format!("{:?}", profile.of(class).transport);
    let mut seen: Vec<String> = PeerClass::ALL.map(of).to_vec();
    seen.dedup();
    assert_eq!(seen.len(), 4);
    let first = profile.of(PeerClass::Stranger);
    assert!(PeerClass::ALL.iter().all(|class| Arc::ptr_eq(&profile.of(*class).crypto, &first.crypto)));
}

/// Writes on as many streams as the server allows until nothing more is taken, and not before so many streams and octets
/// are: who is stuck for this long may only be slow. Streams, octets.
async fn hoard(
    near: &quinn::Connection,
    streams: &mut Vec<quinn::SendStream>,
    at_least: (usize, usize),
) -> (usize, usize) {
    const STUCK: Duration = Duration::from_millis(150);
    let (mut taken, until) = (0, Instant::now() + PATIENCE);
    loop {
        while let Ok(opened) = timeout(STUCK, near.open_bi()).await {
            streams.push(opened.expect("a stream").0);
        }
        for stream in streams.iter_mut() {
            while let Ok(written) = timeout(STUCK, stream.write(&[b'x'; 16 * 1024])).await {
                taken += written
                    .or_else(|error| if error == WriteError::ClosedStream { Ok(0) } else { Err(error) })
                    .expect("open");
            }
        }
        if (streams.len() >= at_least.0 && taken >= at_least.1) || Instant::now() > until {
            return (streams.len(), taken);
        }
    }
}

/// More than a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_hoarder_gets_the_streams_and_the_window_of_its_class_and_no_more() {
    for class in [PeerClass::Stranger, PeerClass::Proven] {
        let (server, client) = (key(), key());
        let (tls, _) = client_rustls(&client, &[server.public().sha256()]);
        let (far, near, _endpoints) = handshake(server_config(&server, class), tls).await;
        let (far, near) = (far.expect("accepted"), near.expect("connected"));
        let limits = class.limits();
        let mut streams = Vec::new();
        let (opened, taken) =
            hoard(&near, &mut streams, (limits.streams as usize + 1, limits.window_bytes as usize)).await;
        assert_eq!(opened, limits.streams as usize + 1, "{class:?}");
        assert_eq!(taken as u64, limits.window_bytes, "{class:?}: the server has read nothing");
        assert!(timeout(Duration::from_millis(50), near.open_uni()).await.is_err(), "no stream of one direction");
        assert_eq!(near.max_datagram_size(), None);
        // The class turns out to be better: more of both, at once.
        raise(&far, PeerClass::Vouched);
        let raised = PeerClass::Vouched.limits();
        // A stream's own window is that of the class at accept.
        let whole = raised.window_bytes.min(limits.window_bytes * u64::from(raised.streams + 1));
        let (opened, more) = hoard(&near, &mut streams, (raised.streams as usize + 1, whole as usize - taken)).await;
        assert_eq!(opened, raised.streams as usize + 1, "{class:?} raised");
        assert_eq!((taken + more) as u64, whole, "{class:?} raised");
    }
}
