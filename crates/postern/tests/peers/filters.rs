//! Real filters are asked about real messages: what they say comes back whole, and when they are frozen, killed or at a
//! loss, that is said within the time they were given.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use postern_net::filter::{Content, Filter, FilterError, Finding, Kind, Subject, Verdict, judge};
use postern_proto::address::Address;
use postern_proto::checks::{Checks, Spf, SpfResult};
use postern_proto::envelope::{Arrival, DsnRequest, Meta, Notify, Recipient, TlsFacts, Via};
use postern_proto::header_edit::edit;
use postern_proto::judgement::HeaderChange;
use postern_proto::reply::Enhanced;

use crate::harness::filters::{FilterDaemon, Which};
use crate::harness::{Peers, Scratch};

/// A test text that every filter takes for spam, in two halves so that no filter takes this file for it.
const GTUBE: [&str; 2] = ["XJS*C4JDBQADN1.NSBN3*2IDNEN*", "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"];
const RECEIVED: &str = "Received: from client.example.net (mx.example.net [192.0.2.7])\r\n\tby mail.example.com (Postern) \
                        with ESMTPS\r\n\tid 17; Sat, 21 Nov 2026 18:00:00 +0000\r\n";

fn address(text: &str) -> Address {
    Address::parse(text.as_bytes(), false).expect("an address")
}

fn meta(recipients: &[&str], size: usize) -> Meta {
    let recipient = |to: &&str| Recipient { address: address(to), original: None, notify: Notify::default() };
    Meta {
        arrival: Arrival {
            at_unix_ms: 1_795_284_000_000,
            peer: SocketAddr::from(([192, 0, 2, 7], 40_000)),
            peer_name: None,
            local: SocketAddr::from(([198, 51, 100, 1], 25)),
            by: "mail.example.com".to_owned(),
            helo: "client.example.net".to_owned(),
            esmtp: true,
            tls: Some(TlsFacts { version: "TLSv1.3".to_owned(), cipher: "TLS13_AES_256_GCM_SHA384".to_owned() }),
            via: Via::Public,
        },
        sender: Some(address("bob@example.org")),
        recipients: recipients.iter().map(recipient).collect(),
        eight_bit: true,
        smtputf8: false,
        dsn: DsnRequest::default(),
        size: size as u64,
        judged: false,
        attempts: 0,
        tried_since_unix_ms: None,
        last_error: None,
        note: None,
        checks: Checks { name: Some("mx.example.net".to_owned()), ..Checks::default() },
        judgement: None,
    }
}

pub(crate) fn message(fields: &str, body: &str) -> String {
    format!(
        "From: Bob <bob@example.org>\r\nTo: Alice <alice@example.com>\r\nDate: Sat, 21 Nov 2026 18:00:00 +0000\r\n\
         Message-ID: <17.bob@example.org>\r\n{fields}\r\n{body}\r\n"
    )
}

/// SpamAssassin's first judgement takes half of this on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks as the drain does; a filter that may take `timeout` is never waited for much longer.
fn ask_within(place: &str, timeout: Duration, meta: &Meta, body: Content<'_>) -> Result<Finding, FilterError> {
    let filter = Filter { name: "test".to_owned(), kind: Kind::parse(place).expect("a filter"), timeout };
    let subject = Subject { meta, id: "17", received: RECEIVED.as_bytes(), body };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let start = Instant::now();
    let found = runtime.block_on(judge(&filter, "mail.example.com", &subject));
    assert!(start.elapsed() < timeout + PATIENCE, "{:?} for {found:?}", start.elapsed());
    found
}

pub(crate) fn ask(place: &str, message: &str) -> Finding {
    let meta = meta(&["alice@example.com"], message.len());
    ask_within(place, PATIENCE, &meta, Content::Bytes(message.as_bytes())).expect("a finding")
}

fn scripted(orders: &str) -> String {
    message(&format!("Subject: hello\r\nX-Old: 1\r\nX-Old: 2\r\nX-Do: {orders}\r\n"), "words")
}

/// A filter that is frozen is given up in time; one that was killed is seen to be; and both come back.
#[track_caller]
fn check_absence(which: Which) {
    let Some(peers) = Peers::need(which.needs()) else { return };
    let mut daemon = FilterDaemon::start(&peers, which);
    let text = message("Subject: hello\r\n", "How are you?");
    let meta = meta(&["alice@example.com"], text.len());
    let ask =
        |daemon: &FilterDaemon, timeout| ask_within(&daemon.place(), timeout, &meta, Content::Bytes(text.as_bytes()));
    ask(&daemon, PATIENCE).expect("a finding");
    daemon.freeze();
    assert_eq!(ask(&daemon, Duration::from_millis(500)), Err(FilterError::TimedOut));
    daemon.thaw();
    ask(&daemon, PATIENCE).expect("a finding from a filter that was frozen");
    daemon.kill();
    let gone = ask(&daemon, PATIENCE);
    assert!(matches!(gone, Err(FilterError::Unreachable(_))), "{gone:?}");
    daemon.restart();
    ask(&daemon, PATIENCE).expect("a finding from a filter that was started again");
}

#[test]
fn rspamd_frozen_or_killed_is_noticed_in_time() {
    check_absence(Which::Rspamd);
}

#[test]
fn spamd_frozen_or_killed_is_noticed_in_time() {
    check_absence(Which::Spamd);
}

#[test]
fn a_milter_frozen_or_killed_is_noticed_in_time() {
    check_absence(Which::Scripted);
}

#[test]
fn a_slowed_filter_is_given_up_in_time() {
    let Some(peers) = Peers::need(&[Which::Rspamd.needs(), Which::Scripted.needs()].concat()) else { return };
    for which in [Which::Rspamd, Which::Scripted] {
        let daemon = FilterDaemon::start(&peers, which);
        let text = message("Subject: hello\r\n", "How are you?");
        let meta = meta(&["alice@example.com"], text.len());
        let ask = |timeout| ask_within(&daemon.place(), timeout, &meta, Content::Bytes(text.as_bytes()));
        daemon.slow(Duration::from_secs(1));
        assert_eq!(ask(Duration::from_millis(200)), Err(FilterError::TimedOut), "{which:?}");
        let start = Instant::now();
        ask(PATIENCE).expect("a finding, with patience");
        assert!(start.elapsed() >= Duration::from_secs(1), "{which:?}");
        daemon.slow(Duration::ZERO);
        ask(PATIENCE).expect("a finding");
    }
}

#[test]
fn rspamd_judges_and_changes() {
    let Some(peers) = Peers::need(Which::Rspamd.needs()) else { return };
    let daemon = FilterDaemon::start(&peers, Which::Rspamd);
    let place = daemon.place();
    let clean = ask(&place, &message("Subject: hello\r\n", "How are you?"));
    assert_eq!((&clean.verdict, clean.score_hundredths, clean.headers.len()), (&Verdict::Accept, Some(0), 0));
    let spam = ask(&place, &message("Subject: hello\r\n", &GTUBE.concat()));
    let Verdict::Reject(reply) = &spam.verdict else { panic!("{spam:?}") };
    assert_eq!((reply.code, reply.enhanced), (554, Some(Enhanced(5, 7, 1))));
    assert_eq!(spam.score_hundredths, Some(1500));
    assert!(spam.reason.as_ref().is_some_and(|reason| reason.contains("GTUBE")), "{spam:?}");
    let marked = ask(&place, &message("Subject: mark\r\n", "words"));
    assert_eq!((&marked.verdict, marked.score_hundredths), (&Verdict::Mark, Some(700)));
    let soft = ask(&place, &message("Subject: soft\r\n", "words"));
    let Verdict::Tempfail(reply) = &soft.verdict else { panic!("{soft:?}") };
    assert_eq!((reply.code, &*reply.text), (451, "come back later"));
    let changed = ask(&place, &message("Subject: headers\r\nX-Old: 1\r\nX-Old: 2\r\n", "words"));
    let mut names: Vec<String> = changed.headers.iter().map(|change| format!("{change:?}")).collect();
    names.sort_unstable();
    // The address and the name are those of the arrival, not of whoever asks.
    assert_eq!(
        names,
        [
            r#"Add { name: "X-Helo", value: "client.example.net" }"#,
            r#"Add { name: "X-Ip", value: "192.0.2.7" }"#,
            r#"Delete { nth: 1, name: "X-Old" }"#,
            r#"Delete { nth: 2, name: "X-Old" }"#,
            r#"Insert { at: 0, name: "X-Top", value: "top" }"#,
        ]
    );
}

#[test]
fn spamd_judges_with_a_score_and_the_names_of_its_tests() {
    let Some(peers) = Peers::need(Which::Spamd.needs()) else { return };
    let daemon = FilterDaemon::start(&peers, Which::Spamd);
    let place = daemon.place();
    let clean = ask(&place, &message("Subject: hello\r\n", "How are you?"));
    assert_eq!(clean.verdict, Verdict::Accept, "{clean:?}");
    assert!(clean.score_hundredths.is_some_and(|score| score < 500), "{clean:?}");
    let spam = ask(&place, &message("Subject: hello\r\n", &GTUBE.concat()));
    assert_eq!(spam.verdict, Verdict::Mark, "{spam:?}");
    assert!(spam.score_hundredths.is_some_and(|score| score >= 99_000), "{spam:?}");
    let status = spam.headers.iter().find_map(|change| match change {
        HeaderChange::Insert { at: 0, name, value } if name == "X-Spam-Status" => Some(value),
        _ => None,
    });
    assert!(status.is_some_and(|value| value.starts_with("Yes, score=") && value.contains("GTUBE")), "{spam:?}");
}

#[test]
fn spamd_judges_by_what_spf_said_at_the_arrival() {
    let Some(peers) = Peers::need(Which::Spamd.needs()) else { return };
    let daemon = FilterDaemon::start(&peers, Which::Spamd);
    let text = message("Subject: hello\r\n", "How are you?");
    for (result, test) in
        [(None, None), (Some(SpfResult::Pass), Some("SPF_PASS")), (Some(SpfResult::Fail), Some("SPF_FAIL"))]
    {
        let mut meta = meta(&["alice@example.com"], text.len());
        let domain = "example.org".to_owned();
        meta.checks.spf = result.map(|result| Spf { result, domain, of_helo: false });
        let found = ask_within(&daemon.place(), PATIENCE, &meta, Content::Bytes(text.as_bytes())).expect("a finding");
        let reason = found.reason.unwrap_or_default();
        let said = reason.split([' ', ',']).find(|name| name.starts_with("SPF_"));
        assert_eq!(said, test, "{result:?}: {reason}");
    }
}

#[test]
fn spamd_is_not_asked_about_what_is_too_big_for_it() {
    // No spamd is there: had it been asked, this would fail.
    let found = ask("spamd:127.0.0.1:1", &message("Subject: hello\r\n", &"x".repeat(600 * 1024)));
    assert_eq!(found.verdict, Verdict::Accept);
    assert!(found.reason.as_ref().is_some_and(|reason| reason.starts_with("too big for spamd")), "{found:?}");
}

#[test]
fn a_milter_is_told_the_message_as_it_arrived() {
    let Some(peers) = Peers::need(Which::Scripted.needs()) else { return };
    let daemon = FilterDaemon::start(&peers, Which::Scripted);
    let text = message("Subject: one\r\n\ttwo\r\n", &"0123456789abcdef\r\n".repeat(20_000));
    // From a file, in pieces, as a large message lies in the spool.
    let scratch = Scratch::new("filters");
    let path = scratch.file("body", &text);
    let file = std::fs::File::open(path).expect("what was just made");
    let meta = meta(&["alice@example.com", "refused@example.com", "later@example.com"], text.len());
    let content = Content::File(&file, text.len() as u64);
    let found = ask_within(&daemon.place(), PATIENCE, &meta, content).expect("a finding");
    assert_eq!(found.verdict, Verdict::Accept);
    let refused: Vec<(usize, String)> =
        found.refused_recipients.iter().map(|(n, reply)| (*n, reply.to_string())).collect();
    assert_eq!(
        refused,
        [
            (1, "550 5.1.1 nobody of that name, 100% sure".to_owned()),
            (2, "451 4.7.1 Deferred by a mail filter, please try again later".to_owned()),
        ]
    );
    let body_bytes = text.len() - text.find("\r\n\r\n").expect("an empty line") - 4;
    let expected = format!(
        "connect mx.example.net 192.0.2.7 mail.example.com Postern 192.0.2.7\n\
         helo client.example.net TLSv1.3 TLS13_AES_256_GCM_SHA384\n\
         mail <bob@example.org> SIZE={} BODY=8BITMIME 17 bob@example.org\n\
         rcpt <alice@example.com> alice@example.com\nrcpt <refused@example.com> refused@example.com\n\
         rcpt <later@example.com> later@example.com\ndata\nheader From 'Bob <bob@example.org>'\n\
         header To 'Alice <alice@example.com>'\nheader Date 'Sat, 21 Nov 2026 18:00:00 +0000'\n\
         header Message-ID '<17.bob@example.org>'\nheader Subject 'one\\n\\ttwo'\neoh\neom {body_bytes} 17\ndone",
        text.len(),
    );
    assert_eq!(daemon.heard("done").join("\n"), expected);
}

#[test]
fn a_milter_changes_what_it_likes() {
    let Some(peers) = Peers::need(Which::Scripted.needs()) else { return };
    let daemon = FilterDaemon::start(&peers, Which::Scripted);
    let orders = "skip; add X-New a value; fold X-Long one two; insert 1 X-Top top; change 2 X-Old two; delete 1 X-Old; \
                  body 9000 other words; from <new@example.org>; addrcpt <carol@example.com>; \
                  delrcpt <alice@example.com>";
    let found = ask(&daemon.place(), &scripted(orders));
    let named = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let (new, long) = (named("X-New", "a value"), named("X-Long", "one\r\n\ttwo"));
    let (top, old) = (named("X-Top", "top"), named("X-Old", "two"));
    assert_eq!(
        found.headers,
        [
            HeaderChange::Add { name: new.0, value: new.1 },
            HeaderChange::Add { name: long.0, value: long.1 },
            HeaderChange::Insert { at: 0, name: top.0, value: top.1 },
            HeaderChange::Change { nth: 2, name: old.0.clone(), value: old.1 },
            HeaderChange::Delete { nth: 1, name: old.0 },
        ]
    );
    assert_eq!(found.body, Some(b"other words\r\n".repeat(9000)));
    assert_eq!(found.sender, Some(Some(address("new@example.org"))));
    assert_eq!(
        (found.add_recipients, found.remove_recipients),
        (vec![address("carol@example.com")], vec![address("alice@example.com")])
    );
    assert_eq!(found.verdict, Verdict::Accept);
}

#[test]
fn a_milter_ends_a_message_as_it_likes() {
    let Some(peers) = Peers::need(Which::Scripted.needs()) else { return };
    let daemon = FilterDaemon::start(&peers, Which::Scripted);
    let ask = |orders: &str| ask(&daemon.place(), &scripted(orders));
    let reply = |verdict: &Verdict| match verdict {
        Verdict::Reject(reply) | Verdict::Tempfail(reply) => reply.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(ask("end ACCEPT").verdict, Verdict::Accept);
    assert_eq!(ask("end DISCARD").verdict, Verdict::Discard);
    assert_eq!(reply(&ask("end REJECT").verdict), "550 5.7.1 Rejected by a mail filter");
    assert_eq!(reply(&ask("end TEMPFAIL").verdict), "451 4.7.1 Deferred by a mail filter, please try again later");
    assert_eq!(reply(&ask("reply 554 5.7.0 not|like this").verdict), "554 5.7.0 not like this");
    assert_eq!(reply(&ask("reply 452 4.2.2 not now").verdict), "452 4.2.2 not now");
    assert_eq!(ask("early ACCEPT").verdict, Verdict::Accept);
    assert_eq!(reply(&ask("early REJECT").verdict), "550 5.7.1 Rejected by a mail filter");
    let held = ask("quarantine looks odd; progress 3");
    assert_eq!((held.verdict, held.reason.as_deref()), (Verdict::Quarantine, Some("looks odd")));
    assert!(matches!(ask("quarantine looks odd; end REJECT").verdict, Verdict::Reject(_)));
}

#[test]
fn a_slow_milter_gets_its_time_and_no_more() {
    let Some(peers) = Peers::need(Which::Scripted.needs()) else { return };
    let daemon = FilterDaemon::start(&peers, Which::Scripted);
    let slow = scripted("sleep 60");
    let meta = meta(&["alice@example.com"], slow.len());
    let ask = |text: &str, timeout| ask_within(&daemon.place(), timeout, &meta, Content::Bytes(text.as_bytes()));
    assert_eq!(ask(&slow, Duration::from_millis(300)), Err(FilterError::TimedOut));
    // "Still at it" buys nothing: the time is for the whole judgement.
    assert_eq!(ask(&scripted("progress 1000"), Duration::from_millis(300)), Err(FilterError::TimedOut));
    ask(&scripted("end ACCEPT"), PATIENCE).expect("a finding for the next message");
}

#[test]
fn opendkim_signs_what_is_ours_says_who_signed_and_refuses_what_was_changed() {
    let Some(peers) = Peers::need(Which::Opendkim.needs()) else { return };
    let daemon = FilterDaemon::start(&peers, Which::Opendkim);
    let text =
        message("Subject: signed\r\n\tand folded\r\n", "How are you?").replace("bob@example.org", "bob@example.com");
    let mut ours = meta(&["alice@example.net"], text.len());
    ours.arrival.peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
    let signing = ask_within(&daemon.place(), PATIENCE, &ours, Content::Bytes(text.as_bytes())).expect("a finding");
    let is_signature =
        |change: &HeaderChange| matches!(change, HeaderChange::Insert { name, .. } if name == "DKIM-Signature");
    assert!(signing.headers.iter().any(is_signature), "{signing:?}");
    // As the drain writes it, it still holds: no octet of the signature was touched.
    let edited = edit(text.as_bytes(), &[], &signing.headers);
    let signed = String::from_utf8([&edited.head, &text.as_bytes()[edited.body_at..]].concat()).expect("text");
    let verified = ask(&daemon.place(), &signed);
    assert_eq!((&verified.verdict, results(&verified).contains("dkim=pass")), (&Verdict::Accept, true), "{verified:?}");
    let changed = ask(&daemon.place(), &signed.replace("How are you?", "Pay me!"));
    assert!(matches!(changed.verdict, Verdict::Reject(_)), "{changed:?}");
    let unsigned = ask(&daemon.place(), &message("Subject: hello\r\n", "How are you?"));
    assert_eq!((&unsigned.verdict, results(&unsigned).contains("dkim=none")), (&Verdict::Accept, true), "{unsigned:?}");
}

fn results(found: &Finding) -> String {
    let value = found.headers.iter().find_map(|change| match change {
        HeaderChange::Insert { at: 0, name, value } if name == "Authentication-Results" => Some(value.clone()),
        _ => None,
    });
    value.unwrap_or_default()
}

#[test]
fn a_filter_that_speaks_something_else_is_told_from_one_that_is_away() {
    let Some(peers) = Peers::need(Which::Spamd.needs()) else { return };
    let spamd = FilterDaemon::start(&peers, Which::Spamd);
    let text = message("Subject: hello\r\n", "How are you?");
    let meta = meta(&["alice@example.com"], text.len());
    let place = spamd.place().replace("spamd:", "rspamd:");
    let found = ask_within(&place, PATIENCE, &meta, Content::Bytes(text.as_bytes()));
    assert!(matches!(found, Err(FilterError::Protocol(_))), "{found:?}");
}
