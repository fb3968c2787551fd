//! Plays `tests/dialogs/*.smtp` against the pure session: in lockstep, octet by octet, all at once,
//! and, where a dialog says so, cut at every octet. The replies must be the same each time.

#[path = "../../../tests/dialogs/script.rs"]
mod script;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postern_proto::address::Address;
use postern_proto::envelope::{Meta, TlsFacts, Via};
use postern_proto::mode::Mode;
use postern_proto::reply::{Enhanced, Reply};
use postern_proto::session::{
    Answer, Ask, Finished, RecipientVerdict, Session, SessionOptions, Step, StoreFault, Then,
};
use postern_proto::time::Instant;
use script::{Dialog, MailCheck, Options, Wire};

#[test]
fn every_dialog_holds_against_the_pure_session() {
    let dialogs = Dialog::all();
    let (mut plays, mut failures) = (0, Vec::new());
    for dialog in &dialogs {
        for packing in dialog.packings(false) {
            plays += 1;
            if let Err(error) = dialog.play(&mut Pure::new(dialog.options.clone()), packing) {
                failures.push(error);
                break;
            }
        }
    }
    let count = dialogs.len();
    assert!(failures.is_empty(), "{} of {count} dialogs failed:\n\n{}", failures.len(), failures.join("\n"));
    assert!(std::env::var_os("DIALOG").is_some() || count >= 120, "only {count} dialogs found");
    println!("{count} dialogs, {plays} plays");
}

/// A session with a policy, a spool and a clock made of nothing.
struct Pure {
    session: Session,
    options: Options,
    now: Instant,
    out: Vec<u8>,
    /// Sent by the client and not read yet, because an answer was owed or a handshake is due.
    expects_tls: bool,
    closed: bool,
    pieces: Vec<u8>,
    /// Pieces of another message were still there when a message was handed over.
    mixed_up: bool,
    stored: VecDeque<(Meta, Vec<u8>)>,
}

impl Pure {
    fn new(options: Options) -> Self {
        let via = if options.relay { Via::Relay } else { Via::Public };
        let mut settings = SessionOptions::new("mx.example.com".into(), via);
        settings.size_max = options.size_max.unwrap_or(settings.size_max);
        settings.recipients_max = options.recipients_max.unwrap_or(settings.recipients_max);
        settings.offers.eight_bit = !options.without.iter().any(|word| word == "8bitmime");
        settings.offers.smtputf8 = !options.without.iter().any(|word| word == "smtputf8");
        settings.offers.starttls = options.tls;
        settings.xclient = options.xclient;
        settings.author = options.postern;
        let (peer, local) = (address("192.0.2.1:4000"), address("198.51.100.1:25"));
        let now = Instant(1_000_000);
        let mut session = Session::new(Arc::new(settings), peer, local, options.proxy, now);
        let mut out = Vec::new();
        if !options.postern {
            session.greet(&mut out);
        }
        Self {
            session,
            options,
            now,
            out,
            expects_tls: false,
            closed: false,
            pieces: Vec::new(),
            mixed_up: false,
            stored: VecDeque::new(),
        }
    }

    /// Answers what is asked, as long as something is asked.
    fn follow(&mut self, mut then: Then) {
        loop {
            let answer = match then {
                Then::Read => return,
                Then::Close => {
                    self.closed = true;
                    return;
                }
                Then::StartTls => {
                    self.expects_tls = true;
                    return;
                }
                Then::Ask(Ask::Recipient(address)) if self.options.silent.contains(&address.to_string()) => return,
                Then::Ask(Ask::Recipient(address)) => Answer::Recipient(self.verdict(&address)),
                Then::Ask(Ask::Store(piece)) => {
                    self.pieces.extend(piece);
                    Answer::Stored
                }
                Then::Ask(Ask::Finish(finished)) => match self.settle(*finished) {
                    Some(answer) => answer,
                    None => return,
                },
                Then::Ask(Ask::Commit) => Answer::Committed { id: "0000000000001".into() },
                Then::Ask(Ask::Abandon) => {
                    self.pieces.clear();
                    return;
                }
            };
            then = self.session.handle_answer(self.now, answer, &mut self.out);
        }
    }

    fn verdict(&self, address: &Address) -> RecipientVerdict {
        let named = |list: &[String]| list.contains(&address.to_string());
        let ours = matches!(&*address.domain, "example.com" | "example.org" | "");
        if named(&self.options.unknown) {
            RecipientVerdict::Unknown(None)
        } else if named(&self.options.unsure) {
            RecipientVerdict::Unsure
        } else if ours || self.options.relay {
            let mode = self.options.modes.get(&*address.domain);
            RecipientVerdict::Accept(mode.map_or(Mode::Through, |mode| mode.parse().expect("a mode")))
        } else {
            RecipientVerdict::NotOurs
        }
    }

    /// `None`: no answer comes.
    fn settle(&mut self, finished: Finished) -> Option<Answer> {
        let pieces = std::mem::take(&mut self.pieces);
        self.mixed_up |= finished.body.is_some() && !pieces.is_empty();
        match self.options.answer.as_deref().map(|answer| answer.split_once(' ').unwrap_or((answer, ""))) {
            Some(("full", _)) => return Some(Answer::StoreFailed(StoreFault::Full)),
            Some(("failed", _)) => return Some(Answer::StoreFailed(StoreFault::Failed)),
            Some(("refused", words)) => return Some(Answer::Refused(reply(words))),
            Some(("lost", _)) => return None,
            _ => {}
        }
        match finished.author {
            None => assert!(!self.options.postern),
            Some(Ok(author)) if *author.domain == *"peer.example" => {}
            Some(Ok(_)) => return Some(Answer::Refused(reply("550 5.7.1 USE-MX: not your author"))),
            Some(Err(fault)) => return Some(Answer::Refused(reply(&format!("550 5.7.1 USE-MX: {}", fault.as_str())))),
        }
        let body = finished.body.unwrap_or(pieces);
        assert_eq!(finished.meta.size, body.len() as u64, "the size told is the size stored");
        self.stored.push_back((finished.meta, body));
        let id = "0000000000001".into();
        if self.options.answer.as_deref() == Some("silent") {
            return None;
        }
        Some(if finished.mode == Mode::Through { Answer::Delivered { id } } else { Answer::Committed { id } })
    }
}

impl Wire for Pure {
    fn send(&mut self, packet: &[u8]) {
        let mut rest = packet;
        while !self.closed {
            let mut out = Vec::new();
            let Step { consumed, then } = self.session.handle_bytes(self.now, rest, &mut out);
            self.out.append(&mut out);
            rest = &rest[consumed..];
            let done = rest.is_empty() && matches!(then, Then::Read);
            self.follow(then);
            if self.expects_tls || done {
                // RFC 3207 section 4.2: the rest of what came in the clear is thrown away.
                return;
            }
        }
    }

    fn reply(&mut self) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let end = self.out.windows(2).position(|pair| pair == b"\r\n")?;
            let line: Vec<u8> = self.out.drain(..end + 2).take(end).collect();
            assert!(line.len() >= 3 && line[..3].iter().all(u8::is_ascii_digit), "a reply: {line:?}");
            assert!(line.len() <= 510, "RFC 5321 section 4.5.3.1.5: a reply line of {} octets", line.len());
            let more = line.get(3) == Some(&b'-');
            lines.push(String::from_utf8(line).expect("replies are text"));
            if !more {
                return Some(lines);
            }
        }
    }

    fn unasked(&mut self) -> Option<Vec<String>> {
        self.reply()
    }

    fn tls(&mut self) {
        assert!(std::mem::take(&mut self.expects_tls), "the session asked for no handshake");
        let facts = TlsFacts { version: "TLSv1.3".into(), cipher: "TLS13_AES_256_GCM_SHA384".into() };
        self.session.handle_tls(self.now, facts);
    }

    fn closed(&mut self) -> bool {
        self.closed && self.out.is_empty()
    }

    fn wait(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        while !self.closed && self.session.next_timeout() <= end {
            self.now = self.now.max(self.session.next_timeout());
            let then = self.session.handle_timeout(self.now, &mut self.out);
            self.follow(then);
            self.send(&[]);
        }
        self.now = end;
    }

    fn mail(&mut self, expected: &MailCheck) -> Result<(), String> {
        let (meta, body) = self.stored.pop_front().ok_or("nothing stored")?;
        let from = meta.sender.as_ref().map_or("<>".into(), ToString::to_string);
        let to: Vec<String> = meta.recipients.iter().map(|recipient| recipient.address.to_string()).collect();
        expected.check(&body, &from, &to, meta.arrival.peer.ip())
    }

    fn nothing_left(&mut self) -> Result<(), String> {
        let idle = self.closed || self.session.is_between_transactions();
        match self.stored.len() {
            0 if self.mixed_up || (idle && !self.pieces.is_empty()) => {
                Err("pieces of a dropped message were never abandoned".into())
            }
            0 => Ok(()),
            left => Err(format!("{left} messages stored that nobody named")),
        }
    }
}

/// `552 5.2.2 Mailbox is full`.
fn reply(words: &str) -> Reply {
    let mut parts = words.splitn(3, ' ');
    let code = parts.next().and_then(|code| code.parse().ok()).expect("a code");
    let mut enhanced = parts.next().expect("an enhanced code").split('.').map(|n| n.parse::<u16>().expect("a number"));
    let mut next = || enhanced.next().expect("three numbers");
    let class = u8::try_from(next()).expect("a class");
    Reply { code, enhanced: Some(Enhanced(class, next(), next())), text: parts.next().unwrap_or("").to_owned().into() }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}
