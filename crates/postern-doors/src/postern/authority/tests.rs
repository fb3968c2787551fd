//! Whose mail is whose.

use postern_net::door::KeyPair;
use tokio::sync::watch;

use super::*;
use crate::postern::prove::{Answer, Claim, Proof};

/// Pins these domains to another key than that of any peer.
struct Pins(&'static [&'static str]);

impl Prover for Pins {
    fn prove(&self, _: Claim<'_>, answer: Answer) {
        answer.tell(Proof::NotNow);
    }

    fn is_barred(&self, domain: &str, _: &str, _: &PublicKey) -> bool {
        self.0.contains(&domain)
    }

    fn is_pinned(&self, _: &str, _: &PublicKey) -> bool {
        false
    }

    fn pin_changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

/// A peer of `corp.example`, by its domain and the domains above for which it speaks.
type Peer = (&'static str, &'static [&'static str]);

#[track_caller]
fn check(author: &str, peer: Peer, expected: bool) {
    check_under(&[], author, peer, expected);
}

#[track_caller]
fn check_under(pins: &'static [&'static str], author: &str, (domain, above): Peer, expected: bool) {
    let author = Author { domain: author.into() };
    let peer = Principal {
        domain: domain.into(),
        org: "corp.example".into(),
        above: above.iter().map(|name| (*name).to_owned()).collect(),
        key: KeyPair::from_pkcs8(&KeyPair::generate().unwrap()).unwrap().public().clone(),
        prover: Arc::new(Pins(pins)),
        too_slow: Cell::default(),
    };
    assert_eq!(ground_of(&author, &peer).is_some(), expected, "{author:?} by {peer:?}");
}

#[test]
fn a_peer_brings_authors_of_its_own_domain_and_of_those_above_that_are_open_to_it() {
    let peer = ("mail.corp.example", &["corp.example"][..]);
    check("mail.corp.example", peer, true);
    check("a.mail.corp.example", peer, true);
    check("corp.example", peer, true);
    check("hotmail.corp.example", peer, false);
    check("evilcorp.example", peer, false);
    check("example", peer, false);
    check("corp.example.evil.example", peer, false);
    check("bank.example", peer, false);
    check("b.a.example", ("a.example", &[]), true);
    check("", ("a.example", &[]), false);
    check("a.example", ("", &[]), false);
}

#[test]
fn a_domain_that_asks_for_strict_alignment_is_spoken_for_by_no_part_of_it_and_no_part_by_another() {
    let shop = ("shop.corp.example", &[][..]);
    check("shop.corp.example", shop, true);
    check("corp.example", shop, false);
    check("news.corp.example", shop, false);
    check("news.corp.example", ("shop.corp.example", &["corp.example"]), false);
}

#[test]
fn what_is_pinned_to_another_key_is_not_the_peers_to_bring() {
    let peer = ("mail.corp.example", &["corp.example"][..]);
    check_under(&["corp.example"], "corp.example", peer, false);
    check_under(&["corp.example"], "mail.corp.example", peer, true);
    check_under(&["a.mail.corp.example"], "a.mail.corp.example", peer, false);
    check_under(&["a.mail.corp.example"], "corp.example", peer, true);
}
