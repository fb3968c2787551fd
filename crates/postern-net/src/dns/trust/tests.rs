//! Which records answer a question, and what a trust anchor must be.

use hickory_resolver::proto::rr::rdata::{CNAME, TXT};

use super::*;

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

fn text(owner: &str, text: &str, proof: Proof) -> Record {
    let mut record = Record::from_rdata(name(owner), 60, RData::TXT(TXT::new(vec![text.to_owned()])));
    record.proof = proof;
    record
}

fn alias(owner: &str, target: &str, proof: Proof) -> Record {
    let mut record = Record::from_rdata(name(owner), 60, RData::CNAME(CNAME(name(target))));
    record.proof = proof;
    record
}

/// What is found at `_postern.victim.example.`, and the proofs of all that was needed for it.
fn check(answers: &[Record], expected: &[&str], proofs: &[Proof]) {
    let asked = name("_postern.victim.example.");
    let chain = Chain::of(&asked, RecordType::TXT, answers);
    let found: Vec<String> = chain.found.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
    assert_eq!(chain.used.iter().map(|record| record.proof).collect::<Vec<_>>(), proofs);
}

#[test]
fn a_signed_record_of_another_name_is_no_answer() {
    let stray = text("_postern.evil.example.", "evil", Proof::Secure);
    check(std::slice::from_ref(&stray), &[], &[]);
    let own = text("_postern.VICTIM.example.", "own", Proof::Insecure);
    check(&[stray, own], &["own"], &[Proof::Insecure]);
}

#[test]
fn a_signed_record_behind_an_unsigned_alias_is_not_secure() {
    let answers = [
        text("_postern.evil.example.", "evil", Proof::Secure),
        alias("_postern.victim.example.", "_postern.evil.example.", Proof::Insecure),
    ];
    check(&answers, &["evil"], &[Proof::Insecure, Proof::Secure]);
}

#[test]
fn aliases_that_go_round_or_on_and_on_end() {
    let round = [
        alias("_postern.victim.example.", "a.example.", Proof::Secure),
        alias("a.example.", "_postern.victim.example.", Proof::Secure),
    ];
    check(&round, &[], &[Proof::Secure; ALIASES_MAX + 1]);
    let mut long: Vec<Record> =
        (1..20).map(|n| alias(&format!("n{n}.example."), &format!("n{}.example.", n + 1), Proof::Secure)).collect();
    long.push(alias("_postern.victim.example.", "n1.example.", Proof::Secure));
    long.push(text("n20.example.", "far", Proof::Secure));
    check(&long, &[], &[Proof::Secure; ALIASES_MAX + 1]);
}

#[tokio::test]
async fn an_anchor_is_a_file_with_a_key_of_the_root() {
    let dir = tempfile::tempdir().expect("scratch");
    let file = dir.path().join("anchor");
    let made = |content: &str| {
        std::fs::write(&file, content).expect("written");
        let trust = DnsTrust::Anchor(file.clone());
        Engine::new(&ResolverOptions {
            trust,
            server: Some(([127, 0, 0, 1], 9).into()),
            ..ResolverOptions::new(Duration::from_secs(1))
        })
    };
    let key =
        "IN DNSKEY 257 3 13 eOnXr9lpGjmR3BdPwzTxNojBuCNA5z0RWnyyHodybH7wwbanDQlBfXSmudie2FQVRrgDLWOzzhBkNXukwTrRVQ==";
    assert!(made(&format!(". {key}\n")).is_ok());
    for bad in [String::new(), "nonsense".to_owned(), format!("example. {key}\n")] {
        assert!(matches!(made(&bad), Err(DnsError::Setup(_))), "{bad:?}");
    }
    std::fs::remove_file(&file).expect("removed");
    let trust = DnsTrust::Anchor(file);
    let missing = Engine::new(&ResolverOptions { trust, ..ResolverOptions::new(Duration::from_secs(1)) });
    assert!(matches!(missing, Err(DnsError::Setup(_))));
}
