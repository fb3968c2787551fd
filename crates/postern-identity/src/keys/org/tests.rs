//! The walk over a small tree.

use super::*;

/// Walks from `domain` over `records` ("name record"); the end, and the names asked about.
fn walk(domain: &str, records: &[(&str, &str)]) -> (Org, Vec<String>) {
    let mut walk = Walk::new(domain);
    let mut asked = Vec::new();
    while let Some(name) = walk.next() {
        asked.push(name.to_owned());
        let texts = records.iter().filter(|(at, _)| *at == name).map(|(_, text)| text.as_bytes());
        walk.told(psd(texts));
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
