//! Which keys are good when; the schedule itself is held against the second implementation by `tests/door_vectors.rs`.

use std::vec::Vec;

use super::{Keyring, Master};

const DAY: u64 = 86_400;
const NOW: u64 = 20_000 * DAY + 12_345;

fn keys(now_s: u64) -> Keyring {
    Keyring::new(&Master::new([7; 32]), now_s)
}

/// Epochs of which the ring of `keys` holds the key that `made_at` uses, as offsets from `NOW` in units of `unit`.
fn accepted(unit: u64, same: impl Fn(&Keyring, &Keyring) -> bool) -> (i64, i64) {
    let now = keys(NOW);
    let good: Vec<i64> = (-40..=40).filter(|at| same(&now, &keys((NOW as i64 + at * unit as i64) as u64))).collect();
    assert!(good.windows(2).all(|pair| pair[1] == pair[0] + 1), "no gaps: {good:?}");
    (good[0], good[good.len() - 1])
}

#[test]
fn keys_of_past_epochs_are_accepted_within_their_limits_and_the_next_one_too() {
    let cookie = |now: &Keyring, then: &Keyring| now.cookie(then.cookie_now().0) == Some(then.cookie_now().1);
    let gate = |now: &Keyring, then: &Keyring| now.gate(then.gate_now().0) == Some(then.gate_now().1);
    let body = |now: &Keyring, then: &Keyring| now.body(then.body_now().0) == Some(then.body_now().1);
    let cid = |now: &Keyring, then: &Keyring| now.cid(then.cid_now().0) == Some(then.cid_now().1);
    assert_eq!(accepted(900, cookie), (-3, 1));
    assert_eq!(accepted(DAY, gate), (-34, 1));
    assert_eq!(accepted(DAY, body), (-34, 1));
    assert_eq!(accepted(3600, cid), (-4, 1));
}

#[test]
fn a_rolled_keyring_is_the_one_that_a_restart_would_make() {
    for steps in [1, 900, 3600, DAY, 10 * DAY, 40 * DAY, 300 * DAY] {
        let mut rolled = keys(NOW);
        let changed = rolled.roll(NOW + steps);
        assert_eq!(changed, steps >= 900, "{steps} s");
        let fresh = keys(NOW + steps);
        for id in 0..=255 {
            assert_eq!(rolled.cookie(id), fresh.cookie(id));
            assert_eq!(rolled.gate(id), fresh.gate(id));
            assert_eq!(rolled.body(id), fresh.body(id));
            assert_eq!(rolled.cid(id), fresh.cid(id));
        }
        // And back, when the clock was set wrong.
        rolled.roll(NOW);
        assert!(!rolled.roll(NOW));
        assert_eq!(rolled.gate_keys().collect::<Vec<_>>(), keys(NOW).gate_keys().collect::<Vec<_>>());
    }
}

#[test]
fn the_first_and_the_last_second_of_time_have_keys() {
    for now in [0, 1, u64::from(u32::MAX), u64::MAX] {
        let keys = keys(now);
        assert!(keys.cookie(keys.cookie_now().0).is_some() && keys.cid(keys.cid_now().0).is_some());
    }
}

#[test]
fn gate_keys_for_upstream_are_those_of_36_days() {
    let keys = keys(NOW);
    let told: Vec<_> = keys.gate_keys().collect();
    assert_eq!(told.len(), 36);
    assert!(told.iter().all(|(id, key)| keys.gate(*id) == Some(key)));
}

#[test]
fn keys_differ_by_label_epoch_and_master() {
    let keys = keys(NOW);
    let other = Keyring::new(&Master::new([8; 32]), NOW);
    assert_ne!(keys.cookie_now().1, keys.cid_now().1);
    assert_ne!(keys.gate_now().1, &keys.body_now().1[..16]);
    assert_ne!(keys.gate_now().1, other.gate_now().1);
    let reset = Master::new([7; 32]).reset_secret();
    assert_ne!(&reset, keys.body_now().1);
    assert_ne!(reset, Master::new([8; 32]).reset_secret());
    let mut all: Vec<_> = keys.gate_keys().map(|(_, key)| key).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 36);
}

#[test]
fn a_prefix_tag_is_that_of_the_24_or_48() {
    let keys = keys(NOW);
    let tag = |address: &str| keys.prefix_tag(address.parse().expect("an address"));
    assert_eq!(tag("192.0.2.1"), tag("192.0.2.255"));
    assert_eq!(tag("192.0.2.1"), tag("::ffff:192.0.2.7"));
    assert_ne!(tag("192.0.2.1"), tag("192.0.3.1"));
    assert_eq!(tag("2001:db8:1::1"), tag("2001:db8:1:ffff::"));
    assert_ne!(tag("2001:db8:1::1"), tag("2001:db8:2::1"));
    assert_eq!(keys.domain_tag("Example.ORG"), keys.domain_tag("example.org"));
    assert_ne!(keys.domain_tag("example.org"), keys.domain_tag("example.net"));
}
