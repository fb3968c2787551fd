//! Which keys count, by table.

use postern_net::door::{AltDoor, KeyPair};
use postern_proto::door::Mode;

use super::*;

fn key() -> PublicKey {
    KeyPair::from_pkcs8(&KeyPair::generate().expect("randomness")).expect("a key").public().clone()
}

#[test]
fn a_signed_tlsa_record_adds_to_a_signed_record_and_wins_over_an_unsigned_one() {
    let (own, other) = (key(), [7; 32]);
    let check = |secure, digests: &[Digest], keys_count: bool| {
        let keys = if keys_count { vec![own.clone()] } else { Vec::new() };
        assert_eq!(accepted(secure, vec![own.clone()], digests.to_vec()), (keys, digests.to_vec()), "{secure}");
    };
    check(true, &[other], true);
    check(true, &[], true);
    check(false, &[], true);
    check(false, &[other], false);
}

#[test]
fn what_is_remembered_is_of_one_place() {
    let place = Place { host: "mx.far.example".into(), port: 2526, ..Place::default() };
    let memory = DoorMemory {
        place: Some(AltDoor { host: "mx.far.example".into(), port: 2526 }),
        keys: vec![key()],
        digests: vec![[7; 32]],
        mode: Mode::Prefer,
        max_age_s: 60,
        learned_s: 0,
        secure: true,
        silent_since_s: None,
    };
    assert_eq!(remembered(Some(&memory), &place), [[7; 32]]);
    assert!(remembered(Some(&memory), &Place { port: 2527, ..place.clone() }).is_empty());
    assert!(remembered(Some(&memory), &Place { host: "mx.evil.example".into(), ..place.clone() }).is_empty());
    assert!(remembered(None, &place).is_empty());
}
