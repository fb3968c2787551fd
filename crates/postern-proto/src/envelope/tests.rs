//! What is written is what is read, and what a later release wrote is not guessed at.

use super::*;
use crate::reply::Enhanced;
use alloc::vec;

fn meta() -> Meta {
    Meta {
        arrival: Arrival {
            at_unix_ms: 1_795_284_384_000,
            peer: "[2001:db8::1]:4711".parse().unwrap(),
            peer_name: Some("client.example".into()),
            local: "192.0.2.25:25".parse().unwrap(),
            by: "mx.example.com".into(),
            helo: "helo.example".into(),
            esmtp: true,
            tls: Some(TlsFacts { version: "TLSv1.3".into(), cipher: "TLS13_AES_256_GCM_SHA384".into() }),
            via: Via::Relay,
        },
        sender: Some(Address::parse(b"bob@sender.example", false).unwrap()),
        recipients: vec![Recipient {
            address: Address::parse(b"ann@example.com", false).unwrap(),
            original: Some("rfc822;ann@example.net".into()),
            notify: Notify { success: true, failure: false, delay: true, given: true },
        }],
        eight_bit: true,
        smtputf8: true,
        dsn: DsnRequest { full: Some(true), envelope_id: Some("QQ314159".into()) },
        size: 4096,
        judged: true,
        attempts: 3,
        tried_since_unix_ms: Some(1_795_284_385_000),
        last_error: Some("451 4.3.0 later".into()),
        note: None,
        checks: Default::default(),
        judgement: None,
    }
}

#[test]
fn what_was_judged_and_all_else_is_read_as_it_was_written() {
    for judged in [true, false] {
        let meta = Meta { judged, ..meta() };
        assert_eq!(Meta::from_bytes(&meta.to_bytes()), Ok(meta));
    }
}

#[test]
fn who_was_judged_and_must_be_again_is_told_from_who_never_was() {
    use crate::judgement::Action;
    let judgement =
        Judgement { action: Action::Accept, score_hundredths: None, by: "f".into(), reason: None, headers: Vec::new() };
    for (judged, judgement, before) in [
        (false, None, false),
        (true, Some(judgement.clone()), false),
        (true, None, false),
        (false, Some(judgement), true),
    ] {
        let read = Meta::from_bytes(&Meta { judged, judgement, ..meta() }.to_bytes()).unwrap();
        assert_eq!(read.was_judged_before(), before);
    }
}

#[test]
fn metadata_of_a_later_release_or_of_nobody_is_told_apart() {
    let mut bytes = meta().to_bytes();
    let cut = bytes.len() / 2;
    assert_eq!(Meta::from_bytes(&bytes[..cut]), Err(MetaError::Malformed));
    assert_eq!(Meta::from_bytes(&[]), Err(MetaError::Malformed));
    bytes[0] = META_VERSION + 1;
    assert_eq!(Meta::from_bytes(&bytes), Err(MetaError::UnknownVersion(META_VERSION + 1)));
}

#[test]
fn a_refusal_comes_back_through_the_spool_in_its_own_words() {
    let refusal = Refusal(Reply::new(552, Enhanced(5, 2, 2), "Over quota\nsecond line"));
    assert_eq!(Refusal::from_bytes(&refusal.to_bytes()), Some(refusal));
    assert_eq!(Refusal::from_bytes(b"\xff\xff\xff"), None);
}

#[test]
fn metadata_of_the_release_before_checks_is_still_read() {
    let expected = Meta { judged: false, ..meta() };
    let bytes = expected.to_bytes();
    // Version 1 had the same fields in the same order and ended before the checks.
    let tail = postcard::to_allocvec(&(Checks::default(), Option::<Judgement>::None)).unwrap();
    let mut old = bytes[..bytes.len() - tail.len()].to_vec();
    old[0] = META_VERSION_BEFORE_CHECKS;
    assert_eq!(Meta::from_bytes(&old), Ok(expected));
}

#[test]
fn the_number_of_each_door_is_what_queues_hold() {
    let numbers = [(Via::Public, 0), (Via::Relay, 1), (Via::Local, 2), (Via::Postern, 3)];
    for (via, number) in numbers {
        assert_eq!(postcard::to_allocvec(&via).unwrap(), [number]);
    }
}
