//! Classification at its edges.

use std::vec;
use std::vec::Vec;

use super::super::cookie::hello;
use super::{Shape, Token, prefix_of, shape, wide_prefix_of};

/// An Initial of `length` octets with this source id and token field (its length included).
fn initial(source: &[u8], token: &[u8], length: usize) -> Vec<u8> {
    let mut packet = vec![0xc3, 0, 0, 0, 1, 16];
    packet.extend([0xab; 16]);
    packet.push(source.len() as u8);
    packet.extend(source);
    packet.extend(token);
    packet.resize(length, 0);
    packet
}

fn token_of(field: &[u8]) -> &'static str {
    match shape(&initial(&[1; 8], field, 1200)) {
        Shape::Initial { dcid: [0xab, ..], token } => match token {
            Token::None => "none",
            Token::Cookie(_) => "cookie",
            Token::Ticket(_) => "ticket",
            Token::Other => "other",
        },
        _ => "garbage",
    }
}

#[test]
fn a_token_is_told_by_its_length_and_first_octet() {
    assert_eq!(token_of(&[0]), "none");
    assert_eq!(token_of(&[0x26, 1]), "cookie");
    assert_eq!(token_of(&[0x26, 2]), "other");
    assert_eq!(token_of(&[0x40, 0x42, 0x81]), "ticket");
    assert_eq!(token_of(&[0x40, 0x42, 0x83]), "ticket");
    assert_eq!(token_of(&[0x40, 0x42, 0x80]), "other");
    assert_eq!(token_of(&[0x40, 0x42, 0x84]), "other");
    // The same lengths spelt longer, and other lengths.
    assert_eq!(token_of(&[0x40, 0x26, 1]), "other");
    assert_eq!(token_of(&[0x80, 0, 0, 0x42, 0x81]), "other");
    assert_eq!(token_of(&[0x40, 0, 0]), "other");
    assert_eq!(token_of(&[0x27, 1]), "other");
    assert_eq!(token_of(&[0xff; 9]), "other");
}

#[test]
fn an_initial_below_1200_octets_is_dropped() {
    assert_eq!(shape(&initial(&[], &[0], 1199)), Shape::Garbage);
    assert_ne!(shape(&initial(&[], &[0], 1200)), Shape::Garbage);
}

#[test]
fn a_peer_connection_id_above_20_octets_is_dropped() {
    assert_ne!(shape(&initial(&[9; 20], &[0], 1200)), Shape::Garbage);
    assert_eq!(shape(&initial(&[9; 21], &[0], 1200)), Shape::Garbage);
}

#[test]
fn other_versions_and_types_of_packets_are_dropped() {
    let with = |at: usize, octet: u8| {
        let mut packet = initial(&[], &[0], 1200);
        packet[at] = octet;
        shape(&packet) == Shape::Garbage
    };
    assert!(with(0, 0xd3), "0-RTT");
    assert!(with(0, 0xf3), "Retry");
    assert!(with(0, 0x83), "without the fixed bit");
    assert!(with(4, 2) && with(1, 1) && with(4, 0), "another version, or Version Negotiation");
    assert!(with(5, 15) && with(5, 20), "a connection id of another length");
    assert!(!with(0, 0xcf), "reserved bits are under header protection");
}

#[test]
fn short_headers_and_handshake_packets_are_known_by_their_connection_id() {
    let mut short = [0x55; 37];
    short[0] = 0x40;
    assert_eq!(shape(&short), Shape::Established { cid: &[0x55; 16] });
    assert_eq!(shape(&short[..36]), Shape::Garbage);
    let mut handshake = initial(&[], &[0], 44);
    handshake[0] = 0xe0;
    assert_eq!(shape(&handshake), Shape::Established { cid: &[0xab; 16] });
    assert_eq!(shape(&handshake[..43]), Shape::Garbage);
}

#[test]
fn a_hello_has_1200_octets_and_our_version() {
    let mut packet = [0; 1200];
    hello(*b"nonce678", &mut packet);
    assert_eq!(shape(&packet), Shape::Hello { nonce: *b"nonce678" });
    assert_eq!(shape(&packet[..1199]), Shape::Garbage);
    packet[2..4].fill(0xff);
    assert_eq!(shape(&packet), Shape::Hello { nonce: *b"nonce678" }, "flags are for later");
    packet[1] = 2;
    assert_eq!(shape(&packet), Shape::Garbage);
    packet[..2].copy_from_slice(&[0x12, 1]);
    assert_eq!(shape(&packet), Shape::Garbage);
}

#[test]
fn every_truncation_is_dropped_without_a_panic() {
    let whole = initial(&[7; 20], &[0x40, 0x42, 0x81], 1200);
    for length in 0..whole.len() {
        assert_eq!(shape(&whole[..length]), Shape::Garbage, "{length} octets");
    }
}

#[test]
fn prefixes_of_both_families_and_widths_are_kept_apart() {
    let of = |address: &str| prefix_of(address.parse().expect("an address")).word();
    let wide = |address: &str| wide_prefix_of(address.parse().expect("an address")).word();
    assert_eq!(of("192.0.2.77"), 0x1800_0000_00c0_0002);
    assert_eq!(wide("192.0.2.77"), 0x1000_0000_0000_c000);
    assert_eq!(of("2001:db8:1:2::"), 0x3000_2001_0db8_0001);
    assert_eq!(wide("2001:db8:1:2::"), 0x2000_0000_2001_0db8);
    assert_eq!(of("::ffff:192.0.2.77"), of("192.0.2.77"));
}
