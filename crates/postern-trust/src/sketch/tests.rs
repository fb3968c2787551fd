use super::*;

#[test]
fn decay_halves_in_its_steps_and_never_grows() {
    const TABLE: [u64; 8] = powers(crate::limits::BAD_DECAY);
    for (value, steps, expected) in [
        (1_000, 0, 1_000),
        (1_000, 8, 500),
        (1_000, 16, 250),
        (1_000, 4, 707),
        (1_023, 80, 1),
        (1_023, 88, 0),
        (1_023, u32::MAX, 0),
    ] {
        assert_eq!(decayed(value, steps, &TABLE), expected, "{value} after {steps}");
    }
    for steps in 0..200 {
        assert!(decayed(1_023, steps + 1, &TABLE) <= decayed(1_023, steps, &TABLE));
    }
    const DAYS: [u64; 30] = powers(crate::limits::GOOD_DECAY);
    assert_eq!((decayed(640, 30, &DAYS), decayed(640, 60, &DAYS), decayed(640, 1, &DAYS)), (320, 160, 625));
}

#[test]
fn sources_are_ipv4_addresses_and_ipv6_64s() {
    let same = |one: &str, other: &str| {
        Source::of(one.parse().expect("address")) == Source::of(other.parse().expect("address"))
    };
    assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
    assert!(!same("192.0.2.1", "192.0.2.2"));
    assert!(same("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"));
    assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
}

#[test]
fn fingerprints_of_different_kinds_and_keys_differ() {
    let (keys, others) = (Keys::new([1; 16]), Keys::new([2; 16]));
    let source = Source::of(IpAddr::from([192, 0, 2, 1]));
    let name = Name::of("ann@friend.example").expect("a name");
    let all = [
        keys.address(source),
        keys.prefix(source),
        keys.domain(&name),
        keys.mailbox(&name).expect("an address"),
        keys.link(1, 2),
        keys.link(2, 1),
        keys.tenant(1, 2, false),
        keys.tenant(1, 2, true),
        others.address(source),
    ];
    let mut distinct = all.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), all.len());
}

#[test]
fn names_are_lower_case_without_the_last_dot() {
    let domain = |text: &str| Name::of(text).map(|name| String::from_utf8_lossy(name.domain()).into_owned());
    assert_eq!(domain("Friend.Example."), Some("friend.example".into()));
    assert_eq!(domain("Ann@Friend.Example"), Some("friend.example".into()));
    for odd in ["", ".", "ann@", &"a".repeat(256)] {
        assert_eq!(domain(odd), None, "{odd:?}");
    }
    let same = |one: &str, other: &str| {
        let keys = Keys::new([0; 16]);
        let mailbox = |text| keys.mailbox(&Name::of(text).expect("a name"));
        mailbox(one) == mailbox(other)
    };
    assert!(same("Ann@friend.example", "ann@FRIEND.example."));
    assert!(!same("ann@friend.example", "bob@friend.example"));
}
