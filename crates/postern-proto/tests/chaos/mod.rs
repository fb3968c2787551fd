//! A session under a caller that does anything in any order, and what must hold all the same.
//!
//! Owns the rules, checked after each action; knows nothing of where actions come from. The property tests draw
//! them at random, the fuzz target `session` reads them from its input.

use std::net::SocketAddr;
use std::sync::Arc;

use postern_proto::envelope::{TlsFacts, Via};
use postern_proto::mode::Mode;
use postern_proto::reply::{Enhanced, Reply};
use postern_proto::session::{Answer, Ask, RecipientVerdict, Session, SessionOptions, Step, StoreFault, Then};
use postern_proto::time::{Duration, Instant};

/// Something that happens to a session.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Octets come in.
    Packet(Vec<u8>),
    /// An answer is given: one that fits the question when the number is below 128, else any.
    Answer(u8),
    /// Milliseconds go by.
    Pass(u32),
    /// The client goes away.
    End,
    /// We are going down.
    Shutdown,
}

/// What the session waits for, as the caller knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    Recipient,
    Store,
    Fate,
    Tls,
}

/// The session and all that is known about it from outside.
pub(crate) struct Chaos {
    session: Session,
    now: Instant,
    input: Vec<u8>,
    asked: Asked,
    /// Octets of the present message that were stored and not abandoned.
    pieces: usize,
    closed: bool,
    /// Messages promised to the client, by the replies seen.
    pub(crate) promised: usize,
    /// Messages handed over.
    pub(crate) finished: usize,
}

impl Chaos {
    /// `options` chooses among the settings of a door, a bit each.
    pub(crate) fn new(options: u8) -> Self {
        let via = if options & 1 != 0 { Via::Relay } else { Via::Public };
        let mut settings = SessionOptions::new("mx.example.com".into(), via);
        settings.offers.starttls = options & 2 != 0;
        settings.xclient = options & 4 != 0;
        settings.offers.eight_bit = options & 8 == 0;
        settings.offers.smtputf8 = options & 8 == 0;
        if options & 16 != 0 {
            settings.size_max = 300;
        }
        let address: SocketAddr = "192.0.2.1:4000".parse().expect("an address");
        let mut session = Session::new(Arc::new(settings), address, address, options & 32 != 0, Instant(0));
        let mut out = Vec::new();
        session.greet(&mut out);
        check_lines(&out);
        Self {
            session,
            now: Instant(0),
            input: Vec::new(),
            asked: Asked::Nothing,
            pieces: 0,
            closed: false,
            promised: 0,
            finished: 0,
        }
    }

    /// Does it, and checks everything.
    pub(crate) fn act(&mut self, action: Action) {
        if self.closed {
            return;
        }
        match action {
            Action::Packet(bytes) => self.input.extend(bytes),
            Action::Answer(choice) => self.answer(choice),
            Action::Pass(millis) => self.pass(Duration::from_millis(u64::from(millis))),
            Action::End => {
                if let Some(ask) = self.session.handle_eof() {
                    assert!(matches!(ask, Ask::Abandon), "the end of the connection asks for {ask:?}");
                    self.pieces = 0;
                }
                assert!(self.asked == Asked::Fate || self.pieces == 0, "pieces were left behind at the end");
                self.closed = true;
            }
            Action::Shutdown => {
                let mut out = Vec::new();
                let may_close = self.session.handle_shutdown(&mut out);
                assert!(!may_close || self.asked != Asked::Fate, "closed while a reply was owed");
                self.heard(&out, false);
                self.closed |= may_close;
            }
        }
        self.read();
    }

    /// Lets the session read as long as it makes progress.
    fn read(&mut self) {
        while !self.closed {
            let mut out = Vec::new();
            let waiting = self.asked != Asked::Nothing;
            let Step { consumed, then } = self.session.handle_bytes(self.now, &self.input, &mut out);
            assert!(consumed <= self.input.len(), "more was consumed than came");
            assert!(!waiting || consumed == 0, "input was taken while {:?} was outstanding", self.asked);
            assert!(!waiting || out.is_empty(), "spoke while {:?} was outstanding", self.asked);
            self.heard(&out, false);
            self.input.drain(..consumed);
            let pause = matches!(then, Then::Read);
            self.follow(then);
            if waiting || self.input.is_empty() && pause {
                return;
            }
            assert!(consumed > 0 || !pause, "stuck before {:?}", self.input.escape_ascii().to_string());
            if self.asked == Asked::Tls {
                self.input.clear();
                let facts = TlsFacts { version: "TLSv1.3".into(), cipher: "TLS13_AES_128_GCM_SHA256".into() };
                self.asked = Asked::Nothing;
                self.session.handle_tls(self.now, facts);
                assert_eq!(self.pieces, 0, "pieces of a message outlived STARTTLS");
            }
        }
    }

    fn follow(&mut self, then: Then) {
        match then {
            Then::Read => {}
            Then::Close => {
                self.closed = true;
                assert_eq!(self.pieces, 0, "pieces of a message were left behind");
            }
            Then::StartTls => self.asked = Asked::Tls,
            Then::Ask(Ask::Recipient(_)) => self.asked = Asked::Recipient,
            Then::Ask(Ask::Store(piece)) => {
                check_body(&piece, false);
                self.pieces += piece.len();
                self.asked = Asked::Store;
            }
            Then::Ask(Ask::Finish(finished)) => {
                let size = finished.body.as_ref().map_or(self.pieces, Vec::len);
                assert_eq!(finished.meta.size, size as u64, "the size told is not the size stored");
                assert!(!finished.meta.recipients.is_empty(), "a message to nobody");
                assert!(finished.body.is_none() || self.pieces == 0, "a body beside its pieces");
                if let Some(body) = &finished.body {
                    check_body(body, true);
                }
                self.pieces = 0;
                self.finished += 1;
                self.asked = Asked::Fate;
            }
            Then::Ask(Ask::Commit) => assert_eq!(self.asked, Asked::Fate, "commit of nothing"),
            Then::Ask(Ask::Abandon) => self.pieces = 0,
        }
    }

    fn answer(&mut self, choice: u8) {
        if self.asked == Asked::Nothing && choice < 128 {
            return;
        }
        let pick = choice % 6;
        let answer = match (self.asked, choice < 128) {
            (Asked::Recipient, true) => recipient_answer(pick),
            (Asked::Store, true) if pick == 0 => Answer::StoreFailed(StoreFault::Full),
            (Asked::Store, true) => Answer::Stored,
            (_, true) => fate(pick),
            (_, false) => match choice % 3 {
                0 => recipient_answer(pick),
                1 => fate(pick),
                _ => Answer::Stored,
            },
        };
        let promise = matches!(answer, Answer::Committed { .. } | Answer::Delivered { .. });
        let owed = self.session.owes_reply();
        assert_eq!(owed, self.asked == Asked::Fate, "whether a reply is owed");
        let mut out = Vec::new();
        let fits = match &answer {
            Answer::Recipient(_) => self.asked == Asked::Recipient,
            Answer::Stored => self.asked == Asked::Store,
            Answer::StoreFailed(_) => matches!(self.asked, Asked::Store | Asked::Fate),
            Answer::Unsettled => false,
            _ => self.asked == Asked::Fate,
        };
        let then = self.session.handle_answer(self.now, answer, &mut out);
        assert!(fits || out.is_empty(), "an answer to no question made it speak");
        if fits {
            self.asked = Asked::Nothing;
        }
        self.heard(&out, promise && owed);
        self.follow(then);
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        while !self.closed && self.session.next_timeout() <= end {
            assert!(self.session.next_timeout() >= self.now || self.session.next_timeout() <= end);
            self.now = self.now.max(self.session.next_timeout());
            let mut out = Vec::new();
            let then = self.session.handle_timeout(self.now, &mut out);
            self.heard(&out, false);
            if !matches!(then, Then::Ask(Ask::Commit)) {
                self.asked = Asked::Nothing;
            }
            self.follow(then);
            self.read();
        }
        self.now = end;
    }

    /// Checks what was said: whole lines, and a promise only where one was earned.
    fn heard(&mut self, out: &[u8], earned: bool) {
        check_lines(out);
        let promises = out.split(|byte| *byte == b'\n').filter(|line| is_promise(line)).count();
        assert_eq!(promises, usize::from(earned), "promises in {:?}", out.escape_ascii().to_string());
        self.promised += promises;
        assert!(self.promised <= self.finished, "more was promised than handed over");
    }
}

fn is_promise(line: &[u8]) -> bool {
    line.starts_with(b"250 2.0.0 Queued") || line.starts_with(b"250 2.0.0 Delivered")
}

/// RFC 5321 section 4.2: three digits, a space or hyphen, text, CRLF; at most 512 octets.
fn check_lines(out: &[u8]) {
    let mut rest = out;
    while !rest.is_empty() {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").expect("a reply ends in CRLF");
        let line = &rest[..end];
        assert!(line.len() <= 510 && line.iter().all(|byte| (b' '..=b'~').contains(byte)), "a reply line");
        assert!(line[..3].iter().all(u8::is_ascii_digit) && matches!(line.get(3), Some(b' ' | b'-')), "a code");
        rest = &rest[end + 2..];
    }
}

/// Nothing that a next hop could take for another line end is ever stored.
fn check_body(body: &[u8], whole: bool) {
    for (at, byte) in body.iter().enumerate() {
        match byte {
            b'\n' => assert!(at == 0 && !whole || at > 0 && body[at - 1] == b'\r', "a bare LF was stored"),
            b'\r' => assert!(body.get(at + 1).map_or(!whole, |next| *next == b'\n'), "a bare CR was stored"),
            _ => {}
        }
    }
}

fn recipient_answer(pick: u8) -> Answer {
    Answer::Recipient(match pick {
        0 => RecipientVerdict::Unknown(None),
        1 => RecipientVerdict::NotOurs,
        2 => RecipientVerdict::Unsure,
        3 => RecipientVerdict::Defer(postern_proto::session::Deferral::Busy),
        4 => RecipientVerdict::Accept(Mode::Collect),
        _ => RecipientVerdict::Accept(Mode::Through),
    })
}

fn fate(pick: u8) -> Answer {
    match pick {
        0 => Answer::Committed { id: "0000000000001".into() },
        1 => Answer::Delivered { id: "0000000000002".into() },
        2 => Answer::Refused(Reply::new(550, Enhanced(5, 7, 1), "no\nand no")),
        // A next hop that lies: a refusal that looks like a success.
        3 => Answer::Refused(Reply::new(250, Enhanced(2, 0, 0), "Queued as 1")),
        4 => Answer::StoreFailed(StoreFault::Failed),
        _ => Answer::Unsettled,
    }
}
