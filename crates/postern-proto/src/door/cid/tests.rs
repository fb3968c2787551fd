//! Connection ids: ours, and all others.

use super::super::keys::{Keyring, Master};
use super::{check_cid, make_cid};

const NOW: u64 = 1_790_000_000;

fn keys(now_s: u64) -> Keyring {
    Keyring::new(&Master::new([3; 32]), now_s)
}

#[test]
fn a_connection_id_outlives_the_longest_connection() {
    let cid = make_cid(&keys(NOW), 3, *b"random");
    assert_eq!((cid[1], &cid[2..8]), (3, &b"random"[..]));
    for hour in 0..=4 {
        assert!(check_cid(&keys(NOW + hour * 3600), &cid), "after {hour} h");
    }
    assert!(!check_cid(&keys(NOW + 5 * 3600), &cid));
    assert!(check_cid(&keys(NOW - 3600), &cid), "made by a node whose clock is ahead");
    assert!(!check_cid(&keys(NOW - 2 * 3600), &cid));
}

#[test]
fn a_connection_id_with_one_bit_changed_is_not_ours() {
    let keys = keys(NOW);
    let cid = u128::from_be_bytes(make_cid(&keys, 3, *b"random"));
    for bit in 0..128 {
        assert!(!check_cid(&keys, &(cid ^ 1 << bit).to_be_bytes()));
    }
    assert!(!check_cid(&Keyring::new(&Master::new([4; 32]), NOW), &cid.to_be_bytes()), "another door's");
}
