//! Who is a recipient here.

use super::*;
use postern_proto::mode::Mode;

fn policy() -> Policy {
    let domains = [
        ("any.example".to_owned(), Recipients::Any),
        ("blind.example".to_owned(), Recipients::Unsure),
        ("few.example".to_owned(), Recipients::names(["Ann", "bob@few.example", "lists+all"])),
    ];
    Policy { domains: domains.into(), detail: Some('+'), ..Policy::default() }
}

#[track_caller]
fn check(address: &str, expected: RecipientVerdict) {
    let address = if address == "postmaster" {
        Address { local: address.into(), domain: "".into() }
    } else {
        Address::parse(address.as_bytes(), false).unwrap()
    };
    match policy().lookup(&address, &Modes::default()) {
        Lookup::Known(verdict) => assert_eq!(verdict, expected, "{address}"),
        Lookup::Ask(target) => panic!("{address} would be asked of {target:?}"),
    }
}

#[test]
fn names_are_found_with_and_without_detail_and_in_any_case() {
    let yes = RecipientVerdict::Accept(Mode::Through);
    let no = RecipientVerdict::Unknown(None);
    check("whoever@any.example", yes.clone());
    check("ann@few.example", yes.clone());
    check("ANN+news@few.example", yes.clone());
    check("bob@few.example", yes.clone());
    check("lists+all@few.example", yes.clone());
    check("lists@few.example", no.clone());
    check("carl@few.example", no);
    check("ann@blind.example", RecipientVerdict::Unsure);
    check("postmaster@few.example", yes.clone());
    check("postmaster", yes);
    check("ann@other.example", RecipientVerdict::NotOurs);
}
