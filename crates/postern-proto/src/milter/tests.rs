//! A filter plays its answers against the conversation, and the packets that come are read as they were meant.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;
use std::format;

use proptest::prelude::*;

use super::response::Negotiated;
use super::*;
use crate::checks::Checks;
use crate::envelope::{Arrival, DsnRequest, Notify, Recipient, Via};
use crate::judgement::HeaderChange;

const HEADER: &[u8] = b"Received: one\r\nSubject: a\r\n\tb\r\nX-Odd :x\r\n";
const BODY: &[u8] = b"words\r\n";

fn meta(recipients: usize) -> Meta {
    let peer = SocketAddr::from(([192, 0, 2, 7], 4000));
    let recipient = |n| Recipient {
        address: Address::parse(format!("r{n}@example.com").as_bytes(), false).unwrap(),
        original: None,
        notify: Notify::default(),
    };
    Meta {
        arrival: Arrival {
            at_unix_ms: 0,
            peer,
            peer_name: None,
            local: peer,
            by: "mx.example.com".into(),
            helo: "client.example.net".into(),
            esmtp: true,
            tls: None,
            via: Via::Public,
        },
        sender: None,
        recipients: (0..recipients).map(recipient).collect(),
        eight_bit: false,
        smtputf8: false,
        dsn: DsnRequest::default(),
        size: 7,
        judged: false,
        attempts: 0,
        tried_since_unix_ms: None,
        last_error: None,
        note: None,
        checks: Checks::default(),
        judgement: None,
    }
}

fn letter(meta: &Meta) -> Letter<'_> {
    Letter { meta, hostname: "mx.example.com", id: "17", header: HEADER, body_bytes_max: 100 }
}

fn agreed(steps: u32) -> Response<'static> {
    Response::Negotiated(Negotiated { version: VERSION, actions: actions::ALL, steps, symbols: Vec::new() })
}

/// A filter that gives `answers` in turn, "go on" when there are none left, and notes the codes of what it is told.
/// A macro packet is noted as the small letter of its command.
fn converse(meta: &Meta, answers: &[Response<'_>]) -> (String, Result<Outcome, Fault>) {
    let mut conversation = Conversation::new(letter(meta));
    let mut answers = answers.iter();
    let (mut out, mut told, mut rest) = (Vec::new(), String::new(), BODY);
    for _ in 0..20_000 {
        let step = conversation.poll(&mut out);
        while let Some((packet, len)) = take_packet(&out).expect("our own packets") {
            told.push(if packet.code == b'D' { packet.data[0].to_ascii_lowercase() } else { packet.code }.into());
            out.drain(..len);
        }
        match step {
            Step::Read => {
                let mut answer = Vec::new();
                answers.next().unwrap_or(&Response::Continue).write_to(&mut answer);
                conversation.handle_bytes(&answer);
            }
            Step::Body => rest = &rest[conversation.body(rest, &mut out)..],
            Step::Done(outcome) => return (told, Ok(outcome)),
            Step::Failed(fault) => return (told, Err(fault)),
        }
    }
    panic!("no end: {told}");
}

#[track_caller]
fn check_told(steps: u32, answers: &[Response<'_>], expected: &str) {
    let meta = meta(2);
    let answers: Vec<Response<'_>> = [&[agreed(steps)], answers].concat();
    assert_eq!(converse(&meta, &answers).0, expected);
}

/// What becomes of a message when the filter answers so behind its end.
#[track_caller]
fn check_end(answers: &[Response<'_>], expected: &Result<Ending, Fault>) {
    assert_eq!(&at_end(answers).map(|outcome| outcome.ending), expected, "{answers:?}");
}

fn at_end(answers: &[Response<'_>]) -> Result<Outcome, Fault> {
    let meta = meta(1);
    let none = steps::NO_CONNECT | steps::NO_HELO | steps::NO_MAIL | steps::NO_RCPT | steps::NO_DATA;
    let none = none | steps::NO_HEADERS | steps::NO_END_OF_HEADER | steps::NO_BODY;
    converse(&meta, &[&[agreed(none)], answers].concat()).1
}

fn reply(code: u16, enhanced: (u8, u16, u16), text: &str) -> Reply {
    let enhanced = crate::reply::Enhanced(enhanced.0, enhanced.1, enhanced.2);
    Reply::new(code, enhanced, "").with_text(text.into())
}

#[test]
fn a_message_is_told_stage_by_stage() {
    check_told(0, &[], "OcCHmMrRrRtTLLLnNBeEQ");
}

#[test]
fn what_a_filter_does_not_want_is_left_out() {
    check_told(steps::NO_CONNECT | steps::NO_HELO, &[], "OmMrRrRtTLLLnNBeEQ");
    check_told(steps::NO_MAIL | steps::NO_RCPT | steps::NO_DATA, &[], "OcCHLLLnNBeEQ");
    check_told(steps::NO_HEADERS | steps::NO_END_OF_HEADER | steps::NO_BODY, &[], "OcCHmMrRrRtTeEQ");
}

#[test]
fn what_needs_no_answer_gets_none() {
    let silent = steps::NO_REPLY_CONNECT | steps::NO_REPLY_HELO | steps::NO_REPLY_MAIL | steps::NO_REPLY_RCPT;
    let silent = silent | steps::NO_REPLY_DATA | steps::NO_REPLY_HEADER | steps::NO_REPLY_END_OF_HEADER;
    // The one answer awaited behind the negotiation is the last.
    check_told(silent | steps::NO_REPLY_BODY, &[Response::Reject], "OcCHmMrRrRtTLLLnNBeEQ");
    let meta = meta(2);
    let (_, outcome) = converse(&meta, &[agreed(silent | steps::NO_REPLY_BODY), Response::Reject]);
    assert!(matches!(outcome.unwrap().ending, Ending::Reject(_)));
}

#[test]
fn an_early_end_ends_the_telling() {
    let go_on = Response::Continue;
    check_told(0, &[Response::Accept], "OcCQ");
    check_told(0, &[go_on.clone(), Response::Reject], "OcCHQ");
    check_told(0, &[go_on.clone(), go_on.clone(), Response::Discard], "OcCHmMQ");
    check_told(steps::SKIP | steps::NO_HEADERS, &vec![go_on; 7][..], "OcCHmMrRrRtTnNBeEQ");
}

#[test]
fn a_filter_of_version_2_is_told_what_it_knows() {
    let old = Response::Negotiated(Negotiated { version: 2, actions: 0x3f, steps: 0, symbols: Vec::new() });
    assert_eq!(converse(&meta(1), &[old]).0, "OcCHmMrRLLLnNBeEQ");
}

#[test]
fn no_more_of_the_body_is_sent_to_who_has_enough() {
    let quiet = steps::NO_CONNECT | steps::NO_HELO | steps::NO_MAIL | steps::NO_RCPT | steps::NO_DATA;
    let quiet = quiet | steps::NO_HEADERS | steps::NO_END_OF_HEADER;
    check_told(quiet | steps::SKIP, &[Response::Skip, Response::Accept], "OBeEQ");
    let (_, end) = converse(&meta(1), &[agreed(quiet), Response::Skip]);
    assert_eq!(end.map(|outcome| outcome.ending), Err(Fault::Unexpected(b's')), "it had not said that it would");
}

#[test]
fn a_filter_gets_the_macros_that_it_asks_for() {
    let asks = Negotiated {
        version: VERSION,
        actions: actions::ALL,
        steps: 0,
        symbols: vec![(0, b"j {client_addr}, v {no_such}".to_vec()), (2, Vec::new())],
    };
    let meta = meta(1);
    let mut conversation = Conversation::new(letter(&meta));
    let mut out = Vec::new();
    assert_eq!(conversation.poll(&mut out), Step::Read);
    let mut answer = Vec::new();
    Response::Negotiated(asks).write_to(&mut answer);
    conversation.handle_bytes(&answer);
    out.clear();
    assert_eq!(conversation.poll(&mut out), Step::Read);
    let (packet, _) = take_packet(&out).unwrap().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!("Cj\0mx.example.com\0v\0Postern {version}\0{{client_addr}}\x00192.0.2.7\0");
    assert_eq!((packet.code, String::from_utf8_lossy(packet.data)), (b'D', Cow::Borrowed(&*expected)));
}

#[test]
fn recipients_are_refused_by_themselves() {
    let meta = meta(3);
    let no = Response::ReplyCode(b"550 5.1.1 nobody");
    let answers = [agreed(0), Response::Continue, Response::Continue, Response::Continue];
    let (told, outcome) =
        converse(&meta, &[&answers[..], &[no.clone(), Response::Continue, Response::Tempfail]].concat());
    assert_eq!(told, "OcCHmMrRrRrRtTLLLnNBeEQ");
    let outcome = outcome.unwrap();
    let refused: Vec<(usize, u16)> = outcome.refused.iter().map(|(n, reply)| (*n, reply.code)).collect();
    assert_eq!((refused, outcome.ending), (vec![(0, 550), (2, 451)], Ending::Accept));
    let (told, outcome) = converse(&meta, &[&answers[..], &[no.clone(), no.clone(), no]].concat());
    assert_eq!((told.as_str(), outcome.unwrap().refused.len()), ("OcCHmMrRrRrRQ", 3), "nobody is left to judge for");
    assert_eq!(converse(&self::meta(0), &answers[..1]).0, "OcCHmMQ", "nobody was there from the start");
}

#[test]
fn the_last_word_decides() {
    use Response as R;
    check_end(&[R::Continue], &Ok(Ending::Accept));
    check_end(&[R::Accept], &Ok(Ending::Accept));
    check_end(&[R::Discard], &Ok(Ending::Discard));
    check_end(&[R::Progress, R::Progress, R::Accept], &Ok(Ending::Accept));
    check_end(&[R::Quarantine(b"odd\r\nwords"), R::Continue], &Ok(Ending::Quarantine("odd  words".into())));
    check_end(&[R::Shutdown], &Ok(Ending::Tempfail(reply(451, (4, 7, 1), "Not now, please try again later"))));
    check_end(&[R::ConnectionFailed], &Ok(Ending::Tempfail(reply(451, (4, 7, 1), "Not now, please try again later"))));
    check_end(&[R::Skip], &Err(Fault::Unexpected(b's')));
    check_end(&[agreed(0)], &Err(Fault::Unexpected(b'O')));
}

#[test]
fn a_reply_of_a_filters_own_is_cleaned_and_classed() {
    let end = |text: &'static [u8]| at_end(&[Response::ReplyCode(text)]).map(|outcome| outcome.ending);
    let reject = |code, enhanced, text| Ok(Ending::Reject(reply(code, enhanced, text)));
    assert_eq!(end(b"554 5.7.1 go away"), reject(554, (5, 7, 1), "go away"));
    assert_eq!(end(b"554 go away"), reject(554, (5, 7, 1), "go away"));
    assert_eq!(end(b"554 4.7.1 go away"), reject(554, (5, 7, 1), "4.7.1 go away"));
    assert_eq!(end(b"550-5.1.0 one\r\n550 5.1.0 two"), reject(550, (5, 1, 0), "one\ntwo"));
    assert_eq!(end(b"550 5.1.0 100%% a\tb"), reject(550, (5, 1, 0), "100% a b"));
    assert_eq!(end(b"550"), reject(550, (5, 7, 1), ""));
    assert_eq!(end(b"452 4.2.2 full"), Ok(Ending::Tempfail(reply(452, (4, 2, 2), "full"))));
    for wrong in [
        &b""[..],
        b"250 fine",
        b"354 go on",
        b"55",
        b"5x0 a",
        b"550 a\n551 b",
        b"999 a",
        b"550a",
        "5\u{e9}0 x".as_bytes(),
    ] {
        assert_eq!(end(wrong), Err(Fault::Malformed(b'y')), "{}", wrong.escape_ascii());
    }
}

#[test]
fn changes_come_back_in_order_and_clean() {
    use Response as R;
    let outcome = at_end(&[
        R::AddHeader(b"A", b"one\n two\nBcc: all\n\n"),
        R::InsertHeader(0, b"B", b"x"),
        R::InsertHeader(3, b"B", b"x\r\ny"),
        R::ChangeHeader(0, b"C", b"x"),
        R::ChangeHeader(2, b"C", b""),
        R::ReplaceBody(b"new "),
        R::ReplaceBody(b"body"),
        R::ChangeFrom(b"<ann@example.org>"),
        R::AddRecipient(b"<bob@example.org>"),
        R::AddRecipientWith(b"carol@example.org"),
        R::DeleteRecipient(b"<r0@example.com>"),
        R::Accept,
    ])
    .unwrap();
    let insert = |at, value: &str| HeaderChange::Insert { at, name: "B".into(), value: value.into() };
    let expected = [
        HeaderChange::Add { name: "A".into(), value: "one\r\n two\r\n\tBcc: all".into() },
        insert(0, "x"),
        insert(2, "x\r\n\ty"),
        HeaderChange::Change { nth: 1, name: "C".into(), value: "x".into() },
        HeaderChange::Delete { nth: 2, name: "C".into() },
    ];
    assert_eq!(outcome.headers, expected);
    assert_eq!(outcome.body.as_deref(), Some(&b"new body"[..]));
    let text = |addresses: &[Address]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(text(&outcome.added), "bob@example.org carol@example.org");
    assert_eq!(text(&outcome.deleted), "r0@example.com");
    assert_eq!(outcome.sender.flatten().map(|sender| sender.to_string()).as_deref(), Some("ann@example.org"));
    assert_eq!(at_end(&[R::ChangeFrom(b"<>")]).unwrap().sender, Some(None));
}

#[test]
fn what_is_too_much_ends_the_conversation() {
    use Response as R;
    check_end(&vec![R::AddHeader(b"A", b"x"); HEADER_CHANGES_MAX + 1], &Err(Fault::TooManyChanges));
    let long = vec![b'x'; HEADER_CHANGE_BYTES_MAX];
    check_end(&[R::AddHeader(b"A", &long)], &Err(Fault::TooManyChanges));
    check_end(&vec![R::AddRecipient(b"a@example.org"); RECIPIENT_CHANGES_MAX + 1], &Err(Fault::TooManyChanges));
    check_end(&[R::ReplaceBody(&[b'x'; 60]), R::ReplaceBody(&[b'x'; 60])], &Err(Fault::BodyTooLong));
    check_end(&vec![R::Progress; usize::try_from(PROGRESS_MAX).unwrap() + 1], &Err(Fault::NoEnd));
    let meta = meta(1);
    let mut conversation = Conversation::new(letter(&meta));
    let mut out = Vec::new();
    assert_eq!(conversation.poll(&mut out), Step::Read);
    conversation.handle_bytes(b"HTTP/1.1 400 Bad Request\r\n");
    assert_eq!(conversation.poll(&mut out), Step::Failed(Fault::PacketTooLong(0x4854_5450)));
}

#[test]
fn what_makes_no_sense_ends_the_conversation() {
    use Response as R;
    for wrong in [&b"a b"[..], b"", b"a:", b"\xff"] {
        check_end(&[R::AddHeader(wrong, b"x")], &Err(Fault::Malformed(b'h')));
    }
    check_end(&[R::AddRecipient(b"no address")], &Err(Fault::Malformed(b'+')));
    check_end(&[R::ChangeFrom(b"<no address>")], &Err(Fault::Malformed(b'e')));
    let meta = meta(1);
    let negotiated = |version, actions, steps| {
        converse(&meta, &[R::Negotiated(Negotiated { version, actions, steps, symbols: Vec::new() })]).1.err()
    };
    assert_eq!(negotiated(7, 0, 0), Some(Fault::Version(7)));
    assert_eq!(negotiated(1, 0, 0), Some(Fault::Version(1)));
    assert_eq!(negotiated(6, 0x200, 0), Some(Fault::NotOffered));
    assert_eq!(negotiated(6, 0, 0x1000_0000), Some(Fault::NotOffered));
    assert_eq!(converse(&meta, &[R::Continue]).1, Err(Fault::Unexpected(b'c')), "negotiation comes first");
    assert_eq!(converse(&meta, &[agreed(0), R::AddHeader(b"A", b"x")]).1, Err(Fault::Unexpected(b'h')), "too early");
}

#[test]
fn a_filter_does_only_what_it_negotiated() {
    let nothing =
        Response::Negotiated(Negotiated { version: VERSION, actions: 0, steps: steps::NO_BODY, symbols: Vec::new() });
    let meta = meta(1);
    for (answer, code) in [
        (Response::AddHeader(b"A", b"x"), b'h'),
        (Response::InsertHeader(0, b"A", b"x"), b'i'),
        (Response::ChangeHeader(1, b"A", b"x"), b'm'),
        (Response::ReplaceBody(b"x"), b'b'),
        (Response::Quarantine(b"x"), b'q'),
        (Response::ChangeFrom(b"<>"), b'e'),
        (Response::AddRecipient(b"a@example.org"), b'+'),
        (Response::AddRecipientWith(b"a@example.org"), b'2'),
        (Response::DeleteRecipient(b"a@example.org"), b'-'),
    ] {
        // Connect, helo, mail, rcpt, data, three fields, end of header: nine times "go on" before the end.
        let answers = [vec![nothing.clone()], vec![Response::Continue; 9], vec![answer]].concat();
        assert_eq!(converse(&meta, &answers).1, Err(Fault::NotNegotiated(code)));
    }
}

#[test]
fn who_speaks_unasked_or_hangs_up_is_told_from_who_answers() {
    let meta = meta(1);
    let mut out = Vec::new();
    let mut hasty = Conversation::new(letter(&meta));
    assert_eq!(hasty.poll(&mut out), Step::Read);
    let mut two = Vec::new();
    agreed(0).write_to(&mut two);
    Response::Continue.write_to(&mut two);
    hasty.handle_bytes(&two);
    assert_eq!(hasty.poll(&mut out), Step::Failed(Fault::Hasty));
    let mut gone = Conversation::new(letter(&meta));
    assert_eq!(gone.poll(&mut out), Step::Read);
    gone.handle_bytes(&two[..9]);
    gone.handle_closed();
    assert_eq!(gone.poll(&mut out), Step::Failed(Fault::Closed));
}

#[test]
fn a_long_field_and_odd_octets_cannot_break_a_packet() {
    let mut out = Vec::new();
    Command::Header(b"Subject", &[b'x'; 100_000]).write_to(&mut out);
    let (packet, len) = take_packet(&out).unwrap().unwrap();
    assert_eq!((packet.code, packet.data.len(), len), (b'L', DATA_BYTES_MAX, out.len()));
    out.clear();
    Command::Helo("a\0b").write_to(&mut out);
    assert_eq!(take_packet(&out), Ok(Some((Packet { code: b'H', data: b"a?b\0" }, out.len()))));
    assert_eq!(take_packet(&[0, 0, 0, 0, 9]), Err(Fault::EmptyPacket));
}

#[test]
fn a_header_is_split_where_servers_split_it() {
    for (message, header, body) in [
        ("A: 1\r\nB: 2\r\n\tx\r\n\r\nbody", "A: 1\r\nB: 2\r\n\tx\r\n", "body"),
        ("A: 1\r\n\r\n", "A: 1\r\n", ""),
        ("A: 1", "A: 1", ""),
        ("\r\nbody", "", "body"),
        ("no field\r\nA: 1\r\n\r\n", "", "no field\r\nA: 1\r\n\r\n"),
        ("A: 1\r\nno field\r\n\r\nbody", "A: 1\r\n", "no field\r\n\r\nbody"),
        (": x\r\n\r\nbody", "", ": x\r\n\r\nbody"),
        ("", "", ""),
    ] {
        let (end, at) = split_message(message.as_bytes());
        assert_eq!((&message[..end], &message[at..]), (header, body), "{message:?}");
    }
    let fields = Field::all(HEADER);
    assert_eq!(fields.len(), 3);
    assert_eq!((fields[1].name, fields[1].value), (&b"Subject"[..], &b" a\r\n\tb"[..]));
    assert_eq!(&*fields[1].told(false), b"a\n\tb");
    assert_eq!(&*fields[1].told(true), b" a\n\tb");
    assert_eq!(fields[2].name, b"X-Odd");
}

proptest! {
    #[test]
    fn what_is_encoded_decodes(
        kind in 0..20u8, number in any::<u32>(), name in "[!-9;-~]{1,20}",
        value in prop::collection::vec(1..=255u8, 0..300), symbols in prop::collection::vec((any::<u32>(), "[a-z {}]{0,20}"), 0..8),
        actions in 0..=actions::ALL, steps in 0..=steps::ALL, version in 2..=6u32,
    ) {
        use Response as R;
        let (name, value) = (name.as_bytes(), &value[..]);
        let symbols = symbols.into_iter().map(|(stage, names)| (stage, names.into_bytes())).collect();
        let response = match kind {
            0 => R::Negotiated(Negotiated { version, actions, steps, symbols }),
            1 => R::Continue, 2 => R::Accept, 3 => R::Reject, 4 => R::Tempfail, 5 => R::Discard, 6 => R::Skip,
            7 => R::Progress, 8 => R::ConnectionFailed, 9 => R::Shutdown, 10 => R::ReplyCode(value),
            11 => R::AddHeader(name, value), 12 => R::InsertHeader(number, name, value),
            13 => R::ChangeHeader(number, name, value), 14 => R::ReplaceBody(value), 15 => R::Quarantine(value),
            16 => R::ChangeFrom(value), 17 => R::AddRecipient(value), 18 => R::AddRecipientWith(value),
            _ => R::DeleteRecipient(value),
        };
        let mut wire = Vec::new();
        response.write_to(&mut wire);
        let (packet, len) = take_packet(&wire).unwrap().unwrap();
        prop_assert_eq!(len, wire.len());
        prop_assert_eq!(Response::decode(packet.code, packet.data), Ok(response));
        prop_assert_eq!(take_packet(&wire[..len - 1]), Ok(None));
    }

    #[test]
    fn packets_are_no_matter_and_arbitrary_octets_never_panic(
        said in prop::collection::vec(prop_oneof![any::<u8>(), Just(0u8)], 0..400),
        cuts in prop::collection::vec(1..40usize, 0..20),
        negotiates in any::<bool>(),
    ) {
        let mut wire = Vec::new();
        if negotiates {
            agreed(steps::NO_CONNECT | steps::NO_HELO | steps::NO_MAIL | steps::NO_BODY).write_to(&mut wire);
        }
        wire.extend_from_slice(&said);
        prop_assert_eq!(said_at_once(&wire, &[]), said_at_once(&wire, &cuts));
    }
}

/// What comes of a filter that says `wire`, in pieces of these lengths, and hangs up. It says a piece when it is
/// asked, so that what comes early does not depend on the pieces.
fn said_at_once(wire: &[u8], cuts: &[usize]) -> Result<Outcome, Fault> {
    let meta = meta(2);
    let mut conversation = Conversation::new(letter(&meta));
    let (mut out, mut rest, mut cuts) = (Vec::new(), wire, cuts.iter());
    loop {
        match conversation.poll(&mut out) {
            Step::Read if rest.is_empty() => conversation.handle_closed(),
            Step::Read => {
                // A packet at most, so that nothing is said before it is asked for.
                let whole = match take_packet(rest) {
                    Ok(Some((_, len))) => len,
                    _ => rest.len(),
                };
                let (packet, behind) = rest.split_at(whole);
                let mut left = packet;
                for cut in cuts.by_ref().take(3) {
                    let (piece, more) = left.split_at((*cut).min(left.len()));
                    conversation.handle_bytes(piece);
                    left = more;
                }
                conversation.handle_bytes(left);
                rest = behind;
            }
            Step::Body => {
                conversation.body(&[], &mut out);
            }
            Step::Done(outcome) => return Ok(outcome),
            Step::Failed(fault) => return Err(fault),
        }
        out.clear();
    }
}
