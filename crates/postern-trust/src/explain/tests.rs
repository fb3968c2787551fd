use std::sync::Arc;

use super::*;
use crate::{Authority, BookOptions, Evidence, Pins, Writer};

const NOW_S: u64 = 1_700_000_000;

/// What stands in the explanation of `of`, an address or a domain, after the evidence.
fn check(evidence: &[Evidence], of: &str, class: Class, sentences: &[&str]) {
    let options = BookOptions { good_entries: 1 << 10, bad_entries: 1 << 10, ..BookOptions::default() };
    let book = Book::new(options, [3; 16]);
    let net = |text: &str| vec![text.parse().expect("net")];
    book.set_pins(Pins { networks: net("192.0.2.200/32"), forwarders: net("192.0.2.100/32"), ..Pins::default() });
    let mut writer = Writer::new(Arc::clone(&book));
    evidence.iter().for_each(|one| writer.apply(one, NOW_S));
    let explained = match of.parse() {
        Ok(ip) => book.explain_address(ip, NOW_S),
        Err(_) => book.explain_domain(of, NOW_S),
    };
    assert_eq!(explained.class, class, "{explained:?}");
    assert_eq!(explained.reasons, sentences);
}

fn ip() -> IpAddr {
    IpAddr::from([192, 0, 2, 1])
}

#[test]
fn a_stranger_has_nothing_said_of_it() {
    check(&[], "192.0.2.1", Class::New, &["Nothing speaks for or against it."]);
}

#[test]
fn a_pin_needs_no_other_reason() {
    check(&[], "192.0.2.200", Class::Pinned, &["The operator pinned a network that holds this address."]);
}

#[test]
fn each_mark_has_its_sentence() {
    check(
        &[
            Evidence::EarlyTalker { ip: ip() },
            Evidence::Spam { ip: ip(), domain: None, n: 1 },
            Evidence::Listed { ip: ip(), weight: -2 },
        ],
        "192.0.2.1",
        Class::Suspect,
        &[
            "This address broke the protocol of late (early talk, abuse, HELO): 60 points.",
            "This address brought spam or bad recipients of late: 40 points.",
            "This address is listed as bad: 30 points.",
            "Bad neighbourhood: its prefix adds 3 points (at most 50).",
            "133 points speak against it; suspect is from 100 on.",
        ],
    );
}

#[test]
fn correspondence_is_said_of_domain_and_address() {
    let events = [
        Evidence::WroteTo { domain: "friend.example".into(), address: None },
        Evidence::Authorised { ip: ip(), domain: "friend.example".into(), by: Authority::Name },
    ];
    check(
        &events,
        "192.0.2.1",
        Class::Known,
        &["It speaks for a domain that is proven (credit of 4.0 good days left).", "Nothing speaks against it."],
    );
    check(
        &events,
        "friend.example",
        Class::Known,
        &[
            "This site wrote to this domain and was answered (credit of 8.0 good days left).",
            "It lent its credit to 1 new addresses today.",
            "This counts only from an address that SPF or its confirmed name authorises.",
        ],
    );
    check(
        &events[..1],
        "friend.example",
        Class::New,
        &["This site wrote to this domain; no authorised answer has come yet."],
    );
}

#[test]
fn a_forwarder_is_told_what_it_is_exempt_from() {
    check(
        &[Evidence::Spam { ip: IpAddr::from([192, 0, 2, 100]), domain: None, n: 9 }],
        "192.0.2.100",
        Class::New,
        &[
            "It is a declared forwarder: spam, listings, bad recipients and its neighbourhood do not count against it.",
            "Nothing speaks for or against it.",
        ],
    );
}

#[test]
fn a_provider_is_named() {
    let networks = vec!["209.85.128.0/17".parse().expect("net")].into();
    check(
        &[
            Evidence::ProviderNetworks { domain: "gmail.com".into(), networks },
            Evidence::Ham { ip: IpAddr::from([209, 85, 128, 1]), domain: None, n: 7 },
        ],
        "209.85.128.1",
        Class::Provider,
        &[
            "It lies in the networks of the provider gmail.com (7 good and 0 spam of late): its messages are judged by their author's domain.",
            "Nothing speaks against it.",
        ],
    );
}
