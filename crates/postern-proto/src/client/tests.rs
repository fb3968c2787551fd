//! The client machine against scripted next hops, at every split point.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::time::Duration;

use super::*;
use crate::envelope::Notify;
use crate::time::Instant;

mod madman;
mod pieces;
mod script;

use script::*;

#[test]
fn a_message_is_handed_over_command_by_command() {
    smtp(
        vec![Order::Send(letter(&["a@y.org", "b@y.org"], "Subject: x\r\n\r\n.dot\r\nend")), Order::Quit],
        "S: 220 hop ready
         C: EHLO us.example
         S: 250-hop
         S: 250 HELP
         C: MAIL FROM:<s@x.org>
         S: 250 2.1.0 ok
         C: RCPT TO:<a@y.org>
         S: 250 2.1.5 ok
         C: RCPT TO:<b@y.org>
         S: 550-5.1.1 no
         S: 550 5.1.1 such user
         C: DATA
         S: 354 go
         C: Subject: x
         C:
         C: ..dot
         C: end
         C: .
         S: 250 2.0.0 taken
         C: QUIT
         S: 221 bye",
        &["delivered 250, refused 550 5.1.1 no such user", "closed"],
    );
}

#[test]
fn with_pipelining_the_envelope_is_one_flight() {
    let sent = Letter { eight_bit: true, full_dsn: true, ..letter(&["a@y.org", "b@y.org"], "x\r\n") };
    smtp(
        vec![Order::Send(sent)],
        "S: 220 hop
         C: EHLO us.example
         S: 250-hop greets you
         S: 250-PIPELINING
         S: 250-size 1000
         S: 250-8BITMIME
         S: 250-SMTPUTF8
         S: 250-CHUNKING
         S: 250-LIMITS RCPTMAX=5
         S: 250 DSN
         C: MAIL FROM:<s@x.org> SIZE=3 BODY=8BITMIME RET=HDRS ENVID=a+3Db
         C: RCPT TO:<a@y.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a@y.org
         C: RCPT TO:<b@y.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b@y.org
         C: DATA
         S: 250 ok
         S: 450 4.2.0 later
         S: 250 ok
         S: 354 go
         C: x
         C: .
         S: 250 ok",
        &["deferred 450 4.2.0 later, delivered 250", "idle"],
    );
}

#[test]
fn a_354_after_all_recipients_were_refused_is_answered_with_the_dot_alone() {
    smtp(
        vec![Order::Send(letter(&["a@y.org"], "secret\r\n")), Order::Send(letter(&["b@y.org"], "x\r\n"))],
        "S: 220 hop
         C: EHLO us.example
         S: 250-hop
         S: 250 PIPELINING
         C: MAIL FROM:<s@x.org>
         C: RCPT TO:<a@y.org>
         C: DATA
         S: 250 ok
         S: 550 no
         S: 354 go
         C: .
         S: 554 no recipients
         C: MAIL FROM:<s@x.org>
         C: RCPT TO:<b@y.org>
         C: DATA
         S: 250 ok
         S: 250 ok
         S: 354 go
         C: x
         C: .
         S: 250 ok",
        &["refused 550 no", "delivered 250", "idle"],
    );
}

#[test]
fn without_an_accepted_recipient_data_is_not_said_and_the_next_message_resets_first() {
    smtp(
        vec![Order::Send(letter(&["a@y.org"], "secret\r\n")), Order::Send(letter(&["b@y.org"], "x"))],
        "S: 220 hop
         C: EHLO us.example
         S: 250 hop
         C: MAIL FROM:<s@x.org>
         S: 250 ok
         C: RCPT TO:<a@y.org>
         S: 552 too many recipients
         C: RSET
         S: 250 ok
         C: MAIL FROM:<s@x.org>
         S: 550 5.7.1 not you",
        &["deferred 552 too many recipients", "refused 550 5.7.1 not you", "idle"],
    );
}

#[test]
fn lmtp_gives_each_accepted_recipient_an_answer_of_its_own() {
    lmtp(
        vec![Order::Send(letter(&["a@y.org", "b@y.org", "c@y.org"], "x"))],
        "S: 220 hop
         C: LHLO us.example
         S: 250-hop
         S: 250 PIPELINING
         C: MAIL FROM:<s@x.org>
         C: RCPT TO:<a@y.org>
         C: RCPT TO:<b@y.org>
         C: RCPT TO:<c@y.org>
         C: DATA
         S: 250 ok
         S: 250 ok
         S: 550 5.1.1 unknown
         S: 250 ok
         S: 354 go
         C: x
         C: .
         S: 250 saved
         S: 452 4.2.2 over quota",
        &["delivered 250, refused 550 5.1.1 unknown, deferred 452 4.2.2 over quota", "idle"],
    );
}

#[test]
fn a_connection_that_dies_after_the_dot_is_ambiguous_and_keeps_what_was_decided() {
    lmtp(
        vec![Order::Send(letter(&["a@y.org", "b@y.org"], "x"))],
        "S: 220 hop
         C: LHLO us.example
         S: 250 hop
         C: MAIL FROM:<s@x.org>
         S: 250 ok
         C: RCPT TO:<a@y.org>
         S: 250 ok
         C: RCPT TO:<b@y.org>
         S: 250 ok
         C: DATA
         S: 354 go
         C: x
         C: .
         S: 250 saved
         S!",
        &[
            "failed: no answer after the whole message was sent: the next hop closed the connection at the final dot",
            "delivered 250, open",
        ],
    );
}

#[test]
fn a_message_refused_before_its_dot_is_refused() {
    let mut client = Client::new(
        ClientOptions { protocol: Protocol::Smtp, helo: "us".into(), starttls: false, deadlines: Deadlines::default() },
        Instant(0),
    );
    let (now, mut out) = (Instant(0), Vec::new());
    client.handle_bytes(now, b"220 hop\r\n250 hop\r\n");
    give(&mut client, now, &Order::Send(letter(&["a@y.org"], "")));
    client.handle_bytes(now, b"250 ok\r\n250 ok\r\n354 go\r\n");
    assert_eq!(client.poll(&mut out), Step::Body);
    client.encode_body(now, b"a piece\r\n", &mut out);
    client.handle_bytes(now, b"552 5.3.4 too large\r\n");
    let Step::Outcome(results) = client.poll(&mut out) else { panic!("no outcome") };
    assert_eq!(word(&results[0]), "refused 552 5.3.4 too large");
    out.clear();
    client.end_body(now, &mut out);
    assert_eq!((client.poll(&mut out), out.as_slice()), (Step::Closed, b"".as_slice()), "no dot: nothing was sent");
}

#[test]
fn a_positive_reply_before_the_dot_is_never_a_delivery() {
    smtp(
        vec![Order::Send(letter(&["a@y.org"], "x"))],
        "S: 220 hop
         C: EHLO us.example
         S: 250 hop
         C: MAIL FROM:<s@x.org>
         S: 250 ok
         C: RCPT TO:<a@y.org>
         S: 250 ok
         C: DATA
         S: 354 go
         S: 250 taken",
        &["failed: the next hop broke the protocol at the message: a reply 250 that does not fit"],
    );
}

#[test]
fn helo_follows_when_ehlo_is_refused_but_not_in_lmtp() {
    smtp(
        vec![],
        "S: 220 hop
         C: EHLO us.example
         S: 502 what
         C: HELO us.example
         S: 250 hop",
        &["idle"],
    );
    lmtp(
        vec![],
        "S: 220 hop
         C: LHLO us.example
         S: 500 what",
        &["failed: the next hop refused at EHLO: 500 what"],
    );
}

#[test]
fn a_refused_greeting_is_told_with_its_reply() {
    smtp(vec![], "S: 554 5.7.1 go away", &["failed: the next hop refused at the greeting: 554 5.7.1 go away"]);
    smtp(vec![], "S: 421 busy", &["failed: the next hop refused at the greeting: 421 busy"]);
    smtp(
        vec![],
        "S: hello",
        &["failed: the next hop broke the protocol at the greeting: what came is not an SMTP reply"],
    );
    smtp(vec![], "S!", &["failed: the next hop closed the connection at the greeting"]);
}

#[test]
fn starttls_drops_what_came_before_the_handshake_and_says_ehlo_again() {
    smtp(
        vec![],
        "S: 220 hop
         C: EHLO us.example
         S: 250-hop
         S: 250-DSN
         S: 250 STARTTLS
         C: STARTTLS
         S: 220 go
         S: 250-injected
         S: 250 XCLIENT ADDR
         C: EHLO us.example
         S: 250-hop
         S: 250 STARTTLS",
        &["tls", "idle"],
    );
}

#[test]
fn a_refused_starttls_goes_on_without() {
    smtp(
        vec![],
        "S: 220 hop
         C: EHLO us.example
         S: 250-hop
         S: 250 STARTTLS
         C: STARTTLS
         S: 454 not now",
        &["idle"],
    );
}

#[test]
fn xclient_is_told_between_messages_and_the_session_starts_anew() {
    smtp(
        vec![
            Order::Xclient("ADDR=192.0.2.7 PORT=99 HELO=them.example LOGIN=u"),
            Order::Send(letter(&["a@y.org"], "x")),
            Order::Xclient("ADDR=IPV6:2001:db8::7 HELO=not+20a+20name"),
            Order::Xclient("ADDR=192.0.2.9"),
        ],
        "S: 220 hop
         C: EHLO us.example
         S: 250-hop
         S: 250-PIPELINING
         S: 250 XCLIENT NAME ADDR PORT HELO
         C: XCLIENT ADDR=192.0.2.7 PORT=99 HELO=them.example
         S: 220 hop again
         C: EHLO them.example
         S: 250-hop
         S: 250-PIPELINING
         S: 250 XCLIENT ADDR
         C: MAIL FROM:<s@x.org>
         C: RCPT TO:<a@y.org>
         C: DATA
         S: 250 ok
         S: 550 no
         S: 554 no recipients
         C: RSET
         C: XCLIENT ADDR=IPV6:2001:db8::7
         S: 250 ok
         S: 220 hop
         C: EHLO us.example
         S: 250-hop
         S: 250 XCLIENT ADDR
         C: XCLIENT ADDR=192.0.2.9
         S: 550 5.7.0 not you",
        &["refused 550 no", "failed: the next hop refused at XCLIENT: 550 5.7.0 not you"],
    );
}

#[test]
fn our_own_name_follows_once_when_the_clients_is_taken_for_none() {
    smtp(
        vec![Order::Xclient("ADDR=192.0.2.7 HELO=my_host.example")],
        "S: 220 hop
         C: EHLO us.example
         S: 250-hop
         S: 250 XCLIENT ADDR HELO
         C: XCLIENT ADDR=192.0.2.7 HELO=my_host.example
         S: 220 hop again
         C: EHLO my_host.example
         S: 501 5.5.4 invalid name
         C: HELO my_host.example
         S: 501 5.5.4 invalid name
         C: EHLO us.example
         S: 250 hop",
        &["idle"],
    );
    smtp(
        vec![Order::Xclient("ADDR=192.0.2.7 HELO=my_host.example")],
        "S: 220 hop
         C: EHLO us.example
         S: 250-hop
         S: 250 XCLIENT ADDR HELO
         C: XCLIENT ADDR=192.0.2.7 HELO=my_host.example
         S: 220 hop again
         C: EHLO my_host.example
         S: 550 not you
         C: HELO my_host.example
         S: 550 not you
         C: EHLO us.example
         S: 550 not you
         C: HELO us.example
         S: 550 5.7.1 nor you",
        &["failed: the next hop refused at EHLO: 550 5.7.1 nor you"],
    );
}

#[test]
fn a_wanted_xclient_that_is_not_offered_ends_the_session() {
    smtp(
        vec![Order::Xclient("ADDR=192.0.2.7")],
        "S: 220 hop
         C: EHLO us.example
         S: 250 hop",
        &["failed: the next hop does not offer XCLIENT, which its route asks for"],
    );
}

#[test]
fn smtputf8_and_size_that_the_next_hop_cannot_take_are_refused_here() {
    let utf8 = Letter { smtputf8: true, ..letter(&["a@y.org", "b@y.org"], "x") };
    smtp(
        vec![
            Order::Send(utf8),
            Order::Send(letter(&["ü@y.org"], "x")),
            Order::Send(Letter { size: 1001, ..letter(&["a@y.org"], "x") }),
        ],
        "S: 220 hop
         C: EHLO us.example
         S: 250-hop
         S: 250 SIZE 1000",
        &[
            "refused 550 5.6.7 The next hop does not offer SMTPUTF8, refused 550 5.6.7 The next hop does not offer SMTPUTF8",
            "refused 550 5.6.7 The next hop does not offer SMTPUTF8",
            "refused 552 5.3.4 The message is larger than the next hop takes",
            "idle",
        ],
    );
}

#[test]
fn a_421_defers_all_that_is_open_and_ends_the_session() {
    smtp(
        vec![Order::Send(letter(&["a@y.org", "b@y.org"], "x"))],
        "S: 220 hop
         C: EHLO us.example
         S: 250 hop
         C: MAIL FROM:<s@x.org>
         S: 250 ok
         C: RCPT TO:<a@y.org>
         S: 550 no
         C: RCPT TO:<b@y.org>
         S: 421 4.3.2 going down",
        &["refused 550 no, deferred 421 4.3.2 going down", "closed"],
    );
}

#[test]
fn an_idle_next_hop_may_say_421_and_nothing_else() {
    smtp(
        vec![Order::Reset],
        "S: 220 hop
         C: EHLO us.example
         S: 250 hop
         C: RSET
         S: 250 ok
         S: 421 4.4.2 idle too long",
        &["failed: the next hop refused at rest: 421 4.4.2 idle too long"],
    );
}

#[test]
fn a_probe_asks_and_resets() {
    smtp(
        vec![Order::Probe(letter(&["a@y.org"], "")), Order::Quit],
        "S: 220 hop
         C: EHLO us.example
         S: 250-SIZE
         S: 250 PIPELINING
         C: MAIL FROM:<>
         C: RCPT TO:<a@y.org>
         C: RSET
         S: 250 ok
         S: 250 ok
         S: 250 ok
         C: QUIT
         S!",
        &["delivered 250", "closed"],
    );
}

#[test]
fn a_probe_whose_sender_is_refused_says_nothing_about_the_recipient() {
    smtp(
        vec![Order::Probe(letter(&["a@y.org"], ""))],
        "S: 220 hop
         C: EHLO us.example
         S: 250 hop
         C: MAIL FROM:<>
         S: 550 5.1.1 no",
        &["failed: the next hop refused at MAIL: 550 5.1.1 no"],
    );
}

#[test]
fn each_wait_ends_at_the_deadline_of_rfc_5321() {
    let to_data = "S: 220 hop
         C: EHLO us.example
         S: 250 hop
         C: MAIL FROM:<s@x.org>
         S: 250 ok
         C: RCPT TO:<a@y.org>
         S: 250 ok
         C: DATA
         S?";
    smtp(vec![], "S?", &["after 300 s", "failed: the next hop did not answer in time at the greeting"]);
    let order = Order::Send(letter(&["a@y.org"], "x"));
    smtp(vec![order.clone()], to_data, &["after 120 s", "failed: the next hop did not answer in time at DATA"]);
    smtp(
        vec![order],
        "S: 220 hop
         C: EHLO us.example
         S: 250 hop
         C: MAIL FROM:<s@x.org>
         S: 250 ok
         C: RCPT TO:<a@y.org>
         S: 250 ok
         C: DATA
         S: 354 go
         C: x
         C: .
         S?",
        &[
            "after 600 s",
            "failed: no answer after the whole message was sent: the next hop did not answer in time at the final dot",
        ],
    );
}

#[test]
fn a_thousand_recipients_go_in_bounded_flights() {
    let mut client = Client::new(
        ClientOptions { protocol: Protocol::Smtp, helo: "us".into(), starttls: false, deadlines: Deadlines::default() },
        Instant(0),
    );
    let (now, mut out) = (Instant(0), Vec::new());
    client.handle_bytes(now, b"220 hop\r\n250-hop\r\n250 PIPELINING\r\n");
    let recipients: Vec<Recipient> = (0..1000)
        .map(|n| Recipient { address: address(&format!("u{n}@y.org")), original: None, notify: Notify::default() })
        .collect();
    let dsn = DsnRequest::default();
    let transaction = Transaction {
        sender: None,
        recipients: &recipients,
        eight_bit: false,
        smtputf8: false,
        dsn: &dsn,
        size: 0,
        probe: false,
    };
    assert_eq!(client.poll(&mut out), Step::Idle);
    client.begin(now, &transaction);
    let mut commands = 0;
    loop {
        out.clear();
        match client.poll(&mut out) {
            Step::Read => {}
            step => break assert_eq!(step, Step::Body),
        }
        let lines = out.iter().filter(|&&byte| byte == b'\n').count();
        assert!(lines <= 100, "{lines} commands in one flight");
        for line in core::str::from_utf8(&out).expect("text").lines() {
            commands += 1;
            client.handle_bytes(now, if line == "DATA" { b"354 go\r\n" } else { b"250 ok\r\n" });
        }
    }
    assert_eq!(commands, 1002);
}

#[test]
fn a_failure_becomes_a_reply_for_reports() {
    let text = |failure: Failure| failure.reply().to_string();
    assert_eq!(
        text(Failure::Timeout(Phase::Greeting)),
        "451 4.4.2 the next hop did not answer in time at the greeting"
    );
    assert_eq!(text(Failure::Refused(Phase::Hello, Reply::plain(554, "no"))), "554 no");
    assert!(Deadlines::default().final_dot >= Duration::from_secs(600), "RFC 5321 section 4.5.3.2.6");
}
