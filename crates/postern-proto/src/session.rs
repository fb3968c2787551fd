//! The server side of SMTP as a machine: bytes, answers and `now` in; replies, questions and the
//! next timeout out (RFC 5321 with SIZE, PIPELINING, 8BITMIME, SMTPUTF8, ENHANCEDSTATUSCODES,
//! CHUNKING, STARTTLS, LIMITS, DSN; XCLIENT and the PROXY protocol for configured peers).
//!
//! It owns the order of commands, every reply text, every deadline of a connection. It never
//! touches a socket, knows no domain, no user and no disk: what it cannot know it asks
//! ([`Ask`]) and then takes no input until it is answered ([`Answer`]). Ports 25, the relay
//! listener and the streams of the postern all use it.
//!
//! **The promise.** A 250 to the final dot (or to BDAT LAST) is written in one place,
//! `settle`, and only for [`Answer::Committed`] and [`Answer::Delivered`].

mod body;
mod envelope;
mod hello;
mod options;
mod question;
mod replies;
mod timer;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

pub use options::{Offers, SessionLimits, SessionOptions};
pub use question::{Answer, Ask, Deferral, Eviction, Finished, RecipientVerdict, Step, StoreFault, Then};
use timer::Timer;

use crate::address::Address;
use crate::author::AuthorScanner;
use crate::command::{self, Command, CommandError};
use crate::data::BodyReader;
use crate::envelope::TlsFacts;
use crate::limits;
use crate::mode::Mode;
use crate::reply::Reply;
use crate::time::Instant;

/// One connection's conversation.
#[derive(Debug)]
pub struct Session {
    options: Arc<SessionOptions>,
    peer: SocketAddr,
    local: SocketAddr,
    /// What XCLIENT said of the client, when it said more than an address.
    told: Option<Box<hello::ToldByXclient>>,
    helo: Option<Box<str>>,
    esmtp: bool,
    tls: Option<Box<TlsFacts>>,
    state: State,
    transaction: Option<Box<Transaction>>,
    /// The beginning of a command line whose end has not come; unallocated while idle.
    line: Vec<u8>,
    /// The line is refused already: skip to its end.
    skip_line: bool,
    errors: u32,
    refused_recipients: u32,
    idle_commands: u32,
    /// Requests that moved nothing on since the last message.
    futile: u32,
    /// Requests that moved the conversation on.
    steps: u32,
    /// The client has said goodbye itself.
    quit: bool,
    timer: Timer,
}

/// What the session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The balancer's PROXY header, before the greeting.
    ExpectProxy,
    /// A command.
    ExpectCommand,
    /// Octets of a message, behind 354.
    ExpectData,
    /// Octets of a BDAT chunk.
    ExpectChunk {
        remaining: u64,
        last: bool,
        /// The chunk belongs to no transaction or a failed one; it is read and thrown away.
        refused: bool,
    },
    AwaitRecipient,
    /// A piece of a large body is with the spool; then go on with `next`.
    AwaitStored {
        next: AfterStore,
    },
    /// The last piece of a large body is stored: hand the message over.
    ReadyToFinish,
    /// The fate of a tentative message.
    AwaitOutcome,
    /// The sync of the disk.
    AwaitReceipt,
    AwaitTls,
    Closed,
}

/// What follows when a piece of a large body has been stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterStore {
    Data,
    Chunk { remaining: u64, last: bool },
    Finish,
}

/// One message under way: from MAIL to its end.
#[derive(Debug)]
struct Transaction {
    mail: command::Mail,
    recipients: Vec<crate::envelope::Recipient>,
    /// How many were asked about.
    asked: u32,
    /// Asked about and not yet answered.
    pending: Option<crate::envelope::Recipient>,
    /// Set by the first recipient; all others must have the same.
    mode: Option<Mode>,
    reader: Option<BodyReader>,
    /// Looks for the author, where the options ask for it.
    author: Option<Box<AuthorScanner>>,
    body: Vec<u8>,
    /// Pieces have gone to the spool.
    streamed: bool,
    /// The spool refused a piece.
    store_failed: Option<StoreFault>,
    /// BDAT has begun: DATA is out of order (RFC 3030 section 3).
    chunked: bool,
}

impl Session {
    /// A conversation with `peer` that has just connected to `local`. With `expect_proxy` the
    /// connection begins with a PROXY header; set it for configured addresses only.
    pub fn new(
        options: Arc<SessionOptions>,
        peer: SocketAddr,
        local: SocketAddr,
        expect_proxy: bool,
        now: Instant,
    ) -> Self {
        let timer = Timer::new(now, options.limits);
        Self {
            options,
            peer,
            local,
            told: None,
            helo: None,
            esmtp: false,
            tls: None,
            state: if expect_proxy { State::ExpectProxy } else { State::ExpectCommand },
            transaction: None,
            line: Vec::new(),
            skip_line: false,
            errors: 0,
            refused_recipients: 0,
            idle_commands: 0,
            futile: 0,
            steps: 0,
            quit: false,
            timer,
        }
    }

    /// Writes the greeting, unless a PROXY header must come first.
    pub fn greet(&mut self, out: &mut Vec<u8>) {
        if self.state != State::ExpectProxy {
            replies::greeting(&self.options.hostname, out);
        }
    }

    /// The client: as the socket, a PROXY header or XCLIENT gave it.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether TLS is on.
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether the session may be closed without anybody losing anything: no message is under way
    /// and none waits for its answer.
    pub fn is_between_transactions(&self) -> bool {
        self.transaction.is_none() && matches!(self.state, State::ExpectCommand | State::ExpectProxy | State::Closed)
    }

    /// Whether a message is on its way in: from MAIL to its last octet.
    pub fn is_receiving(&self) -> bool {
        self.transaction.is_some() && !self.owes_reply()
    }

    /// Whether octets of a message come next, and nothing else.
    pub fn is_reading_body(&self) -> bool {
        matches!(self.state, State::ExpectData | State::ExpectChunk { .. })
    }

    /// Whether the message's last octet was read and the reply is still owed.
    pub fn owes_reply(&self) -> bool {
        matches!(self.state, State::AwaitOutcome | State::AwaitReceipt)
    }

    /// Whether the last octet of a message was read and its fate is not told yet. Such a connection
    /// is never sent away to make room: its client would bring the message a second time.
    pub fn has_ended_message(&self) -> bool {
        let storing_the_end = matches!(self.state, State::AwaitStored { next: AfterStore::Finish });
        self.owes_reply() || storing_the_end || self.state == State::ReadyToFinish
    }

    /// A number that changes whenever the client moves on: with a step towards a message's end, or
    /// with 4 KiB of it. Empty talk and single octets do not count.
    pub fn progress(&self) -> u64 {
        let body =
            self.transaction.as_ref().and_then(|transaction| transaction.reader.as_ref()).map_or(0, BodyReader::size);
        (u64::from(self.steps) << 32) | (body / PROGRESS_BYTES)
    }

    /// Octets of a message held in memory for this client.
    pub fn held_bytes(&self) -> usize {
        let storing = if matches!(self.state, State::AwaitStored { .. }) { limits::BODY_PIECE_BYTES } else { 0 };
        self.transaction.as_ref().map_or(0, |transaction| transaction.body.len() + storing)
    }

    /// The reverse-path of the open transaction; `Some(None)` is `<>`.
    pub fn sender(&self) -> Option<Option<&Address>> {
        self.transaction.as_ref().map(|transaction| transaction.mail.sender.as_ref())
    }

    /// Recipients of the open transaction that were asked about, whatever the answer was.
    pub fn recipients_asked(&self) -> u32 {
        self.transaction.as_ref().map_or(0, |transaction| transaction.asked)
    }

    /// What the client called itself.
    pub fn helo(&self) -> Option<&str> {
        self.helo.as_deref()
    }

    /// The slowest that the messages of this client may come from now on, in octets a second.
    pub fn set_body_rate_min(&mut self, bytes_per_second: u64) {
        self.timer.set_body_rate_min(bytes_per_second);
    }

    /// Recipients refused because there is no such one.
    pub fn refused_recipients(&self) -> u32 {
        self.refused_recipients
    }

    /// Whether the client was thrown out for breaking the rules.
    pub fn broke_the_rules(&self) -> bool {
        self.errors > limits::ERRORS_MAX || self.idle_commands > limits::IDLE_COMMANDS_MAX
    }

    /// Whether an answer to an [`Ask`] is outstanding: no input is taken until it is given.
    pub fn awaits_answer(&self) -> bool {
        use State::{AwaitOutcome, AwaitReceipt, AwaitRecipient, AwaitStored};
        matches!(self.state, AwaitRecipient | AwaitStored { .. } | AwaitOutcome | AwaitReceipt)
    }

    /// Whether the last word was said.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether the client ended the session itself, by QUIT.
    pub fn has_quit(&self) -> bool {
        self.quit
    }

    /// Reads input. Replies are appended to `out`; see [`Step`]. At
    /// [`limits::REPLY_BYTES_MAX`] octets of them the session waits until they are written and
    /// `out` is empty.
    pub fn handle_bytes(&mut self, now: Instant, input: &[u8], out: &mut Vec<u8>) -> Step {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            if out.len() >= limits::REPLY_BYTES_MAX && self.state == State::ExpectCommand {
                return Step { consumed, then: Then::Read };
            }
            let (used, then) = match self.state {
                State::ExpectCommand => self.read_command(now, rest, out),
                State::ExpectData => self.read_data(now, rest, out),
                State::ExpectChunk { remaining, last, refused } => {
                    self.read_chunk(now, rest, (remaining, last, refused), out)
                }
                State::ExpectProxy => self.read_proxy(now, rest, out),
                State::Closed => (rest.len(), Some(Then::Close)),
                State::ReadyToFinish => (0, Some(self.finish(now, out))),
                // An answer is owed: no input is taken.
                _ => (0, Some(Then::Read)),
            };
            consumed += used;
            if let Some(then) = then {
                return Step { consumed, then };
            }
        }
    }

    /// The client has closed its side, or the connection broke.
    ///
    /// A message whose last octet was read is carried on (RFC 5321 section 4.5.3.2.6 warns of the
    /// lost reply: the sender will ask again); anything else is dropped.
    #[must_use = "stored pieces of an unfinished message must be abandoned"]
    pub fn handle_eof(&mut self) -> Option<Ask> {
        let owed = self.owes_reply();
        self.state = State::Closed;
        (self.forget_transaction() && !owed).then_some(Ask::Abandon)
    }

    /// The handshake is done; everything said before is forgotten (RFC 3207 section 4.2).
    pub fn handle_tls(&mut self, now: Instant, facts: TlsFacts) {
        self.tls = Some(Box::new(facts));
        self.steps += 1;
        self.helo = None;
        self.esmtp = false;
        self.transaction = None;
        self.line = Vec::new();
        self.skip_line = false;
        self.state = State::ExpectCommand;
        self.timer.command(now);
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn next_timeout(&self) -> Instant {
        self.timer.next(!self.awaits_answer())
    }

    /// Time has passed. Does nothing before [`Self::next_timeout`].
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<u8>) -> Then {
        if now < self.next_timeout() {
            return Then::Read;
        }
        match self.state {
            State::AwaitOutcome => return self.hurry(now),
            State::AwaitReceipt => {
                self.end_transaction(now);
                self.reply(&replies::DISK_FAILED, out);
                return Then::Read;
            }
            State::AwaitRecipient => {
                self.handle_answer(now, Answer::Recipient(RecipientVerdict::Unsure), out);
                return Then::Read;
            }
            // A handshake cannot be interrupted by words, nor a PROXY header.
            State::AwaitTls | State::ExpectProxy | State::Closed => {}
            State::ExpectCommand
            | State::ExpectData
            | State::ExpectChunk { .. }
            | State::AwaitStored { .. }
            | State::ReadyToFinish => {
                replies::TIMED_OUT.write_to(out);
            }
        }
        let streamed = self.forget_transaction();
        self.state = State::Closed;
        if streamed { Then::Ask(Ask::Abandon) } else { Then::Close }
    }

    /// Waits for the outcome no longer: the message is to be made durable and answered at the
    /// receipt. Does nothing in any other state.
    pub fn hurry(&mut self, now: Instant) -> Then {
        if self.state != State::AwaitOutcome {
            return Then::Read;
        }
        self.state = State::AwaitReceipt;
        self.timer.wait(now, limits::RECEIPT_TIMEOUT);
        Then::Ask(Ask::Commit)
    }

    /// We are going down: say so when nothing is owed (RFC 5321 section 3.8).
    pub fn handle_shutdown(&mut self, out: &mut Vec<u8>) -> bool {
        let may_close = self.is_between_transactions();
        if may_close {
            if self.state == State::ExpectCommand {
                replies::SHUTTING_DOWN.write_to(out);
            }
            self.state = State::Closed;
        }
        may_close
    }

    /// The place is wanted, or patience is over. `None`: not between the end of a message and our
    /// reply to it. Otherwise the connection is over; write the reply if that costs nothing.
    pub fn handle_eviction(&mut self, why: Eviction, out: &mut Vec<u8>) -> Option<Then> {
        if self.has_ended_message() || self.is_closed() {
            return None;
        }
        // A handshake cannot be interrupted by words, nor a PROXY header.
        if !matches!(self.state, State::AwaitTls | State::ExpectProxy) {
            replies::eviction(why).write_to(out);
        }
        let streamed = self.forget_transaction();
        self.state = State::Closed;
        Some(if streamed { Then::Ask(Ask::Abandon) } else { Then::Close })
    }

    /// The answer to the last [`Ask`]; afterwards call [`Self::handle_bytes`] with what is left.
    /// An answer that nobody waits for (it came after a timeout) is ignored.
    pub fn handle_answer(&mut self, now: Instant, answer: Answer, out: &mut Vec<u8>) -> Then {
        match (self.state, answer) {
            (State::AwaitRecipient, Answer::Recipient(verdict)) => {
                self.settle_recipient(verdict, out);
                self.state = State::ExpectCommand;
                self.timer.command(now);
                return self.close_after_too_many_errors(out);
            }
            (State::AwaitStored { next }, Answer::Stored) => self.resume_body(now, next),
            (State::AwaitStored { next }, Answer::StoreFailed(fault)) => {
                if let Some(transaction) = self.transaction.as_mut() {
                    transaction.store_failed = Some(fault);
                }
                self.resume_body(now, next);
            }
            (State::AwaitOutcome, Answer::Unsettled) => return self.hurry(now),
            (State::AwaitOutcome | State::AwaitReceipt, answer) => return self.settle(now, answer, out),
            _ => {}
        }
        Then::Read
    }

    /// The one place that promises: see the module's words.
    fn settle(&mut self, now: Instant, answer: Answer, out: &mut Vec<u8>) -> Then {
        match answer {
            Answer::Committed { id } => replies::queued(&id, out),
            Answer::Delivered { id } => replies::delivered(&id, out),
            Answer::Refused(reply) => replies::refusal(reply).write_to(out),
            Answer::StoreFailed(StoreFault::Full) => replies::FULL.write_to(out),
            Answer::StoreFailed(StoreFault::Failed) => replies::DISK_FAILED.write_to(out),
            // Not an answer to this question: a fault of the caller, and no promise comes of it.
            Answer::Recipient(_) | Answer::Stored | Answer::Unsettled => return Then::Read,
        }
        self.end_transaction(now);
        Then::Read
    }

    /// Back to the state behind EHLO.
    fn end_transaction(&mut self, now: Instant) {
        self.transaction = None;
        self.steps += 1;
        // Twenty errors in a row are no client; twenty in a long session of good messages are one.
        self.errors = 0;
        self.idle_commands = 0;
        self.futile = 0;
        self.state = State::ExpectCommand;
        self.timer.command(now);
    }

    fn read_proxy(&mut self, now: Instant, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Then>) {
        let before = self.line.len();
        self.line.extend_from_slice(&input[..input.len().min(crate::proxy::HEADER_BYTES_MAX)]);
        match crate::proxy::parse(&self.line) {
            Ok(None) if self.line.len() < crate::proxy::HEADER_BYTES_MAX => (input.len(), Some(Then::Read)),
            Ok(Some((used, header))) => {
                if let crate::proxy::Header::Proxied { source, destination } = header {
                    self.peer = source;
                    self.local = destination;
                }
                self.line = Vec::new();
                self.state = State::ExpectCommand;
                self.timer.command(now);
                self.greet(out);
                (used - before, None)
            }
            // Whoever may speak PROXY and does not is a balancer set up wrongly, no mail client.
            Ok(None) | Err(_) => {
                self.state = State::Closed;
                (input.len(), Some(Then::Close))
            }
        }
    }

    /// Reads up to one command line and acts on it. `None`: go on with what is left.
    fn read_command(&mut self, now: Instant, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Then>) {
        if input.is_empty() {
            return (0, Some(Then::Read));
        }
        let Some(end) = memchr::memchr(b'\n', input) else {
            let then = self.keep_partial_line(input, out);
            return (input.len(), Some(then.unwrap_or(Then::Read)));
        };
        let (line, used) = (&input[..end], end + 1);
        // Nothing is copied when the line came whole, which it nearly always does.
        let mut kept = core::mem::take(&mut self.line);
        let line = if kept.is_empty() {
            line
        } else {
            kept.extend_from_slice(line);
            &kept
        };
        self.expect_command(now);
        let Some(line) = line.strip_suffix(b"\r") else {
            // A bare LF does not end a command, or one could be made to look like two: what
            // follows up to CRLF belongs to the same, refused line. It is answered at once all
            // the same, for whoever types into a plain socket.
            self.skip_line = true;
            return (used, self.error(&replies::BAD_LINE_END, out));
        };
        if core::mem::take(&mut self.skip_line) {
            return (used, None);
        }
        if line.len() + 2 > limits::COMMAND_LINE_BYTES_MAX {
            return (used, self.error(&replies::LINE_TOO_LONG, out));
        }
        if memchr::memchr2(b'\r', 0, line).is_some() {
            return (used, self.error(&replies::BAD_LINE_END, out));
        }
        let amid_chunks = self.is_amid_chunks();
        let then = self.handle_command(now, line, out);
        if amid_chunks && self.state == State::ExpectCommand {
            // It has ended the message, or changed nothing.
            self.expect_command(now);
        }
        (used, then)
    }

    /// The end of the line has not come. One that is too long already is refused now and skipped.
    fn keep_partial_line(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<Then> {
        if !self.skip_line && self.line.len() + input.len() <= limits::COMMAND_LINE_BYTES_MAX {
            self.line.extend_from_slice(input);
            return None;
        }
        // The CR of a CRLF that is cut in two must not be lost.
        let ends_in_cr = input.last() == Some(&b'\r');
        self.line = if ends_in_cr { alloc::vec![b'\r'] } else { Vec::new() };
        if core::mem::replace(&mut self.skip_line, true) { None } else { self.error(&replies::LINE_TOO_LONG, out) }
    }

    fn handle_command(&mut self, now: Instant, line: &[u8], out: &mut Vec<u8>) -> Option<Then> {
        let utf8 = self.options.offers.smtputf8 && self.esmtp;
        let transaction_utf8 = self.transaction.as_ref().is_some_and(|transaction| transaction.mail.smtputf8);
        let command = match command::parse(line, utf8, transaction_utf8) {
            Ok(command) => command,
            Err(error) => return self.command_error(error, out),
        };
        match command {
            Command::Helo(name) => self.handle_hello(name, false, out),
            Command::Ehlo(name) => self.handle_hello(name, true, out),
            Command::Mail(mail) => self.handle_mail(*mail, out),
            Command::Rcpt(rcpt) => self.handle_rcpt(now, *rcpt, out),
            Command::Data => self.handle_data(now, out),
            Command::Bdat { size, last } => self.handle_bdat(now, size, last, out),
            Command::Rset => self.handle_rset(out),
            Command::Noop => self.idle_command(&replies::OK, out),
            Command::Vrfy => self.idle_command(&replies::CANNOT_VERIFY, out),
            Command::Help => self.idle_command(&replies::HELP, out),
            Command::Expn => self.error(&replies::NOT_IMPLEMENTED, out),
            Command::Auth => self.error(&replies::NO_AUTH, out),
            Command::StartTls => self.handle_starttls(now, out),
            Command::Xclient(attributes) => self.handle_xclient(attributes, out),
            Command::Quit => {
                replies::GOODBYE.write_to(out);
                self.quit = true;
                let streamed = self.forget_transaction();
                self.state = State::Closed;
                streamed.then_some(Then::Ask(Ask::Abandon))
            }
        }
    }

    fn handle_rset(&mut self, out: &mut Vec<u8>) -> Option<Then> {
        // Behind recipients that were refused or deferred a client has to say it: that is no idle talk.
        let asked = self.recipients_asked() > 0;
        let streamed = self.forget_transaction();
        let then = if asked { self.futile(&replies::RESET, out) } else { self.idle_command(&replies::RESET, out) };
        if streamed { Some(Then::Ask(Ask::Abandon)) } else { then }
    }

    fn command_error(&mut self, error: CommandError, out: &mut Vec<u8>) -> Option<Then> {
        let reply = match error {
            CommandError::UnknownVerb => &replies::UNKNOWN_COMMAND,
            CommandError::Arguments => &replies::BAD_ARGUMENTS,
            CommandError::Path { sender: true, .. } => &replies::BAD_SENDER,
            CommandError::Path { sender: false, .. } => &replies::BAD_RECIPIENT,
            CommandError::UnknownParameter => &replies::UNKNOWN_PARAMETER,
        };
        self.error(reply, out)
    }

    /// A reply that goes without an error count.
    fn reply(&self, reply: &Reply, out: &mut Vec<u8>) {
        reply.write_to(out);
    }

    /// A reply to a command that moves nothing; too many of them are an attack on our time.
    fn idle_command(&mut self, reply: &Reply, out: &mut Vec<u8>) -> Option<Then> {
        self.idle_commands += 1;
        reply.write_to(out);
        self.close_if(self.idle_commands > limits::IDLE_COMMANDS_MAX, out)
    }

    /// A reply to a protocol error.
    fn error(&mut self, reply: &Reply, out: &mut Vec<u8>) -> Option<Then> {
        self.errors += 1;
        reply.write_to(out);
        self.close_if(self.errors > limits::ERRORS_MAX, out)
    }

    /// A request that was taken and moves nothing on.
    fn futile(&mut self, reply: &Reply, out: &mut Vec<u8>) -> Option<Then> {
        self.futile += 1;
        reply.write_to(out);
        self.close_if(self.futile > limits::FUTILE_MAX, out)
    }

    fn close_after_too_many_errors(&mut self, out: &mut Vec<u8>) -> Then {
        let too_many = self.refused_recipients > limits::REFUSED_RECIPIENTS_MAX || self.futile > limits::FUTILE_MAX;
        self.close_if(too_many, out).unwrap_or(Then::Read)
    }

    fn close_if(&mut self, too_many: bool, out: &mut Vec<u8>) -> Option<Then> {
        too_many.then(|| self.hang_up(&replies::TOO_MANY_ERRORS, out))
    }

    /// The last word; whatever was under way is dropped.
    fn hang_up(&mut self, reply: &Reply, out: &mut Vec<u8>) -> Then {
        reply.write_to(out);
        self.state = State::Closed;
        if self.forget_transaction() { Then::Ask(Ask::Abandon) } else { Then::Close }
    }

    /// Drops what was under way; true when pieces of it are with the spool.
    fn forget_transaction(&mut self) -> bool {
        self.transaction.take().is_some_and(|transaction| transaction.streamed)
    }
}

/// So much of a message is a step of its own: a client at the minimum rate makes one in eight
/// seconds, one that sends an octet a second none in an hour.
const PROGRESS_BYTES: u64 = 4 * 1024;
