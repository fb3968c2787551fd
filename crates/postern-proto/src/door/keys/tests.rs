//! Which keys are good when; the schedule itself is held against the second implementation by `tests/door_vectors.rs`.

use std::vec::Vec;

use super::{Former, Keyring, Master};
use crate::door::cid::{check_cid, make_cid};
use crate::door::limits::TICKET_LIFE_S;
use crate::door::{Kind, PeerClass, Share, Ticket, TicketBody, TicketFault, check_ticket, mint, open_ticket, token_of};

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

/// A ticket of thirty days for friend.example.
fn ticket(keys: &Keyring, now_s: u64) -> Ticket {
    let body = TicketBody {
        domain_tag: keys.domain_tag("friend.example"),
        prefix_tag: keys.prefix_tag([192, 0, 2, 7].into()),
        expiry_min: u32::try_from((now_s + TICKET_LIFE_S) / 60).expect("this side of 2106"),
        class: PeerClass::Known,
        share: Share::default(),
    };
    mint(keys, Kind::Known, [9; 12], &body)
}

/// What the gate finds in it then, for a connection id that has never been.
fn shown(keys: &Keyring, ticket: &Ticket, now_s: u64) -> Result<(), TicketFault> {
    let (now, dcid) = (u32::try_from(now_s).expect("this side of 2106"), u128::from(now_s).to_be_bytes());
    check_ticket(keys, &token_of(&ticket.bytes, &ticket.key, &dcid, now), &dcid, now)?;
    let (_, body) = open_ticket(keys, &ticket.bytes, now)?;
    let near = keys.is_prefix_tag(body.prefix_tag, [192, 0, 2, 200].into());
    assert!(near && keys.is_domain_tag(body.domain_tag, "friend.example"), "at {now_s}");
    assert!(!keys.is_domain_tag(body.domain_tag, "other.example"));
    Ok(())
}

#[test]
fn a_ticket_passes_at_every_hour_of_its_life_and_an_id_for_four_while_all_keys_roll() {
    let mut rolled = keys(NOW);
    let (ticket, cid) = (ticket(&rolled, NOW), make_cid(&rolled, 0, *b"random"));
    for hours in 0..=40 * 24 {
        let now_s = NOW + hours * 3600;
        rolled.roll(now_s);
        let wanted = match hours {
            // To the end of the minute.
            0..=720 => Ok(()),
            // Past midnight the key of its day is the 36th.
            721..837 => Err(TicketFault::Expired),
            _ => Err(TicketFault::UnknownKey),
        };
        assert_eq!(shown(&rolled, &ticket, now_s), wanted, "after {hours} h");
        assert_eq!(check_cid(&rolled, &cid), hours <= 4, "after {hours} h");
        let fresh = make_cid(&rolled, 0, *b"moreof");
        assert!(check_cid(&keys(now_s), &fresh), "one that was started at {hours} h");
    }
}

#[test]
fn another_master_refuses_nothing_that_the_one_before_gave_out_until_it_is_old() {
    let (old, new) = (Master::new([7; 32]), Master::new([8; 32]));
    let before = keys(NOW);
    let (given, cid) = (ticket(&before, NOW), make_cid(&before, 0, *b"random"));
    let former = Former { master: old, until_s: NOW + 60 };
    let at = |now_s: u64| Keyring::after(Some(&former), &new, now_s);
    // Epochs that had begun go on: what is made now is still the old one's.
    assert_eq!(at(NOW + 60).gate_now(), before.gate_now());
    let mut rolled = at(NOW + 60);
    for hours in 0..=40 * 24 {
        let now_s = NOW + 60 + hours * 3600;
        rolled.roll(now_s);
        assert_eq!(shown(&rolled, &given, now_s).is_ok(), hours < 720, "after {hours} h");
        assert_eq!(check_cid(&rolled, &cid), hours <= 4, "after {hours} h");
        let fresh = ticket(&rolled, now_s);
        assert_eq!(shown(&at(now_s), &fresh, now_s), Ok(()), "by one that was started at {hours} h");
        assert_eq!(shown(&Keyring::new(&new, now_s), &fresh, now_s).is_ok(), hours * 3600 + 12_405 >= DAY);
    }
    // Then it can go: nothing is known by it any more.
    let end = NOW + 60 + Former::KEPT_S;
    assert_eq!(at(end).gate_keys().collect::<Vec<_>>(), Keyring::new(&new, end).gate_keys().collect::<Vec<_>>());
    // Without the one before, a thief's tickets are void at once.
    assert!(shown(&Keyring::new(&new, NOW), &given, NOW).is_err());
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
