//! Who a client is, asked of a real name server (NSD): what a table in a test does not have, such as aliases, wildcards,
//! negative answers with an SOA, answers too long for a datagram, and refusals.

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::time::Duration;

use postern_identity::{Findings, IdentityDesk, IdentityOptions, Question, Zone};
use postern_proto::checks::SpfResult;
use postern_trust::pressure::Level;
use postern_trust::{Class, channel};

use crate::harness::{Guard, Peers, Scratch, free_port, wait_for_port};

const NSD: &str = "usr/sbin/nsd";

const SENDERS: &str = "
plain       TXT   \"v=spf1 ip4:192.0.2.0/25 a:mx.plain.example.test -all\"
mx.plain    A     192.0.2.200
alias       CNAME plain
wide        TXT   \"v=spf1 include:_spf.wide.example.test ~all\"
_spf.wide   TXT   \"v=spf1 ip4:198.51.100.0/24 \" \"ip6:2001:db8::/32 -all\"
*.wild      TXT   \"v=spf1 exists:%{ir}.allowed.example.test -all\"
9.2.0.192.allowed A 127.0.0.2
empty       A     192.0.2.80
mail        A     192.0.2.7
six         AAAA  2001:db8:1:2:3:4:567:89ab
";
const REVERSE: &str = "
7   PTR mail.example.test.
8   PTR mail.example.test.
9   CNAME 9.0-24.2.0.192.in-addr.arpa.
9.0-24 PTR mail.example.test.
";
const REVERSE_SIX: &str = "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0 PTR six.example.test.\n";
const LIST: &str = "
2.0.0.127     A 127.0.0.2
7.2.0.192     A 127.0.0.4
7.2.0.192     TXT \"listed for the test\"
b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2 A 127.0.0.11
";
/// What a list answers to those who ask too often: the same to every question.
const ANGRY: &str = "*.0.192 A 127.255.255.254\n";

struct Nsd {
    port: u16,
    _guard: Guard,
    _scratch: Scratch,
}

impl Nsd {
    fn start(peers: &Peers) -> Self {
        let scratch = Scratch::new("nsd");
        let port = free_port();
        let dir = scratch.path().display().to_string();
        // As whoever runs the tests, in no prison, with nothing kept between runs.
        let mut config = format!(
            "server:\n  ip-address: 127.0.0.1\n  port: {port}\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{dir}\"\n  \
             database: \"\"\n  pidfile: \"{dir}/pid\"\n  xfrdfile: \"{dir}/xfrd\"\n  zonelistfile: \"{dir}/zones\"\n  \
             server-count: 1\n  rrl-ratelimit: 0\nremote-control:\n  control-enable: no\n"
        );
        // Two hundred networks: too many for a datagram, few enough for a record.
        let long: String = (0..200).map(|n| format!("\"ip4:203.0.{n}.0/24 \" ")).collect();
        let senders = format!("{SENDERS}long TXT \"v=spf1 \" {long} \"-all\"\n");
        let zones = [
            ("example.test", senders.as_str()),
            ("2.0.192.in-addr.arpa", REVERSE),
            ("8.b.d.0.1.0.0.2.ip6.arpa", REVERSE_SIX),
            ("list.test", LIST),
            ("angry.test", ANGRY),
        ];
        for (zone, records) in zones {
            let head = format!(
                "$ORIGIN {zone}.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n"
            );
            scratch.file(zone, head + records);
            config.push_str(&format!("zone:\n  name: \"{zone}\"\n  zonefile: \"{zone}\"\n"));
        }
        let config = scratch.file("nsd.conf", config);
        let out = scratch.path().join("out");
        let mut guard = Guard::spawn(peers.command(NSD).arg("-d").arg("-c").arg(config), &out);
        wait_for_port(port, &mut guard, &out);
        Self { port, _guard: guard, _scratch: scratch }
    }
}

fn ask(desk: &IdentityDesk, ip: &str, mail_from: &str) -> Findings {
    let question = Question {
        ip: ip.parse::<IpAddr>().expect("an address"),
        helo: Some("mail.example.test".into()),
        mail_from: Some(mail_from.into()),
        class: Class::New,
        level: Level::Calm,
    };
    let (sender, receiver) = mpsc::channel();
    assert!(desk.ask(question, Box::new(move |findings| sender.send(findings).unwrap_or_default())), "there is room");
    receiver.recv_timeout(Duration::from_secs(60)).expect("an answer")
}

#[test]
fn a_real_name_server_says_who_a_client_is() {
    let Some(peers) = Peers::need(&[NSD]) else { return };
    let nsd = Nsd::start(&peers);
    let zone = |name: &str, weight| Zone { name: name.to_owned(), weight, codes: Vec::new() };
    let mut options = IdentityOptions::new("mx.example.com");
    options.resolver = Some(SocketAddr::from(([127, 0, 0, 1], nsd.port)));
    options.zones = vec![zone("list.test", -10), zone("angry.test", -50)];
    // No test asserts what is affordable here; a loaded machine must not change what is found.
    options.budgets.question = Duration::from_secs(50);
    options.budgets.lookup = Duration::from_secs(25);
    options.budgets.per_second = 10_000;
    let (evidence, _receiver) = channel(1024);
    let desk = IdentityDesk::start(options, evidence).expect("the desk starts");

    let spf = |ip: &str, mail_from: &str| ask(&desk, ip, mail_from).spf.map(|spf| spf.result);
    assert_eq!(spf("192.0.2.7", "bob@plain.example.test"), Some(SpfResult::Pass));
    assert_eq!(spf("192.0.2.200", "bob@alias.example.test"), Some(SpfResult::Pass));
    assert_eq!(spf("192.0.2.201", "bob@plain.example.test"), Some(SpfResult::Fail));
    assert_eq!(spf("2001:db8::7", "bob@wide.example.test"), Some(SpfResult::Pass));
    assert_eq!(spf("192.0.2.7", "bob@wide.example.test"), Some(SpfResult::SoftFail));
    assert_eq!(spf("192.0.2.9", "bob@any.wild.example.test"), Some(SpfResult::Pass));
    assert_eq!(spf("192.0.2.8", "bob@any.wild.example.test"), Some(SpfResult::Fail));
    assert_eq!(spf("203.0.199.1", "bob@long.example.test"), Some(SpfResult::Pass));
    assert_eq!(spf("192.0.2.7", "bob@empty.example.test"), Some(SpfResult::None));
    assert_eq!(spf("192.0.2.7", "bob@missing.example.test"), Some(SpfResult::None));
    assert_eq!(spf("192.0.2.7", "bob@refused.test"), Some(SpfResult::TempError));

    let name = |ip: &str| ask(&desk, ip, "").name;
    assert_eq!(name("192.0.2.7").as_deref(), Some("mail.example.test"));
    assert_eq!(name("192.0.2.8"), None, "it leads elsewhere");
    assert_eq!(name("192.0.2.9"), None, "an alias as of RFC 2317, which leads elsewhere too");
    assert_eq!(name("192.0.2.10"), None);
    assert_eq!(name("2001:db8:1:2:3:4:567:89ab").as_deref(), Some("six.example.test"));

    let listed = |ip: &str| {
        let listed = ask(&desk, ip, "bob@plain.example.test").listed;
        listed.into_iter().map(|listed| (listed.zone, listed.weight, listed.code)).collect::<Vec<_>>()
    };
    let by = |code| vec![("list.test".to_owned(), -10, code)];
    assert_eq!(listed("192.0.2.7"), by([127, 0, 0, 4]));
    assert_eq!(listed("192.0.2.8"), []);
    assert_eq!(listed("2001:db8:1:2:3:4:567:89ab"), by([127, 0, 0, 11]));
    let zones = desk.stats().zones;
    assert!(!zones[0].off && zones[1].off && zones[1].listed == 0, "{zones:?}");
}
