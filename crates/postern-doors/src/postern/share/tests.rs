//! From the ticket through the gate to the place in the line.

use std::net::SocketAddr;

use postern_proto::door::limits::{CHALLENGE_BYTES, TICKET_LIFE_S};
use postern_proto::door::{Master, TicketBody, mint, token_of};

use super::*;
use crate::gate::{Gate, GateOptions, Load, Now, Verdict};

const NOW_S: u32 = 1_800_000_000;

fn gate() -> Gate {
    let mut gate = Gate::new(Keyring::new(&Master::new([9; 32]), NOW_S.into()), GateOptions::default(), [3; 16]);
    gate.tick(now(), Load::default());
    gate
}

fn now() -> Now {
    Now { unix_s: NOW_S, ms: 0 }
}

fn home() -> SocketAddr {
    "192.0.2.7:2526".parse().expect("an address")
}

fn ticket(keys: &Keyring, domain: &str, class: PeerClass, share: Share) -> ([u8; 54], [u8; 16]) {
    let body = TicketBody {
        domain_tag: keys.domain_tag(domain),
        prefix_tag: keys.prefix_tag(home().ip()),
        expiry_min: (NOW_S + TICKET_LIFE_S as u32) / 60,
        class,
        share,
    };
    let kind = if class == PeerClass::Known { Kind::Known } else { Kind::Proven };
    let nonce = [domain.len() as u8; 12];
    let ticket = mint(keys, kind, nonce, &body);
    (ticket.bytes, ticket.key)
}

/// Shows it to the gate in a datagram; the admission, if it lets that in.
fn show(gate: &mut Gate, (bytes, key): &([u8; 54], [u8; 16]), id: u8) -> Option<Admission> {
    let dcid = [id; 16];
    let mut datagram = vec![0; 1_200];
    datagram[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 16]);
    datagram[6..22].copy_from_slice(&dcid);
    datagram[23..25].copy_from_slice(&[0x40, 0x42]);
    datagram[25..91].copy_from_slice(&token_of(bytes, key, &dcid, NOW_S));
    let verdict = gate.handle(&datagram, home(), now(), &mut [0; CHALLENGE_BYTES]);
    (verdict == Verdict::Pass).then(|| gate.admission(&dcid)).flatten()
}

fn placed(domain: &str, class: PeerClass, weight: u8) -> (PeerClass, Place) {
    let mut gate = gate();
    let share = share_of(gate.keys(), domain, weight);
    let ticket = ticket(gate.keys(), domain, class, share);
    place_of(&show(&mut gate, &ticket, 1).expect("it is let in"))
}

#[test]
fn a_weight_is_told_by_the_ticket_and_reaches_the_line() {
    for weight in 1..=Share::WEIGHT_MAX {
        let (class, place) = placed("friend.example", PeerClass::Proven, weight);
        assert_eq!((class, place.weight), (PeerClass::Proven, weight));
    }
}

#[test]
fn a_weight_cannot_be_raised_by_who_holds_the_ticket() {
    let share = share_of(gate().keys(), "friend.example", 1);
    let (bytes, key) = ticket(gate().keys(), "friend.example", PeerClass::Proven, share);
    assert!(show(&mut gate(), &(bytes, key), 1).is_some(), "as it was given it is good");
    // The share is the last three octets of the body, and its weight the three highest bits.
    for bit in 0..24 {
        let mut forged = bytes;
        forged[14 + 21 + bit / 8] ^= 0x80 >> (bit % 8);
        assert_eq!(show(&mut gate(), &(forged, key), 1), None, "bit {bit}");
    }
}

#[test]
fn the_proven_are_placed_by_their_suffix_and_all_names_of_an_owner_are_one() {
    let of = |domain: &str| placed(domain, PeerClass::Proven, 2).1;
    let first = of("evil.example");
    assert_eq!(of("mail.evil.example"), first);
    assert_eq!(of("r9999.a.b.evil.example"), first, "a made-up name is no other");
    let neighbour = of("good.example");
    assert_eq!(neighbour.suffix, first.suffix);
    assert_ne!(neighbour.flow, first.flow);
    assert_ne!(of("evil.test").suffix, first.suffix);
    // A registry below a country's code: another owner, the same suffix.
    assert_eq!(of("a.co.uk").suffix, of("a.uk").suffix);
    assert_ne!(of("a.co.uk").flow, of("b.co.uk").flow);
}

#[test]
fn the_known_are_counted_as_domains_wherever_they_were_bought() {
    let of = |domain: &str| placed(domain, PeerClass::Known, 3).1;
    assert_eq!(of("a.example").suffix, of("a.test").suffix);
    assert_ne!(of("a.example").flow, of("a.test").flow);
    assert_ne!(of("a.example").flow, of("b.example").flow);
}

#[test]
fn a_ticket_of_before_there_were_shares_waits_by_its_domain_with_all_the_others_like_it() {
    let mut gate = gate();
    // Rate 0, and the third of its session.
    let old = Share::from_be_bytes([0, 0, 2]);
    let shown = ["a.example", "longer.example"].map(|domain| {
        let ticket = ticket(gate.keys(), domain, PeerClass::Proven, old);
        place_of(&show(&mut gate, &ticket, domain.len() as u8).expect("it is let in"))
    });
    let [(class, a), (_, b)] = shown;
    assert_eq!((class, a.weight, b.weight), (PeerClass::Proven, 1, 1));
    assert_eq!(a.suffix, b.suffix);
    assert_ne!(a.flow, b.flow);
}

#[test]
fn a_weight_is_one_and_the_logarithm_of_good_days() {
    for (days, weight) in [(0, 1), (1, 2), (2, 2), (3, 3), (6, 3), (7, 4), (8, 4), (15, 5), (31, 6), (44, 6), (60, 6)] {
        assert_eq!(weight_of(days), weight, "{days} days");
    }
    assert!(weight_of(60) < Share::WEIGHT_MAX, "there is room for the operator's word");
}
