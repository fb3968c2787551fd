use postern_proto::door::{Shape, Token, shape};

use super::{Attack, Packets};
use crate::door::send::DATAGRAM_BYTES_MAX;

const NOW_S: u32 = 1_800_000_000;

fn make(attack: Attack, captured: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut packets = Packets::new(&[attack], captured, 7, NOW_S).unwrap();
    let mut out = [0; DATAGRAM_BYTES_MAX];
    (0..200)
        .map(|_| {
            let (len, kind) = packets.write(&mut out);
            assert_eq!(kind, attack);
            out[..len].to_vec()
        })
        .collect()
}

#[test]
fn each_kind_has_the_shape_that_it_pretends() {
    for attack in Attack::ALL.into_iter().filter(|attack| !attack.needs_captured()) {
        for datagram in make(attack, &[]) {
            let right = match (attack, shape(&datagram)) {
                (Attack::Garbage, Shape::Garbage) => true,
                (Attack::Hello, Shape::Hello { .. }) => true,
                (Attack::Short | Attack::Handshake, Shape::Established { .. }) => true,
                (Attack::Initial, Shape::Initial { token: Token::None, .. }) => true,
                (Attack::Ticket, Shape::Initial { token: Token::Ticket(_), .. }) => true,
                (Attack::Cookie, Shape::Initial { token: Token::Cookie(_), .. }) => true,
                _ => false,
            };
            assert!(right, "{attack}: {:?}", shape(&datagram));
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_datagrams_and_another_seed_others() {
    let make = |seed| {
        let mut packets = Packets::new(&Attack::ALL[..7], &[], seed, NOW_S).unwrap();
        let mut out = [0; DATAGRAM_BYTES_MAX];
        let mut next = || {
            let (len, _) = packets.write(&mut out);
            out[..len].to_vec()
        };
        (0..70).map(|_| next()).collect::<Vec<_>>()
    };
    assert_eq!(make(3), make(3));
    assert_ne!(make(3), make(4));
}

#[test]
fn a_replay_is_the_captured_datagram_and_with_another_id_only_the_id_differs() {
    let captured = make(Attack::Ticket, &[]);
    for datagram in make(Attack::Replay, &captured) {
        assert!(captured.contains(&datagram));
    }
    for datagram in make(Attack::ReplayDcid, &captured) {
        assert!(!captured.contains(&datagram));
        assert!(captured.iter().any(|one| one[..6] == datagram[..6] && one[22..] == datagram[22..]));
    }
}

#[test]
fn sprayed_datagrams_carry_captured_ids() {
    let captured = make(Attack::Short, &[]);
    for datagram in make(Attack::Spray, &captured) {
        let Shape::Established { cid } = shape(&datagram) else { panic!("not established") };
        assert!(captured.iter().any(|one| one[1..17] == *cid));
    }
}

#[test]
fn nothing_is_made_of_captures_that_are_not_there() {
    let initials = make(Attack::Ticket, &[]);
    assert!(Packets::new(&[Attack::Replay], &[], 1, NOW_S).is_none());
    assert!(Packets::new(&[Attack::Garbage, Attack::Spray], &initials, 1, NOW_S).is_none());
    assert!(Packets::new(&[], &[], 1, NOW_S).is_none());
}
