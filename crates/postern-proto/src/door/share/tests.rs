//! What is written is read, and names cannot be chosen to meet.

use std::collections::HashSet;

use super::*;
use crate::door::Master;

fn keys(master: u8) -> Keyring {
    Keyring::new(&Master::new([master; 32]), 1_790_000_000)
}

#[test]
fn a_share_is_read_as_it_was_written() {
    let keys = keys(1);
    for weight in 1..=Share::WEIGHT_MAX {
        let share = Share::new(&keys, weight, "example", "friend.example");
        assert_eq!(Share::from_be_bytes(share.to_be_bytes()), share);
        assert_eq!(share.weight(), Some(weight));
        assert_eq!(u64::from(share.suffix()), keys.suffix_tag("example") % 512);
        assert_eq!(u64::from(share.owner()), keys.owner_tag("friend.example") % 4096);
    }
    assert_eq!(Share::new(&keys, 255, "example", "a.example").weight(), Some(Share::WEIGHT_MAX));
}

#[test]
fn a_ticket_of_before_there_were_shares_says_nothing() {
    // An octet of zero for the rate, and the number of the ticket in its session.
    for serial in 0..4 {
        assert_eq!(Share::from_be_bytes([0, 0, serial]).weight(), None);
    }
    assert_eq!(Share::default().weight(), None);
}

#[test]
fn whose_name_it_is_is_told_in_any_case_of_its_letters_and_differently_by_each_server() {
    let one = Share::new(&keys(1), 1, "Example", "Friend.EXAMPLE");
    assert_eq!(one, Share::new(&keys(1), 1, "example", "friend.example"));
    assert_ne!(one, Share::new(&keys(2), 1, "example", "friend.example"));
    let (suffix, owner) = (keys(1).suffix_tag("example"), keys(1).owner_tag("example"));
    assert_ne!(suffix, owner, "a suffix is no owner");
    let owners: HashSet<u16> =
        (0..1_000).map(|n| Share::new(&keys(1), 1, "example", &std::format!("n{n}.example")).owner()).collect();
    // A thousand names in 4,096 places: some 885 are different.
    assert!((850..920).contains(&owners.len()), "{}", owners.len());
}
