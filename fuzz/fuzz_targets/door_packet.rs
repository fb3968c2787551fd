//! Any datagram at the gate of the postern: classified and checked without a panic, and what passes was made by the
//! server itself.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use postern_proto::door::{
    Challenge, Keyring, Kind, Master, PeerClass, Shape, Share, Terms, TicketBody, Token, challenge, check_cid, check_cookie,
    check_ticket, make_cid, mint, open_ticket, shape, token_of,
};

/// The time, address and master of `tests/door-second/vectors.py`, whose tokens are in the corpus.
const NOW: u32 = 1_790_000_123;
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77));
const MASTER: [u8; 32] = *include_bytes!("../door_master.bin");

static KEYS: LazyLock<Keyring> = LazyLock::new(|| at(NOW));

// Short inputs stand for themselves, and for a datagram of 1200 octets that ends in zeros.
fuzz_target!(|input: &[u8]| {
    check(input);
    if input.len() < 1200 {
        let mut padded = [0; 1200];
        padded[..input.len()].copy_from_slice(input);
        check(&padded);
    }
});

fn check(datagram: &[u8]) {
    match shape(datagram) {
        Shape::Garbage => {}
        Shape::Hello { nonce } => assert_eq!(nonce, datagram[4..12]),
        Shape::Established { cid } => check_our(cid),
        Shape::Initial { dcid, token } => {
            assert!(datagram.len() >= 1200);
            check_our(dcid);
            match token {
                Token::Cookie(token) => check_that_cookie(token),
                Token::Ticket(token) => check_that_ticket(token, dcid),
                Token::None | Token::Other => {}
            }
        }
    }
}

fn check_our(cid: &[u8; 16]) {
    let random = cid[2..8].try_into().expect("six octets");
    let made = |hour: i64| make_cid(&at((i64::from(NOW) + hour * 3600) as u32), cid[1], random);
    assert!(!check_cid(&KEYS, cid) || (-4..=1).any(|hour| made(hour) == *cid), "a connection id that nobody made");
}

fn check_that_cookie(token: &[u8; 38]) {
    let Ok(cookie) = check_cookie(&KEYS, SOURCE, token, NOW) else { return };
    let server_time = u32::from_be_bytes(token[10..14].try_into().expect("four octets"));
    let terms = Terms { server_time, not_before: cookie.not_before, not_after: cookie.not_after, level: 0 };
    let made = |epoch: i64| {
        let mut out = [0; 40];
        challenge(&at((i64::from(NOW) + epoch * 900) as u32), SOURCE, cookie.nonce, &terms, &mut out);
        Challenge::parse(&out, cookie.nonce).map(|challenge| challenge.token())
    };
    assert!((-3..=1).any(|epoch| made(epoch) == Some(*token)), "a cookie that nobody made");
}

fn check_that_ticket(token: &[u8; 66], dcid: &[u8; 16]) {
    let ticket: &[u8; 54] = token.first_chunk().expect("54 of 66");
    let _ = open_ticket(&KEYS, ticket, NOW);
    if check_ticket(&KEYS, token, dcid, NOW).is_err() {
        return;
    }
    let kind = Kind::from_octet(ticket[0]).expect("checked");
    let nonce = ticket[2..14].try_into().expect("twelve octets");
    let time = u32::from_be_bytes(token[54..58].try_into().expect("four octets"));
    let body =
        TicketBody { domain_tag: 0, prefix_tag: 0, expiry_min: 0, class: PeerClass::Stranger, share: Share::default() };
    // The key of a ticket does not depend on its body.
    let proven = |day: i64| {
        let key = mint(&at((i64::from(NOW) + day * 86_400) as u32), kind, nonce, &body).key;
        token_of(ticket, &key, dcid, time) == *token
    };
    assert!((-34..=1).any(proven), "a proof that nobody could make");
}

fn at(now: u32) -> Keyring {
    Keyring::new(&Master::new(MASTER), now.into())
}
