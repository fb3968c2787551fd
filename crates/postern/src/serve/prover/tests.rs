//! What proofs are worth.

use postern_trust::{BookOptions, Pins};

use super::*;

#[track_caller]
fn check(domain: &str, (by, secure): (ProvenBy, bool), expected: impl Fn(Standing) -> Proof) {
    let options = BookOptions { good_entries: 1 << 10, bad_entries: 1 << 10, ..BookOptions::default() };
    let book = Book::new(options, [3; 16]);
    book.set_pins(Pins { domains: vec!["example.org".to_owned()], ..Pins::default() });
    let proof = KeyProof::Proven { org: "example.org".into(), above: vec!["example.org".into()], by, secure };
    let standing = Standing { org: "example.org".to_owned(), above: vec!["example.org".to_owned()], secure };
    assert_eq!(testify(proof, domain, &book), expected(standing), "{domain} by {by:?}");
}

#[test]
fn a_name_below_a_known_domain_is_known_only_by_a_proof_that_nobody_could_forge() {
    check("example.org", (ProvenBy::Txt, false), Proof::Known);
    check("r123.example.org", (ProvenBy::Txt, false), Proof::Proven);
    check("r123.example.org", (ProvenBy::Txt, true), Proof::Known);
    check("r123.example.org", (ProvenBy::Tlsa, true), Proof::Known);
    check("r123.example.org", (ProvenBy::Pin, true), Proof::Pinned);
    check("example.com", (ProvenBy::Tlsa, true), Proof::Proven);
}
