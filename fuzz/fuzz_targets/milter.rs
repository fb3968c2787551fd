//! A milter that says anything: our side stays in order, and what comes of it is within bounds and clean.

#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use postern_proto::address::Address;
use postern_proto::checks::Checks;
use postern_proto::envelope::{Arrival, DsnRequest, Meta, Notify, Recipient, Via};
use postern_proto::header_edit::edit;
use postern_proto::judgement::HeaderChange;
use postern_proto::milter::{Conversation, Ending, Letter, Outcome, Step, split_message, take_packet};

const BODY_BYTES_MAX: u64 = 300;

// The first octet says where the stored message ends and the filter's answers begin, and whether these come octet by
// octet. A filter that is sane gives one answer when it is asked; what is no packet comes all at once.
fuzz_target!(|input: &[u8]| {
    let Some((&split, rest)) = input.split_first() else { return };
    let (message, mut said) = rest.split_at(usize::from(split & 0x7f).min(rest.len()));
    let (end, body_at) = split_message(message);
    assert!(end <= body_at && body_at <= message.len());
    let meta = meta(2);
    let letter = Letter {
        meta: &meta,
        hostname: "mx.example.com",
        id: "17",
        header: &message[..end],
        body_bytes_max: BODY_BYTES_MAX,
    };
    let mut conversation = Conversation::new(letter);
    let (mut out, mut body) = (Vec::new(), &message[body_at..]);
    // Each piece can make a few steps due, and each field and recipient one, never endlessly many.
    for _ in 0..input.len() * 4 + 100 {
        let step = conversation.poll(&mut out);
        let mut told = &out[..];
        while !told.is_empty() {
            let (_, len) = take_packet(told).expect("our packets are sound").expect("our packets are whole");
            told = &told[len..];
        }
        out.clear();
        match step {
            Step::Read if said.is_empty() => conversation.handle_closed(),
            Step::Read => {
                let len = match take_packet(said) {
                    _ if split & 0x80 != 0 => 1,
                    Ok(Some((_, len))) => len,
                    _ => said.len(),
                };
                let (piece, behind) = said.split_at(len);
                conversation.handle_bytes(piece);
                said = behind;
            }
            Step::Body => {
                let taken = conversation.body(body, &mut out);
                body = &body[taken..];
            }
            Step::Done(outcome) => return check(&outcome, message),
            Step::Failed(_) => return,
        }
    }
    panic!("the conversation makes no end");
});

fn check(outcome: &Outcome, message: &[u8]) {
    assert!(outcome.body.as_ref().is_none_or(|body| body.len() as u64 <= BODY_BYTES_MAX));
    for (n, reply) in &outcome.refused {
        assert!(*n < 2 && reply.code >= 400, "recipient {n} refused by {reply}");
    }
    match &outcome.ending {
        Ending::Reject(reply) => assert!(reply.is_permanent() && !reply.text.contains('\r'), "rejected by {reply}"),
        Ending::Tempfail(reply) => assert!(reply.is_transient() && !reply.text.contains('\r'), "deferred by {reply}"),
        Ending::Quarantine(words) => assert!(!words.contains(char::is_control)),
        Ending::Accept | Ending::Discard => {}
    }
    // No value ends its field, so no filter writes a field that it did not name, nor into the body.
    for change in &outcome.headers {
        if let HeaderChange::Add { name, value }
        | HeaderChange::Insert { name, value, .. }
        | HeaderChange::Change { name, value, .. } = change
        {
            assert!(name.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':') && !name.is_empty());
            assert!(value.split("\r\n").skip(1).all(|line| line.starts_with([' ', '\t']) && !line.trim().is_empty()));
            assert!(!value.replace("\r\n", "").contains(['\r', '\n', '\0']));
        }
    }
    let edited = edit(message, &[], &outcome.headers);
    assert!(edited.body_at <= message.len());
}

fn meta(recipients: usize) -> Meta {
    let peer = SocketAddr::from(([192, 0, 2, 7], 4000));
    let recipient = |n| {
        let address = Address::parse(format!("u{n}@example.com").as_bytes(), false).expect("an address");
        Recipient { address, original: None, notify: Notify::default() }
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
