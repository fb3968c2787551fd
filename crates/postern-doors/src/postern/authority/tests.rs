//! Whose mail is whose.

use super::*;

#[track_caller]
fn check(author: &str, (domain, org): (&str, &str), expected: bool) {
    let author = Author { domain: author.into() };
    let peer = Principal { domain: domain.into(), org: org.into(), too_slow: Cell::default() };
    assert_eq!(ground_of(&author, &peer).is_some(), expected, "{author:?} by {peer:?}");
}

#[test]
fn a_peer_brings_authors_of_its_own_organisation_and_nobody_elses() {
    let peer = ("mail.corp.example", "corp.example");
    check("mail.corp.example", peer, true);
    check("corp.example", peer, true);
    check("news.corp.example", peer, true);
    check("evilcorp.example", peer, false);
    check("example", peer, false);
    check("corp.example.evil.example", peer, false);
    check("bank.example", peer, false);
    // A domain whose organisation nobody could find stands for itself.
    check("a.example", ("a.example", "a.example"), true);
    check("b.a.example", ("a.example", ""), false);
    check("", ("a.example", ""), false);
}
