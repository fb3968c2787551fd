//! Whose mail is whose.

use postern_net::door::KeyPair;

use super::*;
use crate::postern::prove::Proof;

/// Pins these domains to another key than that of any peer.
struct Pins(&'static [&'static str]);

impl Prover for Pins {
    fn prove(&self, _: &str, _: Option<&str>, _: &PublicKey, answer: Box<dyn FnOnce(Proof) + Send>) {
        answer(Proof::NotNow);
    }

    fn is_barred(&self, domain: &str, _: &str, _: &PublicKey) -> bool {
        self.0.contains(&domain)
    }
}

#[track_caller]
fn check(author: &str, peer: (&str, &str), expected: bool) {
    check_under(&[], author, peer, expected);
}

#[track_caller]
fn check_under(pins: &'static [&'static str], author: &str, (domain, org): (&str, &str), expected: bool) {
    let author = Author { domain: author.into() };
    let peer = Principal {
        domain: domain.into(),
        org: org.into(),
        key: KeyPair::from_pkcs8(&KeyPair::generate().unwrap()).unwrap().public().clone(),
        prover: Arc::new(Pins(pins)),
        too_slow: Cell::default(),
    };
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

#[test]
fn what_is_pinned_to_another_key_is_not_the_peers_to_bring() {
    let peer = ("mail.corp.example", "corp.example");
    check_under(&["corp.example"], "corp.example", peer, false);
    check_under(&["corp.example"], "mail.corp.example", peer, true);
    check_under(&["pay.corp.example"], "corp.example", peer, true);
}
