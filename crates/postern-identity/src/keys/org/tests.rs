//! The walk over a small tree.

use super::*;

/// Walks from `domain` over `records` ("name record"); the end, and the names asked about.
fn walk(domain: &str, records: &[(&str, &str)]) -> (Org, Vec<String>) {
    let (end, asked) = walk_all(domain, records);
    (end.0, asked)
}

fn walk_all(domain: &str, records: &[(&str, &str)]) -> ((Org, Vec<Box<str>>), Vec<String>) {
    let mut walk = Walk::new(domain);
    let mut asked = Vec::new();
    while let Some(name) = walk.next() {
        asked.push(name.to_owned());
        let texts = records.iter().filter(|(at, _)| *at == name).map(|(_, text)| text.as_bytes());
        walk.told(record(texts));
    }
    (walk.end(), asked)
}

fn check(domain: &str, records: &[(&str, &str)], expected: &str) {
    assert_eq!(walk(domain, records).0, Org::Domain(expected.into()), "{domain} {records:?}");
}

#[test]
fn a_domain_without_any_record_is_its_own_organisation() {
    check("mail.example.org", &[], "mail.example.org");
    check("mail.example.org", &[("mail.example.org", "v=spf1 -all")], "mail.example.org");
}

#[test]
fn the_shortest_name_with_a_record_is_the_organisation() {
    let records = [("a.mail.example.org", "v=DMARC1; p=none"), ("example.org", "v=DMARC1; p=reject")];
    check("a.mail.example.org", &records, "example.org");
}

#[test]
fn psd_n_ends_the_walk_and_psd_y_ends_it_one_label_below() {
    let university = [("cs.uni.example", "v=DMARC1; psd=n"), ("uni.example", "v=DMARC1; p=none")];
    check("mail.cs.uni.example", &university, "cs.uni.example");
    let registry = [("hosts.example", "v=DMARC1; p=reject; psd=y"), ("example", "v=DMARC1; p=none")];
    check("mail.customer.hosts.example", &registry, "customer.hosts.example");
    check("customer.hosts.example", &registry, "customer.hosts.example");
    assert_eq!(walk("mail.customer.hosts.example", &registry).1.len(), 3, "nobody asks above it");
}

#[test]
fn a_public_suffix_is_nobody() {
    assert_eq!(walk("hosts.example", &[("hosts.example", "v=DMARC1; psd=y")]).0, Org::PublicSuffix);
}

#[test]
fn a_top_level_domain_is_no_organisation_whatever_it_publishes() {
    check("mail.example.bank", &[("bank", "v=DMARC1; p=reject")], "mail.example.bank");
    check("mail.example.bank", &[("bank", "v=DMARC1; p=reject; psd=y")], "example.bank");
    check("mail.example.bank", &[("bank", "v=DMARC1; p=reject; psd=n")], "mail.example.bank");
}

#[test]
fn two_records_at_a_name_count_as_none() {
    let twice = [("example.org", "v=DMARC1; psd=n"), ("example.org", "v=DMARC1; psd=y")];
    check("a.example.org", &twice, "a.example.org");
}

#[test]
fn a_long_name_costs_eight_questions() {
    let long = "a.b.c.d.e.f.g.h.i.j.k.example.org";
    let asked = walk(long, &[]).1;
    assert_eq!(asked.len(), 8);
    assert_eq!((asked[0].as_str(), asked[1].as_str(), asked[7].as_str()), (long, "g.h.i.j.k.example.org", "org"));
    assert_eq!(walk("a.b.c.d.e.f.g.h", &[]).1.len(), 8);
    assert_eq!(walk("a.b.c.d.e.f.g", &[]).1.len(), 7);
}

/// For whom else `domain` speaks.
#[track_caller]
fn check_above(domain: &str, records: &[(&str, &str)], expected: &[&str]) {
    let above = walk_all(domain, records).0.1;
    assert_eq!(above.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), expected, "{domain} {records:?}");
}

#[test]
fn a_domain_speaks_for_those_above_it_only_where_alignment_is_relaxed() {
    check_above("shop.bank.example", &[("bank.example", "v=DMARC1; p=reject")], &["bank.example"]);
    check_above("shop.bank.example", &[("bank.example", "v=DMARC1; p=reject; adkim=r")], &["bank.example"]);
    check_above("shop.bank.example", &[("bank.example", "v=DMARC1; p=reject; adkim=s; aspf=s")], &[]);
    check_above("shop.bank.example", &[("bank.example", "v=DMARC1; p=reject; ADKIM = S ;aspf=r")], &[]);
    // A signature needs no aligned envelope.
    check_above("shop.bank.example", &[("bank.example", "v=DMARC1; p=reject; aspf=s")], &["bank.example"]);
    check_above("shop.bank.example", &[], &[]);
    check_above("bank.example", &[("bank.example", "v=DMARC1; p=reject")], &[]);
}

#[test]
fn each_domain_on_the_way_up_is_judged_by_its_own_record_or_its_organisations() {
    let from = "a.shop.bank.example";
    let relaxed = ("bank.example", "v=DMARC1; p=reject");
    check_above(from, &[relaxed], &["shop.bank.example", "bank.example"]);
    check_above(from, &[relaxed, ("shop.bank.example", "v=DMARC1; p=none; adkim=s")], &["bank.example"]);
    let strict = ("bank.example", "v=DMARC1; p=reject; adkim=s");
    check_above(from, &[strict], &[]);
    check_above(from, &[strict, ("shop.bank.example", "v=DMARC1; p=none")], &["shop.bank.example"]);
    // What its own organisation ends does not reach above it.
    check_above(from, &[relaxed, ("shop.bank.example", "v=DMARC1; psd=n")], &["shop.bank.example"]);
    let registry = ("example", "v=DMARC1; p=reject; psd=y; adkim=s");
    check_above("shop.bank.example", &[registry], &[]);
    check_above("shop.bank.example", &[("example", "v=DMARC1; p=reject; psd=y")], &["bank.example"]);
}

#[test]
fn nobody_speaks_for_a_place_where_others_register() {
    check_above("shop.co.uk", &[("co.uk", "v=DMARC1; p=none")], &[]);
    check_above("a.shop.co.uk", &[("co.uk", "v=DMARC1; p=none")], &["shop.co.uk"]);
}
