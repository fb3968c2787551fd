//! The packets are what they are called, by the door's own classification, and the same for the same seed.

use std::collections::HashSet;

use postern_proto::door::{CookieFault, Keyring, Master, Shape, TicketFault, Token};
use postern_proto::door::{check_cid, check_cookie, check_ticket, shape};

use super::*;
use crate::door::plan::Assault;
use crate::door::tap::Tap;

const NOW: u32 = 1_800_000_000;

fn forge(attack: Attack, seed: u64) -> Forge {
    let origins = Assault::new(attack).origins().unwrap();
    Forge::new(attack, origins, Captured::default(), seed, NOW)
}

fn packets(forge: &mut Forge, count: usize) -> Vec<(IpAddr, Vec<u8>)> {
    let mut packets = Vec::new();
    while packets.len() < count {
        packets.extend(forge.next(count - packets.len()).map(|out| (out.source, out.bytes.to_vec())));
    }
    packets
}

fn keys() -> Keyring {
    Keyring::new(&Master::new([7; 32]), u64::from(NOW))
}

#[test]
fn every_forged_packet_has_the_shape_that_its_attack_is_named_for() {
    let all = |attack: Attack, right: fn(Shape<'_>) -> bool| {
        for (_, packet) in packets(&mut forge(attack, 3), 2_000) {
            assert!(right(shape(&packet)), "{attack}: {:?}", shape(&packet));
        }
    };
    all(Attack::Garbage, |shape| shape == Shape::Garbage);
    all(Attack::Hello, |shape| matches!(shape, Shape::Hello { .. }));
    all(Attack::Short, |shape| matches!(shape, Shape::Established { .. }));
    all(Attack::ForgedId, |shape| matches!(shape, Shape::Established { .. }));
    all(Attack::Initial, |shape| matches!(shape, Shape::Initial { token: Token::None, .. }));
    all(Attack::ForgedTicket, |shape| matches!(shape, Shape::Initial { token: Token::Ticket(_), .. }));
    all(Attack::ForgedCookie, |shape| matches!(shape, Shape::Initial { token: Token::Cookie(_), .. }));
}

#[test]
fn who_has_read_the_specification_costs_the_gate_its_keyed_hashes() {
    let keys = keys();
    let mut seen = [0; 3];
    for (source, packet) in packets(&mut forge(Attack::Aware, 5), 3_000) {
        match shape(&packet) {
            Shape::Initial { dcid, token: Token::Ticket(token) } => {
                assert_eq!(check_ticket(&keys, token, dcid, NOW), Err(TicketFault::Forged));
                seen[0] += 1;
            }
            Shape::Initial { token: Token::Cookie(token), .. } => {
                assert_eq!(check_cookie(&keys, source, token, NOW), Err(CookieFault::Forged));
                seen[1] += 1;
            }
            Shape::Established { cid } => {
                assert!(!check_cid(&keys, cid));
                assert_eq!(u64::from(cid[0]), u64::from(NOW) / CID_EPOCH_S % 256, "the epoch of now");
                seen[2] += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [1_000; 3]);
}

#[test]
fn the_same_seed_gives_the_same_packets_and_another_seed_others() {
    for attack in [Attack::Naive, Attack::Aware, Attack::Short] {
        let first = packets(&mut forge(attack, 1), 500);
        assert_eq!(first, packets(&mut forge(attack, 1), 500), "{attack}");
        assert_ne!(first, packets(&mut forge(attack, 2), 500), "{attack}");
    }
}

#[test]
fn sources_are_as_many_as_the_plan_says() {
    let mut assault = Assault::new(Attack::Short);
    (assault.sources, assault.prefixes) = (1_000, 100);
    let mut forge = Forge::new(Attack::Short, assault.origins().unwrap(), Captured::default(), 1, NOW);
    let sources: HashSet<IpAddr> = packets(&mut forge, 20_000).into_iter().map(|(source, _)| source).collect();
    assert_eq!(sources.len(), 1_000);
    let prefixes: HashSet<_> = sources.iter().map(|source| postern_proto::door::prefix_of(*source)).collect();
    assert_eq!(prefixes.len(), 100);
}

#[test]
fn a_replay_is_the_captured_datagram_but_for_what_the_thief_changes() {
    let keys = keys();
    let body = postern_proto::door::TicketBody {
        domain_tag: 1,
        prefix_tag: 2,
        expiry_min: NOW / 60 + 10,
        class: postern_proto::door::PeerClass::Known,
        share: postern_proto::door::Share::default(),
    };
    let minted = postern_proto::door::mint(&keys, Kind::Known, [9; 12], &body);
    let dcid = [5; CID_BYTES];
    let token = postern_proto::door::token_of(&minted.bytes, &minted.key, &dcid, NOW);
    let owner = IpAddr::from([127, 200, 0, 1]);
    let mut slot = Slot { bytes: [0; FULL], length: 0, source: owner };
    initial(&mut slot, &mut fastrand::Rng::with_seed(1), &token);
    slot.bytes[6..6 + CID_BYTES].copy_from_slice(&dcid);
    let tap = Tap::default();
    tap.see(owner, &slot.bytes);
    let play = |attack: Attack| {
        let origins = Assault::new(attack).origins().unwrap();
        let mut forge = Forge::new(attack, origins, tap.captured(), 1, NOW);
        packets(&mut forge, 100)
    };
    let verdict = |packet: &[u8]| match shape(packet) {
        Shape::Initial { dcid, token: Token::Ticket(token) } => check_ticket(&keys, token, dcid, NOW),
        other => panic!("{other:?}"),
    };
    for (source, packet) in play(Attack::Replay) {
        assert_eq!((source, &packet[..]), (owner, &slot.bytes[..]));
        assert_eq!(verdict(&packet), Ok(()));
    }
    for (source, packet) in play(Attack::ReplayElsewhere) {
        assert_eq!(packet, slot.bytes);
        assert_ne!(source, owner);
    }
    for (_, packet) in play(Attack::ReplayOtherId) {
        assert_eq!(verdict(&packet), Err(TicketFault::Forged));
    }
}
