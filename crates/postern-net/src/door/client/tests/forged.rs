//! What somebody on the way can make of a handshake who has none of the keys that matter: everybody who sees the client's
//! first datagram can write Initial packets that it takes for the server's.

use postern_proto::door::{Terms, challenge};
use rustls::Side;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::quic::Version;
use tokio::net::UdpSocket;

use super::*;

/// CONNECTION_CLOSE of the application with the code "no proof of identity", no reason.
const CLOSE_OF_THE_DOOR: &[u8] = &[0x1d, 2, 0];
/// CONNECTION_CLOSE of QUIC: NO_ERROR, no frame, no reason.
const CLOSE_OF_QUIC: &[u8] = &[0x1c, 0, 0, 0];
/// STREAM, which no Initial may have.
const NO_FRAME_OF_A_HANDSHAKE: &[u8] = &[0x08, 0];

/// Whether it is an Initial of QUIC version 1.
fn is_initial(datagram: &[u8]) -> bool {
    datagram.len() > 22 && datagram[0] & 0xf0 == 0xc0 && datagram[1..5] == [0, 0, 0, 1]
}

/// An Initial in the server's name, made from the client's first datagram alone (RFC 9001 section 5).
fn forged(first: &[u8], frame: &[u8]) -> Vec<u8> {
    let dcid = &first[6..22];
    let scid = &first[23..23 + usize::from(first[22])];
    let rustls::SupportedCipherSuite::Tls13(suite) = TLS13_AES_128_GCM_SHA256 else { panic!("a suite of TLS 1.3") };
    let keys = suite.quic_suite().expect("QUIC uses it").keys(dcid, Side::Server, Version::V1).local;
    let mut payload = frame.to_vec();
    payload.resize(32, 0);
    // A number that the server has not used yet, in four octets.
    let number = 1000_u32;
    let length = u16::try_from(4 + payload.len() + keys.packet.tag_len()).expect("short");
    let mut packet = vec![0xc3, 0, 0, 0, 1, first[22]];
    packet.extend_from_slice(scid);
    packet.push(16);
    packet.extend_from_slice(dcid);
    packet.push(0);
    packet.extend_from_slice(&(length | 0x4000).to_be_bytes());
    packet.extend_from_slice(&number.to_be_bytes());
    let tag = keys.packet.encrypt_in_place(number.into(), &packet, &mut payload).expect("sealed");
    let header = packet.len();
    packet.extend_from_slice(&payload);
    packet.extend_from_slice(tag.as_ref());
    let (head, sealed) = packet.split_at_mut(header);
    let (head, number) = head.split_at_mut(header - 4);
    keys.header.encrypt_in_place(&sealed[..keys.header.sample_len()], &mut head[0], number).expect("masked");
    packet
}

/// Answers a HELLO as a gate would, and each Initial with a forged one.
async fn forge(socket: UdpSocket, frame: &'static [u8]) {
    let keys = Keyring::new(&Master::new([1; 32]), 1_800_000_000);
    let terms = Terms { server_time: 1_800_000_000, not_before: 1_800_000_000, not_after: 1_800_000_120, level: 1 };
    let mut octets = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut octets).await.expect("received");
        let mut answer = vec![0; CHALLENGE_BYTES];
        match shape(&octets[..length]) {
            Shape::Hello { nonce } => {
                challenge(&keys, from.ip(), nonce, &terms, answer.as_mut_slice().try_into().expect("its size"));
            }
            Shape::Initial { .. } => answer = forged(&octets[..length], frame),
            _ => continue,
        }
        socket.send_to(&answer, from).await.expect("sent");
    }
}

#[tokio::test]
async fn a_forged_close_before_the_end_of_the_handshake_is_silence_and_the_second_door_is_tried() {
    for frame in [CLOSE_OF_THE_DOOR, CLOSE_OF_QUIC, NO_FRAME_OF_A_HANDSHAKE] {
        let (_dir, options, rig) = setup();
        let forger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let mut door = DoorAddress { addresses: vec![forger.local_addr().expect("bound")], ..to(&rig) };
        let forging = tokio::spawn(forge(forger, frame));
        let client = DoorClient::new(options);
        // All deadlines are a minute: the client has taken the forgery for a packet of the server's.
        let closed = timeout(Duration::from_secs(20), client.connect(&door)).await.expect("at once");
        assert_eq!(closed.err(), Some(DoorError::Silent), "{frame:?}");
        door.alternates = vec![rig.address];
        client.connect(&door).await.expect("by the second door");
        forging.abort();
    }
}

/// Passes everything on, and hangs a forged Initial on the server's first flight: the client reads it when the handshake is
/// done at its end, and before it has sent a word under the new keys.
async fn hang_on(socket: UdpSocket, server: SocketAddr) {
    let behind = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
    let (mut ours, mut theirs) = ([0; 2048], [0; 2048]);
    let (mut client, mut first) = (None, None);
    loop {
        tokio::select! {
            came = socket.recv_from(&mut ours) => {
                let (length, from) = came.expect("received");
                client = Some(from);
                let datagram = &ours[..length];
                if is_initial(datagram) && first.is_none() {
                    first = Some(datagram.to_vec());
                }
                behind.send_to(datagram, server).await.expect("sent");
            }
            came = behind.recv_from(&mut theirs) => {
                let mut datagram = theirs[..came.expect("received").0].to_vec();
                if let (true, Some(first)) = (is_initial(&datagram), &first) {
                    datagram.extend(forged(first, CLOSE_OF_THE_DOOR));
                }
                socket.send_to(&datagram, client.expect("it came first")).await.expect("sent");
            }
        }
    }
}

#[tokio::test]
async fn a_forged_close_behind_the_server_s_flight_is_not_the_server_s_word() {
    let (_dir, options, rig) = setup();
    let between = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
    let door = DoorAddress { addresses: vec![between.local_addr().expect("bound")], ..to(&rig) };
    let hanging = tokio::spawn(hang_on(between, rig.address));
    let closed = timeout(Duration::from_secs(20), DoorClient::new(options).connect(&door)).await.expect("at once");
    assert_eq!(closed.err(), Some(DoorError::Silent));
    hanging.abort();
}
