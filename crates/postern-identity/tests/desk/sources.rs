//! Names, lists, networks of providers, and the evidence that comes of them.

use std::sync::mpsc;

use postern_identity::{IdentityOptions, Zone};
use postern_proto::checks::Listed;
use postern_trust::{Authority, Evidence};

use crate::responder::{Manner, Responder};
use crate::{PATIENCE, ask, evidence, options, question, start, wait, zone};

#[test]
fn a_name_counts_when_it_leads_back() {
    let server = Responder::start(
        "1.2.0.192.in-addr.arpa PTR liar.example
         1.2.0.192.in-addr.arpa PTR Mx.Example.ORG
         liar.example A 203.0.113.1
         mx.example.org A 203.0.113.2
         mx.example.org A 192.0.2.1
         2.2.0.192.in-addr.arpa PTR mx.example.org
         b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR six.example.org
         six.example.org AAAA 2001:db8:1:2:3:4:567:89ab",
        &[("3.2.0.192.in-addr.arpa", Manner::Broken)],
    );
    let (desk, _evidence) = start(options(server.address));
    let check = |ip: &str, expected: Option<&str>| {
        assert_eq!(ask(&desk, question(ip, None)).name.as_deref(), expected, "{ip}");
    };
    check("192.0.2.1", Some("mx.example.org"));
    check("192.0.2.2", None);
    check("192.0.2.3", None);
    check("192.0.2.4", None);
    check("2001:db8:1:2:3:4:567:89ab", Some("six.example.org"));
    assert!(ask(&desk, question("192.0.2.1", None)).spf.is_none(), "not before MAIL");
}

#[test]
fn lists_are_asked_and_weighed() {
    let server = Responder::start(
        "7.2.0.192.bad.example A 127.0.0.2
         7.2.0.192.good.example A 127.0.5.3
         8.2.0.192.good.example A 127.0.5.0
         b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.bad.example A 127.0.0.4",
        &[],
    );
    let trusted = Zone { codes: vec!["127.0.5.3/32".parse().expect("a network")], ..zone("good.example", 5) };
    let zones = vec![zone("Bad.example", -20), trusted];
    let (desk, mut receiver) = start(IdentityOptions { zones, ..options(server.address) });
    let listed = |ip: &str| ask(&desk, question(ip, None)).listed;
    let bad = |code| Listed { zone: "Bad.example".to_owned(), weight: -20, code };
    let good = Listed { zone: "good.example".to_owned(), weight: 5, code: [127, 0, 5, 3] };
    assert_eq!(listed("192.0.2.7"), [bad([127, 0, 0, 2]), good.clone()]);
    assert_eq!(listed("192.0.2.8"), []);
    assert_eq!(listed("192.0.2.9"), []);
    assert_eq!(listed("2001:db8:1:2:3:4:567:89ab"), [bad([127, 0, 0, 4])]);
    // From the cache: the same finding, no second piece of evidence.
    let asked = server.asked("");
    assert_eq!(listed("192.0.2.7"), [bad([127, 0, 0, 2]), good]);
    assert_eq!(server.asked(""), asked);
    let ip = "192.0.2.7".parse().expect("an address");
    let six = "2001:db8:1:2:3:4:567:89ab".parse().expect("an address");
    assert_eq!(
        evidence(&mut receiver),
        [Evidence::Listed { ip, weight: -15 }, Evidence::Listed { ip: six, weight: -20 }]
    );
    // Of addresses that are nobody's, lists know nothing.
    assert_eq!(listed("10.0.0.7"), []);
    assert_eq!((server.asked("7.0.0.10.bad.example"), server.asked("1.0.0.127.bad.example")), (0, 1));
    let stats = desk.stats();
    assert_eq!((stats.zones[0].listed, stats.zones[0].errors, stats.zones[0].off), (3, 0, false));
}

#[test]
fn a_list_that_answers_what_no_list_answers_lists_nobody() {
    let server = Responder::with(
        |name, kind| {
            let code = match name {
                _ if kind != "A" => return None,
                // Only about clients: to the test of section 5 it says the right thing.
                _ if name.starts_with("1.0.0.127.") && !name.ends_with("world.example") => return None,
                _ if name.ends_with(".refuses.example") => "127.255.255.254",
                _ if name.ends_with(".sold.example") => "192.0.2.80",
                _ if name.ends_with(".world.example") => "127.0.0.2",
                _ if name.ends_with(".fine.example") => "127.0.0.3",
                _ => return None,
            };
            Some(vec![code.to_owned()])
        },
        &[("broken.example", Manner::Broken)],
    );
    let names = ["refuses.example", "sold.example", "world.example", "broken.example", "fine.example"];
    let zones = names.iter().map(|name| zone(name, -9)).collect();
    let (desk, mut receiver) = start(IdentityOptions { zones, ..options(server.address) });
    for client in 1..20 {
        let listed = ask(&desk, question(&format!("192.0.2.{client}"), None)).listed;
        let zones: Vec<&str> = listed.iter().map(|listed| listed.zone.as_str()).collect();
        assert_eq!(zones, ["fine.example"]);
    }
    let heavy = |seen: &Evidence| !matches!(seen, Evidence::Listed { weight: -9, .. });
    assert_eq!(evidence(&mut receiver).iter().filter(|seen| heavy(seen)).count(), 0);
    // One test and one client, and it was left alone.
    assert_eq!((server.asked("refuses.example"), server.asked("sold.example")), (2, 2));
    assert_eq!(server.asked("world.example"), 1);
    let stats = desk.stats();
    let off: Vec<bool> = stats.zones.iter().map(|zone| zone.off).collect();
    // One failure is in the cache; only three in a row would shut the list.
    assert_eq!(off, [true, true, true, false, false]);
    assert_eq!(stats.zones[3].errors, 1);
}

#[test]
fn without_configured_lists_none_is_asked() {
    let server = Responder::start("x.example A 192.0.2.1", &[]);
    let (desk, _evidence) = start(options(server.address));
    assert_eq!(ask(&desk, question("192.0.2.1", None)).listed, []);
    assert_eq!(server.asked(""), 1, "the PTR record only");
}

#[test]
fn authority_is_evidence_and_a_record_that_passes_everybody_is_none() {
    let server = Responder::start(
        "sender.example TXT v=spf1 ip4:192.0.2.1 -all
         open.example TXT v=spf1 +all
         half.example TXT v=spf1 ip4:0.0.0.0/1 ip4:128.0.0.0/1 -all
         7.2.0.192.in-addr.arpa PTR mx.named.example
         mx.named.example A 192.0.2.7
         8.2.0.192.in-addr.arpa PTR dsl-192-0-2-8.named.example
         dsl-192-0-2-8.named.example A 192.0.2.8",
        &[],
    );
    let (desk, mut receiver) = start(options(server.address));
    let mut check = |ip: &str, mail_from: &str, expected: Option<(&str, Authority)>| {
        let found = ask(&desk, question(ip, Some(mail_from))).authority;
        assert_eq!(found, expected.map(|(_, by)| by), "{ip} {mail_from}");
        let seen = evidence(&mut receiver);
        let authorised = |(domain, by): (&str, Authority)| Evidence::Authorised {
            ip: ip.parse().expect("an address"),
            domain: domain.into(),
            by,
        };
        assert_eq!(seen, expected.map(authorised).into_iter().collect::<Vec<_>>(), "{ip} {mail_from}");
    };
    check("192.0.2.1", "bob@sender.example", Some(("sender.example", Authority::Spf)));
    check("192.0.2.2", "bob@sender.example", None);
    check("192.0.2.2", "bob@open.example", None);
    check("192.0.2.2", "bob@half.example", None);
    check("192.0.2.7", "bob@named.example", Some(("named.example", Authority::Name)));
    check("192.0.2.8", "bob@named.example", None);
    check("192.0.2.7", "bob@other.example", None);
}

#[test]
fn a_machine_with_a_provider_s_name_is_told_to_be_of_its_pool() {
    let server = Responder::start(
        "tenant.example TXT v=spf1 ip4:192.0.2.7 -all
         7.2.0.192.in-addr.arpa PTR out-192-0-2-7.mail.pool.example
         out-192-0-2-7.mail.pool.example A 192.0.2.7
         8.2.0.192.in-addr.arpa PTR out.liarpool.example
         out.liarpool.example A 192.0.2.8",
        &[],
    );
    let (desk, mut receiver) = start(options(server.address));
    desk.set_providers(vec!["pool.example".to_owned()]);
    let mut check = |from: &str, expected: &[(&str, Authority)]| {
        ask(&desk, question(from, Some("ann@tenant.example")));
        let ip = from.parse().expect("an address");
        let expected = expected.iter().map(|&(domain, by)| Evidence::Authorised { ip, domain: domain.into(), by });
        assert_eq!(evidence(&mut receiver), expected.collect::<Vec<_>>(), "{from}");
    };
    check("192.0.2.7", &[("pool.example", Authority::Name), ("tenant.example", Authority::Spf)]);
    check("192.0.2.8", &[]);
}

#[test]
fn providers_can_be_added_while_the_desk_works_and_are_read_once() {
    let server = Responder::start(
        "one.example TXT v=spf1 ip4:192.0.2.0/24 -all
         two.example TXT v=spf1 ip4:198.51.100.0/24 -all",
        &[],
    );
    let providers = vec!["one.example".to_owned()];
    let (desk, mut receiver) = start(IdentityOptions { providers, ..options(server.address) });
    let mut next = |expected: &str| {
        let mut seen = Vec::new();
        wait("evidence comes by itself", || {
            seen.extend(evidence(&mut receiver));
            !seen.is_empty()
        });
        let named =
            |seen: &Evidence| matches!(seen, Evidence::ProviderNetworks { domain, .. } if **domain == *expected);
        assert!(seen.len() == 1 && named(&seen[0]), "{seen:?}");
    };
    next("one.example");
    let both = || ["one.example", "not a domain", "two.example"].map(str::to_owned).to_vec();
    for _ in 0..3 {
        desk.set_providers(both());
    }
    next("two.example");
    assert_eq!(server.asked("one.example"), 1);
}

#[test]
fn networks_of_providers_are_read_within_bounds_and_become_evidence() {
    let server = Responder::with(
        |name, kind| {
            let text = match name {
                _ if kind != "TXT" => return None,
                "provider.example" => "v=spf1 include:a.provider.example include:b.provider.example ~all".to_owned(),
                "a.provider.example" => "v=spf1 ip4:192.0.2.0/25 ip4:192.0.2.128/25 ip4:10.0.0.0/7 ~all".to_owned(),
                "b.provider.example" => {
                    "v=spf1 ip6:2001:db8::/32 -ip4:203.0.113.0/24 include:provider.example redirect=c.provider.example"
                        .to_owned()
                }
                "c.provider.example" => {
                    "v=spf1 ip4:198.51.100.7 a mx exists:%{i}.x.example ?ip4:203.0.113.9".to_owned()
                }
                "broken.example" => "v=spf1 include:servfail.example ip4:192.0.2.1 ~all".to_owned(),
                _ => {
                    let n: u32 = name.strip_suffix(".bomb.example")?.parse().ok()?;
                    let networks: String = (0..100).map(|i| format!(" ip4:198.{}.{}.0/24", n % 200, i * 2)).collect();
                    format!("v=spf1{networks} include:{}.bomb.example include:{}.bomb.example", n * 2, n * 2 + 1)
                }
            };
            Some(vec![text])
        },
        &[("servfail.example", Manner::Broken)],
    );
    let providers = vec!["provider.example".to_owned()];
    let (desk, mut receiver) = start(IdentityOptions { providers, ..options(server.address) });
    let networks = |text: &[&str]| text.iter().map(|net| net.parse().expect("a network")).collect::<Vec<_>>();
    let expected = networks(&["192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32"]);
    let mut seen = Vec::new();
    wait("evidence comes by itself", || {
        seen.extend(evidence(&mut receiver));
        !seen.is_empty()
    });
    let domain = "provider.example".into();
    assert_eq!(seen, [Evidence::ProviderNetworks { domain, networks: expected.clone().into() }]);
    let expand = |domain: &str| {
        let (sender, answer) = mpsc::channel();
        assert!(desk.expand_spf_networks(domain, Box::new(move |found| sender.send(found).unwrap_or_default())));
        answer.recv_timeout(PATIENCE).expect("an answer")
    };
    assert_eq!(expand("provider.example"), Some(expected));
    assert_eq!(expand("nowhere.example"), None);
    // Half a list would be worse than none.
    assert_eq!(expand("broken.example"), None);
    let bomb = expand("1.bomb.example").expect("networks");
    assert!(bomb.len() <= 512, "{}", bomb.len());
    // Eleven records, each too long for a datagram: asked for twice.
    assert_eq!(server.asked("bomb.example"), 22);
}
