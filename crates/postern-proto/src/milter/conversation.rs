//! The conversation about one message: what is told next, and what each answer means there.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::fields::Field;
use super::macros::{self, Stage as MacroStage};
use super::outcome::{address_of, changed_header, reply_of, words};
use super::packet::{Command, take_packet};
use super::response::{Negotiated, Response};
use super::{
    DATA_BYTES_MAX, Ending, Fault, HEADER_CHANGE_BYTES_MAX, HEADER_CHANGES_MAX, Letter, Outcome, PROGRESS_MAX,
    RECIPIENT_CHANGES_MAX, actions, steps,
};
use crate::judgement::HeaderChange;
use crate::reply::{Enhanced, Reply};

/// What is to be done next, after all output was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read, and call [`Conversation::handle_bytes`] (or [`Conversation::handle_closed`]).
    Read,
    /// Call [`Conversation::body`] with the next octets of the body.
    Body,
    /// The filter has judged. Write what is left and hang up.
    Done(Outcome),
    /// The conversation failed. Hang up.
    Failed(Fault),
}

/// Replays one message to a filter. It asks for what it needs ([`Step`]) and ends in an outcome or a fault.
#[derive(Debug)]
pub struct Conversation<'a> {
    letter: Letter<'a>,
    fields: Vec<Field<'a>>,
    at: At,
    /// The command of the current stage is sent, its answer is not here.
    awaiting: bool,
    agreed: Negotiated,
    input: Vec<u8>,
    /// Octets of `input` that were read; they go when nothing whole is left.
    used: usize,
    closed: bool,
    progress: u32,
    change_bytes: usize,
    quarantine: Option<String>,
    outcome: Outcome,
    fault: Option<Fault>,
}

/// What is told next, or was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Negotiation,
    Connect,
    Helo,
    Mail,
    Rcpt(usize),
    Data,
    Header(usize),
    EndOfHeader,
    Body,
    EndOfBody,
    Over,
}

impl<'a> Conversation<'a> {
    /// Ready to begin.
    pub fn new(letter: Letter<'a>) -> Self {
        Self {
            fields: Field::all(letter.header),
            letter,
            at: At::Negotiation,
            awaiting: false,
            agreed: Negotiated::default(),
            input: Vec::new(),
            used: 0,
            closed: false,
            progress: 0,
            change_bytes: 0,
            quarantine: None,
            outcome: Outcome::new(),
            fault: None,
        }
    }

    /// What is next. Appends to `out` what must be written before it.
    pub fn poll(&mut self, out: &mut Vec<u8>) -> Step {
        loop {
            if let Some(fault) = self.fault {
                return Step::Failed(fault);
            }
            if self.at == At::Over {
                Command::Quit.write_to(out);
                return Step::Done(core::mem::replace(&mut self.outcome, Outcome::new()));
            }
            if self.awaiting {
                match self.read() {
                    Ok(true) => {}
                    Ok(false) if self.closed => self.fault = Some(Fault::Closed),
                    Ok(false) => return Step::Read,
                    Err(fault) => self.fault = Some(fault),
                }
            } else if self.used < self.input.len() {
                self.fault = Some(Fault::Hasty);
            } else if self.at == At::Body && !self.left_out(steps::NO_BODY) {
                return Step::Body;
            } else {
                self.tell(out);
            }
        }
    }

    /// What the filter sent. Calls with pieces of any size come to the same.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The filter hung up. What it said before still counts.
    pub fn handle_closed(&mut self) {
        self.closed = true;
    }

    /// The next octets of the body, after [`Step::Body`]; none is the end. Returns how many were taken.
    pub fn body(&mut self, piece: &[u8], out: &mut Vec<u8>) -> usize {
        if self.at != At::Body || self.awaiting {
            return 0;
        }
        let taken = piece.len().min(DATA_BYTES_MAX);
        if taken == 0 {
            self.at = At::EndOfBody;
        } else {
            self.send(Command::Body(&piece[..taken]), steps::NO_REPLY_BODY, out);
        }
        taken
    }

    /// Sends the command of this stage, or goes past it when the filter does not want it.
    fn tell(&mut self, out: &mut Vec<u8>) {
        let meta = self.letter.meta;
        match self.at {
            At::Negotiation => self.send(Command::Negotiate, 0, out),
            At::Connect if self.left_out(steps::NO_CONNECT) => self.advance(),
            At::Connect => {
                self.send_macros(b'C', MacroStage::Connect, None, out);
                let name = macros::client_name(&self.letter);
                self.send(Command::Connect(name, meta.arrival.peer), steps::NO_REPLY_CONNECT, out);
            }
            At::Helo if self.left_out(steps::NO_HELO) || meta.arrival.helo.is_empty() => self.advance(),
            At::Helo => {
                self.send_macros(b'H', MacroStage::Helo, None, out);
                self.send(Command::Helo(&meta.arrival.helo), steps::NO_REPLY_HELO, out);
            }
            At::Mail if self.left_out(steps::NO_MAIL) => self.advance(),
            At::Mail => {
                self.send_macros(b'M', MacroStage::Mail, None, out);
                self.send(Command::Mail(self.mail_words()), steps::NO_REPLY_MAIL, out);
            }
            At::Rcpt(n) => match meta.recipients.get(n) {
                Some(recipient) if !self.left_out(steps::NO_RCPT) => {
                    self.send_macros(b'R', MacroStage::Rcpt, Some(&recipient.address), out);
                    let words = Vec::from([Cow::Owned(format!("<{}>", recipient.address))]);
                    self.send(Command::Rcpt(words), steps::NO_REPLY_RCPT, out);
                }
                _ => self.end_of_recipients(),
            },
            At::Data if self.left_out(steps::NO_DATA) || self.agreed.version < VERSION_WITH_DATA => self.advance(),
            At::Data => {
                self.send_macros(b'T', MacroStage::Data, None, out);
                self.send(Command::Data, steps::NO_REPLY_DATA, out);
            }
            At::Header(n) => match self.fields.get(n).copied() {
                Some(field) if !self.left_out(steps::NO_HEADERS) => {
                    let value = field.told(self.left_out(steps::LEADING_SPACE));
                    self.send(Command::Header(field.name, &value), steps::NO_REPLY_HEADER, out);
                }
                _ => self.at = At::EndOfHeader,
            },
            At::EndOfHeader if self.left_out(steps::NO_END_OF_HEADER) => self.advance(),
            At::EndOfHeader => {
                self.send_macros(b'N', MacroStage::EndOfHeader, None, out);
                self.send(Command::EndOfHeader, steps::NO_REPLY_END_OF_HEADER, out);
            }
            At::Body => self.at = At::EndOfBody,
            At::EndOfBody => {
                self.send_macros(b'E', MacroStage::EndOfBody, None, out);
                self.send(Command::EndOfBody, 0, out);
            }
            At::Over => {}
        }
    }

    /// A filter that has refused every recipient has nobody left to judge for. Nor would it be told of DATA by any
    /// server: libmilter then says nothing at all.
    fn end_of_recipients(&mut self) {
        let nobody_left = self.outcome.refused.len() == self.letter.meta.recipients.len();
        self.at = if nobody_left { At::Over } else { At::Data };
    }

    fn send(&mut self, command: Command<'_>, silent: u32, out: &mut Vec<u8>) {
        command.write_to(out);
        if silent != 0 && self.left_out(silent) {
            self.advance();
        } else {
            self.awaiting = true;
        }
    }

    fn send_macros(
        &self,
        command: u8,
        stage: MacroStage,
        recipient: Option<&crate::address::Address>,
        out: &mut Vec<u8>,
    ) {
        let asked = self.agreed.symbols.iter().find(|(asked, _)| *asked == stage as u32);
        let pairs = match asked {
            Some((_, names)) => macros::wanted(&self.letter, names, recipient),
            None => macros::usual(&self.letter, stage, recipient),
        };
        if !pairs.is_empty() {
            Command::Macros(command, pairs).write_to(out);
        }
    }

    fn mail_words(&self) -> Vec<Cow<'a, str>> {
        let meta = self.letter.meta;
        let sender = meta.sender.as_ref().map_or_else(|| "<>".into(), |sender| format!("<{sender}>"));
        let mut words = Vec::from([Cow::Owned(sender), Cow::Owned(format!("SIZE={}", meta.size))]);
        if meta.eight_bit {
            words.push(Cow::Borrowed("BODY=8BITMIME"));
        }
        if meta.smtputf8 {
            words.push(Cow::Borrowed("SMTPUTF8"));
        }
        words
    }

    fn left_out(&self, step: u32) -> bool {
        self.agreed.steps & step != 0
    }

    /// To the stage behind this one. The body stays until its end was told.
    fn advance(&mut self) {
        self.at = match self.at {
            At::Negotiation => At::Connect,
            At::Connect => At::Helo,
            At::Helo => At::Mail,
            At::Mail => At::Rcpt(0),
            At::Rcpt(n) => At::Rcpt(n + 1),
            At::Data => At::Header(0),
            At::Header(n) => At::Header(n + 1),
            At::EndOfHeader | At::Body => At::Body,
            At::EndOfBody | At::Over => At::Over,
        };
    }

    /// Reads one answer, when it is whole.
    fn read(&mut self) -> Result<bool, Fault> {
        // Aside, so that what is read may be borrowed while it changes us.
        let mut input = core::mem::take(&mut self.input);
        let read = match take_packet(&input[self.used..]) {
            Ok(Some((packet, len))) => {
                self.used += len;
                Response::decode(packet.code, packet.data).and_then(|response| self.answer(response)).map(|()| true)
            }
            Ok(None) => Ok(false),
            Err(fault) => Err(fault),
        };
        if read == Ok(false) {
            input.drain(..self.used);
            self.used = 0;
        }
        self.input = input;
        read
    }

    fn answer(&mut self, response: Response<'_>) -> Result<(), Fault> {
        if response == Response::Progress && self.at != At::Negotiation {
            self.progress += 1;
            return if self.progress > PROGRESS_MAX { Err(Fault::NoEnd) } else { Ok(()) };
        }
        self.progress = 0;
        let code = response.code();
        match (self.at, response) {
            (At::Negotiation, Response::Negotiated(agreed)) => {
                self.agreed = agreed;
                self.go_on();
                Ok(())
            }
            (At::Negotiation, _) | (_, Response::Negotiated(_)) => Err(Fault::Unexpected(code)),
            (At::Body, Response::Skip) if self.left_out(steps::SKIP) => {
                self.awaiting = false;
                self.at = At::EndOfBody;
                Ok(())
            }
            (At::EndOfBody, response) => self.judge_or_change(response),
            (At::Rcpt(n), response) => self.judge_recipient(n, &response),
            (_, response) => self.judge(&response),
        }
    }

    fn go_on(&mut self) {
        self.awaiting = false;
        self.advance();
    }

    fn end(&mut self, ending: Ending) {
        self.awaiting = false;
        self.at = At::Over;
        self.outcome.ending = match (ending, self.quarantine.take()) {
            (Ending::Accept, Some(reason)) => Ending::Quarantine(reason),
            (ending, _) => ending,
        };
    }

    /// What may be answered at every stage, and speaks of the whole message.
    fn judge(&mut self, response: &Response<'_>) -> Result<(), Fault> {
        match response {
            Response::Continue => self.go_on(),
            Response::Accept => self.end(Ending::Accept),
            Response::Discard => self.end(Ending::Discard),
            response => match refusal(response)? {
                reply if reply.is_permanent() => self.end(Ending::Reject(reply)),
                reply => self.end(Ending::Tempfail(reply)),
            },
        }
        Ok(())
    }

    /// A refusal speaks of this recipient; all else, as everywhere, of the message.
    fn judge_recipient(&mut self, n: usize, response: &Response<'_>) -> Result<(), Fault> {
        match response {
            Response::Reject | Response::Tempfail | Response::ReplyCode(_) => {
                self.outcome.refused.push((n, refusal(response)?));
                self.go_on();
                Ok(())
            }
            response => self.judge(response),
        }
    }

    /// Behind the end of the body it may change things before it judges.
    fn judge_or_change(&mut self, response: Response<'_>) -> Result<(), Fault> {
        let code = response.code();
        let needs = match response {
            Response::AddHeader(..) | Response::InsertHeader(..) => actions::ADD_HEADERS,
            Response::ChangeHeader(..) => actions::CHANGE_HEADERS,
            Response::ReplaceBody(_) => actions::CHANGE_BODY,
            Response::Quarantine(_) => actions::QUARANTINE,
            Response::ChangeFrom(_) => actions::CHANGE_FROM,
            Response::AddRecipient(_) => actions::ADD_RECIPIENTS,
            Response::AddRecipientWith(_) => actions::ADD_RECIPIENTS_WITH,
            Response::DeleteRecipient(_) => actions::DELETE_RECIPIENTS,
            // Without a last word of its own a filter has nothing against the message.
            Response::Continue => {
                self.end(Ending::Accept);
                return Ok(());
            }
            _ => return self.judge(&response),
        };
        if self.agreed.actions & needs == 0 {
            return Err(Fault::NotNegotiated(code));
        }
        match response {
            Response::Quarantine(reason) => self.quarantine = Some(words(reason)),
            Response::ReplaceBody(piece) => return self.replace_body(piece),
            Response::ChangeFrom(path) => {
                let bracketed = path.trim_ascii();
                let empty = bracketed.is_empty() || bracketed == b"<>";
                let sender = if empty { None } else { Some(address_of(path).ok_or(Fault::Malformed(code))?) };
                self.outcome.sender = Some(sender);
            }
            Response::AddRecipient(path) | Response::AddRecipientWith(path) | Response::DeleteRecipient(path) => {
                if self.outcome.added.len() + self.outcome.deleted.len() >= RECIPIENT_CHANGES_MAX {
                    return Err(Fault::TooManyChanges);
                }
                let address = address_of(path).ok_or(Fault::Malformed(code))?;
                let list = if code == b'-' { &mut self.outcome.deleted } else { &mut self.outcome.added };
                list.push(address);
            }
            response => {
                let change = changed_header(&response, self.left_out(steps::LEADING_SPACE));
                self.change_header(change.ok_or(Fault::Malformed(code))?)?;
            }
        }
        Ok(())
    }

    fn change_header(&mut self, change: HeaderChange) -> Result<(), Fault> {
        self.change_bytes += match &change {
            HeaderChange::Add { name, value }
            | HeaderChange::Insert { name, value, .. }
            | HeaderChange::Change { name, value, .. } => name.len() + value.len(),
            HeaderChange::Delete { name, .. } => name.len(),
        };
        if self.outcome.headers.len() >= HEADER_CHANGES_MAX || self.change_bytes > HEADER_CHANGE_BYTES_MAX {
            return Err(Fault::TooManyChanges);
        }
        self.outcome.headers.push(change);
        Ok(())
    }

    fn replace_body(&mut self, piece: &[u8]) -> Result<(), Fault> {
        let body = self.outcome.body.get_or_insert_default();
        if (body.len() + piece.len()) as u64 > self.letter.body_bytes_max {
            return Err(Fault::BodyTooLong);
        }
        body.extend_from_slice(piece);
        Ok(())
    }
}

/// The reply that a refusing answer stands for.
fn refusal(response: &Response<'_>) -> Result<Reply, Fault> {
    let transient = |text| Ok(Reply::new(451, Enhanced(4, 7, 1), text));
    match response {
        Response::Reject => Ok(Reply::new(550, Enhanced(5, 7, 1), "Rejected by a mail filter")),
        Response::Tempfail => transient("Deferred by a mail filter, please try again later"),
        // They ask for the end of a connection that may be long gone: what is left of it is "not now".
        Response::Shutdown | Response::ConnectionFailed => transient("Not now, please try again later"),
        Response::ReplyCode(text) => reply_of(text).ok_or(Fault::Malformed(response.code())),
        response => Err(Fault::Unexpected(response.code())),
    }
}

/// DATA came with version 4 of the protocol; before, a filter hung up on it.
const VERSION_WITH_DATA: u32 = 4;
