//! The flight against written replies, and against servers that may do anything.

use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use super::*;
use crate::address::Address;
use crate::envelope::{DsnRequest, Notify, Recipient};

mod servers;
mod session;

/// A message of the tests.
#[derive(Clone, Default)]
struct Letter {
    to: Vec<String>,
    eight_bit: bool,
    smtputf8: bool,
    size: u64,
}

fn letter(to: &[&str]) -> Letter {
    Letter { to: to.iter().map(|to| String::from(*to)).collect(), size: 5, ..Letter::default() }
}

fn address(text: &str) -> Address {
    Address::parse(text.as_bytes(), true).expect("an address")
}

/// Calls `then` with the transaction of a letter.
fn with<T>(letter: &Letter, then: impl FnOnce(&Transaction<'_>) -> T) -> T {
    let sender = address("s@x.org");
    let recipient = |to: &String| Recipient { address: address(to), original: None, notify: Notify::default() };
    let recipients: Vec<Recipient> = letter.to.iter().map(recipient).collect();
    then(&Transaction {
        sender: Some(&sender),
        recipients: &recipients,
        eight_bit: letter.eight_bit,
        smtputf8: letter.smtputf8,
        dsn: &DsnRequest::default(),
        size: letter.size,
        probe: false,
    })
}

fn start(known: Option<Capabilities>) -> Flight {
    Flight::new(FlightOptions { helo: "us.example".into(), deadlines: Deadlines::default(), known }, Instant(0))
}

fn send(flight: &mut Flight, letter: &Letter, body: &[u8]) -> u64 {
    let number = with(letter, |transaction| {
        assert_eq!(flight.readiness(transaction), Readiness::Now);
        flight.begin(Instant(0), transaction)
    });
    flight.give(Instant(0), body, true);
    number
}

fn said(flight: &mut Flight) -> String {
    let mut out = Vec::new();
    flight.take_output(&mut out);
    String::from_utf8(out).expect("ASCII")
}

fn hear(flight: &mut Flight, replies: &str) {
    // Octet by octet: how it was cut does not matter.
    for octet in replies.replace('\n', "\r\n").bytes() {
        flight.handle_bytes(Instant(0), &[octet]);
    }
}

fn word(result: &RecipientResult) -> String {
    match result {
        RecipientResult::Delivered(reply) => format!("delivered {}", reply.code),
        RecipientResult::Refused(reply) => format!("refused {reply}"),
        RecipientResult::Deferred(reply) => format!("deferred {reply}"),
    }
}

/// `0: delivered 250, refused 550 no` or `1 failed (why): ?, refused 550 no`.
fn events(flight: &mut Flight) -> Vec<String> {
    let line = |event| match event {
        FlightEvent::Done { number, results } => {
            format!("{number}: {}", results.iter().map(word).collect::<Vec<_>>().join(", "))
        }
        FlightEvent::Failed { number, failure, decided } => {
            let words = decided.iter().map(|result| result.as_ref().map_or("?".into(), word)).collect::<Vec<_>>();
            let doubt = if matches!(failure, Failure::AfterFinalDot(_)) { "in doubt" } else { "failed" };
            format!("{number} {doubt}: {}", words.join(", "))
        }
    };
    core::iter::from_fn(|| flight.poll_event()).map(line).collect()
}

const HELLO: &str = "250-mx.example\n250-PIPELINING\n250-8BITMIME\n250-SIZE 1000\n250 CHUNKING\n";

#[test]
fn a_message_is_one_flight_and_the_next_follows_without_waiting() {
    let mut flight = start(None);
    send(&mut flight, &letter(&["a@y.org", "b@y.org"]), b"hello");
    assert_eq!(
        said(&mut flight),
        "EHLO us.example\r\nMAIL FROM:<s@x.org> SIZE=5\r\nRCPT TO:<a@y.org>\r\nRCPT TO:<b@y.org>\r\nBDAT 7 LAST\r\nhello\r\n"
    );
    send(&mut flight, &letter(&["c@y.org"]), b"");
    assert_eq!(
        said(&mut flight),
        "RSET\r\nMAIL FROM:<s@x.org> SIZE=5\r\nRCPT TO:<c@y.org>\r\nBDAT 0 LAST\r\n",
        "whatever becomes of the first, the second begins afresh"
    );
    hear(&mut flight, HELLO);
    hear(&mut flight, "250 ok\n250 ok\n550-no\n550 such user\n250 taken\n");
    assert_eq!(events(&mut flight), ["0: delivered 250, refused 550 no such user"]);
    hear(&mut flight, "250 reset\n250 ok\n250 ok\n452 full\n");
    assert_eq!(events(&mut flight), ["1: deferred 452 full"]);
    assert_eq!((flight.open_messages(), flight.next_timeout()), (0, None));
}

#[test]
fn a_message_behind_one_that_was_taken_needs_no_reset() {
    let mut flight = start(None);
    send(&mut flight, &letter(&["a@y.org"]), b"x");
    hear(&mut flight, HELLO);
    hear(&mut flight, "250 ok\n250 ok\n250 taken\n");
    said(&mut flight);
    send(&mut flight, &letter(&["a@y.org"]), b"x");
    assert_eq!(said(&mut flight), "MAIL FROM:<s@x.org> SIZE=5\r\nRCPT TO:<a@y.org>\r\nBDAT 3 LAST\r\nx\r\n");
}

#[test]
fn a_refused_sender_recipient_or_chunk_decides_as_soon_as_it_is_heard() {
    let check = |replies: &str, expected: &str, wants: bool| {
        let mut flight = start(None);
        with(&letter(&["a@y.org", "b@y.org"]), |transaction| flight.begin(Instant(0), transaction));
        flight.give(Instant(0), b"one\r\n", false);
        hear(&mut flight, HELLO);
        hear(&mut flight, replies);
        assert_eq!(events(&mut flight).join("; "), expected, "after {replies}");
        assert_eq!(flight.wants_body(), wants, "after {replies}");
    };
    check("550 not you\n", "0: refused 550 not you, refused 550 not you", false);
    check("250 ok\n550 USE-MX\n550 USE-MX\n", "0: refused 550 USE-MX, refused 550 USE-MX", false);
    check("250 ok\n550 USE-MX\n250 ok\n250 chunk\n", "", true);
    check("250 ok\n552 too many\n250 ok\n552 too big\n", "0: deferred 552 too many, refused 552 too big", false);
}

#[test]
fn a_message_refused_in_the_middle_gives_way_to_the_next() {
    let mut flight = start(None);
    with(&letter(&["a@y.org"]), |transaction| flight.begin(Instant(0), transaction));
    flight.give(Instant(0), b"one\r\n", false);
    let next = letter(&["b@y.org"]);
    assert_eq!(with(&next, |transaction| flight.readiness(transaction)), Readiness::AfterBody);
    hear(&mut flight, HELLO);
    hear(&mut flight, "550 not you\n");
    said(&mut flight);
    flight.give(Instant(0), b"two\r\n", true);
    assert_eq!(said(&mut flight), "", "nobody wants the rest");
    send(&mut flight, &next, b"x");
    assert!(said(&mut flight).starts_with("RSET\r\nMAIL"));
    hear(&mut flight, "503 no\n503 no\n250 reset\n250 ok\n250 ok\n250 taken\n");
    assert_eq!(events(&mut flight), ["0: refused 550 not you", "1: delivered 250"]);
}

#[test]
fn what_cannot_be_read_to_its_end_fails_alone_and_without_doubt() {
    let mut flight = start(None);
    with(&letter(&["a@y.org"]), |transaction| flight.begin(Instant(0), transaction));
    flight.give(Instant(0), b"one\r\n", false);
    flight.abandon(Failure::Body("disk".into()));
    send(&mut flight, &letter(&["b@y.org"]), b"x");
    hear(&mut flight, HELLO);
    hear(&mut flight, "250 ok\n250 ok\n250 chunk\n250 reset\n250 ok\n250 ok\n250 taken\n");
    assert_eq!(events(&mut flight), ["0 failed: ?", "1: delivered 250"]);
}

#[test]
fn a_stream_that_ends_tells_what_is_certain_from_what_is_in_doubt() {
    let three = |heard: &str, end: fn(&mut Flight)| {
        let mut flight = start(None);
        send(&mut flight, &letter(&["a@y.org", "b@y.org"]), b"x");
        send(&mut flight, &letter(&["c@y.org"]), b"x");
        with(&letter(&["d@y.org"]), |transaction| flight.begin(Instant(0), transaction));
        flight.give(Instant(0), b"one\r\n", false);
        hear(&mut flight, HELLO);
        hear(&mut flight, heard);
        end(&mut flight);
        assert!(flight.over().is_some());
        assert_eq!(with(&letter(&["e@y.org"]), |letter| flight.readiness(letter)), Readiness::Over);
        events(&mut flight)
    };
    let closed: fn(&mut Flight) = |flight| flight.handle_closed("gone");
    let nothing: fn(&mut Flight) = |_| {};
    let late: fn(&mut Flight) = |flight| flight.handle_timeout(flight.next_timeout().expect("a wait has an end"));
    assert_eq!(three("", closed), ["0 in doubt: ?, ?", "1 in doubt: ?", "2 failed: ?"]);
    assert_eq!(three("", late), ["0 in doubt: ?, ?", "1 in doubt: ?", "2 failed: ?"]);
    assert_eq!(
        three("250 ok\n550 no\n250 ok\n250 taken\n250 reset\n", closed),
        ["0: refused 550 no, delivered 250", "1 in doubt: ?", "2 failed: ?"]
    );
    assert_eq!(
        three("250 ok\n550 no\n250 ok\n", closed),
        ["0 in doubt: refused 550 no, ?", "1 in doubt: ?", "2 failed: ?"]
    );
    // A goodbye is an answer: nothing behind it was looked at.
    assert_eq!(
        three("250 ok\n550 no\n250 ok\n421 closing\n", nothing),
        ["0: refused 550 no, deferred 421 closing", "1 failed: ?", "2 failed: ?"]
    );
    assert_eq!(
        three("250 ok\n550 no\n250 ok\n250 taken\n421 closing\n", nothing),
        ["0: refused 550 no, delivered 250", "1 failed: ?", "2 failed: ?"]
    );
    assert_eq!(three("nonsense\n", nothing), ["0 in doubt: ?, ?", "1 in doubt: ?", "2 failed: ?"]);
    assert_eq!(three("354 go\n", nothing), ["0 in doubt: ?, ?", "1 in doubt: ?", "2 failed: ?"]);
}

#[test]
fn who_refuses_the_stream_took_nothing() {
    let mut flight = start(None);
    send(&mut flight, &letter(&["a@y.org"]), b"x");
    hear(&mut flight, "550 go away\n");
    assert_eq!(events(&mut flight), ["0 failed: ?"]);
    assert!(matches!(flight.over(), Some(Failure::Refused(Phase::Hello, _))));
}

#[test]
fn only_a_message_that_needs_more_than_was_promised_waits_for_ehlo() {
    let mut flight = start(None);
    let eight = Letter { eight_bit: true, ..letter(&["a@y.org"]) };
    assert_eq!(with(&eight, |letter| flight.readiness(letter)), Readiness::AfterHello);
    hear(&mut flight, HELLO);
    send(&mut flight, &eight, b"x");
    assert!(said(&mut flight).contains("SIZE=5 BODY=8BITMIME\r\n"));
    let utf8 = Letter { smtputf8: true, ..letter(&["a@y.org"]) };
    with(&utf8, |letter| flight.begin(Instant(0), letter));
    let large = Letter { size: 1001, ..letter(&["a@y.org"]) };
    with(&large, |letter| flight.begin(Instant(0), letter));
    assert_eq!(said(&mut flight), "", "what it cannot take is not tried");
    let refused = events(&mut flight);
    assert!(refused[0].starts_with("1: refused 550 5.6.7") && refused[1].starts_with("2: refused 552 5.3.4"));
}

#[test]
fn what_another_stream_was_offered_is_taken_for_granted_but_not_held_against_a_message() {
    let known = Capabilities { eight_bit: true, ..promised() };
    let eight = Letter { eight_bit: true, ..letter(&["a@y.org"]) };
    let mut flight = start(Some(known));
    send(&mut flight, &eight, b"x");
    assert!(said(&mut flight).contains("BODY=8BITMIME"));
    hear(&mut flight, "250 mx.example\n555 5.5.4 what?\n");
    assert_eq!(events(&mut flight), ["0: deferred 555 5.5.4 what?"]);
}

#[test]
fn a_body_in_pieces_has_safe_line_ends_and_true_lengths() {
    for cut in 0..12 {
        let body = b".a\rb\nc\r\n.\r\nd";
        let mut flight = start(None);
        with(&letter(&["a@y.org"]), |transaction| flight.begin(Instant(0), transaction));
        said(&mut flight);
        flight.give(Instant(0), &body[..cut], false);
        flight.give(Instant(0), &body[cut..], true);
        let mut rest = said(&mut flight);
        let mut got = String::new();
        while let Some(line) = rest.strip_prefix("BDAT ") {
            let (line, behind) = line.split_once("\r\n").expect("a whole command");
            let size = line.trim_end_matches(" LAST").parse().expect("a length");
            got.push_str(&behind[..size]);
            rest = String::from(&behind[size..]);
        }
        assert_eq!((got.as_str(), rest.as_str()), (".a\r\nb\r\nc\r\n.\r\nd\r\n", ""), "cut at {cut}");
    }
}

#[test]
fn a_stream_takes_so_many_messages_and_no_more() {
    let mut flight = start(None);
    let one = letter(&["a@y.org"]);
    for _ in 0..FLIGHT_MESSAGES_MAX {
        send(&mut flight, &one, b"x");
    }
    assert_eq!(with(&one, |letter| flight.readiness(letter)), Readiness::Full);
    hear(&mut flight, HELLO);
    hear(&mut flight, "250 ok\n250 ok\n250 taken\n");
    assert_eq!(with(&one, |letter| flight.readiness(letter)), Readiness::Now);
    let crowd: Vec<String> = (0..REPLIES_MAX).map(|i| format!("r{i}@y.org")).collect();
    send(&mut flight, &Letter { to: crowd, ..Letter::default() }, b"x");
    assert_eq!(with(&one, |letter| flight.readiness(letter)), Readiness::Full);
}

#[test]
fn quit_comes_behind_everything() {
    let mut flight = start(None);
    send(&mut flight, &letter(&["a@y.org"]), b"x");
    flight.quit(Instant(0));
    assert!(said(&mut flight).ends_with("x\r\nQUIT\r\n"));
    hear(&mut flight, HELLO);
    hear(&mut flight, "250 ok\n250 ok\n250 taken\n221 bye\n");
    assert_eq!(events(&mut flight), ["0: delivered 250"]);
    assert_eq!(flight.over(), Some(&Failure::Closed(Phase::Quit, String::new())));
}
