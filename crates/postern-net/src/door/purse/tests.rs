//! The purse on a real directory.

use std::os::unix::fs::PermissionsExt;

use super::*;

const NOW: u64 = 1_800_000_000;

fn grant(number: u8) -> Grant {
    Grant { ticket: [number; TICKET_BYTES], key: [number; 16], expires_s: NOW + 86_400 }
}

fn purse() -> (tempfile::TempDir, Purse) {
    let dir = tempfile::tempdir().expect("a directory");
    let purse = Purse::open(&dir.path().join("purse")).expect("opened");
    (dir, purse)
}

fn again(dir: &tempfile::TempDir) -> Purse {
    Purse::open(&dir.path().join("purse")).expect("opened again")
}

fn numbers(purse: &Purse, domain: &str) -> Vec<u8> {
    std::iter::from_fn(|| purse.take(domain, NOW).expect("taken")).map(|taken| taken.ticket[0]).collect()
}

fn memory() -> DoorMemory {
    let key = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=".parse().expect("a key");
    DoorMemory {
        place: Some(AltDoor { host: "mx.friend.example".to_owned(), port: 2526 }),
        keys: vec![key],
        digests: vec![[7; 32]],
        mode: Mode::Enforce,
        max_age_s: 600,
        learned_s: NOW,
        secure: true,
        silent_since_s: Some(NOW + 7),
    }
}

#[test]
fn tickets_survive_a_restart_and_are_given_once() {
    let (dir, purse) = purse();
    purse.put("friend.example", grant(1), NOW).expect("put");
    purse.put("friend.example", grant(2), NOW).expect("put");
    drop(purse);
    let purse = again(&dir);
    let taken = purse.take("friend.example", NOW).expect("taken").expect("a ticket");
    assert_eq!((taken.ticket, taken.key), (grant(1).ticket, grant(1).key));
    // As after kill -9: nothing is flushed when the first purse goes.
    std::mem::forget(purse);
    let purse = again(&dir);
    assert_eq!(numbers(&purse, "friend.example"), [2]);
    assert!(numbers(&again(&dir), "friend.example").is_empty());
}

#[test]
fn the_ninth_ticket_pushes_the_oldest_out_and_the_same_counts_once() {
    let (_dir, purse) = purse();
    for number in 0..9 {
        purse.put("friend.example", grant(number), NOW).expect("put");
        purse.put("friend.example", grant(number), NOW).expect("put");
    }
    assert_eq!(purse.tickets("friend.example"), PURSE_MAX);
    assert_eq!(numbers(&purse, "friend.example"), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn an_expired_ticket_is_thrown_away_by_the_servers_clock() {
    let (_dir, purse) = purse();
    purse.put("friend.example", grant(1), NOW).expect("put");
    assert!(purse.take("friend.example", NOW + 86_400).expect("looked").is_none());
    assert_eq!(purse.tickets("friend.example"), 0);
    // Our clock is two days ahead of the server's.
    purse.set_clock_offset("friend.example", -2 * 86_400).expect("kept");
    purse.put("friend.example", grant(2), NOW + 2 * 86_400).expect("put");
    assert!(purse.take("friend.example", NOW + 2 * 86_400).expect("looked").is_some());
    // Nor does a ticket live longer than tickets do.
    purse.put("friend.example", Grant { expires_s: u64::MAX, ..grant(3) }, NOW).expect("put");
    assert!(purse.take("friend.example", NOW + TICKET_LIFE_S).expect("looked").is_none());
}

#[test]
fn a_rotten_file_costs_its_domain_only() {
    let (dir, purse) = purse();
    purse.put("friend.example", grant(1), NOW).expect("put");
    purse.put("other.example", grant(2), NOW).expect("put");
    let mut files: Vec<_> =
        fs::read_dir(dir.path().join("purse")).expect("listed").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let good = fs::read(&files[0]).expect("read");
    for at in 0..good.len() {
        let mut rotten = good.clone();
        rotten[at] ^= 1;
        fs::write(&files[0], &rotten).expect("written");
        let purse = again(&dir);
        assert_eq!(purse.domains().len(), 1, "octet {at} changed");
        assert!(!files[0].exists());
    }
    for length in [0, 1, good.len() / 2, good.len() - 1] {
        fs::write(&files[0], &good[..length]).expect("written");
        assert_eq!(again(&dir).domains().len(), 1, "cut at {length}");
    }
    fs::write(&files[0], &good).expect("written");
    assert_eq!(again(&dir).domains().len(), 2);
    // The record of one domain under the name of another.
    fs::copy(&files[0], &files[1]).expect("copied");
    assert_eq!(again(&dir).domains().len(), 1);
}

#[test]
fn a_file_that_the_system_does_not_give_is_kept_and_tried_again() {
    let (dir, purse) = purse();
    purse.set_memory("friend.example", Some(memory())).expect("kept");
    let entry = fs::read_dir(dir.path().join("purse")).expect("listed").next().expect("a file").expect("an entry");
    let (path, aside) = (entry.path(), dir.path().join("aside"));
    fs::rename(&path, &aside).expect("moved");
    // A link to itself: an error of the system for root too.
    std::os::unix::fs::symlink(&path, &path).expect("linked");
    let purse = again(&dir);
    assert!(fs::symlink_metadata(&path).is_ok(), "nothing was deleted");
    assert_eq!(purse.memory("friend.example"), None);
    assert!(purse.set_clock_offset("friend.example", 3600).is_err(), "nothing is written over what is not known");
    assert!(purse.take("friend.example", NOW).is_err());
    purse.put("other.example", grant(1), NOW).expect("others go on");
    fs::rename(&aside, &path).expect("moved back");
    assert_eq!(purse.memory("friend.example"), Some(memory()));
    purse.set_clock_offset("friend.example", 3600).expect("kept");
    assert_eq!(again(&dir).memory("friend.example"), Some(memory()));
}

#[test]
fn what_a_crash_left_beside_is_swept_and_nobody_else_may_read() {
    let (dir, purse) = purse();
    purse.put("friend.example", grant(1), NOW).expect("put");
    let dir_path = dir.path().join("purse");
    fs::write(dir_path.join("0123.new"), "half").expect("written");
    let purse = again(&dir);
    assert_eq!(purse.tickets("friend.example"), 1);
    let files: Vec<_> = fs::read_dir(&dir_path).expect("listed").map(|entry| entry.expect("an entry").path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(fs::metadata(&files[0]).expect("facts").permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&dir_path).expect("facts").permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_ticket_that_cannot_be_taken_durably_is_not_given() {
    let (dir, purse) = purse();
    purse.put("friend.example", grant(1), NOW).expect("put");
    let path = dir.path().join("purse");
    let moved = dir.path().join("moved");
    fs::rename(&path, &moved).expect("moved");
    assert!(purse.take("friend.example", NOW).is_err());
    fs::rename(&moved, &path).expect("moved back");
    assert_eq!(numbers(&purse, "friend.example"), [1]);
}

#[test]
fn the_memory_of_a_door_and_the_rest_survive_a_restart() {
    let (dir, purse) = purse();
    let alt = AltDoor { host: "second.friend.example".to_owned(), port: 7777 };
    purse.set_memory("friend.example", Some(memory())).expect("kept");
    purse.set_alt("friend.example", alt.clone()).expect("kept");
    purse.set_clock_offset("friend.example", -86_400).expect("kept");
    let purse = again(&dir);
    assert_eq!(purse.memory("friend.example"), Some(memory()));
    assert_eq!(purse.alt("friend.example"), Some(alt));
    assert_eq!(purse.clock_offset("friend.example"), Some(-86_400));
    assert!(memory().is_fresh(NOW + 599) && !memory().is_fresh(NOW + 600));
    purse.set_memory("friend.example", None).expect("forgotten");
    assert_eq!(again(&dir).memory("friend.example"), None);
}

#[test]
fn a_full_purse_lets_the_oldest_go_and_keeps_promises_to_enforce_longest() {
    let (dir, purse) = purse();
    purse.set_memory("enforced.example", Some(memory())).expect("kept");
    for number in 0..DOMAINS_MAX {
        purse.set_clock_offset(&format!("{number}.example"), 1).expect("kept");
    }
    let check = |purse: &Purse| {
        assert_eq!(purse.domains().len(), DOMAINS_MAX);
        assert!(purse.memory("enforced.example").is_some());
        assert_eq!(purse.clock_offset("0.example"), None, "the oldest without a promise");
        assert_eq!(purse.clock_offset("1.example"), Some(1));
    };
    check(&purse);
    check(&again(&dir));
}
