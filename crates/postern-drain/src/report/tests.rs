use postern_proto::envelope::{Arrival, DsnRequest, Notify, Via};

use super::*;

fn address(local: &str, domain: &str) -> Address {
    Address { local: local.into(), domain: domain.into() }
}

fn meta(sender: Option<Address>) -> Meta {
    Meta {
        arrival: Arrival {
            at_unix_ms: 1_700_000_000_000,
            peer: "127.0.0.1:1000".parse().unwrap(),
            peer_name: None,
            local: "127.0.0.1:25".parse().unwrap(),
            by: "mx.example".into(),
            helo: "client.example".into(),
            esmtp: true,
            tls: None,
            via: Via::Relay,
        },
        sender,
        recipients: Vec::new(),
        eight_bit: false,
        smtputf8: false,
        dsn: DsnRequest { full: None, envelope_id: Some("QQ314159\r\nX: y".into()) },
        size: 10,
        judged: false,
        attempts: 0,
        tried_since_unix_ms: None,
        last_error: None,
        note: None,
        checks: Default::default(),
        judgement: None,
    }
}

fn told(local: &str, original: Option<&str>, what: Action) -> Told {
    let recipient = Recipient {
        address: address(local, "far.example"),
        original: original.map(str::to_owned),
        notify: Notify::default(),
    };
    Told { recipient, what }
}

fn no_such_user() -> Action {
    Action::Failed(Reply::new(550, Enhanced(5, 1, 1), "").with_text("no such user\nreally\r\nX-Forged: yes".into()))
}

fn text(meta: &Meta, told: &[Told], original: &[u8], quote_all: bool) -> Option<ReportText> {
    Report {
        meta,
        item: "0ABC",
        told,
        original,
        quote_all,
        hostname: "mx.example",
        from: "MAILER-DAEMON@mx.example",
        now_unix_ms: 1_700_000_060_000,
        random: 0xfeed,
    }
    .text()
}

const ORIGINAL: &[u8] = b"Subject: hello\r\nTo: you\r\n\r\nthe body\r\n";

#[test]
fn a_failure_is_reported_in_three_parts_that_a_machine_can_read() {
    let meta = meta(Some(address("ann", "example.com")));
    let report =
        text(&meta, &[told("bob", Some("rfc822;Bob+2Bx@far.example"), no_such_user())], ORIGINAL, false).unwrap();
    assert!(!report.eight_bit && !report.smtputf8);
    let text = String::from_utf8(report.bytes).unwrap();
    let boundary = "=_0ABC_000000000000feed";
    for line in [
        "From: Mail delivery <MAILER-DAEMON@mx.example>",
        "To: <ann@example.com>",
        "Auto-Submitted: auto-replied",
        "Content-Type: multipart/report; report-type=delivery-status;",
        &format!("\tboundary=\"{boundary}\""),
        "Content-Type: message/delivery-status",
        "Original-Envelope-Id: QQ314159??X: y",
        "Reporting-MTA: dns; mx.example",
        "Arrival-Date: Tue, 14 Nov 2023 22:13:20 +0000",
        "Original-Recipient: rfc822;Bob+x@far.example",
        "Final-Recipient: rfc822; bob@far.example",
        "Action: failed",
        "Status: 5.1.1",
        "Content-Type: text/rfc822-headers",
        "Subject: hello",
    ] {
        assert!(text.split("\r\n").any(|l| l == line), "{line}\n---\n{text}");
    }
    assert!(text.contains("Diagnostic-Code: smtp; 550 5.1.1 no such user really? X-Forged: yes\r\n"), "{text}");
    assert!(!text.contains("the body"), "only the header is quoted");
    assert_eq!(text.matches(&format!("--{boundary}\r\n")).count(), 3);
    assert!(text.ends_with(&format!("\r\n--{boundary}--\r\n")));
    assert!(text.split("\r\n").all(|l| l.len() <= 998 && !l.contains(['\r', '\n'])));
}

#[test]
fn ret_full_returns_the_message() {
    let meta = meta(Some(address("ann", "example.com")));
    let report = text(&meta, &[told("bob", None, no_such_user())], ORIGINAL, true).unwrap();
    let text = String::from_utf8(report.bytes).unwrap();
    assert!(text.contains("Content-Type: message/rfc822\r\n") && text.contains("\r\n\r\nthe body\r\n"));
}

#[test]
fn a_report_is_never_answered_by_a_report() {
    assert!(text(&meta(None), &[told("bob", None, no_such_user())], ORIGINAL, false).is_none());
}

#[test]
fn an_international_address_makes_an_international_report() {
    let report = text(&meta(Some(address("ann", "a.example"))), &[told("bøb", None, no_such_user())], b"", false);
    let report = report.unwrap();
    assert!(report.eight_bit && report.smtputf8);
    let text = String::from_utf8(report.bytes).unwrap();
    assert!(
        text.contains("message/global-delivery-status") && text.contains("Final-Recipient: utf-8; bøb@far.example")
    );
}

#[test]
fn success_is_told_as_delivered_or_relayed() {
    let meta = meta(Some(address("ann", "example.com")));
    let report = text(&meta, &[told("a", None, Action::Delivered), told("b", None, Action::Relayed)], ORIGINAL, false);
    let text = String::from_utf8(report.unwrap().bytes).unwrap();
    assert!(text.contains("Action: delivered\r\nStatus: 2.0.0") && text.contains("Action: relayed\r\nStatus: 2.0.0"));
    assert!(text.contains("Subject: Your message was delivered"));
}

#[test]
fn many_recipients_and_long_headers_are_cut() {
    let meta = meta(Some(address("ann", "example.com")));
    let many: Vec<Told> = (0..1500).map(|_| told("bob", None, no_such_user())).collect();
    let long = format!("Subject: x\r\n{}", "X-Line: 0123456789\r\n".repeat(10_000));
    let report = text(&meta, &many, long.as_bytes(), false).unwrap();
    let text = String::from_utf8(report.bytes).unwrap();
    assert_eq!(text.matches("Final-Recipient:").count(), REPORT_RECIPIENTS_MAX);
    assert!(text.contains("and 500 more recipients"));
    let quoted = text.matches("X-Line: 0123456789\r\n").count();
    assert!((1600..=1640).contains(&quoted), "{quoted} whole lines");
}

#[test]
fn a_failure_never_has_a_status_of_success() {
    let odd = Reply { code: 550, enhanced: Some(Enhanced(2, 0, 0)), text: "".into() };
    assert_eq!(status_of(&odd), Enhanced(5, 0, 0));
    assert_eq!(status_of(&Reply::plain(550, "x")), Enhanced(5, 0, 0));
    assert_eq!(unxtext("a+3Db+zz+"), "a=b+zz+");
}
