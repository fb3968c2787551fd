//! The time that a message has when it is cut into chunks.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;

use super::*;
use crate::envelope::Via;
use crate::session::{Answer, RecipientVerdict, SessionLimits, SessionOptions};
use crate::time::Duration;

const BODY_S: u64 = 10;
const COMMAND_S: u64 = 60;

/// A session behind EHLO, MAIL and RCPT, and a clock.
struct Client {
    session: Session,
    now: Instant,
    out: Vec<u8>,
}

impl Client {
    fn new(body_per_message: bool) -> Self {
        let limits = SessionLimits {
            command: Duration::from_secs(COMMAND_S),
            body: Duration::from_secs(BODY_S),
            body_bytes_per_second_min: 1024,
            body_per_message,
            ..SessionLimits::default()
        };
        let options = SessionOptions { limits, ..SessionOptions::new(String::from("mx.example.com"), Via::Public) };
        let (peer, now) = ("192.0.2.1:4000".parse().unwrap(), Instant(1_000_000));
        let session = Session::new(Arc::new(options), peer, peer, false, now);
        let mut client = Self { session, now, out: Vec::new() };
        client.say(b"EHLO x\r\n");
        client.begin();
        client
    }

    fn begin(&mut self) {
        self.say(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n");
    }

    fn say(&mut self, mut input: &[u8]) {
        while !input.is_empty() && !self.session.is_closed() {
            self.out.clear();
            let step = self.session.handle_bytes(self.now, input, &mut self.out);
            input = &input[step.consumed..];
            let answer = match step.then {
                Then::Ask(Ask::Recipient(_)) => Answer::Recipient(RecipientVerdict::Accept(Mode::Collect)),
                Then::Ask(Ask::Store(_)) => Answer::Stored,
                _ => continue,
            };
            let _read = self.session.handle_answer(self.now, answer, &mut self.out);
        }
    }

    /// Time passes; whether the session has outlived it.
    fn lives(&mut self, seconds: u64) -> bool {
        self.now = self.now.after(Duration::from_secs(seconds));
        if self.now >= self.session.next_timeout() {
            let _then = self.session.handle_timeout(self.now, &mut self.out);
        }
        !self.session.is_closed()
    }
}

/// How long a client lasts that says this every four seconds, in seconds; an hour at most.
fn lasts(body_per_message: bool, drip: &[u8]) -> u64 {
    let mut client = Client::new(body_per_message);
    client.say(b"BDAT 1\r\nF");
    let began = client.now;
    while client.lives(4) && client.now.since(began) < Duration::from_secs(3_600) {
        client.say(drip);
    }
    client.now.since(began).as_secs()
}

#[test]
fn chunks_of_one_message_share_one_allowance_where_that_is_asked_for() {
    assert_eq!(lasts(true, b"BDAT 1\r\nx"), 12);
    assert_eq!(lasts(true, b"NOOP\r\n"), 12);
    assert_eq!(lasts(true, b"BDAT 0\r\nNOOP\r\n"), 12);
    assert_eq!(lasts(true, b"RCPT TO:<b@example.com>\r\n"), 12);
    // Without, as at port 25, each has its own: the hour ends it, or too much empty talk.
    assert_eq!(lasts(false, b"BDAT 1\r\nx"), 3_600);
    assert!(lasts(false, b"NOOP\r\n") > 12);
}

#[test]
fn chunks_at_the_floor_and_faster_come_through_however_small() {
    let mut client = Client::new(true);
    let chunk = [b"BDAT 5120\r\n", &*b"x\r\n ".repeat(1_280)].concat();
    // The header's end first: a header of such a size is refused.
    client.say(b"BDAT 4\r\n\r\n\r\n");
    for _ in 0..200 {
        assert!(client.lives(4), "{}", String::from_utf8_lossy(&client.out));
        client.say(&chunk);
    }
    assert!(!client.lives(11), "and then nothing");
}

#[test]
fn the_next_message_and_the_next_command_have_their_own_time() {
    let mut client = Client::new(true);
    client.say(b"BDAT 1\r\nF");
    assert!(client.lives(8));
    client.say(b"RSET\r\n");
    assert!(client.lives(COMMAND_S - 1));
    client.begin();
    assert!(client.lives(COMMAND_S - 1));
    client.say(b"BDAT 1\r\nF");
    assert!(client.lives(BODY_S - 1));
    assert!(!client.lives(2));
}

#[test]
fn a_large_message_in_one_chunk_renews_nothing_but_by_its_octets() {
    let mut client = Client::new(true);
    client.say(b"BDAT 1000000 LAST\r\n\r\n\r\n");
    client.say(&vec![b'x'; 900]);
    assert!(client.lives(BODY_S - 1));
    client.say(b"x");
    assert!(!client.lives(3));
}
