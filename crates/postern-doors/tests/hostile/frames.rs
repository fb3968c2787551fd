//! Insiders that speak QUIC to harm: frames that no client sends end their connection, and those that a client may send,
//! in any number, make the server answer, keep and work no more than it chose to. Others are served meanwhile.

use std::time::Duration;

use quinn::ConnectionError;

use crate::client::Link;
use crate::stage::{Settings, Stage, run};
use crate::tampered::{Author, Script};

/// RFC 9000 section 20.1.
const FLOW_CONTROL_ERROR: u64 = 0x03;
const STREAM_LIMIT_ERROR: u64 = 0x04;
const FRAME_ENCODING_ERROR: u64 = 0x07;
const CONNECTION_ID_LIMIT_ERROR: u64 = 0x09;
const PROTOCOL_VIOLATION: u64 = 0x0a;
const CRYPTO_BUFFER_EXCEEDED: u64 = 0x0d;
/// CRYPTO_ERROR with the alert of RFC 8446 section 6.2.
const UNEXPECTED_MESSAGE: u64 = 0x010a;

/// A variable-length integer in four octets, and in eight (RFC 9000 section 16).
fn four(value: u32) -> [u8; 4] {
    (value | 0x8000_0000).to_be_bytes()
}

fn eight(value: u64) -> [u8; 8] {
    (value | 0xc000_0000_0000_0000).to_be_bytes()
}

/// NEW_CONNECTION_ID (RFC 9000 section 19.15) with an id of eight octets.
fn new_connection_id(sequence: u32, retire_prior_to: u32) -> Vec<u8> {
    let id = u64::from(sequence).to_be_bytes();
    [&[0x18][..], &four(sequence), &four(retire_prior_to), &[8], &id, &[7; 16]].concat()
}

/// STREAM with an offset and one octet.
fn one_octet(stream: u32, offset: u64) -> Vec<u8> {
    [&[0x0e][..], &four(stream), &eight(offset), &[1, b'x']].concat()
}

/// Puts as many frames into a payload as fit; the next packet goes on where this one ended.
fn filled(mut frame: impl FnMut(u32) -> Vec<u8>) -> impl FnMut(&mut [u8]) {
    let mut number = 0;
    move |payload| {
        let mut at = 0;
        loop {
            let next = frame(number);
            let Some(room) = payload.get_mut(at..at + next.len()) else { return };
            room.copy_from_slice(&next);
            at += next.len();
            number += 1;
        }
    }
}

/// Makes quinn send packets for the script to fill, until this many have left or the connection is over. The windows of a
/// known peer are good for 1,400.
async fn send(link: &Link, packets: u64) {
    let last = sent(link) + packets;
    let write = async {
        let mut streams = Vec::new();
        while let Ok((mut stream, _)) = link.connection.open_bi().await {
            // What the server grants for one stream.
            for _ in 0..63 {
                let _over = stream.write_all(&[b'x'; 1_024]).await;
            }
            streams.push(stream);
        }
        std::future::pending::<()>().await;
    };
    let enough = async {
        while sent(link) < last && link.connection.close_reason().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = write => unreachable!(),
        () = enough => {}
    }
}

fn sent(link: &Link) -> u64 {
    link.connection.stats().udp_tx.datagrams
}

/// How a connection ended by the server's doing: the code, or a stateless reset. That is what a client gets to see who
/// announced ids that its own quinn does not know: the server's CLOSE goes to one of them.
fn ended(how: &ConnectionError) -> Option<Option<u64>> {
    match how {
        ConnectionError::ConnectionClosed(close) => Some(Some(close.error_code.into())),
        ConnectionError::Reset => Some(None),
        _ => None,
    }
}

#[test]
fn a_frame_that_no_client_sends_ends_its_connection_and_no_other() {
    let (mail_stream, unidirectional, beyond_the_streams) = (4, 2, 4 * 1_000);
    let some_ids = |count| (1..=count).flat_map(|n| new_connection_id(n, 0)).collect();
    let cases: [(&str, Vec<u8>, u64); 12] = [
        ("HANDSHAKE_DONE", vec![0x1e], PROTOCOL_VIOLATION),
        ("NEW_TOKEN", vec![0x07, 1, 0], PROTOCOL_VIOLATION),
        ("a datagram", vec![0x30, 0, 0], PROTOCOL_VIOLATION),
        ("an unknown frame", vec![0x3f], FRAME_ENCODING_ERROR),
        ("an id given back that was never given", [&[0x19][..], &four(1_000)].concat(), PROTOCOL_VIOLATION),
        ("an id that retires later ones", new_connection_id(1, 2), FRAME_ENCODING_ERROR),
        ("more ids than it may", some_ids(25), CONNECTION_ID_LIMIT_ERROR),
        ("TLS far ahead", [&[0x06][..], &four(1 << 20), &[1, 0]].concat(), CRYPTO_BUFFER_EXCEEDED),
        ("TLS that is none", [&[0x06][..], &four(0), &[4, 0xff, 0, 0, 0]].concat(), UNEXPECTED_MESSAGE),
        ("a unidirectional stream", one_octet(unidirectional, 0), STREAM_LIMIT_ERROR),
        ("more streams than it may", one_octet(beyond_the_streams, 0), STREAM_LIMIT_ERROR),
        ("data beyond the window", one_octet(mail_stream, 1 << 40), FLOW_CONTROL_ERROR),
    ];
    let stage = Stage::new(Settings::default());
    run(async {
        for (what, frames, code) in cases {
            let script = Script::default();
            let evil = stage.known("evil.example").that_follows(&script).enter(stage.addr(), None).await.unwrap();
            let count = frames.len();
            // A packet that is too small for them stays PADDING, and the next one is not.
            script.write(move |payload| {
                if let Some(room) = payload.get_mut(..count) {
                    room.copy_from_slice(&frames);
                }
            });
            send(&evil, 10).await;
            let how = evil.connection.closed().await;
            let announced = what.contains("ids");
            let expected = |seen: Option<u64>| seen == Some(code) || (announced && seen.is_none());
            assert!(ended(&how).is_some_and(expected), "{what}: {how:?}");
            let friend = stage.known("friend.example").enter(stage.addr(), None).await.unwrap();
            let reply = friend.deliver("bob@friend.example").await;
            assert!(reply.starts_with("250 2.0.0"), "{what}: {reply}");
        }
    });
}

#[test]
fn frames_without_number_are_answered_with_little_and_a_friend_is_served_beside_them() {
    /// Whether the connection is over then.
    enum Outcome {
        Stays,
        Ends,
    }
    use Outcome::{Ends, Stays};
    let path_challenges = filled(|n| [&[0x1a][..], &u64::from(n).to_be_bytes()].concat());
    let ids_that_retire = filled(|n| new_connection_id(n + 1, n + 1));
    let pings = filled(|_| vec![0x01]);
    let blocked = filled(|n| [&[0x14][..], &four(n)].concat());
    // Stream after stream of holes, each up to its window.
    let holes = filled(|n| one_octet(4 * (1 + n / 32_000), u64::from(n % 32_000) * 2 + 1));
    let tls_in_pieces = filled(|n| [&[0x06][..], &four(1 + 2 * (n % 500)), &[1, 0]].concat());
    let cases: [(&str, Author, Outcome); 6] = [
        ("path challenges", Box::new(path_challenges), Stays),
        ("ids that retire those before", Box::new(ids_that_retire), Ends),
        ("pings", Box::new(pings), Stays),
        ("complaints about windows", Box::new(blocked), Stays),
        ("streams full of holes", Box::new(holes), Ends),
        ("TLS in pieces", Box::new(tls_in_pieces), Stays),
    ];
    let stage = Stage::new(Settings::default());
    run(async {
        for (what, author, outcome) in cases {
            let script = Script::default();
            let evil = stage.known("evil.example").that_follows(&script).enter(stage.addr(), None).await.unwrap();
            let before = evil.connection.stats();
            script.write(author);
            send(&evil, 1_000).await;
            let friend = stage.known("friend.example").enter(stage.addr(), None).await.unwrap();
            let reply = friend.deliver("bob@friend.example").await;
            assert!(reply.starts_with("250 2.0.0"), "{what}: {reply}");
            let after = evil.connection.stats();
            let told = after.udp_tx.bytes - before.udp_tx.bytes;
            let answered = after.udp_rx.bytes - before.udp_rx.bytes;
            let packets = after.udp_tx.datagrams - before.udp_tx.datagrams;
            println!("{what}: {packets} datagrams, {told} octets; answered by {answered} octets");
            assert!(answered <= told / 4 + 4_096, "{what}: {told} octets answered by {answered}");
            match outcome {
                Stays => {
                    let reason = evil.connection.close_reason();
                    assert!(reason.is_none(), "{what}: {reason:?}");
                }
                Ends => {
                    let how = evil.connection.closed().await;
                    assert!(ended(&how).is_some() && packets < 500, "{what}: {how:?} after {packets} datagrams");
                }
            }
        }
    });
}
