//! What holds for every conversation, drawn at random: promises, bodies, replies, and that packets are no matter.

mod chaos;

use std::sync::Arc;

use chaos::{Action, Chaos};
use postern_proto::address::Address;
use postern_proto::client::{Client, ClientOptions, Deadlines, Protocol, RecipientResult, Transaction};
use postern_proto::envelope::{DsnRequest, Notify, Recipient, Via};
use postern_proto::mode::Mode;
use postern_proto::session::{Answer, Ask, RecipientVerdict, Session, SessionOptions, Step, Then};
use postern_proto::time::Instant;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn packets_are_no_matter(
        pieces in prop::collection::vec(fragment(), 0..40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let stream = pieces.concat();
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        at.sort_unstable();
        prop_assert_eq!(converse(&[&stream]), converse(&cut(&stream, &at)));
    }

    #[test]
    fn what_is_stored_is_what_was_sent_after_unstuffing(
        body in body(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let stream = [ENVELOPE, b"DATA\r\n", &*stuffed(&body), b".\r\nQUIT\r\n"].concat();
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        at.sort_unstable();
        let (_, stored) = converse(&cut(&stream, &at));
        prop_assert_eq!(stored, vec![body]);
    }

    #[test]
    fn chunks_are_stored_as_they_were_cut(
        body in body(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        at.sort_unstable();
        let mut stream = ENVELOPE.to_vec();
        for chunk in cut(&body, &at) {
            stream.extend(format!("BDAT {}\r\n", chunk.len()).into_bytes());
            stream.extend_from_slice(chunk);
        }
        stream.extend_from_slice(b"BDAT 0 LAST\r\n");
        let (_, stored) = converse(&[&stream]);
        prop_assert_eq!(stored, vec![body]);
    }

    #[test]
    fn each_pipelined_command_gets_one_reply(
        batches in prop::collection::vec(batch(), 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut stream = b"EHLO client.example\r\n".to_vec();
        let mut expected = 2; // the greeting, and this
        let mut messages = 0;
        for (text, replies, message) in &batches {
            stream.extend_from_slice(text);
            expected += replies;
            messages += usize::from(*message);
        }
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        at.sort_unstable();
        let (out, stored) = converse(&cut(&stream, &at));
        let last_lines = out.split(|byte| *byte == b'\n').filter(|line| line.get(3) == Some(&b' '));
        prop_assert_eq!(last_lines.count(), expected);
        prop_assert_eq!(stored.len(), messages);
    }

    #[test]
    fn our_client_and_our_server_agree_on_every_body(
        body in any_octets(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        at.sort_unstable();
        prop_assert_eq!(carry(&cut(&body, &at)), crlf_lines(&body));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn a_250_for_a_message_only_follows_committed_or_delivered(
        options in any::<u8>(),
        scenes in prop::collection::vec(scene(), 0..40),
    ) {
        let mut chaos = Chaos::new(options);
        for action in scenes.concat() {
            chaos.act(action);
        }
    }
}

const ENVELOPE: &[u8] = b"EHLO client.example\r\nMAIL FROM:<ann@example.net>\r\nRCPT TO:<bob@example.com>\r\n";

/// One action, or the beginning of a message up to where its fate is asked for (when the dice so fell).
fn scene() -> impl Strategy<Value = Vec<Action>> {
    const ENDS: &[&[u8]] = &[
        b"DATA\r\nSubject: x\r\n\r\nwords\r\n.\r\n",
        b"DATA\r\nSubject: x\r\n\r\nbare\nline\r\n.\r\n",
        b"BDAT 9 LAST\r\nA: b\r\n\r\nx",
        b"BDAT 4\r\nA: bBDAT 0 LAST\r\n",
        b"DATA\r\n.\r\n",
    ];
    let accept = prop_oneof![8 => 3..6_u8, 1 => any::<u8>()];
    let message =
        (accept, prop::sample::select(ENDS), any::<bool>(), any::<u8>()).prop_map(|(accept, end, anew, fate)| {
            let mut packet = if anew { b"RSET\r\n".to_vec() } else { Vec::new() };
            packet.extend_from_slice(ENVELOPE);
            packet.extend_from_slice(end);
            vec![Action::Packet(packet), Action::Answer(accept), Action::Answer(fate)]
        });
    prop_oneof![3 => action().prop_map(|action| vec![action]), 1 => message]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => fragment().prop_map(Action::Packet),
        6 => any::<u8>().prop_map(Action::Answer),
        1 => prop_oneof![0..1_000_u32, 0..1_000_000_u32].prop_map(Action::Pass),
        1 => prop::bool::weighted(0.1).prop_map(|down| if down { Action::Shutdown } else { Action::Answer(0) }),
        1 => Just(Action::Packet(ENVELOPE.to_vec())),
        1 => prop::bool::weighted(0.2).prop_map(|end| if end { Action::End } else { Action::Answer(1) }),
    ]
}

/// A piece of what clients say: commands, bodies, ends, nonsense, and octets.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    const WORDS: &[&[u8]] = &[
        b"EHLO client.example\r\n",
        b"HELO client.example\r\n",
        b"MAIL FROM:<ann@example.net>\r\n",
        b"MAIL FROM:<> SIZE=100 BODY=8BITMIME\r\n",
        b"RCPT TO:<bob@example.com>\r\n",
        b"RCPT TO:<carol@example.com>\r\n",
        b"RCPT TO:<nobody@example.com>\r\n",
        b"DATA\r\n",
        b"BDAT 5\r\nabcde",
        b"BDAT 7 LAST\r\nA: b\r\n\r",
        b"BDAT 9 LAST\r\nA: b\r\n\r\nx",
        b"BDAT 0 LAST\r\n",
        b"BDAT 40\r\n",
        b"Subject: x\r\n\r\nwords\r\n",
        b"Received: x\r\n",
        b"\r\n.\r\n",
        b".\r\n",
        b".",
        b"..",
        b"\r",
        b"\n",
        b"\r\n",
        b"\0",
        b" ",
        b"x",
        b"NOOP\r\n",
        b"RSET\r\n",
        b"VRFY bob\r\n",
        b"QUIT\r\n",
        b"STARTTLS\r\n",
        b"XCLIENT ADDR=192.0.2.9\r\n",
        b"PROXY TCP4 192.0.2.9 198.51.100.1 4321 25\r\n",
        b"FROBNICATE\r\n",
    ];
    prop_oneof![
        12 => prop::sample::select(WORDS).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => Just(b"The quick brown fox jumps over the lazy dog.\r\n".repeat(200)),
        1 => Just(b"BDAT 140000\r\n".iter().copied().chain(b"0123456\r\n".repeat(15_556)).collect()),
    ]
}

/// A message as it may be stored: lines that end with CRLF, dots where they hurt.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just(Vec::new()),
        Just(b".".to_vec()),
        Just(b"..".to_vec()),
        Just(b".x".to_vec()),
        prop::collection::vec(any::<u8>(), 0..60),
    ];
    let line =
        line.prop_map(|line| line.into_iter().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect::<Vec<u8>>());
    (prop::collection::vec(line, 0..30), prop::bool::weighted(0.05)).prop_map(|(lines, large)| {
        let text: Vec<u8> = lines.iter().flat_map(|line| [line.as_slice(), b"\r\n"].concat()).collect();
        if large { [b"\r\n".to_vec(), text.repeat(1 + 300_000 / (text.len() + 1))].concat() } else { text }
    })
}

fn any_octets() -> impl Strategy<Value = Vec<u8>> {
    let octet = prop_oneof![3 => Just(b'.'), 3 => Just(b'\r'), 3 => Just(b'\n'), 4 => any::<u8>()];
    prop::collection::vec(octet, 0..200)
}

/// Commands that belong together, how many replies they get, and whether a message is among them.
fn batch() -> impl Strategy<Value = (Vec<u8>, usize, bool)> {
    let noise = prop::sample::select(&["NOOP", "RSET", "VRFY bob", "HELP", "EHLO again.example", "NOOP x"][..]);
    let noise = noise.prop_map(|word| (format!("{word}\r\n").into_bytes(), 1, false));
    let message = (1..4_usize, 0..3_usize, body(), any::<bool>()).prop_map(|(good, bad, body, chunked)| {
        let mut text = b"RSET\r\nMAIL FROM:<ann@example.net>\r\n".to_vec();
        for n in 0..good {
            text.extend(format!("RCPT TO:<u{n}@example.com>\r\n").into_bytes());
        }
        for _ in 0..bad {
            text.extend_from_slice(b"RCPT TO:<nobody@example.com>\r\n");
        }
        if chunked {
            text.extend(format!("BDAT {} LAST\r\n", body.len()).into_bytes());
            text.extend_from_slice(&body);
        } else {
            text.extend([b"DATA\r\n", &*stuffed(&body), b".\r\n"].concat());
        }
        (text, 2 + good + bad + if chunked { 1 } else { 2 }, true)
    });
    prop_oneof![2 => noise, 1 => message]
}

/// Dot-stuffing as RFC 5321 section 4.5.2 describes it, written without looking at ours.
fn stuffed(body: &[u8]) -> Vec<u8> {
    let lines = body.split_inclusive(|byte| *byte == b'\n');
    lines.flat_map(|line| if line[0] == b'.' { [b".", line].concat() } else { line.to_vec() }).collect()
}

/// What a client may send of any octets: every line end is CRLF, and there is one at the end.
fn crlf_lines(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = body.iter().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            b'\r' => {
                rest.next_if_eq(&&b'\n');
                out.extend_from_slice(b"\r\n");
            }
            b'\n' => out.extend_from_slice(b"\r\n"),
            other => out.push(*other),
        }
    }
    if !out.is_empty() && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn cut<'a>(stream: &'a [u8], at: &[usize]) -> Vec<&'a [u8]> {
    let ends = at.iter().copied().chain([stream.len()]);
    let starts = [0].into_iter().chain(at.iter().copied());
    starts.zip(ends).map(|(start, end)| &stream[start..end]).collect()
}

fn session() -> Session {
    let options = SessionOptions::new("mx.example.com".into(), Via::Public);
    let address = "192.0.2.1:4000".parse().expect("an address");
    Session::new(Arc::new(options), address, address, false, Instant(0))
}

/// Plays packets to a session whose questions are answered at once; what it said, what it stored.
fn converse(packets: &[&[u8]]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut server =
        Server { session: session(), out: Vec::new(), pieces: Vec::new(), stored: Vec::new(), closed: false };
    server.session.greet(&mut server.out);
    for packet in packets {
        server.feed(packet);
    }
    (server.out, server.stored)
}

struct Server {
    session: Session,
    out: Vec<u8>,
    pieces: Vec<u8>,
    stored: Vec<Vec<u8>>,
    closed: bool,
}

impl Server {
    fn feed(&mut self, packet: &[u8]) {
        let mut rest = packet;
        while !self.closed {
            let mut out = Vec::new();
            let Step { consumed, then } = self.session.handle_bytes(Instant(0), rest, &mut out);
            self.out.append(&mut out);
            rest = &rest[consumed..];
            if rest.is_empty() && matches!(then, Then::Read) {
                return;
            }
            self.follow(then);
        }
    }

    fn follow(&mut self, mut then: Then) {
        loop {
            let answer = match then {
                Then::Ask(Ask::Recipient(address)) if &*address.local == "nobody" => {
                    Answer::Recipient(RecipientVerdict::Unknown(None))
                }
                Then::Ask(Ask::Recipient(_)) => Answer::Recipient(RecipientVerdict::Accept(Mode::Collect)),
                Then::Ask(Ask::Store(piece)) => {
                    self.pieces.extend(piece);
                    Answer::Stored
                }
                Then::Ask(Ask::Finish(finished)) => {
                    let pieces = std::mem::take(&mut self.pieces);
                    self.stored.push(finished.body.unwrap_or(pieces));
                    Answer::Committed { id: "0000000000001".into() }
                }
                Then::Ask(Ask::Commit) => Answer::Committed { id: "0000000000001".into() },
                Then::Ask(Ask::Abandon) => {
                    self.pieces.clear();
                    return;
                }
                Then::Read | Then::StartTls => return,
                Then::Close => {
                    self.closed = true;
                    return;
                }
            };
            then = self.session.handle_answer(Instant(0), answer, &mut self.out);
        }
    }
}

/// Our own client hands a message to our own server; what the server stored.
fn carry(pieces: &[&[u8]]) -> Vec<u8> {
    use postern_proto::client::Step;
    let mut server =
        Server { session: session(), out: Vec::new(), pieces: Vec::new(), stored: Vec::new(), closed: false };
    server.session.greet(&mut server.out);
    let options = ClientOptions {
        protocol: Protocol::Smtp,
        helo: "client.example".into(),
        starttls: false,
        deadlines: Deadlines::default(),
    };
    let mut client = Client::new(options, Instant(0));
    let address = Address::parse(b"bob@example.com", false).expect("an address");
    let recipients = [Recipient { address, original: None, notify: Notify::default() }];
    let mut begun = false;
    loop {
        let mut sent = Vec::new();
        let step = client.poll(&mut sent);
        server.feed(&sent);
        match step {
            Step::Read => {
                let said = std::mem::take(&mut server.out);
                assert!(!said.is_empty(), "both sides wait");
                client.handle_bytes(Instant(0), &said);
            }
            Step::Body => {
                let mut wire = Vec::new();
                for piece in pieces {
                    client.encode_body(Instant(0), piece, &mut wire);
                }
                client.end_body(Instant(0), &mut wire);
                server.feed(&wire);
            }
            Step::Idle if !begun => {
                begun = true;
                let transaction = Transaction {
                    sender: None,
                    recipients: &recipients,
                    eight_bit: false,
                    smtputf8: false,
                    dsn: &DsnRequest::default(),
                    size: 100,
                    probe: false,
                };
                client.begin(Instant(0), &transaction);
            }
            Step::Outcome(results) => {
                assert!(matches!(results.as_slice(), [RecipientResult::Delivered(_)]), "{results:?}");
                return server.stored.pop().expect("a message");
            }
            other => panic!("{other:?}"),
        }
    }
}
