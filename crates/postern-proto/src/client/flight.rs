//! Many messages on one mail stream of the postern, without waiting: the client side as a machine without I/O.
//!
//! Owns what is sent when and which reply belongs to what: EHLO once, then for each message MAIL, RCPT
//! and BDAT in one flight, the next behind it. There is no greeting, no STARTTLS and no AUTH (door/1).
//! It never connects, never reads a file and never decides what a failure means for a message. The
//! pump in `postern-net` drives it: begin, give pieces, write what [`Flight::take_output`] appends, hand in
//! what comes, take events.
//!
//! What a stream's end leaves in doubt is told apart: a message whose last octet was written and whose
//! last reply did not come may have been taken ([`Failure::AfterFinalDot`]); of all others it is certain
//! that they were not.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::mem;

use super::body::BodyEncoder;
use super::command::{mail_line, rcpt_line, read_capabilities};
use super::machine::{of_reply, rcpt_refusal};
use super::reply::{REPLY_LINE_BYTES_MAX, ReplyError, ReplyReader};
use super::{Capabilities, Deadlines, Failure, Phase, RecipientResult, Transaction};
use crate::reply::{Enhanced, Reply};
use crate::time::Instant;

/// Messages under way on one stream, written and not answered: at 10 ms from end to end and 64 on the
/// way a stream carries 6,000 a second. Full: [`Readiness::Full`], the message waits or takes another stream.
pub const FLIGHT_MESSAGES_MAX: usize = 64;
/// Replies outstanding on one stream before no further message is begun; one message may go beyond, with
/// its own recipients. 24 octets each.
const REPLIES_MAX: usize = 2_048;

/// What the machine needs to know once.
#[derive(Clone, Debug)]
pub struct FlightOptions {
    /// Our name for EHLO.
    pub helo: String,
    /// How long each reply may take.
    pub deadlines: Deadlines,
    /// What an earlier stream of the same connection was offered. Then no message waits for the answer
    /// to EHLO.
    pub known: Option<Capabilities>,
}

/// Whether a message may be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Now.
    Now,
    /// It needs an extension that the profile does not promise: when EHLO has been answered.
    AfterHello,
    /// When the body of the one before has been given.
    AfterBody,
    /// When some replies have come.
    Full,
    /// Never: the stream is over.
    Over,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlightEvent {
    /// One result per recipient.
    Done {
        /// As [`Flight::begin`] returned it.
        number: u64,
        /// In the order of the recipients.
        results: Vec<RecipientResult>,
    },
    /// The stream ended before all was said.
    Failed {
        /// As [`Flight::begin`] returned it.
        number: u64,
        /// Why; [`Failure::AfterFinalDot`] when the message may have been taken.
        failure: Failure,
        /// What was certain before, in the order of the recipients.
        decided: Vec<Option<RecipientResult>>,
    },
}

/// A mail stream.
#[derive(Debug)]
pub struct Flight {
    options: FlightOptions,
    /// `None` until EHLO is answered.
    offers: Option<Capabilities>,
    /// Replies outstanding, in order.
    flight: VecDeque<Awaited>,
    /// Messages with replies outstanding or a body to come, in order of their numbers.
    messages: VecDeque<Message>,
    next_number: u64,
    events: VecDeque<FlightEvent>,
    encoder: BodyEncoder,
    piece: Vec<u8>,
    deadline: Option<Instant>,
    out: Vec<u8>,
    input: Vec<u8>,
    reader: ReplyReader,
    /// The other side may hold a transaction: RSET goes before the next MAIL.
    open: bool,
    quitting: bool,
    /// Why the stream is over.
    over: Option<Failure>,
}

/// One outstanding reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Awaited {
    what: What,
    /// Of which message, where it is of one.
    number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Hello,
    Reset,
    Mail,
    Rcpt(usize),
    /// A chunk that is not the last.
    Chunk,
    /// The last chunk: the answer to the message.
    Last,
    Quit,
}

#[derive(Debug)]
struct Message {
    number: u64,
    results: Vec<Option<RecipientResult>>,
    /// Recipients that RCPT accepted and whose fate is open.
    accepted: Vec<usize>,
    replies_left: usize,
    body: BodyState,
    /// MAIL went out with extensions that another stream was offered, not this one.
    guessed: bool,
    /// An event has told it.
    told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyState {
    /// Pieces are still to come.
    Writing,
    /// The last chunk went out.
    Sent,
    /// Given up before the last chunk.
    Dropped,
}

impl Flight {
    /// A stream that was just opened. EHLO goes out with the first message.
    pub fn new(options: FlightOptions, now: Instant) -> Self {
        let mut flight = Self {
            out: format!("EHLO {}\r\n", options.helo).into_bytes(),
            options,
            offers: None,
            flight: VecDeque::new(),
            messages: VecDeque::new(),
            next_number: 0,
            events: VecDeque::new(),
            encoder: BodyEncoder::of_chunks(),
            piece: Vec::new(),
            deadline: None,
            input: Vec::new(),
            reader: ReplyReader::default(),
            open: false,
            quitting: false,
            over: None,
        };
        flight.expect(now, What::Hello, 0);
        flight
    }

    /// Whether this message may be begun now.
    pub fn readiness(&self, transaction: &Transaction<'_>) -> Readiness {
        if self.over.is_some() || self.quitting {
            Readiness::Over
        } else if self.is_writing() {
            Readiness::AfterBody
        } else if self.messages.len() >= FLIGHT_MESSAGES_MAX || self.flight.len() >= REPLIES_MAX {
            Readiness::Full
        } else if self.offers.is_none() && self.options.known.is_none() && needs_offers(transaction) {
            Readiness::AfterHello
        } else {
            Readiness::Now
        }
    }

    /// Begins a message and returns its number. Only at [`Readiness::Now`]; at [`Readiness::Over`] it fails at
    /// once. Then its octets are given with [`Self::give`] while [`Self::wants_body`].
    pub fn begin(&mut self, now: Instant, transaction: &Transaction<'_>) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        let recipients = transaction.recipients;
        if self.over.is_some() || self.quitting {
            let failure = self.over.clone().unwrap_or_else(|| Failure::Closed(Phase::Quit, String::new()));
            let decided = recipients.iter().map(|_| None).collect();
            self.events.push_back(FlightEvent::Failed { number, failure, decided });
            return number;
        }
        self.messages.push_back(Message {
            number,
            results: recipients.iter().map(|_| None).collect(),
            accepted: Vec::new(),
            replies_left: 0,
            body: BodyState::Writing,
            guessed: self.offers.is_none(),
            told: false,
        });
        let offers = self.offers.clone().or_else(|| self.options.known.clone()).unwrap_or_else(promised);
        if let Some(refusal) = cannot_carry(&offers, transaction) {
            self.drop_body();
            self.settle_open(number, &of_reply(refusal));
            return number;
        }
        if mem::replace(&mut self.open, true) {
            self.say(now, b"RSET\r\n", What::Reset, number);
        }
        self.say(now, &mail_line(transaction, &offers), What::Mail, number);
        for (index, recipient) in recipients.iter().enumerate() {
            self.say(now, &rcpt_line(recipient, &offers), What::Rcpt(index), number);
        }
        self.encoder = BodyEncoder::of_chunks();
        number
    }

    /// Whether the message begun last still wants its octets. It stops to when it is refused.
    pub fn wants_body(&self) -> bool {
        self.is_writing() && self.over.is_none()
    }

    /// Sends a piece of the message begun last as a chunk; `last` ends it. 64 KiB are a good size: each
    /// has a command and a reply. Does nothing when [`Self::wants_body`] says no.
    pub fn give(&mut self, now: Instant, piece: &[u8], last: bool) {
        if !self.wants_body() {
            return;
        }
        let mut chunk = mem::take(&mut self.piece);
        chunk.clear();
        self.encoder.encode(piece, &mut chunk);
        if last {
            self.encoder.finish(&mut chunk);
        }
        if let Some(message) = self.messages.back_mut()
            && (last || !chunk.is_empty())
        {
            let number = message.number;
            if last {
                message.body = BodyState::Sent;
            }
            let (word, what) = if last { (" LAST", What::Last) } else { ("", What::Chunk) };
            self.say(now, format!("BDAT {}{word}\r\n", chunk.len()).as_bytes(), what, number);
            self.out.extend_from_slice(&chunk);
        }
        chunk.shrink_to(PIECE_BYTES_KEPT);
        self.piece = chunk;
    }

    /// The rest of the message begun last will not come (it cannot be read, nobody wants it any more): it
    /// fails for this reason, with nothing in doubt, and the stream goes on.
    pub fn abandon(&mut self, failure: Failure) {
        if !self.is_writing() {
            return;
        }
        self.drop_body();
        if let Some(message) = self.messages.back_mut()
            && !mem::replace(&mut message.told, true)
        {
            let (number, decided) = (message.number, mem::take(&mut message.results));
            self.events.push_back(FlightEvent::Failed { number, failure, decided });
        }
        self.forget_answered();
    }

    /// QUIT, behind all that is under way. Not in the middle of a body.
    pub fn quit(&mut self, now: Instant) {
        if self.over.is_none() && !self.is_writing() && !mem::replace(&mut self.quitting, true) {
            self.say(now, b"QUIT\r\n", What::Quit, 0);
        }
    }

    /// Appends what is to be written.
    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.out);
    }

    /// What happened, in order.
    pub fn poll_event(&mut self) -> Option<FlightEvent> {
        self.events.pop_front()
    }

    /// What this stream offers, once EHLO was answered.
    pub fn capabilities(&self) -> Option<&Capabilities> {
        self.offers.as_ref()
    }

    /// Messages whose end is not known.
    pub fn open_messages(&self) -> usize {
        self.messages.iter().filter(|message| !message.told).count()
    }

    /// Why the stream is over; no message can be begun any more. After QUIT: closed at [`Phase::Quit`].
    pub fn over(&self) -> Option<&Failure> {
        self.over.as_ref()
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Octets from the other side.
    pub fn handle_bytes(&mut self, now: Instant, input: &[u8]) {
        if self.over.is_some() {
            return;
        }
        self.input.extend_from_slice(input);
        let mut input = mem::take(&mut self.input);
        let mut used = 0;
        while used < input.len() && self.over.is_none() {
            match self.reader.read(&input[used..]) {
                Ok((n, Some(reply))) => {
                    used += n;
                    self.handle_reply(now, reply);
                }
                Ok((n, None)) => {
                    used += n;
                    break;
                }
                Err(error) => self.fail(Failure::Protocol(self.phase(), error)),
            }
        }
        if self.over.is_none() {
            input.drain(..used);
            debug_assert!(input.len() < REPLY_LINE_BYTES_MAX);
            self.input = input;
        }
    }

    /// The stream has ended; `why` may be empty.
    pub fn handle_closed(&mut self, why: &str) {
        self.fail(Failure::Closed(self.phase(), why.to_string()));
    }

    /// The time of [`Self::next_timeout`] has come; called early, it does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.fail(Failure::Timeout(self.phase()));
        }
    }

    fn handle_reply(&mut self, now: Instant, reply: Reply) {
        let phase = self.phase();
        let Some(Awaited { what, number }) = self.flight.pop_front() else {
            let failure = match reply.is_positive() {
                true => Failure::Protocol(phase, ReplyError::Unexpected(reply.code)),
                false => Failure::Refused(phase, reply),
            };
            return self.fail(failure);
        };
        self.set_deadline(now);
        if what == What::Quit {
            return self.fail(Failure::Closed(Phase::Quit, String::new()));
        }
        if let Some(message) = self.message(number).filter(|_| what != What::Hello) {
            message.replies_left = message.replies_left.saturating_sub(1);
        }
        let fine = (200..300).contains(&reply.code);
        if reply.code == 421 && what != What::Hello {
            // "Service not available, closing": the answer to this message, and none of those behind it was looked at.
            if what != What::Reset {
                self.settle_open(number, &of_reply(reply.clone()));
            }
            return self.fail(Failure::Refused(phase, reply));
        }
        if reply.is_positive() && !fine {
            return self.fail(Failure::Protocol(phase, ReplyError::Unexpected(reply.code)));
        }
        match what {
            What::Hello if fine => self.offers = Some(read_capabilities(&reply)),
            What::Reset if fine => {}
            What::Hello | What::Reset => return self.fail(Failure::Refused(phase, reply)),
            What::Mail | What::Chunk if fine => {}
            What::Mail => {
                let guessed = self.message(number).is_some_and(|message| message.guessed);
                let unknown_parameter = guessed && matches!(reply.code, 501 | 504 | 555);
                // It was another stream that offered it: said again, it will be said as this one wants it.
                let result = if unknown_parameter { RecipientResult::Deferred(reply) } else { of_reply(reply) };
                self.settle_open(number, &result);
            }
            What::Rcpt(index) if fine => {
                if let Some(message) = self.message(number)
                    && message.results.get(index).is_some_and(Option::is_none)
                {
                    message.accepted.push(index);
                }
            }
            What::Rcpt(index) => self.settle(number, index, rcpt_refusal(reply)),
            What::Chunk => self.settle_open(number, &of_reply(reply)),
            What::Last => self.handle_last(number, reply, fine),
            What::Quit => {}
        }
        self.forget_answered();
    }

    /// The answer to a message counts for the recipients that were accepted, and for no other.
    fn handle_last(&mut self, number: u64, reply: Reply, fine: bool) {
        if fine {
            let accepted = self.message(number).map(|message| mem::take(&mut message.accepted)).unwrap_or_default();
            for index in accepted {
                self.settle(number, index, RecipientResult::Delivered(reply.clone()));
            }
            // The transaction is over on the other side too: a MAIL that has not been sent needs no RSET.
            if self.next_number == number + 1 {
                self.open = false;
            }
        } else {
            self.settle_open(number, &of_reply(reply));
        }
        self.tell_if_decided(number);
    }

    fn say(&mut self, now: Instant, line: &[u8], what: What, number: u64) {
        self.out.extend_from_slice(line);
        self.expect(now, what, number);
        if let Some(message) = self.message(number).filter(|_| !matches!(what, What::Hello | What::Quit)) {
            message.replies_left += 1;
        }
    }

    fn expect(&mut self, now: Instant, what: What, number: u64) {
        self.flight.push_back(Awaited { what, number });
        if self.flight.len() == 1 {
            self.set_deadline(now);
        }
    }

    /// For the reply that is next. While a body is under way its chunks are answered one by one, so this
    /// is the floor of its progress too.
    fn set_deadline(&mut self, now: Instant) {
        let deadlines = &self.options.deadlines;
        let wait = self.flight.front().map(|awaited| match awaited.what {
            What::Hello => deadlines.greeting,
            What::Reset | What::Mail => deadlines.mail,
            What::Rcpt(_) => deadlines.rcpt,
            What::Chunk => deadlines.block,
            What::Last => deadlines.final_dot,
            What::Quit => deadlines.quit,
        });
        self.deadline = wait.map(|wait| now.after(wait));
    }

    fn phase(&self) -> Phase {
        match self.flight.front().map(|awaited| awaited.what) {
            None => Phase::Idle,
            Some(What::Hello) => Phase::Hello,
            Some(What::Reset) => Phase::Reset,
            Some(What::Mail) => Phase::Mail,
            Some(What::Rcpt(_)) => Phase::Rcpt,
            Some(What::Chunk) => Phase::Body,
            Some(What::Last) => Phase::FinalDot,
            Some(What::Quit) => Phase::Quit,
        }
    }

    fn is_writing(&self) -> bool {
        self.messages.back().is_some_and(|message| message.body == BodyState::Writing)
    }

    /// Numbers are given in order and messages leave at the front.
    fn message(&mut self, number: u64) -> Option<&mut Message> {
        let at = number.checked_sub(self.messages.front()?.number)?;
        self.messages.get_mut(usize::try_from(at).ok()?)
    }

    /// The first answer counts.
    fn settle(&mut self, number: u64, index: usize, result: RecipientResult) {
        let Some(message) = self.message(number) else { return };
        message.accepted.retain(|&accepted| accepted != index);
        if let Some(slot) = message.results.get_mut(index) {
            slot.get_or_insert(result);
        }
        self.tell_if_decided(number);
    }

    /// Gives every recipient that is still open the same answer.
    fn settle_open(&mut self, number: u64, result: &RecipientResult) {
        let Some(message) = self.message(number) else { return };
        message.accepted.clear();
        for slot in message.results.iter_mut().filter(|slot| slot.is_none()) {
            *slot = Some(result.clone());
        }
        self.tell_if_decided(number);
    }

    fn tell_if_decided(&mut self, number: u64) {
        let Some(message) = self.message(number) else { return };
        if message.told || message.results.iter().any(Option::is_none) {
            return;
        }
        message.told = true;
        if message.body == BodyState::Writing {
            // RFC 3030 section 4.2: a chunk that follows a refusal would only be thrown away.
            message.body = BodyState::Dropped;
        }
        let results = mem::take(&mut message.results).into_iter().flatten().collect();
        self.events.push_back(FlightEvent::Done { number, results });
        self.forget_answered();
    }

    fn drop_body(&mut self) {
        if let Some(message) = self.messages.back_mut() {
            message.body = BodyState::Dropped;
        }
    }

    fn forget_answered(&mut self) {
        let is_over =
            |message: &Message| message.told && message.replies_left == 0 && message.body != BodyState::Writing;
        while self.messages.front().is_some_and(is_over) {
            self.messages.pop_front();
        }
    }

    fn fail(&mut self, failure: Failure) {
        if self.over.is_some() {
            return;
        }
        self.deadline = None;
        self.out.clear();
        self.fail_messages(&failure);
        self.over = Some(failure);
    }

    fn fail_messages(&mut self, failure: &Failure) {
        // The other side reads in order: behind a goodbye, or an EHLO it refused, it took nothing.
        let certain = match failure {
            Failure::Refused(Phase::Hello, _) => true,
            Failure::Refused(_, reply) => reply.code == 421,
            _ => false,
        };
        for message in mem::take(&mut self.messages) {
            if message.told {
                continue;
            }
            let in_doubt = !certain && message.body == BodyState::Sent;
            let failure = if in_doubt { Failure::AfterFinalDot(failure.to_string()) } else { failure.clone() };
            let (number, decided) = (message.number, message.results);
            self.events.push_back(FlightEvent::Failed { number, failure, decided });
        }
    }
}

/// What door/1 promises before EHLO is answered.
fn promised() -> Capabilities {
    Capabilities {
        esmtp: true,
        pipelining: true,
        chunking: true,
        enhanced: true,
        size: Some(0),
        ..Capabilities::default()
    }
}

/// Whether the message asks for more than [`promised`].
fn needs_offers(transaction: &Transaction<'_>) -> bool {
    let asks = |recipient: &crate::envelope::Recipient| recipient.notify.given || recipient.original.is_some();
    transaction.eight_bit
        || needs_utf8(transaction)
        || transaction.dsn.full.is_some()
        || transaction.dsn.envelope_id.is_some()
        || transaction.recipients.iter().any(asks)
}

fn needs_utf8(transaction: &Transaction<'_>) -> bool {
    let mut addresses = transaction.sender.into_iter().chain(transaction.recipients.iter().map(|to| &to.address));
    transaction.smtputf8 || addresses.any(|address| !address.local.is_ascii() || !address.domain.is_ascii())
}

/// What the other side cannot take, however often it is tried.
fn cannot_carry(offers: &Capabilities, transaction: &Transaction<'_>) -> Option<Reply> {
    if needs_utf8(transaction) && !offers.smtputf8 {
        return Some(Reply::new(550, Enhanced(5, 6, 7), "The next hop does not offer SMTPUTF8"));
    }
    match offers.size {
        Some(max) if max > 0 && transaction.size > max => {
            Some(Reply::new(552, Enhanced(5, 3, 4), "The message is larger than the next hop takes"))
        }
        _ => None,
    }
}

/// What the buffer of a piece may keep between messages.
const PIECE_BYTES_KEPT: usize = 64 * 1024;

#[cfg(test)]
mod tests;
