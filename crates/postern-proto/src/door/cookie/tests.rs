//! The exchange of HELLO, CHALLENGE and cookie.

use core::net::IpAddr;

use super::super::keys::{Keyring, Master};
use super::super::limits::{APPOINTMENT_S_MAX, CHALLENGE_BYTES, COOKIE_WINDOW_S};
use super::{Challenge, Cookie, CookieFault, Terms, challenge, check_cookie};

const NOW: u32 = 1_790_000_000;
const NONCE: [u8; 8] = *b"8 octets";

fn keys(now_s: u32) -> Keyring {
    Keyring::new(&Master::new([3; 32]), now_s.into())
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn token(source: &str, wait_s: u32) -> [u8; 38] {
    let not_before = NOW + wait_s;
    let terms = Terms { server_time: NOW, not_before, not_after: not_before + COOKIE_WINDOW_S, level: 2 };
    let mut out = [0; CHALLENGE_BYTES];
    challenge(&keys(NOW), ip(source), NONCE, &terms, &mut out);
    let read = Challenge::parse(&out, NONCE).expect("a challenge");
    assert_eq!((read.terms, read.wait_s()), (terms, wait_s));
    read.token()
}

#[test]
fn a_cookie_is_good_from_its_appointment_to_the_end_of_its_window() {
    let token = token("192.0.2.1", 60);
    let check = |after: u32| check_cookie(&keys(NOW), ip("192.0.2.1"), &token, NOW + after);
    let good = Cookie { nonce: NONCE, not_before: NOW + 60, not_after: NOW + 180 };
    assert_eq!(check(59), Err(CookieFault::Early { not_before: NOW + 60 }));
    assert_eq!((check(60), check(180)), (Ok(good), Ok(good)));
    assert_eq!(check(181), Err(CookieFault::Late));
}

#[test]
fn a_cookie_is_useless_from_another_address() {
    let token = token("192.0.2.1", 0);
    for other in ["192.0.2.2", "::192.0.2.1", "2001:db8::1"] {
        assert_eq!(check_cookie(&keys(NOW), ip(other), &token, NOW), Err(CookieFault::Forged), "{other}");
    }
    // The same address, seen through a socket of both families.
    assert!(check_cookie(&keys(NOW), ip("::ffff:192.0.2.1"), &token, NOW).is_ok());
}

#[test]
fn the_farthest_appointment_is_kept_through_every_key_change() {
    let mut keys = keys(NOW - NOW % 900 + 899);
    let now = NOW - NOW % 900 + 899;
    let not_before = now + APPOINTMENT_S_MAX;
    let terms = Terms { server_time: now, not_before, not_after: not_before + COOKIE_WINDOW_S, level: 2 };
    let mut out = [0; CHALLENGE_BYTES];
    challenge(&keys, ip("192.0.2.1"), NONCE, &terms, &mut out);
    let token = Challenge::parse(&out, NONCE).expect("a challenge").token();
    keys.roll(terms.not_after.into());
    assert!(check_cookie(&keys, ip("192.0.2.1"), &token, terms.not_after).is_ok());
    keys.roll(u64::from(now) + 1 + 3 * 900);
    assert_eq!(check_cookie(&keys, ip("192.0.2.1"), &token, terms.not_after), Err(CookieFault::UnknownKey));
}

#[test]
fn a_challenge_without_our_nonce_is_ignored() {
    let mut out = [0; CHALLENGE_BYTES];
    let terms = Terms { server_time: NOW, not_before: NOW, not_after: NOW + 120, level: 1 };
    challenge(&keys(NOW), ip("192.0.2.1"), NONCE, &terms, &mut out);
    assert!(Challenge::parse(&out, NONCE).is_some());
    assert_eq!(Challenge::parse(&out, *b"another."), None);
    assert_eq!(Challenge::parse(&out[..39], NONCE), None);
    out[1] = 2;
    assert_eq!(Challenge::parse(&out, NONCE), None);
}
