//! The client machine against scripted next hops, at every split point.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::time::Duration;

use super::*;
use crate::envelope::Notify;
use crate::time::Instant;
use crate::xclient::Xclient;

mod madman;
mod pieces;

/// What the test asks of the machine when it is at rest.
#[derive(Clone)]
enum Order {
    Send(Letter),
    Probe(Letter),
    Xclient(&'static str),
    Reset,
    Quit,
}

#[derive(Clone, Default)]
struct Letter {
    to: &'static [&'static str],
    body: &'static str,
    eight_bit: bool,
    smtputf8: bool,
    full_dsn: bool,
    size: u64,
}

fn letter(to: &'static [&'static str], body: &'static str) -> Letter {
    Letter { to, body, size: body.len() as u64, ..Letter::default() }
}

fn address(text: &str) -> Address {
    Address::parse(text.as_bytes(), true).expect(text)
}

fn give(client: &mut Client, now: Instant, order: &Order) {
    match order {
        Order::Send(letter) | Order::Probe(letter) => {
            let notify = Notify { success: true, failure: true, delay: false, given: true };
            let recipients: Vec<Recipient> = letter
                .to
                .iter()
                .map(|to| Recipient {
                    address: address(to),
                    original: letter.full_dsn.then(|| format!("rfc822;{to}")),
                    notify: if letter.full_dsn { notify } else { Notify::default() },
                })
                .collect();
            let dsn = match letter.full_dsn {
                true => DsnRequest { full: Some(false), envelope_id: Some("a=b".into()) },
                false => DsnRequest::default(),
            };
            let sender = address("s@x.org");
            let probe = matches!(order, Order::Probe(_));
            let transaction = Transaction {
                sender: (!probe).then_some(&sender),
                recipients: &recipients,
                eight_bit: letter.eight_bit,
                smtputf8: letter.smtputf8,
                dsn: &dsn,
                size: letter.size,
                probe,
            };
            client.begin(now, &transaction);
        }
        Order::Xclient(words) => client.xclient(now, &Xclient::parse(words.as_bytes()).expect("attributes")),
        Order::Reset => client.reset(now),
        Order::Quit => client.quit(now),
    }
}

fn word(result: &RecipientResult) -> String {
    match result {
        RecipientResult::Delivered(reply) => format!("delivered {}", reply.code),
        RecipientResult::Refused(reply) => format!("refused {reply}"),
        RecipientResult::Deferred(reply) => format!("deferred {reply}"),
    }
}

/// A conversation: the lines of each side in turn. `S!` closes the connection, `S?` lets the time
/// run out. `events` is what the machine tells its pump.
struct Case {
    protocol: Protocol,
    starttls: bool,
    orders: Vec<Order>,
    dialogue: &'static str,
    events: &'static [&'static str],
}

/// Plays `case` with the next hop's octets cut into pieces of `pieces` octets, the first one shorter
/// by `shift`: over all of them every split point is met.
fn play(case: &Case, cut: Option<usize>) -> Vec<String> {
    let mut now = Instant(1_000_000);
    let options = ClientOptions {
        protocol: case.protocol,
        helo: "us.example".into(),
        starttls: case.starttls,
        deadlines: Deadlines::default(),
    };
    let mut client = Client::new(options, now);
    let mut orders: VecDeque<Order> = case.orders.clone().into();
    let mut last = "";
    let mut events = Vec::new();
    let mut fed = 0;
    let mut lines = case.dialogue.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
    loop {
        let mut said = String::new();
        let over = run(&mut client, now, &mut orders, &mut last, &mut said, &mut events);
        let mut expected = String::new();
        while let Some(line) = lines.next_if(|line| line.starts_with("C:")) {
            expected.push_str(line.strip_prefix("C: ").unwrap_or_default());
            expected.push_str("\r\n");
        }
        assert_eq!(said, expected, "said by the client; cut {cut:?}; events so far {events:?}");
        let mut heard = String::new();
        match lines.peek() {
            None => return events,
            Some(line) => assert!(!over, "the session is over, but the dialogue goes on: {line}"),
        }
        while let Some(line) = lines.next_if(|line| line.starts_with("S: ")) {
            heard.push_str(&line[3..]);
            heard.push_str("\r\n");
        }
        let at = cut.and_then(|cut| cut.checked_sub(fed)).filter(|at| *at < heard.len()).unwrap_or(0);
        fed += heard.len();
        client.handle_bytes(now, &heard.as_bytes()[..at]);
        let mut nothing = Vec::new();
        if at > 0 && heard[..at].lines().count() <= 1 && !heard[..at].ends_with('\n') {
            assert!(!matches!(client.poll(&mut nothing), Step::Outcome(_)));
            assert_eq!(nothing, b"", "nothing is said upon half a line");
        }
        client.handle_bytes(now, &heard.as_bytes()[at..]);
        if lines.next_if_eq(&"S!").is_some() {
            client.handle_closed("");
        }
        if lines.next_if_eq(&"S?").is_some() {
            let due = client.next_timeout().expect("every wait has a deadline");
            events.push(format!("after {} s", due.since(now).as_secs()));
            now = due;
            client.handle_timeout(now);
        }
    }
}

/// Polls until the machine waits or is over; gives orders when it is at rest.
fn run(
    client: &mut Client,
    now: Instant,
    orders: &mut VecDeque<Order>,
    body: &mut &'static str,
    said: &mut String,
    events: &mut Vec<String>,
) -> bool {
    let mut out = Vec::new();
    loop {
        let step = client.poll(&mut out);
        said.push_str(core::str::from_utf8(&out).expect("text"));
        out.clear();
        match step {
            Step::Read => return false,
            Step::StartTls => {
                events.push("tls".into());
                client.handle_bytes(now, b"250 injected\r\n");
                client.handle_tls(now);
            }
            Step::Body => {
                for byte in body.as_bytes() {
                    client.encode_body(now, core::slice::from_ref(byte), &mut out);
                }
                client.end_body(now, &mut out);
            }
            Step::Outcome(results) => events.push(results.iter().map(word).collect::<Vec<_>>().join(", ")),
            Step::Idle => match orders.pop_front() {
                Some(order) => {
                    if let Order::Send(letter) = &order {
                        *body = letter.body;
                    }
                    give(client, now, &order);
                }
                None => {
                    events.push("idle".into());
                    return false;
                }
            },
            Step::Closed => {
                events.push("closed".into());
                return true;
            }
            Step::Failed(failure) => {
                let decided = client.take_decided();
                events.push(format!("failed: {failure}"));
                if decided.iter().any(Option::is_some) {
                    let words = decided.iter().map(|result| result.as_ref().map_or("open".into(), word));
                    events.push(words.collect::<Vec<_>>().join(", "));
                }
                return true;
            }
        }
    }
}

fn check(case: &Case) {
    let heard: usize =
        case.dialogue.lines().filter(|line| line.trim().starts_with("S: ")).map(|line| line.trim().len() - 1).sum();
    for cut in core::iter::once(None).chain((1..heard).map(Some)) {
        assert_eq!(play(case, cut), case.events, "cut {cut:?}");
    }
}

fn smtp(orders: Vec<Order>, dialogue: &'static str, events: &'static [&'static str]) {
    check(&Case { protocol: Protocol::Smtp, starttls: true, orders, dialogue, events });
}

fn lmtp(orders: Vec<Order>, dialogue: &'static str, events: &'static [&'static str]) {
    check(&Case { protocol: Protocol::Lmtp, starttls: true, orders, dialogue, events });
}

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
