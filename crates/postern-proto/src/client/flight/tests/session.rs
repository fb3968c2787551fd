//! The flight against the session machine that stands behind the postern.

use alloc::sync::Arc;

use super::*;
use crate::envelope::Via;
use crate::mode::Mode;
use crate::session::{Answer, Ask, RecipientVerdict, Session, SessionOptions, Then};

/// Everything that the session said to `input`; bodies that it took go to `taken`.
fn serve(session: &mut Session, input: &[u8], taken: &mut Vec<Vec<u8>>) -> Vec<u8> {
    let (mut said, mut at) = (Vec::new(), 0);
    let mut stored = Vec::new();
    loop {
        let mut out = Vec::new();
        let step = session.handle_bytes(Instant(0), &input[at..], &mut out);
        at += step.consumed;
        let mut then = step.then;
        loop {
            said.append(&mut out);
            let answer = match then {
                Then::Ask(Ask::Recipient(address)) if &*address.local == "nobody" => {
                    Answer::Recipient(RecipientVerdict::Unknown(None))
                }
                Then::Ask(Ask::Recipient(_)) => Answer::Recipient(RecipientVerdict::Accept(Mode::Collect)),
                Then::Ask(Ask::Store(piece)) => {
                    stored.extend(piece);
                    Answer::Stored
                }
                Then::Ask(Ask::Finish(finished)) => {
                    taken.push(finished.body.unwrap_or_else(|| mem::take(&mut stored)));
                    Answer::Committed { id: "1".into() }
                }
                _ => break,
            };
            then = session.handle_answer(Instant(0), answer, &mut out);
        }
        if at == input.len() {
            return said;
        }
        assert!(!session.is_closed(), "it hung up: {}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn a_hundred_messages_and_their_refusals_pass_our_own_session_in_one_flight_each() {
    let options = Arc::new(SessionOptions::new("mx.example".into(), Via::Postern));
    let peer = "192.0.2.1:25".parse().expect("an address");
    let mut session = Session::new(options, peer, peer, false, Instant(0));
    let mut flight = start(None);
    let (mut taken, mut flights) = (Vec::new(), 0);
    let large = [vec![b'x'; 60_000], vec![b'y'; 90_000]].join(&b"\r\n"[..]);
    for round in 0..20 {
        // Five messages go out before the first answer is read.
        send(&mut flight, &letter(&["a@y.org"]), b"first\r\n");
        send(&mut flight, &letter(&["nobody@y.org", "nobody@y.org"]), b"nobody wants this\r\n");
        with(&letter(&["nobody@y.org"]), |transaction| flight.begin(Instant(0), transaction));
        flight.give(Instant(0), b"given up", false);
        flight.abandon(Failure::Body("unread".into()));
        with(&letter(&["a@y.org", "b@y.org"]), |transaction| flight.begin(Instant(0), transaction));
        for piece in large.chunks(50_000) {
            flight.give(Instant(0), piece, false);
        }
        flight.give(Instant(0), b"\r\n", true);
        send(&mut flight, &letter(&["nobody@y.org", "c@y.org"]), b"last\r\n");
        let mut out = Vec::new();
        flight.take_output(&mut out);
        let said = serve(&mut session, &out, &mut taken);
        flights += 1;
        flight.handle_bytes(Instant(0), &said);
        let events = events(&mut flight);
        let n = round * 5;
        let refused = "refused 550 5.1.1 No such recipient here";
        let mut expected = vec![
            format!("{n}: delivered 250"),
            format!("{}: {refused}, {refused}", n + 1),
            format!("{} failed: ?", n + 2),
            format!("{}: delivered 250, delivered 250", n + 3),
            format!("{}: {refused}, delivered 250", n + 4),
        ];
        expected.sort();
        let mut events = events;
        events.sort();
        assert_eq!(events, expected);
    }
    assert_eq!((flights, taken.len()), (20, 60));
    assert_eq!(taken[0], b"first\r\n");
    assert_eq!(taken[1].len(), large.len() + 2, "nothing of the message that was given up is in it");
}
