//! What a client says, and when it stops: friends and every kind of hostile behaviour, as one machine without I/O.
//!
//! One event in, octets and what to wait for out. It never looks at a clock and holds no socket, so that 18,000 of
//! them fit beside one another and each can be tested by hand.

use crate::limits::{BOMB_BYTES, BOT_PATIENCE_MS, STREAM_CHUNK_BYTES};
use crate::plan::Behaviour;

use super::letter::Paper;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Friend { patience_ms: u32 },
    Hostile(Behaviour),
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Connected,
    /// A whole reply, all of its lines.
    Reply(u16),
    /// All that was said is in the kernel's hands.
    Sent,
    /// The wait asked for is over.
    Timer,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// For anything, as long as it takes.
    Wait,
    /// For a reply, this long at most.
    ReplyWithin(u32),
    /// For the clock: then [`Event::Timer`].
    Pause(u32),
    /// For room in the socket: then [`Event::Sent`].
    Room,
    /// For nothing more.
    Close,
    /// The same, and the other side hears of it by a reset.
    Reset,
}

/// What the report wants to know of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    Greeted,
    RecipientAccepted,
    Accepted,
    Refused(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Dialling,
    ExpectGreeting,
    ExpectHelo,
    ExpectMail,
    ExpectRcpt,
    ExpectData,
    ExpectReceipt,
    ExpectBye,
    /// Nothing more is said; whatever comes is noted.
    Silent,
    /// One octet at a time.
    Dribbling,
    /// Without end, or to [`BOMB_BYTES`].
    Streaming,
    /// The last octets are on their way, then gone.
    Leaving,
}

/// One client's side of one connection.
#[derive(Debug)]
pub(crate) struct Dialog {
    role: Role,
    phase: Phase,
    /// Dribbled octets or streamed chunks; recipients tried.
    count: u32,
    /// Makes recipients and bombs differ between clients.
    salt: u64,
}

/// The words that differ between clients.
pub(crate) struct Words<'a> {
    pub(crate) paper: &'a Paper,
    pub(crate) id: &'a str,
}

impl Dialog {
    pub(crate) fn new(role: Role, salt: u64) -> Self {
        Self { role, phase: Phase::Dialling, count: 0, salt }
    }

    /// Whether replies are taken from the socket at all.
    pub(crate) fn reads(&self) -> bool {
        self.role != Role::Hostile(Behaviour::HalfOpen)
    }

    /// The reply just noted answers the message, or the connection: what follows is courtesy.
    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::ExpectBye | Phase::Leaving)
    }

    /// One event in; octets to send are appended to `out`.
    pub(crate) fn handle(&mut self, event: Event, words: &Words<'_>, out: &mut Vec<u8>) -> (Next, Option<Note>) {
        match event {
            Event::Connected => (self.handle_connected(words, out), None),
            Event::Reply(code) => self.handle_reply(code, words, out),
            Event::Sent => (self.handle_sent(words, out), None),
            Event::Timer => (self.handle_timer(out), None),
        }
    }

    fn handle_connected(&mut self, words: &Words<'_>, out: &mut Vec<u8>) -> Next {
        self.phase = Phase::ExpectGreeting;
        match self.role {
            Role::Hostile(Behaviour::Hold) => {
                self.phase = Phase::Silent;
                Next::Wait
            }
            Role::Hostile(Behaviour::Slow) => {
                self.phase = Phase::Dribbling;
                Next::Pause(DRIBBLE_MS)
            }
            Role::Hostile(Behaviour::Churn) => Next::Reset,
            Role::Hostile(Behaviour::HalfOpen) => {
                self.phase = Phase::Streaming;
                self.stream(words, out)
            }
            Role::Hostile(Behaviour::Early) => {
                say(out, &["EHLO ", &words.paper.helo]);
                self.reply()
            }
            _ => self.reply(),
        }
    }

    fn handle_reply(&mut self, code: u16, words: &Words<'_>, out: &mut Vec<u8>) -> (Next, Option<Note>) {
        let greeted = self.phase == Phase::ExpectGreeting && code == 220;
        if code >= 400 {
            return (self.handle_refusal(code, words, out), Some(Note::Refused(code)));
        }
        let hostile = match self.role {
            Role::Hostile(behaviour) => Some(behaviour),
            Role::Friend { .. } => None,
        };
        let mut note = greeted.then_some(Note::Greeted);
        let next = match self.phase {
            Phase::ExpectGreeting if hostile == Some(Behaviour::Pipeline) => {
                self.phase = Phase::Streaming;
                self.stream(words, out)
            }
            Phase::ExpectGreeting => {
                if hostile != Some(Behaviour::Early) {
                    say(out, &["EHLO ", &words.paper.helo]);
                }
                self.expect(Phase::ExpectHelo)
            }
            Phase::ExpectHelo => {
                match hostile {
                    Some(Behaviour::Backscatter) => say(out, &["MAIL FROM:<>"]),
                    Some(Behaviour::Size) => say(out, &["MAIL FROM:<", &words.paper.sender, "> SIZE=10000000"]),
                    _ => say(out, &["MAIL FROM:<", &words.paper.sender, ">"]),
                }
                self.expect(Phase::ExpectMail)
            }
            Phase::ExpectMail => self.say_recipient(hostile, words, out),
            Phase::ExpectRcpt if hostile == Some(Behaviour::Harvest) => {
                note = Some(Note::RecipientAccepted);
                self.say_recipient(hostile, words, out)
            }
            Phase::ExpectRcpt if hostile == Some(Behaviour::Bdat) => {
                out.extend_from_slice(format!("BDAT {BOMB_BYTES}\r\nSubject: soon\r\n").as_bytes());
                self.silent()
            }
            Phase::ExpectRcpt => {
                say(out, &["DATA"]);
                self.expect(Phase::ExpectData)
            }
            Phase::ExpectData => self.say_message(hostile, words, out),
            Phase::ExpectReceipt => {
                note = Some(Note::Accepted);
                say(out, &["QUIT"]);
                self.phase = Phase::ExpectBye;
                Next::ReplyWithin(BYE_MS)
            }
            Phase::ExpectBye => Next::Close,
            Phase::Dialling | Phase::Silent | Phase::Dribbling | Phase::Streaming | Phase::Leaving => {
                // The greeting of a client that does not wait for it.
                note = note.or((code == 220).then_some(Note::Greeted));
                self.stay()
            }
        };
        (next, note)
    }

    fn handle_refusal(&mut self, code: u16, words: &Words<'_>, out: &mut Vec<u8>) -> Next {
        match self.role {
            Role::Hostile(Behaviour::Harvest) if self.phase == Phase::ExpectRcpt && code != 421 => {
                self.say_recipient(Some(Behaviour::Harvest), words, out)
            }
            _ if matches!(self.phase, Phase::Silent | Phase::Dribbling | Phase::Streaming | Phase::Leaving) => {
                self.stay()
            }
            // After a 421 the other side closes by itself.
            Role::Friend { .. } if code != 421 && !self.is_leaving() => {
                say(out, &["QUIT"]);
                self.phase = Phase::ExpectBye;
                Next::ReplyWithin(BYE_MS)
            }
            _ => Next::Close,
        }
    }

    fn handle_sent(&mut self, words: &Words<'_>, out: &mut Vec<u8>) -> Next {
        match self.phase {
            Phase::Streaming => self.stream(words, out),
            Phase::Leaving => Next::Close,
            _ => Next::Wait,
        }
    }

    fn handle_timer(&mut self, out: &mut Vec<u8>) -> Next {
        if self.phase != Phase::Dribbling {
            return Next::Wait;
        }
        out.push(DRIBBLE[self.count as usize % DRIBBLE.len()]);
        self.count += 1;
        Next::Pause(DRIBBLE_MS)
    }

    fn say_recipient(&mut self, hostile: Option<Behaviour>, words: &Words<'_>, out: &mut Vec<u8>) -> Next {
        let domain = &words.paper.recipient_domain;
        match hostile {
            Some(Behaviour::Harvest | Behaviour::Backscatter) => {
                let name = format!("u{:x}{:x}", self.salt & 0xff_ffff, self.count);
                say(out, &["RCPT TO:<", &name, "@", domain, ">"]);
                self.count += 1;
            }
            _ => say(out, &["RCPT TO:<", &words.paper.recipient, ">"]),
        }
        self.expect(Phase::ExpectRcpt)
    }

    fn say_message(&mut self, hostile: Option<Behaviour>, words: &Words<'_>, out: &mut Vec<u8>) -> Next {
        match hostile {
            Some(Behaviour::Size) => {
                out.extend_from_slice(b"Subject: soon\r\n");
                self.silent()
            }
            Some(Behaviour::HeaderBomb | Behaviour::LineBomb) => {
                self.phase = Phase::Streaming;
                self.stream(words, out)
            }
            Some(Behaviour::Hurried) => {
                words.paper.write(words.id, out);
                self.phase = Phase::Leaving;
                Next::Room
            }
            _ => {
                words.paper.write(words.id, out);
                self.expect(Phase::ExpectReceipt)
            }
        }
    }

    /// One chunk more; a bomb ends, so that its sender comes back with the next.
    fn stream(&mut self, words: &Words<'_>, out: &mut Vec<u8>) -> Next {
        self.count += 1;
        let chunk = match self.role {
            Role::Hostile(Behaviour::HeaderBomb) => {
                format!("X-{:x}-{}: {}\r\n", self.salt & 0xffff, self.count, "a".repeat(64))
            }
            Role::Hostile(Behaviour::LineBomb) => "a".repeat(64),
            _ => format!(
                "EHLO {}\r\nMAIL FROM:<{}>\r\nRCPT TO:<{}>\r\nRSET\r\nNOOP\r\n",
                words.paper.helo, words.paper.sender, words.paper.recipient
            ),
        };
        let until = out.len() + STREAM_CHUNK_BYTES;
        while out.len() < until {
            out.extend_from_slice(chunk.as_bytes());
        }
        let bomb = matches!(self.role, Role::Hostile(Behaviour::HeaderBomb | Behaviour::LineBomb));
        if bomb && u64::from(self.count) * STREAM_CHUNK_BYTES as u64 > BOMB_BYTES {
            self.phase = Phase::Leaving;
        }
        Next::Room
    }

    fn silent(&mut self) -> Next {
        self.phase = Phase::Silent;
        Next::Wait
    }

    /// Nothing changes: whoever streams or dribbles is woken by what he waits for already.
    fn stay(&self) -> Next {
        match self.phase {
            Phase::Streaming | Phase::Leaving => Next::Room,
            _ => Next::Wait,
        }
    }

    fn expect(&mut self, phase: Phase) -> Next {
        self.phase = phase;
        self.reply()
    }

    fn reply(&self) -> Next {
        match self.role {
            Role::Friend { patience_ms } => Next::ReplyWithin(patience_ms),
            Role::Hostile(_) => Next::ReplyWithin(BOT_PATIENCE_MS),
        }
    }
}

fn say(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// What the slow ones say over and over.
const DRIBBLE: &[u8] = b"EHLO slow.example\r\nMAIL FROM:<slow@bots.example>\r\nRSET\r\n";

/// One octet a second: slow enough to hold a slot, fast enough for a server that counts silence only.
const DRIBBLE_MS: u32 = 1_000;

/// Nobody waits long for a goodbye.
const BYE_MS: u32 = 2_000;

#[cfg(test)]
mod tests;
