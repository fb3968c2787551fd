//! A day's mixed traffic before rspamd and a Postfix that refuses some recipients and some contents. In the calm every
//! refusal is the sender's own reply and nothing fails after a 250; in the storm all that fails then is a dead letter.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use super::account::{Account, Copy, copies, dead};
use super::traffic::{Answer, Letter, Post, Record};
use super::{
    BOTS, NEW, PINNED, config, in_mode, taken, wait_for_taken, wait_until_empty, wait_until_through, while_flooded,
};
use crate::harness::filters::{FilterDaemon, Which};
use crate::harness::postern::Postern;
use crate::harness::postfix::{self, Postfix, Setup};
use crate::harness::{Peers, Scratch, wait_for};
use crate::postern;

/// Knows `ann` and `carl`, refuses `blocked`, defers `later`, and refuses a field.
fn next_hop(peers: &Peers, scratch: &Scratch) -> Postfix {
    let checks = scratch.file("header_checks", "/^X-Refuse:/ REJECT not with such contents\n");
    let main = vec![
        "smtpd_authorized_xclient_hosts = 127.0.0.0/8".to_owned(),
        "smtpd_recipient_restrictions = check_recipient_access inline:{ { blocked@example.com = 554 5.7.1 Closed on \
         Sundays }, { later@example.com = 450 4.2.0 Not just now } }, reject_unauth_destination"
            .to_owned(),
        format!("header_checks = regexp:{}", checks.display()),
    ];
    let mailboxes = &["ann", "carl", "blocked", "later"];
    Postfix::start(peers, &Setup { hostname: "next.example.com", domain: "example.com", mailboxes, main, core: None })
}

fn needs() -> Vec<&'static str> {
    [Which::Rspamd.needs(), &postfix::NEEDS[..]].concat()
}

/// How Postern knows who exists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recipients {
    /// It has a list; whom the next hop refuses by a rule of its own is refused after the message.
    Listed,
    /// It asks the next hop.
    CalledOut,
}

fn in_front_of(next: &Postfix, filter: &FilterDaemon, recipients: Recipients) -> Postern {
    let config = config(&format!("smtp:127.0.0.1:{}", next.port), filter, "20s");
    let recipients = match recipients {
        Recipients::Listed => "{ list = [\"ann\", \"carl\", \"blocked\", \"later\"] }",
        Recipients::CalledOut => "{ callout = true }",
    };
    // The senders have all the time that senders have, and a filter that is slow on a busy machine is no storm.
    let config = config.replace("outcome_timeout = \"4s\"\n", "").replace("\"any\"", recipients);
    let config = config.replace("[auto]\n", "[auto]\noutcome_slow = \"10m\"\n");
    Postern::start_with_config(postern(), &config, &[])
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same day each time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// One message of the day: half of them are good, the rest is everything else there is.
fn letter(random: &mut Random, recipients: Recipients) -> Letter {
    let to = |names: &[&str]| names.iter().map(|name| format!("{name}@example.com")).collect::<Vec<_>>();
    let good = Letter::new("ann@example.com", false);
    match random.below(100) {
        0..50 => good,
        50..62 => Letter { spam: true, ..good },
        62..68 => Letter { to: to(&["nobody"]), ..good },
        68..72 => Letter { to: to(&["blocked"]), ..good },
        72..75 => Letter { to: to(&["later"]), ..good },
        75..81 => Letter { bad: true, ..good },
        81..87 => Letter { to: to(&["ann", "carl"]), ..good },
        // One reply cannot tell who was taken and who was refused: where nobody asks beforehand, `blocked` in a list
        // of recipients is a dead letter (docs/next-hop.md).
        87..90 if recipients == Recipients::Listed => Letter { to: to(&["ann", "nobody", "carl"]), ..good },
        87..90 => Letter { to: to(&["ann", "nobody", "carl", "blocked"]), ..good },
        90..92 => Letter { to: to(&["carl", "ann"]), spam: true, ..good },
        92..94 => Letter { to: to(&["carl", "ann"]), bad: true, ..good },
        94..99 => Letter { bytes: 150_000 + random.below(150_000) as usize, ..good },
        _ => Letter { bytes: 2_000_000, to: to(&["carl"]), ..good },
    }
}

/// Eight clients, each with connections of eight messages.
fn spend_the_day(post: &Post, recipients: Recipients, connections: usize) {
    std::thread::scope(|scope| {
        for client in 0..8 {
            // Each from a network of its own: who asks for unknown names makes his neighbours wait.
            let [a, b, ..] = [PINNED, NEW, BOTS, NEW][client % 4].octets();
            let peer = Ipv4Addr::new(a, b, 100 + client as u8, 1);
            let mut random = Random(2026 + client as u64);
            scope.spawn(move || {
                for _ in 0..connections {
                    post.send(peer, (0..8).map(|_| letter(&mut random, recipients)).collect::<Vec<_>>());
                }
            });
        }
    });
}

/// In the calm the answer says what the message is.
fn misanswered(record: &Record, recipients: Recipients) -> Option<String> {
    let Record { letter, answer, words, .. } = record;
    let said = |code: &str, part: &str| words.starts_with(code) && words.contains(part);
    // Asked beforehand, the next hop gives a reason that need not hold for every sender: theirs is to come again.
    let unsure = recipients == Recipients::CalledOut && said("450 4.4.3", "Cannot check this recipient");
    let well = match letter.to.as_slice() {
        [one] if one.starts_with("nobody") => matches!(answer, Answer::Refused(_)) && said("550 5.1.1", ""),
        [one] if unsure => matches!(answer, Answer::Deferred(_)) && !one.starts_with("ann"),
        [one] if one.starts_with("blocked") => matches!(answer, Answer::Refused(_)) && said("554 5.7.1", "Sundays"),
        [one] if one.starts_with("later") => matches!(answer, Answer::Deferred(_)) && said("450 4.2.0", "Not just now"),
        _ if letter.spam => matches!(answer, Answer::Refused(_)) && said("554 5.7.1", "Gtube"),
        _ if letter.bad => matches!(answer, Answer::Refused(_)) && said("5", "such contents"),
        _ => *answer == Answer::Taken,
    };
    let unknown = letter.to.iter().filter(|to| to.starts_with("nobody") || to.starts_with("blocked")).count();
    let heard = letter.to.len() == 1 || record.turned_away.len() == unknown;
    (!well || !heard).then(|| format!("{record:?}"))
}

/// Where all of its mailboxes are.
fn mail(next: &Postfix) -> PathBuf {
    next.mailbox("ann").parent().expect("it has one").to_owned()
}

fn spend_a_calm_day(recipients: Recipients, connections: usize) {
    let Some(peers) = Peers::need(&needs()) else { return };
    let (filter, scratch) = (FilterDaemon::start(&peers, Which::Rspamd), Scratch::new("checks"));
    let next = next_hop(&peers, &scratch);
    let server = in_front_of(&next, &filter, recipients);
    let post = Post::new(server.port);
    spend_the_day(&post, recipients, connections);
    wait_until_empty(&server);
    let records = post.records();
    let log = std::fs::read_to_string(server.scratch().join("log")).unwrap_or_default();
    let storms: Vec<&str> = log.lines().filter(|line| line.contains("(auto): collect")).collect();
    assert!(storms.is_empty(), "it was to be calm: {storms:#?}");
    let wrong: Vec<String> = records.iter().filter_map(|record| misanswered(record, recipients)).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), records.len(), wrong.join("\n"));
    assert_eq!(records.len(), 64 * connections, "nobody was cut off");
    let status = server.status(postern()).expect("it answers");
    let failed = ["dead_letters", "reports", "quarantined"].map(|what| status["drain"][what].as_u64());
    assert_eq!(failed, [Some(0); 3], "{status}");
    let account = Account { records, copies: delivered(&next, &post), dead: dead(&server) };
    account.settle("judge");
    println!("{} sent, {} taken", account.records.len(), taken(&post));
}

#[test]
fn in_the_calm_every_refusal_reaches_its_sender_and_nothing_fails_after_a_250() {
    spend_a_calm_day(Recipients::Listed, 8);
}

#[test]
fn in_the_calm_nothing_fails_after_a_250_when_only_the_next_hop_knows_its_recipients() {
    spend_a_calm_day(Recipients::CalledOut, 4);
}

/// Postfix has a queue of its own: waits until all that was taken, and is not refused by it, is in the mailboxes.
fn delivered(next: &Postfix, post: &Post) -> BTreeMap<u32, Vec<Copy>> {
    let expected = |record: &Record| if record.letter.bad { 0 } else { record.to.len() };
    let wanted: usize = post.records().iter().filter(|record| record.answer == Answer::Taken).map(expected).sum();
    wait_for("Postfix to deliver", || {
        let found = copies(&mail(next));
        (found.values().map(Vec::len).sum::<usize>() >= wanted).then_some(found)
    })
}

#[test]
fn in_the_storm_whatever_fails_after_a_250_is_a_dead_letter_and_nothing_else_is() {
    let Some(peers) = Peers::need(&needs()) else { return };
    let (mut filter, scratch) = (FilterDaemon::start(&peers, Which::Rspamd), Scratch::new("checks"));
    let next = next_hop(&peers, &scratch);
    let server = in_front_of(&next, &filter, Recipients::CalledOut);
    let post = Post::new(server.port);
    while_flooded(&post, Duration::from_millis(200), || {
        wait_for_taken(&post, 16);
        filter.kill();
        wait_for("the domain to collect", || in_mode(&server, "collect"));
        spend_the_day(&post, Recipients::CalledOut, 6);
    });
    filter.restart();
    wait_until_through(&server);
    wait_until_empty(&server);
    let account = Account { records: post.records(), copies: delivered(&next, &post), dead: dead(&server) };
    account.settle("judge");
    let taken_bad = |record: &&Record| record.answer == Answer::Taken && record.letter.bad;
    let bad = account.records.iter().filter(taken_bad).count();
    assert!(bad > 10, "only {bad} of {}", account.records.len());
    assert_eq!(account.dead.len(), bad, "each of them, and nothing else");
    let status = server.status(postern()).expect("it answers");
    assert_eq!(status["drain"]["reports"], 0, "no stranger is written to: {status}");
    println!("{} sent, {} taken, {bad} dead letters", account.records.len(), taken(&post));
}
