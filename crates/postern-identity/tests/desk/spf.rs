//! SPF: what mail-auth says of records that a real server would serve, and what hostile ones cost.

use postern_identity::IdentityDesk;
use postern_proto::checks::SpfResult::{self, *};

use crate::responder::{Manner, Responder};
use crate::{ask, options, question, start};

fn check(desk: &IdentityDesk, ip: &str, mail_from: &str, expected: SpfResult) {
    let spf = ask(desk, question(ip, Some(mail_from))).spf.expect("a result");
    assert_eq!(spf.result, expected, "{ip} {mail_from}");
    assert_eq!(spf.of_helo, mail_from.is_empty());
}

#[test]
fn every_mechanism_of_rfc_7208_is_looked_up_as_the_record_says() {
    let server = Responder::start(
        "plain.example TXT v=spf1 ip4:192.0.2.0/24 ip6:2001:db8:1::/48 -all
         plain.example TXT some other text
         soft.example TXT v=spf1 ip4:198.51.100.7 ~all
         neutral.example TXT v=spf1 ?all
         a.example TXT v=spf1 a a:other.example/24 -all
         a.example A 192.0.2.1
         other.example A 198.51.100.1
         mx.example TXT v=spf1 mx -all
         mx.example MX mx1.mx.example
         mx1.mx.example A 192.0.2.2
         mx1.mx.example AAAA 2001:db8::2
         include.example TXT v=spf1 include:plain.example ?all
         redirect.example TXT v=spf1 redirect=plain.example
         exists.example TXT v=spf1 exists:%{ir}.%{l}.ok.example -all
         5.2.0.192.bob.ok.example A 127.0.0.2
         exists6.example TXT v=spf1 exists:fixed.example -all
         fixed.example A 127.0.0.2
         ptr.example TXT v=spf1 ptr -all
         9.2.0.192.in-addr.arpa PTR host.ptr.example
         host.ptr.example A 192.0.2.9
         twice.example TXT v=spf1 +all
         twice.example TXT v=spf1 -all
         wrong.example TXT v=spf1 ip4:not-an-address -all
         silent.example TXT nothing about mail
         helo.example TXT v=spf1 ip4:192.0.2.3 -all
         long.example TXT v=spf1 ip4:203.0.113.1 ip4:203.0.113.2 ip4:203.0.113.3 ip4:203.0.113.4 ip4:203.0.113.5 ip4:203.0.113.6 ip4:203.0.113.7 ip4:203.0.113.8 ip4:203.0.113.9 ip4:203.0.113.10 ip4:203.0.113.11 ip4:192.0.2.77 -all
         leans.example TXT v=spf1 a:broken.example mx:broken.example -all
         xn--bcher-kva.example TXT v=spf1 ip4:192.0.2.1 -all",
        &[("broken.example", Manner::Broken), ("liar.example", Manner::Lying), ("long.example", Manner::Brief)],
    );
    let (desk, _evidence) = start(options(server.address));
    check(&desk, "192.0.2.1", "bob@plain.example", Pass);
    check(&desk, "::ffff:192.0.2.1", "bob@plain.example", Pass);
    check(&desk, "2001:db8:1::5", "bob@PLAIN.example.", Pass);
    check(&desk, "198.51.100.1", "bob@plain.example", Fail);
    check(&desk, "192.0.2.1", "bob@soft.example", SoftFail);
    check(&desk, "192.0.2.1", "bob@neutral.example", Neutral);
    check(&desk, "192.0.2.1", "bob@a.example", Pass);
    check(&desk, "198.51.100.200", "bob@a.example", Pass);
    check(&desk, "203.0.113.1", "bob@a.example", Fail);
    check(&desk, "192.0.2.2", "bob@mx.example", Pass);
    check(&desk, "2001:db8::2", "bob@mx.example", Pass);
    check(&desk, "192.0.2.3", "bob@mx.example", Fail);
    check(&desk, "192.0.2.1", "bob@include.example", Pass);
    check(&desk, "198.51.100.1", "bob@include.example", Neutral);
    check(&desk, "198.51.100.1", "bob@redirect.example", Fail);
    check(&desk, "192.0.2.5", "bob@exists.example", Pass);
    check(&desk, "192.0.2.5", "eve@exists.example", Fail);
    check(&desk, "2001:db8::9", "bob@exists6.example", Pass);
    check(&desk, "192.0.2.9", "bob@ptr.example", Pass);
    check(&desk, "192.0.2.8", "bob@ptr.example", Fail);
    check(&desk, "192.0.2.1", "bob@twice.example", PermError);
    check(&desk, "192.0.2.1", "bob@wrong.example", PermError);
    check(&desk, "192.0.2.1", "bob@silent.example", None);
    check(&desk, "192.0.2.1", "bob@nowhere.example", None);
    check(&desk, "192.0.2.1", "bob@broken.example", TempError);
    // A failure on the way is no "no": the next word would have been -all.
    check(&desk, "192.0.2.1", "bob@leans.example", TempError);
    check(&desk, "192.0.2.3", "", Pass);
    check(&desk, "192.0.2.4", "", Fail);
    check(&desk, "192.0.2.1", "bob@bücher.example", Pass);
    // Too long for a datagram: asked again over TCP.
    check(&desk, "192.0.2.77", "bob@long.example", Pass);
    for nobody in ["bob@localhost", "bob@[192.0.2.1]", "bob@a b"] {
        assert_eq!(ask(&desk, question("192.0.2.1", Some(nobody))).spf, Option::None, "{nobody}");
    }
}

#[test]
fn records_that_loop_or_explode_end_within_the_budget() {
    let many = |what: &str, n: usize| -> String { (0..n).map(|i| format!(" {what}{i}.bomb.example")).collect() };
    let (a, mx, void) = (many("a:", 40), many("mx:", 9), many("a:void", 4));
    let server = Responder::with(
        move |name, kind| {
            let text = match name {
                "loop.example" => "v=spf1 include:loop.example -all".to_owned(),
                "ring.example" => "v=spf1 redirect=gnir.example".to_owned(),
                "gnir.example" => "v=spf1 redirect=ring.example".to_owned(),
                "many.example" => format!("v=spf1{a} -all"),
                "mx.example" => format!("v=spf1{mx} -all"),
                "void.example" => format!("v=spf1{void} +all"),
                "two-voids.example" => "v=spf1 a:void0.bomb.example a:void1.bomb.example ip4:192.0.2.1 -all".to_owned(),
                // A chain without an end: 1.chain includes 2.chain and so on.
                _ => match name.strip_suffix(".chain.example").and_then(|n| n.parse::<u32>().ok()) {
                    Some(n) => format!("v=spf1 include:{}.chain.example include:{}9.chain.example -all", n + 1, n),
                    Option::None => String::new(),
                },
            };
            match kind {
                "TXT" if !text.is_empty() => Some(vec![text]),
                "MX" => Some((0..40).map(|n| format!("mx{n}.{name}")).collect()),
                "A" if !name.starts_with("void") => Some(vec!["203.0.113.9".to_owned()]),
                _ => Option::None,
            }
        },
        &[],
    );
    let (desk, _evidence) = start(options(server.address));
    check(&desk, "192.0.2.1", "bob@loop.example", PermError);
    assert_eq!(server.asked("loop.example"), 1);
    check(&desk, "192.0.2.1", "bob@ring.example", PermError);
    check(&desk, "192.0.2.1", "bob@1.chain.example", PermError);
    assert!(server.asked("chain.example") <= 11, "{}", server.asked("chain.example"));
    check(&desk, "192.0.2.1", "bob@many.example", PermError);
    assert!(server.asked("bomb.example") <= 10, "{}", server.asked("bomb.example"));
    // RFC 7208 section 4.6.4: two void look-ups are allowed, a third is one too many.
    check(&desk, "192.0.2.1", "bob@two-voids.example", Pass);
    check(&desk, "192.0.2.1", "bob@void.example", PermError);
    // Nine times forty hosts: too many hosts of one `mx` is an error by itself.
    check(&desk, "192.0.2.1", "bob@mx.example", PermError);
    let asked = server.asked("");
    assert!(asked < 80, "{asked}");
}

#[test]
fn a_record_that_needs_too_many_lookups_has_no_result() {
    let server = Responder::with(
        |name, kind| match (name, kind) {
            ("greedy.example", "TXT") => {
                Some(vec!["v=spf1".to_owned() + &(0..9).map(|n| format!(" mx:{n}.greedy.example")).collect::<String>()])
            }
            (_, "MX") => Some((0..10).map(|n| format!("mx{n}.{name}")).collect()),
            (_, "A") => Some(vec!["203.0.113.9".to_owned()]),
            _ => Option::None,
        },
        &[],
    );
    let (desk, _evidence) = start(options(server.address));
    assert_eq!(ask(&desk, question("192.0.2.1", Some("bob@greedy.example"))).spf, Option::None);
    assert_eq!(server.asked("greedy.example"), 30);
}
