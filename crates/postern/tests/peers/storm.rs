//! Storms with real filters and a real next hop: killed, frozen and slowed in the middle of the flood, and we ourselves
//! restarted in it. Nothing that was answered 250 is lost, nothing leaves unjudged, the modes change and come back by
//! themselves, the best leave first; and in the calm every refusal is heard by its sender.
//!
//! Each test is a real `postern serve` in `auto` under a bounded traffic of its own (`traffic`); what arrived is compared
//! with what each client was told (`account`).

mod account;
mod calm;
mod restarts;
mod traffic;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::filters::{ask, message};
use crate::harness::filters::{FilterDaemon, Which};
use crate::harness::postern::Postern;
use crate::harness::{Peers, wait_for, wait_within};
use crate::postern;
use account::{Account, copies, queue};
use traffic::{Answer, Letter, Post, Record};

/// Pinned by the configuration.
const PINNED: Ipv4Addr = Ipv4Addr::new(127, 11, 0, 0);
/// Known from the mail log of the site. Nothing is learnt of loopback, so they come by XCLIENT.
const KNOWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 0);
/// Never seen, and well behaved.
const NEW: Ipv4Addr = Ipv4Addr::new(127, 31, 0, 0);
/// Reported by the operator.
const SUSPECT: Ipv4Addr = Ipv4Addr::new(127, 44, 0, 0);
/// Never seen; every third message of theirs is spam.
const BOTS: Ipv4Addr = Ipv4Addr::new(127, 21, 0, 0);

/// How long it may take to judge what has gathered: 150 messages in two workers, and SpamAssassin on a busy machine takes
/// seconds for each.
const AFTER_A_STORM: Duration = Duration::from_secs(240);

/// Clients of each network that fill the buffer: numbers 30 to 33.
const FILLERS: std::ops::Range<u8> = 30..34;

/// Number `n` of a network.
fn one_of(network: Ipv4Addr, n: u8) -> Ipv4Addr {
    let [a, b, c, _] = network.octets();
    Ipv4Addr::new(a, b, c, n)
}

/// The marks of `auto` are seconds instead of minutes, and what else this machine does is no pressure: tests run beside
/// compilers, and a server that is short of processor greylists suspects and collects. All else is as it is for everybody.
fn config(deliver: &str, filter: &FilterDaemon, timeout: &str) -> String {
    format!(
        "deliver = \"{deliver}\"\n[smtp]\noutcome_timeout = \"4s\"\nxclient_from = [\"127.0.0.1/32\"]\n[recipients]\n\"example.com\" = \"any\"\n\
         [dns]\nidentity = false\n[trust]\npinned = [\"{PINNED}/16\"]\nsnapshot_every = \"1s\"\n[drain]\nretry_first = \"1s\"\n\
         [auto]\npressure = false\nfilter_down = \"1s\"\nstorm_min = \"2s\"\ncalm_after = \"1s\"\nbacklog_low = 5\n\
         [filter.judge]\nuse = \"{}\"\ntimeout = \"{timeout}\"\nworkers = 2\n",
        filter.place()
    )
}

/// Whom the site knows already: its log shows its mail to [`KNOWN`] and their answers, and its operator has complained.
fn teach(server: &Postern) {
    let mut log = String::new();
    for n in FILLERS {
        let (peer, id) = (one_of(KNOWN, n), format!("4TQx1k0vZ9z{n}"));
        for line in [
            format!(
                "postfix/submission/smtpd[311]: {id}: client=dsl.isp.example[198.51.100.9], sasl_method=PLAIN, sasl_username=ann"
            ),
            format!("postfix/qmgr[99]: {id}: from=<ann@example.com>, size=1024, nrcpt=1 (queue active)"),
            format!(
                "postfix/smtp[313]: {id}: to=<bob@friend{n}.example>, relay=mx.friend{n}.example[{peer}]:25, delay=1, dsn=2.0.0, status=sent (250 2.0.0 OK)"
            ),
            format!("postfix/qmgr[99]: {id}: removed"),
            format!("postfix/smtpd[320]: {id}A: client=mx.friend{n}.example[{peer}]"),
            format!("postfix/qmgr[99]: {id}A: from=<bob@friend{n}.example>, size=900, nrcpt=1 (queue active)"),
            format!(
                "postfix/lmtp[321]: {id}A: to=<ann@example.com>, relay=dovecot[private/lmtp], dsn=2.0.0, status=sent (250 2.0.0 Saved)"
            ),
            format!("postfix/qmgr[99]: {id}A: removed"),
        ] {
            log.push_str(&format!("2026-11-20T09:58:01.000000+00:00 mx {line}\n"));
        }
    }
    std::fs::write(server.scratch().join("mail.log"), log).expect("the scratch directory is writable");
    server.command(postern(), &["learn", "--domain", "example.com", "--log", "mail.log"]);
    for n in FILLERS {
        for _ in 0..3 {
            server.command(postern(), &["report", "spam", &one_of(SUSPECT, n).to_string()]);
        }
    }
}

/// Mode and reason of a domain as doors have them.
fn mode(status: &Value, domain: &str) -> (String, String) {
    let modes = &status["modes"];
    let of = modes["domains"].get(domain).unwrap_or(modes);
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (word(&of["mode"]), word(&of["why"]))
}

/// Why `example.com` is in this mode; `None` when it is in another.
fn in_mode(server: &Postern, wanted: &str) -> Option<String> {
    let (mode, why) = mode(&server.status(postern())?, "example.com");
    (mode == wanted).then_some(why)
}

fn wait_until_through(server: &Postern) {
    wait_within(AFTER_A_STORM, "the domain to come back", || in_mode(server, "through"));
}

fn wait_until_empty(server: &Postern) {
    wait_within(AFTER_A_STORM, "the buffer to be empty", || {
        let spool = server.status(postern())?["spool"].clone();
        (spool["items"].as_u64()? == spool["dead"].as_u64()?).then_some(())
    });
}

fn taken(post: &Post) -> usize {
    post.count(|record| record.answer == Answer::Taken)
}

fn wait_for_taken(post: &Post, more: usize) {
    let before = taken(post);
    wait_for(&format!("{more} more to be taken"), || (taken(post) >= before + more).then_some(()));
}

/// Two friends and six bots that write all the time.
fn while_flooded<T>(post: &Post, breath: Duration, then: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let _home = traffic::AtTheEnd(post);
        for n in 1..=8 {
            let is_bot = n > 2;
            let peer = one_of(if is_bot { BOTS } else { PINNED }, n);
            let letter = move |m: u32| Letter::new("ann@example.com", is_bot && m % 3 == 2);
            scope.spawn(move || post.flood(peer, breath, letter));
        }
        then()
    })
}

/// The worst come first, so that the order of arrival is the wrong one.
fn fill_the_buffer(post: &Post, each: usize) {
    for network in WORST_FIRST {
        std::thread::scope(|scope| {
            for n in FILLERS {
                let letters = vec![Letter::new("ann@example.com", false); each];
                scope.spawn(move || post.send(one_of(network, n), letters));
            }
        });
    }
}

const WORST_FIRST: [Ipv4Addr; 4] = [SUSPECT, NEW, KNOWN, PINNED];

fn is_answered_spam(record: &Record) -> bool {
    record.letter.spam && record.answer != Answer::Unknown
}

/// What is done to the filter, and undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Killed,
    Frozen,
    Slowed,
}

impl Event {
    fn strikes(self, filter: &mut FilterDaemon) {
        match self {
            Self::Killed => filter.kill(),
            Self::Frozen => filter.freeze(),
            Self::Slowed => filter.slow(Duration::from_secs(8)),
        }
    }

    fn passes(self, filter: &mut FilterDaemon) {
        match self {
            Self::Killed => filter.restart(),
            Self::Frozen => filter.thaw(),
            Self::Slowed => filter.slow(Duration::ZERO),
        }
    }

    /// What `status` says of it.
    fn words(self) -> &'static str {
        match self {
            Self::Killed | Self::Frozen => "its filter has been out of reach for",
            Self::Slowed => "senders would wait",
        }
    }
}

/// One whole storm: the calm, a filter struck in mid-flood, the buffer, and the calm again.
fn weather_out(which: Which, event: Event) {
    let Some(peers) = Peers::need(which.needs()) else { return };
    let mut filter = FilterDaemon::start(&peers, which);
    // Its first judgement takes longest.
    ask(&filter.place(), &message("Subject: hello\r\n", "How are you?"));
    let timeout = match (event, which) {
        // A slow filter is to be slow, not absent.
        (Event::Slowed, _) => "40s",
        // SpamAssassin needs 60 ms and more for each, and on a busy machine seconds.
        (_, Which::Spamd) => "10s",
        _ => "2s",
    };
    let mut config = config("maildir:{dir}/mail", &filter, timeout);
    if event != Event::Slowed {
        // It is to collect because the filter is away, and not because it was slow before on a busy machine.
        config = config.replace("[auto]\n", "[auto]\noutcome_slow = \"10m\"\n");
    }
    let server = Postern::start_with_config(postern(), &config, &[]);
    teach(&server);
    let post = Post::new(server.port);
    let (breath, each) = if which == Which::Spamd { (5_000, 5) } else { (300, 12) };
    let why = while_flooded(&post, Duration::from_millis(breath), || {
        wait_for_taken(&post, 16);
        wait_for("spam to be answered", || (post.count(is_answered_spam) > 0).then_some(()));
        // On a busy machine the filter may have been late for a moment before anything happened.
        wait_until_through(&server);
        event.strikes(&mut filter);
        let because = |why: &String| why.starts_with(event.words());
        let why = wait_for("the domain to collect", || in_mode(&server, "collect").filter(because));
        wait_for_taken(&post, 24);
        why
    });
    fill_the_buffer(&post, each);
    assert_eq!(in_mode(&server, "through"), None, "the filter is still away");
    let waiting = queue(&server);
    event.passes(&mut filter);
    wait_until_through(&server);
    wait_until_empty(&server);
    // As before the storm: what the filter refuses is refused in the session.
    post.send(one_of(PINNED, 1), [false, true].map(|spam| Letter::new("ann@example.com", spam)));
    wait_until_empty(&server);
    let copies = copies(&server.scratch().join("mail"));
    let account = Account { records: post.records(), copies, dead: Vec::new() };
    account.settle("judge");
    // SpamAssassin marks, and refuses nothing.
    let refused = |record: &Record| matches!(record.answer, Answer::Refused(_));
    let calm_again: Vec<bool> = account.records.iter().rev().take(2).map(refused).collect();
    assert_eq!(calm_again, [which != Which::Spamd, false], "{:?}", account.records.last());
    assert!(account.records.iter().filter(|record| refused(record)).all(|record| record.letter.spam));
    assert_drained_best_first(&account, &waiting);
    let (all, taken) = (account.records.len(), taken(&post));
    println!("{which:?} {event:?}: \"{why}\"; {all} sent, {taken} taken, {} of them after waiting", waiting.len());
}

/// Of what waited when the filter came back, the better class left first, but for one message in sixteen.
fn assert_drained_best_first(account: &Account, waiting: &[Value]) {
    let class_of = |item: &Value| item["class"].as_u64().expect("a class");
    let classes: BTreeSet<u64> = waiting.iter().map(class_of).collect();
    assert!([0, 1, 3, 4].iter().all(|class| classes.contains(class)), "classes that waited: {classes:?}");
    // Those with which the drain finds out that the filter is away are tried again on their own schedule.
    let untried = waiting.iter().filter(|item| item["attempts"] == 0 && item["leased"] == false);
    let mut order: Vec<_> = untried.map(|item| (left(account, item), class_of(item))).collect();
    order.sort_unstable();
    let order: Vec<u64> = order.into_iter().map(|(_, class)| class).collect();
    let shown: String = order.iter().map(u64::to_string).collect();
    println!("{shown}");
    // One in sixteen of all that left before, two turns of theirs that may be owed by then, those under way in two
    // workers, and as many beside them in the Maildir's threads.
    let may_pass = |at: usize| at / 16 + 6;
    let passed = |(at, class): (usize, &u64)| order[..at].iter().filter(|before| *before > class).count();
    let late = order.iter().enumerate().filter(|(at, class)| passed((*at, class)) > may_pass(*at)).count();
    assert!(late <= LATE_MAX, "{late} of {} left behind too many of a lower class:\n{shown}", order.len());
}

/// When a message that waited was written to its mailbox.
fn left(account: &Account, item: &Value) -> SystemTime {
    let id = item["id"].as_str().expect("an id");
    let record = account.records.iter().find(|record| record.words.ends_with(id));
    let copies = record.and_then(|record| account.copies.get(&record.number));
    copies.and_then(|copies| copies.first()).unwrap_or_else(|| panic!("{item} is nowhere")).at
}

/// Judgements that take much longer than the others: one in each worker when all was well again, and one more each.
const LATE_MAX: usize = 4;

#[test]
fn rspamd_killed_in_mid_flood_costs_no_mail_and_lets_none_through_unjudged() {
    weather_out(Which::Rspamd, Event::Killed);
}

#[test]
fn rspamd_frozen_in_mid_flood_costs_no_mail_and_lets_none_through_unjudged() {
    weather_out(Which::Rspamd, Event::Frozen);
}

#[test]
fn rspamd_slowed_in_mid_flood_costs_no_mail_and_lets_none_through_unjudged() {
    weather_out(Which::Rspamd, Event::Slowed);
}

#[test]
fn spamassassin_killed_in_mid_flood_costs_no_mail_and_lets_none_through_unjudged() {
    weather_out(Which::Spamd, Event::Killed);
}

#[test]
fn spamassassin_frozen_in_mid_flood_costs_no_mail_and_lets_none_through_unjudged() {
    weather_out(Which::Spamd, Event::Frozen);
}

#[test]
fn spamassassin_slowed_in_mid_flood_costs_no_mail_and_lets_none_through_unjudged() {
    weather_out(Which::Spamd, Event::Slowed);
}

#[test]
fn a_milter_killed_in_mid_flood_costs_no_mail_and_lets_none_through_unjudged() {
    weather_out(Which::Scripted, Event::Killed);
}

#[test]
fn a_milter_frozen_in_mid_flood_costs_no_mail_and_lets_none_through_unjudged() {
    weather_out(Which::Scripted, Event::Frozen);
}

#[test]
fn a_milter_slowed_in_mid_flood_costs_no_mail_and_lets_none_through_unjudged() {
    weather_out(Which::Scripted, Event::Slowed);
}
