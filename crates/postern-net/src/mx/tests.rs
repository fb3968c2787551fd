use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use super::*;
use crate::dns::{Binding, Published, Told};
use crate::hop;
use crate::published::{Roots, Tlsa};
use crate::tls::{Expected, authenticated_config};

/// Answers of the test's own; what is not there is empty, `fail.…` fails.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) mx: HashMap<String, Vec<Mx>>,
    pub(super) addresses: HashMap<String, Vec<IpAddr>>,
    /// Domains whose MX records are validated.
    pub(super) signed: Vec<&'static str>,
    /// Validated.
    pub(super) tlsa: HashMap<&'static str, Vec<Tlsa>>,
    pub(super) sts_id: Mutex<Option<&'static str>>,
}

fn failing<T>(name: &str) -> Option<Result<T, DnsError>> {
    name.starts_with("fail.").then(|| Err(DnsError::Timeout(name.to_owned())))
}

impl Names for Book {
    fn mx<'a>(&'a self, domain: &'a str) -> Pending<'a, Result<Told<Vec<Mx>>, DnsError>> {
        let value = failing(domain).unwrap_or_else(|| Ok(self.mx.get(domain).cloned().unwrap_or_default()));
        let secure = self.signed.contains(&domain);
        Box::pin(async move { Ok(Told { value: value?, secure, ttl: None }) })
    }

    fn addresses<'a>(&'a self, host: &'a str) -> Pending<'a, Result<Vec<IpAddr>, DnsError>> {
        let answer = failing(host).unwrap_or_else(|| Ok(self.addresses.get(host).cloned().unwrap_or_default()));
        Box::pin(async { answer })
    }

    fn door<'a>(&'a self, _domain: &'a str) -> Pending<'a, Result<Option<Published>, DnsError>> {
        Box::pin(async { Ok(None) })
    }

    fn door_binding<'a>(&'a self, _domain: &'a str) -> Pending<'a, Result<Told<Option<Binding>>, DnsError>> {
        Box::pin(async { Ok(Told { value: None, secure: false, ttl: None }) })
    }

    fn door_keys<'a>(&'a self, _host: &'a str, _port: u16) -> Pending<'a, Result<Told<Vec<[u8; 32]>>, DnsError>> {
        Box::pin(async { Ok(Told { value: Vec::new(), secure: false, ttl: None }) })
    }

    fn mail_tlsa<'a>(&'a self, host: &'a str) -> Pending<'a, Result<Told<Vec<Tlsa>>, DnsError>> {
        let value = failing(host).unwrap_or_else(|| Ok(self.tlsa.get(host).cloned().unwrap_or_default()));
        // As of a zone that is not signed.
        let secure = !host.starts_with("plain.");
        Box::pin(async move { Ok(Told { value: value?, secure, ttl: None }) })
    }

    fn sts_id<'a>(&'a self, _domain: &'a str) -> Pending<'a, Result<Option<String>, DnsError>> {
        let id = self.sts_id.lock().unwrap().map(str::to_owned);
        Box::pin(async { Ok(id) })
    }
}

/// `10 a, 20 b` as records; `.` is the empty name.
pub(super) fn records(text: &str) -> Vec<Mx> {
    let record = |text: &str| {
        let (preference, host) = text.trim().split_once(' ').expect("a preference");
        Mx { preference: preference.parse().expect("a number"), host: host.trim_end_matches('.').to_owned() }
    };
    text.split(',').filter(|text| !text.trim().is_empty()).map(record).collect()
}

fn finder(mx: &[(&str, &str)], addresses: &[(&str, &str)]) -> MxFinder {
    let parse = |text: &str| text.split_whitespace().map(|address| address.parse().expect("an address")).collect();
    let book = Book {
        mx: mx.iter().map(|(domain, text)| ((*domain).to_owned(), records(text))).collect(),
        addresses: addresses.iter().map(|(host, text)| ((*host).to_owned(), parse(text))).collect(),
        ..Book::default()
    };
    MxFinder { own_names: vec!["us.example".into()], ..MxFinder::new(Arc::new(book)) }
}

fn words(fault: &MxFault) -> String {
    match fault {
        MxFault::Refused(reply) => format!("refused {} {}", reply.code, reply.enhanced.expect("a code")),
        MxFault::Failed(failure) => format!("failed {}", failure.reply().enhanced.expect("a code")),
    }
}

#[test]
fn servers_are_tried_by_preference_and_we_cut_ourselves_and_what_is_behind_us() {
    let check = |text: &str, expected: &str| {
        let ordered = order(records(text), "far.example", &["us.example".to_owned()], 7);
        let told = match ordered {
            Ok(servers) => servers.iter().map(|server| server.host.clone()).collect::<Vec<_>>().join(" "),
            Err(fault) => words(&fault),
        };
        assert_eq!(told, expected, "of {text}");
    };
    check("20 b, 10 a, 30 c", "a b c");
    check("", "far.example");
    check("0 .", "refused 556 5.1.10");
    check("0 ., 10 a", "a");
    check("10 a, 20 us.example, 30 c", "a");
    check("10 a, 20 US.example, 20 b", "a");
    check("10 us.example, 20 b", "refused 550 5.4.6");
    check("1 a, 2 b, 3 c, 4 d, 5 e, 6 f, 7 g, 8 h, 9 i", "a b c d e f g h");
    let ours = order(Vec::new(), "us.example", &["us.example".to_owned()], 7);
    assert_eq!(ours.map_err(|fault| words(&fault)), Err("refused 550 5.4.6".into()), "the implicit MX is we");
}

#[test]
fn servers_of_one_preference_take_turns() {
    let first = |random| {
        let servers = order(records("10 a, 10 b, 10 c, 20 d"), "far.example", &[], random).expect("four");
        assert_eq!(servers[3].host, "d");
        servers[0].host.clone()
    };
    let all: BTreeSet<String> = (0..64).map(first).collect();
    assert_eq!(all.into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[tokio::test]
async fn addresses_are_tried_in_the_order_of_their_servers_within_bounds() {
    let check = async |finder: &MxFinder, domain: &str, expected: &str| {
        let told = match finder.servers(domain, 7).await {
            Ok(all) => all.iter().map(|(host, address)| format!("{host}={address}")).collect::<Vec<_>>().join(" "),
            Err(fault) => words(&fault),
        };
        assert_eq!(told, expected, "of {domain}");
    };
    let mut finder = finder(
        &[
            ("two.example", "10 a, 20 b"),
            ("null.example", "0 ."),
            ("half.example", "10 fail.a, 20 b"),
            ("fails.example", "10 fail.a, 20 fail.b"),
            ("empty.example", "10 nowhere"),
            ("home.example", "10 home"),
            ("backup.example", "10 a, 20 us-by-address, 20 b"),
            ("lonely.example", "10 us-by-address, 20 b"),
        ],
        &[
            ("a", "2001:db8::1 192.0.2.1"),
            ("b", "192.0.2.11 192.0.2.12 192.0.2.13 192.0.2.14 192.0.2.15"),
            ("plain.example", "192.0.2.9"),
            ("home", "127.0.0.1"),
            ("us-by-address", "198.51.100.1"),
        ],
    );
    finder.own_addresses = vec!["198.51.100.1".parse().expect("an address")];
    check(&finder, "two.example", "a=2001:db8::1 a=192.0.2.1 b=192.0.2.11 b=192.0.2.12 b=192.0.2.13 b=192.0.2.14")
        .await;
    check(&finder, "plain.example", "plain.example=192.0.2.9").await;
    check(&finder, "null.example", "refused 556 5.1.10").await;
    check(&finder, "half.example", "b=192.0.2.11 b=192.0.2.12 b=192.0.2.13 b=192.0.2.14").await;
    check(&finder, "fails.example", "failed 4.4.1").await;
    check(&finder, "fail.domain.example", "failed 4.4.1").await;
    check(&finder, "nothing.example", "refused 550 5.1.2").await;
    check(&finder, "empty.example", "refused 550 5.4.4").await;
    check(&finder, "home.example", "refused 550 5.4.6").await;
    check(&finder, "backup.example", "a=2001:db8::1 a=192.0.2.1").await;
    check(&finder, "lonely.example", "refused 550 5.4.6").await;
    check(&finder, "[192.0.2.7]", "[192.0.2.7]=192.0.2.7").await;
    check(&finder, "[IPv6:2001:db8::7]", "[IPv6:2001:db8::7]=2001:db8::7").await;
    check(&finder, "[::ffff:127.0.0.1]", "refused 550 5.1.2").await;
    check(&finder, "[127.0.0.1]", "refused 550 5.4.6").await;
}

/// A domain whose only server is the hop.
fn at(hop: &hop::Hop) -> MxFinder {
    let crate::client::Target::Tcp { port, .. } = hop.target else { panic!("a TCP hop") };
    let mut finder = finder(&[("far.example", "10 mx.far.example")], &[("mx.far.example", "127.0.0.1")]);
    (finder.port, finder.loopback) = (port, true);
    finder
}

#[tokio::test]
async fn tls_is_opportunistic_unless_only_a_proven_server_will_do() {
    let script = "S: 220 hop\nC: EHLO us.example\nS: 250-hop\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go\nTLS
        C: EHLO us.example\nS: 250 hop";
    let connector = Connector::new("us.example");
    let opportunistic = hop::tcp(&[script]).await;
    let connected = at(&opportunistic).connect(&connector, "far.example", &TlsWanted::WhenOffered, 7).await;
    assert!(connected.expect("a connection").tls().is_some());
    opportunistic.heard().await;

    let expected = Expected { domain: "far.example".into(), ..Expected::default() };
    let proven = TlsWanted::Authenticated(authenticated_config(expected, &Roots::Mozilla));
    let self_signed = hop::tcp(&[script]).await;
    let refused = at(&self_signed).connect(&connector, "far.example", &proven, 7).await;
    assert!(matches!(refused, Err(MxFault::Failed(Failure::Tls(_)))), "{refused:?}");

    let plain = hop::tcp(&["S: 220 hop\nC: EHLO us.example\nS: 250 hop\nCLOSE"]).await;
    let refused = at(&plain).connect(&connector, "far.example", &proven, 7).await;
    assert!(matches!(refused, Err(MxFault::Failed(Failure::Tls(_)))), "{refused:?}");
    plain.heard().await;
}

#[tokio::test]
async fn the_next_server_is_tried_when_one_refuses_the_session() {
    let hop = hop::tcp(&["S: 554 not today", "S: 220 hop\nC: EHLO us.example\nS: 250 hop"]).await;
    let crate::client::Target::Tcp { port, .. } = hop.target else { panic!("a TCP hop") };
    let mut finder = finder(&[("far.example", "10 a, 20 b")], &[("a", "127.0.0.1"), ("b", "127.0.0.1")]);
    (finder.port, finder.loopback) = (port, true);
    let connected = finder.connect(&Connector::new("us.example"), "far.example", &TlsWanted::WhenOffered, 7).await;
    assert!(connected.is_ok(), "{connected:?}");
    hop.heard().await;
}
