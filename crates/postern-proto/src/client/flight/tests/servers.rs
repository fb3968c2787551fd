//! Servers from a seed. An honest one reads what it is sent, says what it likes to each command, and may be cut
//! off at any octet of its replies; it knows what it took. A mad one says anything.

use alloc::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Reads the octets of a stream as RFC 3030 says and answers from the dice.
struct Honest {
    dice: Vec<u8>,
    at: usize,
    input: Vec<u8>,
    /// Octets of a chunk still to come, whether it is the last, whether it is kept.
    chunk: Option<(usize, bool, bool)>,
    transaction: Option<Vec<String>>,
    replies: Vec<u8>,
    /// Recipients it has taken responsibility for.
    taken: BTreeSet<String>,
    gone: bool,
}

impl Honest {
    fn roll(&mut self, sides: u8) -> u8 {
        self.at += 1;
        // Another face in each round, or a short sequence could repeat itself for ever.
        let round = u8::try_from(self.at / self.dice.len() % 251).unwrap_or(0);
        self.dice[self.at % self.dice.len()].wrapping_add(round) % sides
    }

    fn answer(&mut self, refusals: u8) -> bool {
        let reply: &[u8] = match self.roll(refusals) {
            0 => b"450 4.2.0 later\r\n",
            1 => b"550-5.7.1 USE-MX\r\n550 5.7.1 by port 25\r\n",
            2 if self.roll(4) == 0 => {
                self.gone = true;
                b"421 4.3.2 closing\r\n"
            }
            _ => {
                self.replies.extend_from_slice(b"250 2.0.0 ok\r\n");
                return true;
            }
        };
        self.replies.extend_from_slice(reply);
        false
    }

    fn read(&mut self, octets: &[u8]) {
        self.input.extend_from_slice(octets);
        while !self.gone {
            if let Some((left, last, kept)) = self.chunk {
                let n = left.min(self.input.len());
                self.input.drain(..n);
                self.chunk = Some((left - n, last, kept));
                if left > n {
                    return;
                }
                self.chunk = None;
                self.end_chunk(last, kept);
                continue;
            }
            let Some(end) = self.input.windows(2).position(|two| two == b"\r\n") else { return };
            let line = String::from_utf8(self.input.drain(..end + 2).collect()).expect("ASCII");
            self.command(line.trim_end());
        }
    }

    fn command(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("BDAT ") {
            let (size, last) = rest.split_once(' ').map_or((rest, false), |(size, word)| (size, word == "LAST"));
            let kept = self.transaction.as_ref().is_some_and(|to| !to.is_empty());
            self.chunk = Some((size.parse().expect("a length"), last, kept));
        } else if line.starts_with("MAIL ") {
            assert!(self.transaction.is_none(), "MAIL inside of a transaction");
            self.transaction = self.answer(12).then(Vec::new);
        } else if let Some(to) = line.strip_prefix("RCPT TO:<") {
            let to = String::from(to.trim_end_matches('>'));
            if self.transaction.is_none() {
                self.replies.extend_from_slice(b"503 5.5.1 MAIL comes first\r\n");
            } else if self.answer(6)
                && let Some(all) = &mut self.transaction
            {
                all.push(to);
            }
        } else if line == "RSET" {
            self.transaction = None;
            self.replies.extend_from_slice(b"250 2.0.0 reset\r\n");
        } else if line.starts_with("EHLO ") {
            self.replies.extend_from_slice(b"250-mx\r\n250 CHUNKING\r\n");
        } else {
            panic!("no such command: {line}");
        }
    }

    fn end_chunk(&mut self, last: bool, kept: bool) {
        if !kept {
            // The transaction stays open: the client must say RSET.
            self.replies.extend_from_slice(b"554 5.5.1 no recipients\r\n");
        } else if self.answer(10) {
            if last {
                self.taken.extend(self.transaction.take().unwrap_or_default());
            }
        } else {
            self.transaction = if last { None } else { Some(Vec::new()) };
        }
    }
}

/// Plays up to twelve messages; the connection breaks after `life` octets of replies have been heard.
fn play_honest(dice: Vec<u8>, messages: &[(u8, u8)], life: usize) {
    let mut server = Honest {
        dice,
        at: 0,
        input: Vec::new(),
        chunk: None,
        transaction: None,
        replies: Vec::new(),
        taken: BTreeSet::new(),
        gone: false,
    };
    let mut flight = start(None);
    let (mut heard, mut closed, mut begun, mut told) = (0, false, Vec::new(), BTreeSet::new());
    let mut waiting = messages.iter().copied().enumerate().collect::<VecDeque<_>>();
    let mut pieces = 0;
    for _ in 0..10_000 {
        // The client: a piece of the body, or the next message, or nothing.
        if flight.wants_body() {
            pieces -= 1;
            flight.give(Instant(0), b"a line\r\n", pieces == 0);
        } else if let Some((i, (recipients, chunks))) = waiting.front().copied()
            && server.roll(3) > 0
        {
            let to: Vec<String> = (0..=recipients % 4).map(|n| format!("m{i}r{n}@y.org")).collect();
            let letter = Letter { to: to.clone(), ..Letter::default() };
            with(&letter, |transaction| match flight.readiness(transaction) {
                Readiness::Now => {
                    assert_eq!(flight.begin(Instant(0), transaction), begun.len() as u64);
                    begun.push(to);
                    pieces = u32::from(chunks % 3) + 1;
                    waiting.pop_front();
                }
                Readiness::Over => waiting.clear(),
                other => panic!("{other:?}"),
            });
        }
        // The wire.
        let mut out = Vec::new();
        flight.take_output(&mut out);
        server.read(&out);
        let n = usize::from(server.roll(60)).min(server.replies.len()).min(life - heard);
        let some: Vec<u8> = server.replies.drain(..n).collect();
        heard += n;
        flight.handle_bytes(Instant(0), &some);
        if !closed && (heard == life || (server.gone && server.replies.is_empty())) {
            closed = true;
            flight.handle_closed("cut");
        }
        while let Some(event) = flight.poll_event() {
            check(&event, &begun, &server.taken, &mut told);
        }
        if waiting.is_empty() && flight.open_messages() == 0 && !flight.wants_body() {
            assert_eq!(told.len(), begun.len(), "each message has one event");
            return;
        }
        assert!(closed || flight.next_timeout().is_some() || server.replies.is_empty(), "a wait without an end");
    }
    panic!("it did not come to an end");
}

/// What the client believes is what the server did.
fn check(event: &FlightEvent, begun: &[Vec<String>], taken: &BTreeSet<String>, told: &mut BTreeSet<u64>) {
    let (number, results, doubt): (u64, Vec<Option<RecipientResult>>, bool) = match event.clone() {
        FlightEvent::Done { number, results } => (number, results.into_iter().map(Some).collect(), false),
        FlightEvent::Failed { number, failure, decided } => {
            (number, decided, matches!(failure, Failure::AfterFinalDot(_)))
        }
    };
    assert!(told.insert(number), "told twice");
    let to = &begun[usize::try_from(number).expect("small")];
    assert_eq!(results.len(), to.len(), "one result per recipient");
    for (to, result) in to.iter().zip(results) {
        match result {
            Some(RecipientResult::Delivered(_)) => assert!(taken.contains(to), "{to}: never taken"),
            Some(_) => assert!(!taken.contains(to), "{to}: taken, and said to be refused"),
            None => assert!(doubt || !taken.contains(to), "{to}: taken, and said to be not"),
        }
    }
}

fn play_mad(dice: &[u8], replies: &[&[u8]]) {
    let mut flight = start(None);
    let (mut sent, mut events) = (BTreeSet::new(), 0);
    let mut begun = 0;
    for (at, die) in dice.iter().enumerate() {
        match die % 5 {
            0 | 1 if flight.wants_body() => {
                flight.give(Instant(0), b"x", die % 2 == 0);
                if die % 2 == 0 {
                    sent.insert(begun - 1);
                }
            }
            0 | 1 => {
                let ready = with(&letter(&["a@y.org", "b@y.org"]), |letter| match flight.readiness(letter) {
                    Readiness::Now => Some(flight.begin(Instant(0), letter)),
                    _ => None,
                });
                begun = ready.map_or(begun, |number| number + 1);
            }
            2 => flight.abandon(Failure::Body("gone".into())),
            _ => flight.handle_bytes(Instant(0), replies[(usize::from(*die) + at) % replies.len()]),
        }
        while let Some(event) = flight.poll_event() {
            events += 1;
            if let FlightEvent::Done { number, results } = event {
                let delivered = results.iter().any(|result| matches!(result, RecipientResult::Delivered(_)));
                assert!(!delivered || sent.contains(&number), "delivered, but never sent");
            }
        }
        let mut out = Vec::new();
        flight.take_output(&mut out);
    }
    flight.handle_closed("");
    while flight.poll_event().is_some() {
        events += 1;
    }
    assert_eq!(events, begun, "one event for each message");
}

const MAD: [&[u8]; 12] = [
    b"250 ok\r\n",
    b"250-mx\r\n250 CHUNKING\r\n",
    b"250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n",
    b"550 no\r\n",
    b"450 later\r\n",
    b"354 go\r\n",
    b"25",
    b"0 ok\r\n",
    b"250 ok\r\n250 ok\r\n",
    b"421 bye\r\n",
    b"552 much\r\n250 ok\r\n",
    b"250 ok\r\n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn what_the_client_believes_is_what_an_honest_server_did(
        dice in proptest::collection::vec(any::<u8>(), 8..64),
        messages in proptest::collection::vec(any::<(u8, u8)>(), 1..12),
        life in 0_usize..3_000,
    ) {
        play_honest(dice, &messages, life);
    }

    #[test]
    fn whatever_a_server_says_each_message_has_one_end_and_none_is_delivered_unsent(
        dice in proptest::collection::vec(any::<u8>(), 1..200),
    ) {
        play_mad(&dice, &MAD);
    }
}
