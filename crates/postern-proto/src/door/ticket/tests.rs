//! Tickets: what admits and what does not.

use super::super::class::PeerClass;
use super::super::keys::{Keyring, Master};
use super::super::limits::PROOF_SKEW_S;
use super::super::share::Share;
use super::{Kind, Ticket, TicketBody, TicketFault, check_ticket, mint, open_ticket, token_of};

const NOW: u32 = 1_790_000_000;
const DCID: [u8; 16] = *b"sixteen octets..";

fn keys(now_s: u32) -> Keyring {
    Keyring::new(&Master::new([3; 32]), now_s.into())
}

fn body() -> TicketBody {
    TicketBody {
        domain_tag: 0x0102_0304_0506_0708,
        prefix_tag: u64::MAX,
        expiry_min: NOW / 60 + 30 * 1440,
        class: PeerClass::Known,
        share: Share::from_be_bytes([7, 2, 1]),
    }
}

fn ticket() -> Ticket {
    mint(&keys(NOW), Kind::Known, [9; 12], &body())
}

#[test]
fn a_ticket_opens_to_what_was_sealed() {
    for kind in [Kind::Known, Kind::Introduction, Kind::Proven] {
        for class in PeerClass::ALL {
            let body = TicketBody { class, ..body() };
            let ticket = mint(&keys(NOW), kind, [9; 12], &body);
            assert_eq!(open_ticket(&keys(NOW), &ticket.bytes, NOW), Ok((kind, body)));
        }
    }
}

#[test]
fn a_ticket_is_useless_for_another_connection_id() {
    let Ticket { bytes, key } = ticket();
    let token = token_of(&bytes, &key, &DCID, NOW);
    assert_eq!(check_ticket(&keys(NOW), &token, &DCID, NOW), Ok(()));
    for bit in 0..128 {
        let other = (u128::from_be_bytes(DCID) ^ 1 << bit).to_be_bytes();
        assert_eq!(check_ticket(&keys(NOW), &token, &other, NOW), Err(TicketFault::Forged));
    }
}

#[test]
fn a_ticket_is_useless_without_its_key() {
    let Ticket { bytes, key } = ticket();
    let other = mint(&keys(NOW), Kind::Known, [8; 12], &body());
    assert_ne!(key, other.key);
    let token = token_of(&bytes, &other.key, &DCID, NOW);
    assert_eq!(check_ticket(&keys(NOW), &token, &DCID, NOW), Err(TicketFault::Forged));
}

#[test]
fn a_proof_is_good_for_ten_minutes_either_way() {
    let Ticket { bytes, key } = ticket();
    let check = |time: u32| check_ticket(&keys(NOW), &token_of(&bytes, &key, &DCID, time), &DCID, NOW);
    assert_eq!((check(NOW - PROOF_SKEW_S), check(NOW + PROOF_SKEW_S)), (Ok(()), Ok(())));
    for time in [NOW - PROOF_SKEW_S - 1, NOW + PROOF_SKEW_S + 1, 0, u32::MAX] {
        assert_eq!(check(time), Err(TicketFault::Stale));
    }
}

#[test]
fn a_ticket_expires_at_the_end_of_its_minute() {
    let Ticket { bytes, .. } = mint(&keys(NOW), Kind::Known, [9; 12], &TicketBody { expiry_min: NOW / 60, ..body() });
    let last = NOW - NOW % 60 + 59;
    assert!(open_ticket(&keys(NOW), &bytes, last).is_ok());
    assert_eq!(open_ticket(&keys(NOW), &bytes, last + 1), Err(TicketFault::Expired));
}

#[test]
fn a_ticket_passes_for_35_days_of_keys_and_no_longer() {
    let Ticket { bytes, key } = ticket();
    let check = |days: u32| {
        let now = NOW + days * 86_400;
        let token = token_of(&bytes, &key, &DCID, now);
        (check_ticket(&keys(now), &token, &DCID, now), open_ticket(&keys(now), &bytes, NOW).map(|_| ()))
    };
    assert_eq!(check(34), (Ok(()), Ok(())));
    assert_eq!(check(35), (Err(TicketFault::UnknownKey), Err(TicketFault::UnknownKey)));
    // The octet on the wire comes round after 256 days: the key does not.
    assert_eq!(check(256), (Err(TicketFault::Forged), Err(TicketFault::Forged)));
}

#[test]
fn the_kind_of_a_ticket_cannot_be_changed() {
    let Ticket { mut bytes, key } = ticket();
    for octet in 0..=255 {
        bytes[0] = octet;
        let good = octet == Kind::Known.octet();
        let token = token_of(&bytes, &key, &DCID, NOW);
        assert_eq!(check_ticket(&keys(NOW), &token, &DCID, NOW).is_ok(), good, "{octet:#x}");
        assert_eq!(open_ticket(&keys(NOW), &bytes, NOW).is_ok(), good, "{octet:#x}");
    }
}
