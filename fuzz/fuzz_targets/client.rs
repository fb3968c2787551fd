//! A next hop that says anything: our client stays in order, and takes for delivered only what was answered 2yz behind
//! the final dot.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_proto::address::Address;
use postern_proto::client::{Client, ClientOptions, Deadlines, Protocol, RecipientResult, Step, Transaction};
use postern_proto::envelope::{DsnRequest, Notify, Recipient};
use postern_proto::time::Instant;

// The first octet sets the client up; 0xff cuts what the next hop says into packets.
fuzz_target!(|input: &[u8]| {
    let Some((&setup, said)) = input.split_first() else { return };
    let protocol = if setup & 1 == 0 { Protocol::Smtp } else { Protocol::Lmtp };
    let (helo, starttls, deadlines) = ("client.example".into(), setup & 2 != 0, Deadlines::default());
    let mut client = Client::new(ClientOptions { protocol, helo, starttls, deadlines }, Instant(0));
    let recipients: Vec<Recipient> = (0..usize::from(setup >> 2 & 3) + 1).map(recipient).collect();
    let mut packets = said.split(|octet| *octet == 0xff);
    let (mut begun, mut body_ended) = (0, false);
    // Each packet can make a few steps due, never endlessly many.
    for _ in 0..said.len() * 4 + 100 {
        let mut out = Vec::new();
        let step = client.poll(&mut out);
        check_lines(&out);
        match step {
            Step::Read => match packets.next() {
                Some(packet) => client.handle_bytes(Instant(0), packet),
                None => client.handle_closed("end of input"),
            },
            Step::StartTls => client.handle_tls(Instant(0)),
            Step::Body => {
                let mut wire = Vec::new();
                client.encode_body(Instant(0), b"Subject: x\r\n\r\n.\r\nwords\n.\r", &mut wire);
                client.end_body(Instant(0), &mut wire);
                assert_eq!(wire, b"Subject: x\r\n\r\n..\r\nwords\r\n..\r\n.\r\n");
                body_ended = true;
            }
            Step::Idle if begun < 3 => {
                (begun, body_ended) = (begun + 1, false);
                let (sender, dsn) = (Some(&recipients[0].address), &DsnRequest::default());
                let (eight_bit, smtputf8, size, probe) = (setup & 16 != 0, setup & 32 != 0, 24, setup & 64 != 0);
                let transaction =
                    Transaction { sender, recipients: &recipients, eight_bit, smtputf8, dsn, size, probe };
                client.begin(Instant(0), &transaction);
            }
            Step::Outcome(results) => {
                assert_eq!(results.len(), recipients.len(), "one result a recipient");
                results.iter().for_each(|result| check(result, setup & 64 != 0 || body_ended));
            }
            Step::Idle | Step::Closed => return,
            Step::Failed(_) => {
                client.take_decided().iter().flatten().for_each(|result| check(result, setup & 64 != 0 || body_ended));
                return;
            }
        }
    }
    panic!("the client makes no end");
});

fn recipient(n: usize) -> Recipient {
    let address = Address::parse(format!("u{n}@example.com").as_bytes(), false).expect("an address");
    Recipient { address, original: None, notify: Notify::default() }
}

fn check(result: &RecipientResult, could_be_delivered: bool) {
    match result {
        RecipientResult::Delivered(reply) => {
            assert!((200..300).contains(&reply.code), "delivered by {reply}");
            assert!(could_be_delivered, "delivered before the final dot");
        }
        RecipientResult::Refused(reply) => assert!(reply.is_permanent(), "refused by {reply}"),
        // RFC 5321 section 4.5.3.1.10: 552 to RCPT means "too many recipients", which is to be tried again.
        RecipientResult::Deferred(reply) => assert!(!reply.is_permanent() || reply.code == 552, "deferred by {reply}"),
    }
}

/// Whatever the next hop said, it never gets to write our commands.
fn check_lines(out: &[u8]) {
    for line in out.split_inclusive(|octet| *octet == b'\n') {
        let text = line.strip_suffix(b"\r\n").expect("commands end in CRLF");
        assert!(text.iter().all(|octet| (b' '..=b'~').contains(octet)), "{}", text.escape_ascii());
    }
}
