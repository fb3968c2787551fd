//! The prelude's datagrams are taken out of what quinn reads, wherever they stand.

use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::time::Duration;

use postern_proto::door::limits::CHALLENGE_BYTES;
use tokio::time::timeout;

use super::*;

fn challenge(nonce: u8) -> [u8; CHALLENGE_BYTES] {
    let mut datagram = [0; CHALLENGE_BYTES];
    datagram[..2].copy_from_slice(&[CHALLENGE, 1]);
    datagram[4..12].fill(nonce);
    datagram
}

fn from() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 2526))
}

#[tokio::test]
async fn a_buffer_of_many_datagrams_keeps_those_of_quic_in_their_order() {
    let socket = DoorSocket::open(Some(Ipv4Addr::LOCALHOST.into()), false).expect("a socket");
    let mut quic = [0x40; CHALLENGE_BYTES];
    quic[1] = 1;
    let mut last = quic;
    last[1] = 2;
    // The last datagram of a buffer may be shorter.
    let mut buffer = [challenge(1).as_slice(), &quic, &challenge(2), &last[..9]].concat();
    let meta = RecvMeta { addr: from(), len: buffer.len(), stride: CHALLENGE_BYTES, ecn: None, dst_ip: None };
    let kept = socket.sift(&mut buffer, &meta);
    assert_eq!(buffer[..kept], [quic.as_slice(), &last[..9]].concat());
}

#[tokio::test]
async fn an_answer_needs_its_nonce_and_its_address_and_comes_while_it_is_waited_for() {
    let socket = DoorSocket::open(Some(Ipv4Addr::LOCALHOST.into()), false).expect("a socket");
    let (sender, mut answers) = mpsc::channel(1);
    let expected = socket.expect([7; 8], from(), sender);
    assert!(socket.take(from(), &challenge(8)));
    assert!(socket.take(SocketAddr::from(([192, 0, 2, 2], 2526)), &challenge(7)));
    assert!(socket.take(from(), &challenge(7)[..39]), "cut short, and still no QUIC");
    assert!(socket.take(from(), &[CHALLENGE]));
    assert!(answers.try_recv().is_err());
    assert!(socket.take(from(), &challenge(7)));
    assert!(answers.try_recv().is_ok());
    drop(expected);
    assert!(socket.take(from(), &challenge(7)));
    assert!(answers.try_recv().is_err());
    assert!(!socket.take(from(), &[0x40; 40]), "QUIC's");
}

#[tokio::test]
async fn a_flood_of_the_prelude_does_not_hold_the_runtime_up() {
    let socket = DoorSocket::open(Some(Ipv4Addr::LOCALHOST.into()), false).expect("a socket");
    let flooder = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let to = socket.local_addr().expect("bound");
    for _ in 0..500 {
        flooder.send_to(&challenge(1), to).expect("sent");
    }
    flooder.send_to(&[0x40; 50], to).expect("sent");
    let mut polls = 0;
    let mut octets = vec![0; 65_536];
    let read = std::future::poll_fn(|cx| {
        polls += 1;
        let mut buffers = [IoSliceMut::new(&mut octets)];
        let mut meta = [RecvMeta { addr: from(), len: 0, stride: 0, ecn: None, dst_ip: None }];
        socket.poll_recv(cx, &mut buffers, &mut meta).map(|count| (count, meta[0].len))
    });
    let (count, length) = timeout(Duration::from_secs(60), read).await.expect("it wakes itself");
    assert_eq!((count.expect("read"), length), (1, 50));
    assert!(polls > 1, "it gave way in between");
}
