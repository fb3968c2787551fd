//! Any octets as a ticket of the postern: what opens is what was minted, to the last octet.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use postern_proto::door::{Challenge, Keyring, Master, check_ticket, mint, open_ticket, token_of};

/// The time and master of `tests/door-second/vectors.py`, whose tickets are in the corpus.
const NOW: u32 = 1_790_000_123;
const MASTER: [u8; 32] = *include_bytes!("../door_master.bin");

static KEYS: LazyLock<Keyring> = LazyLock::new(|| at(NOW.into()));

// A ticket, and what a client would make of it: its key behind it, or zeros.
fuzz_target!(|input: &[u8]| {
    let mut octets = [0; 70];
    let length = input.len().min(70);
    octets[..length].copy_from_slice(&input[..length]);
    let ticket: &[u8; 54] = octets.first_chunk().expect("54 of 70");
    let key: &[u8; 16] = octets.last_chunk().expect("16 of 70");
    let token = token_of(ticket, key, &[7; 16], NOW);
    let proven = check_ticket(&KEYS, &token, &[7; 16], NOW).is_ok();
    if let Ok((kind, body)) = open_ticket(&KEYS, ticket, NOW) {
        assert!(u64::from(body.expiry_min) >= u64::from(NOW) / 60);
        let nonce = ticket[2..14].try_into().expect("twelve octets");
        let made = |day: i64| mint(&at((i64::from(NOW) + day * 86_400) as u64), kind, nonce, &body);
        let made = (-34..=1).map(made).find(|made| made.bytes == *ticket).expect("a ticket that nobody minted");
        assert_eq!(proven, made.key == *key, "a proof is right with the ticket's own key only");
    }
    // The one other thing that a client reads without knowing who wrote it.
    if let Some(challenge) = Challenge::parse(&octets[..40], octets[4..12].try_into().expect("eight octets")) {
        assert_eq!(challenge.token()[2..], octets[4..40]);
        assert!(challenge.terms.not_before <= challenge.terms.not_after);
    }
});

fn at(now_s: u64) -> Keyring {
    Keyring::new(&Master::new(MASTER), now_s)
}
