//! The flood against the real server: what was answered 250 is what arrives, the torture suite passes, and nobody
//! else's server is ever loaded.

#[path = "cli/harness.rs"]
mod harness;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use harness::{Server, delivered, postern};
use postern_flood::suite::{self, Options, Verdict};
use postern_flood::{Behaviour, Crowd, Flood, Friends, Plan};
use serde_json::Value;

/// How often each id stands in what was delivered.
fn ids(messages: &[Vec<u8>]) -> BTreeMap<String, usize> {
    let mut ids = BTreeMap::new();
    for message in messages {
        let text = String::from_utf8_lossy(message);
        let id = text.lines().find_map(|line| line.strip_prefix("X-Flood-Id: "));
        *ids.entry(id.expect("only the flood writes here").trim().to_owned()).or_default() += 1;
    }
    ids
}

#[test]
fn what_the_ledger_names_is_what_arrived_once_each() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["--mode", "collect"]);
    let ledger = dir.path().join("ledger");
    let mut plan = Plan::new(server.addr("smtp"));
    plan.seed = 11;
    plan.offer_ms = 4_000;
    plan.ledger = Some(ledger.clone());
    // The spam ends by count, well before the friends: no reply is left unread when the run ends.
    plan.connects_max = Some(300);
    plan.crowds.push(Crowd { bytes: 1_500, ..Crowd::new(Behaviour::Spam, 20) });
    plan.friends.push(Friends { patience_ms: 60_000, ..Friends::new("known", 10, 30.0) });
    let report = Flood::run(&plan, |_| ControlFlow::Continue(())).expect("it runs");
    assert_eq!(report.friends[0].success_percent, 100.0, "{report}");
    assert!(report.crowds[0].accepted > 0, "{report}");
    server.wait_until_drained();
    let promised: BTreeMap<String, usize> =
        std::fs::read_to_string(ledger).expect("written").lines().map(|id| (id.to_owned(), 1)).collect();
    let expected = report.crowds[0].accepted + report.friends[0].accepted;
    assert_eq!(promised.len() as u64, expected, "each 250 is in the ledger: {report}");
    assert_eq!(promised, ids(&delivered(&server.dir.join("postern-data/mail"))), "{report}");
}

#[test]
fn the_torture_suite_passes() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("postern.toml");
    let text = "deliver = \"none\"\nmode = \"collect\"\n[recipients]\n\"example.com\" = { list = [\"alice\"] }\n";
    std::fs::write(&config, text).expect("written");
    let server = Server::start(dir.path(), &["-c", "postern.toml"]);
    let options = Options {
        target: server.addr("smtp"),
        recipient: "alice@example.com".to_owned(),
        unknown: Some("nobody".to_owned()),
        only: None,
        quick: true,
        seed: 1,
    };
    let report = suite::run(&options, |_, _, _| ControlFlow::Continue(())).expect("it takes mail");
    assert_eq!(report.cases.len(), suite::cases().len());
    let short = |case: &&suite::Outcome| case.verdict != Verdict::Pass;
    let short: Vec<String> =
        report.cases.iter().filter(short).map(|c| format!("{}: {:?}: {}", c.name, c.verdict, c.measured)).collect();
    assert!(short.is_empty(), "{short:#?}");
}

#[test]
fn a_foreign_target_is_refused_with_what_is_allowed() {
    let dir = tempfile::tempdir().expect("a directory");
    // Multicast: refused in every namespace, and nothing could be sent to it by TCP if it were not.
    for mode in [&["--hold", "1"][..], &["--suite"]] {
        let said = postern(dir.path(), &[&["flood", "--target", "224.0.0.1:25", "--for", "1s"], mode].concat());
        assert_eq!(said.code, 64, "{}", said.err);
        assert!(said.err.contains("127.0.0.0/8"), "{}", said.err);
    }
}

#[test]
fn the_command_writes_json_page_and_ledger() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["--deliver", "none", "--mode", "collect"]);
    let target = server.addr("smtp").to_string();
    let flags = "--hold 20 --friends 5 --friend-rate 20 --strangers 5 --friends-after 0s --for 1s --seed 3 --json --html page.html --ledger ids";
    let flags: Vec<&str> = ["flood", "--target", &target].into_iter().chain(flags.split(' ')).collect();
    let said = postern(dir.path(), &flags);
    assert_eq!(said.code, 0, "{}", said.err);
    let report: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(report["crowds"][0]["connected"], 20, "{report}");
    let accepted = |n: usize| report["friends"][n]["accepted"].as_u64().expect("a number");
    assert!(accepted(0) > 0 && accepted(1) > 0, "{report}");
    let ledger = std::fs::read_to_string(dir.path().join("ids")).expect("written");
    assert_eq!(ledger.lines().count() as u64, accepted(0) + accepted(1));
    assert!(std::fs::read_to_string(dir.path().join("page.html")).expect("written").contains("<svg"));
}

#[test]
fn a_friends_mail_comes_through_the_postern_while_it_is_flooded() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path(), &["--mode", "collect", "--door", "127.0.0.1:0"]);
    let key = dir.path().join("friend.pem");
    let friend = postern_net::door::KeyPair::load_or_make(&key).expect("written");
    let pinned = postern(dir.path(), &["peer", "add", "friend.example", &friend.public().to_string()]);
    assert_eq!(pinned.code, 0, "{}", pinned.err);
    let (door, key) = (server.addr("door").to_string(), key.display().to_string());
    let flood = [
        &["flood", "--door", &door, "--attack", "naive,aware,abandon,replay-elsewhere,captured-id"][..],
        &["--rate", "500", "--packets", "1500", "--for", "3s", "--friends", "2", "--friend-rate", "10"],
        &["--new-links", "3", "--key", &key, "--domain", "friend.example", "--patience", "30s", "--json"],
    ];
    let said = postern(dir.path(), &flood.concat());
    assert_eq!(said.code, 0, "{}", said.err);
    let report: Value = serde_json::from_str(&said.out).expect("JSON");
    let friends = report["friends"].as_array().expect("two kinds");
    let number = |friends: &Value, key: &str| friends[key].as_u64().expect("a number");
    assert_eq!(friends.len(), 2, "{report}");
    for friends in friends {
        assert!(number(friends, "offered") >= 9, "{report}");
        assert_eq!(number(friends, "accepted"), number(friends, "offered"), "{report}");
    }
    for attack in report["attacks"].as_array().expect("five") {
        assert!(number(attack, "packets") > 0, "{report}");
    }
    assert_eq!(report["kernel"]["door_sockets"], 4, "{report}");
    server.wait_until_drained();
    let arrived = delivered(&server.dir.join("postern-data/mail")).len() as u64;
    let accepted: u64 = friends.iter().map(|friends| number(friends, "accepted")).sum();
    assert_eq!(arrived, accepted, "each 250 arrived, and nothing of the others: {report}");
}
