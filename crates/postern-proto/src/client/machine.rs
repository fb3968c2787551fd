//! The client machine: which command follows which reply.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::mem;

use super::body::BodyEncoder;
use super::command::{mail_line, rcpt_line, read_capabilities};
use super::reply::{REPLY_LINE_BYTES_MAX, ReplyError, ReplyReader};
use super::{Capabilities, Deadlines, Failure, Phase, Protocol, RecipientResult, Transaction};
use crate::address::is_domain_or_literal;
use crate::reply::{Enhanced, Reply};
use crate::time::{Duration, Instant};
use crate::xclient::{Told, Xclient};

/// What the machine needs to know once.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// What is spoken.
    pub protocol: Protocol,
    /// Our name for EHLO or LHLO.
    pub helo: String,
    /// Start TLS when it is offered.
    pub starttls: bool,
    /// How long each wait may last.
    pub deadlines: Deadlines,
}

/// What the caller is to do, after writing what [`Client::poll`] appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Give what comes to [`Client::handle_bytes`], the end of the connection to
    /// [`Client::handle_closed`], and call [`Client::handle_timeout`] at [`Client::next_timeout`].
    Read,
    /// Make the handshake, then call [`Client::handle_tls`]. Octets that came before are dropped.
    StartTls,
    /// Write the message through [`Client::encode_body`] and [`Client::end_body`].
    Body,
    /// The transaction is over, one result per recipient; poll again.
    Outcome(Vec<RecipientResult>),
    /// Nothing is outstanding; give the next order.
    Idle,
    /// The session is over after an outcome, or QUIT was answered. Close.
    Closed,
    /// The session is over. [`Client::take_decided`] has what was certain before.
    Failed(Failure),
}

/// A session with a next hop.
#[derive(Debug)]
pub struct Client {
    options: ClientOptions,
    /// Said in EHLO: ours, or that of the client told by XCLIENT.
    helo: String,
    offers: Capabilities,
    stage: Stage,
    /// Commands not sent yet.
    script: VecDeque<(Awaited, Vec<u8>)>,
    /// Replies outstanding, in order.
    flight: VecDeque<Awaited>,
    deadline: Option<Instant>,
    out: Vec<u8>,
    input: Vec<u8>,
    reader: ReplyReader,
    encoder: BodyEncoder,
    running: Option<Running>,
    tls: bool,
    /// The next hop holds a transaction that wants RSET before the next MAIL.
    open: bool,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Commands or replies are outstanding.
    Dialogue,
    AwaitTls,
    Idle,
    Body,
    Closed,
    Failed(Failure),
}

/// One outstanding reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Greeting,
    Hello,
    /// HELO, after EHLO was refused.
    PlainHello,
    StartTls,
    Xclient,
    Mail,
    Rcpt(usize),
    Data,
    /// `None`: for the message (SMTP). `Some`: for one recipient (LMTP).
    FinalDot(Option<usize>),
    Reset,
    Quit,
}

/// The transaction under way.
#[derive(Debug)]
struct Running {
    results: Vec<Option<RecipientResult>>,
    /// Recipients that RCPT accepted and whose fate is open.
    accepted: Vec<usize>,
    probe: bool,
}

impl Client {
    /// A session that waits for the greeting.
    pub fn new(options: ClientOptions, now: Instant) -> Self {
        let mut client = Self {
            helo: options.helo.clone(),
            options,
            offers: Capabilities::default(),
            stage: Stage::Dialogue,
            script: VecDeque::new(),
            flight: VecDeque::from([Awaited::Greeting]),
            deadline: None,
            out: Vec::new(),
            input: Vec::new(),
            reader: ReplyReader::default(),
            encoder: BodyEncoder::new(),
            running: None,
            tls: false,
            open: false,
        };
        client.set_deadline(now);
        client
    }

    /// Has the first EHLO give the name of a client that the next hop was told of otherwise (PROXY);
    /// when the next hop wants neither EHLO nor HELO with it, ours follows. Before any octet came.
    pub fn speak_for(&mut self, helo: &str) {
        if is_domain_or_literal(helo) {
            self.helo = helo.to_string();
        }
    }

    /// What the next hop offers.
    pub fn capabilities(&self) -> &Capabilities {
        &self.offers
    }

    /// Appends what is to be written to `out`, and says what to do then.
    pub fn poll(&mut self, out: &mut Vec<u8>) -> Step {
        out.append(&mut self.out);
        let over = matches!(self.stage, Stage::Idle | Stage::Closed);
        if over && let Some(running) = self.running.take() {
            return Step::Outcome(running.results.into_iter().flatten().collect());
        }
        match &self.stage {
            Stage::Dialogue => Step::Read,
            Stage::AwaitTls => Step::StartTls,
            Stage::Idle => Step::Idle,
            Stage::Body => Step::Body,
            Stage::Closed => Step::Closed,
            Stage::Failed(failure) => Step::Failed(failure.clone()),
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// What was certain of a transaction when the session failed; empty when there was none.
    pub fn take_decided(&mut self) -> Vec<Option<RecipientResult>> {
        self.running.take().map(|running| running.results).unwrap_or_default()
    }

    /// Octets from the next hop.
    pub fn handle_bytes(&mut self, now: Instant, input: &[u8]) {
        match self.stage {
            Stage::Dialogue | Stage::Idle | Stage::Body => {}
            // RFC 3207 section 6, and CVE-2011-0411 seen from the client: what an attacker appends
            // to the plain 220 must not be taken for what the next hop said under TLS.
            Stage::AwaitTls | Stage::Closed | Stage::Failed(_) => return,
        }
        self.input.extend_from_slice(input);
        self.read_replies(now);
    }

    /// The handshake that [`Step::StartTls`] asked for is done.
    pub fn handle_tls(&mut self, now: Instant) {
        if matches!(self.stage, Stage::AwaitTls) {
            self.tls = true;
            self.say_hello(now);
        }
    }

    /// The connection has ended; `why` may be empty.
    pub fn handle_closed(&mut self, why: &str) {
        match self.phase() {
            // QUIT needs no answer; a next hop that just closes is as good.
            Phase::Quit => self.stage = Stage::Closed,
            phase => self.fail(Failure::Closed(phase, why.to_string())),
        }
    }

    /// The time of [`Self::next_timeout`] has come; called early, it does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            match self.phase() {
                Phase::Quit => self.stage = Stage::Closed,
                phase => self.fail(Failure::Timeout(phase)),
            }
        }
    }

    /// Starts a transaction. Only when [`Step::Idle`]; as with the other orders, else nothing happens.
    pub fn begin(&mut self, now: Instant, transaction: &Transaction<'_>) {
        if !matches!(self.stage, Stage::Idle) {
            return;
        }
        let recipients = transaction.recipients;
        self.running = Some(Running {
            results: recipients.iter().map(|_| None).collect(),
            accepted: Vec::new(),
            probe: transaction.probe,
        });
        if let Some(refusal) = self.cannot_carry(transaction) {
            self.settle_open(&refusal);
            return;
        }
        self.reset_if_open();
        self.script.push_back((Awaited::Mail, mail_line(transaction, &self.offers)));
        for (index, recipient) in recipients.iter().enumerate() {
            self.script.push_back((Awaited::Rcpt(index), rcpt_line(recipient, &self.offers)));
        }
        self.script.push_back(if transaction.probe {
            (Awaited::Reset, b"RSET\r\n".to_vec())
        } else {
            (Awaited::Data, b"DATA\r\n".to_vec())
        });
        self.start(now);
    }

    /// Tells the next hop about a client; it greets and is greeted anew. Only when [`Step::Idle`].
    ///
    /// From then on EHLO gives the client's name, when it has one that can be said: Postfix judges and
    /// records the name of the last EHLO, whatever `HELO=` told it, and an SPF check of our name against
    /// the client's address would fail.
    pub fn xclient(&mut self, now: Instant, told: &Xclient) {
        if !matches!(self.stage, Stage::Idle) {
            return;
        }
        let Some(line) = self.offers.xclient.as_ref().and_then(|offered| told.render(offered)) else {
            return self.fail(Failure::XclientNotOffered);
        };
        self.helo = match &told.helo {
            Some(Told::Known(helo)) if is_domain_or_literal(helo) => helo.clone(),
            _ => self.options.helo.clone(),
        };
        self.reset_if_open();
        self.script.push_back((Awaited::Xclient, line));
        self.start(now);
    }

    /// RSET. Only when [`Step::Idle`].
    pub fn reset(&mut self, now: Instant) {
        if matches!(self.stage, Stage::Idle) {
            self.open = true;
            self.reset_if_open();
            self.start(now);
        }
    }

    /// QUIT. Only when [`Step::Idle`].
    pub fn quit(&mut self, now: Instant) {
        if matches!(self.stage, Stage::Idle) {
            self.script.push_back((Awaited::Quit, b"QUIT\r\n".to_vec()));
            self.start(now);
        }
    }

    /// Whether the message is still wanted: between pieces the next hop may have refused it.
    pub fn wants_body(&self) -> bool {
        matches!(self.stage, Stage::Body)
    }

    /// Appends a piece of the message as it goes over the wire. After [`Step::Body`], while
    /// [`Self::wants_body`].
    pub fn encode_body(&mut self, now: Instant, piece: &[u8], out: &mut Vec<u8>) {
        if matches!(self.stage, Stage::Body) {
            self.deadline = Some(now.after(self.options.deadlines.block));
            self.encoder.encode(piece, out);
        }
    }

    /// Appends the end of the message.
    pub fn end_body(&mut self, now: Instant, out: &mut Vec<u8>) {
        if !matches!(self.stage, Stage::Body) {
            return;
        }
        self.encoder.finish(out);
        self.stage = Stage::Dialogue;
        match (self.options.protocol, &self.running) {
            (Protocol::Lmtp, Some(running)) => {
                self.flight.extend(running.accepted.iter().map(|&index| Awaited::FinalDot(Some(index))));
            }
            _ => self.flight.push_back(Awaited::FinalDot(None)),
        }
        self.set_deadline(now);
    }

    fn read_replies(&mut self, now: Instant) {
        let mut input = mem::take(&mut self.input);
        let mut used = 0;
        while used < input.len() && matches!(self.stage, Stage::Dialogue | Stage::Idle | Stage::Body) {
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
        if matches!(self.stage, Stage::Dialogue | Stage::Idle | Stage::Body) {
            input.drain(..used);
            debug_assert!(input.len() < REPLY_LINE_BYTES_MAX);
            self.input = input;
        }
    }

    fn handle_reply(&mut self, now: Instant, reply: Reply) {
        let phase = self.phase();
        let Some(awaited) = self.flight.pop_front() else {
            return self.handle_unasked(reply);
        };
        match awaited {
            Awaited::Greeting if reply.code == 220 => self.say_hello(now),
            Awaited::Hello if reply.is_positive() => self.handle_hello(read_capabilities(&reply)),
            Awaited::Hello if reply.is_permanent() && self.options.protocol == Protocol::Smtp => {
                let line = format!("HELO {}\r\n", self.helo);
                self.script.push_back((Awaited::PlainHello, line.into_bytes()));
            }
            Awaited::PlainHello if reply.is_positive() => self.handle_hello(Capabilities::default()),
            // The client's name may be one that the next hop takes for none ("my_host.example"; RFC 1123
            // has no underscores): its mail is not lost over that.
            Awaited::PlainHello if reply.is_permanent() && self.helo != self.options.helo => {
                self.helo.clone_from(&self.options.helo);
                self.say_hello(now);
            }
            Awaited::StartTls if reply.code == 220 => {
                self.stage = Stage::AwaitTls;
                self.deadline = Some(now.after(self.options.deadlines.greeting));
                return;
            }
            // Opportunistic: offered, but not now.
            Awaited::StartTls if !reply.is_positive() => {}
            Awaited::Xclient if reply.code == 220 => self.say_hello(now),
            Awaited::Mail | Awaited::Rcpt(_) | Awaited::Data | Awaited::FinalDot(_) => {
                self.handle_transaction_reply(awaited, reply);
            }
            Awaited::Reset => {
                self.open = false;
                if !reply.is_positive() && self.running.is_none() {
                    self.fail(Failure::Refused(phase, reply));
                }
            }
            Awaited::Quit => self.stage = Stage::Closed,
            _ if !reply.is_positive() => self.fail(Failure::Refused(phase, reply)),
            _ => self.fail(Failure::Protocol(phase, ReplyError::Unexpected(reply.code))),
        }
        self.advance(now);
    }

    fn handle_transaction_reply(&mut self, awaited: Awaited, reply: Reply) {
        let Some(running) = &mut self.running else { return };
        if reply.code == 421 && !matches!(awaited, Awaited::FinalDot(Some(_))) {
            // "Service not available, closing": the answer to everything that is still open.
            self.settle_open(&reply);
            self.stage = Stage::Closed;
            return;
        }
        match awaited {
            Awaited::Mail if (200..300).contains(&reply.code) => self.open = true,
            // Says nothing about the recipients that were asked about.
            Awaited::Mail if running.probe && !reply.is_positive() => self.fail(Failure::Refused(Phase::Mail, reply)),
            Awaited::Mail if !reply.is_positive() => {
                self.script.retain(|(awaited, _)| *awaited == Awaited::Reset);
                self.settle_open(&reply);
            }
            Awaited::Rcpt(index) if (200..300).contains(&reply.code) => {
                if running.probe {
                    running.settle(index, RecipientResult::Delivered(reply));
                } else {
                    running.accept(index);
                }
            }
            Awaited::Rcpt(index) if !reply.is_positive() => running.settle(index, rcpt_refusal(reply)),
            Awaited::Data if reply.code == 354 => self.handle_go_ahead(),
            Awaited::Data if !reply.is_positive() => self.settle_open(&reply),
            Awaited::FinalDot(index) if (200..300).contains(&reply.code) || !reply.is_positive() => {
                self.open = false;
                match index {
                    Some(index) => running.settle(index, of_reply(reply)),
                    None => self.settle_open(&reply),
                }
            }
            awaited => {
                let error = ReplyError::Unexpected(reply.code);
                self.flight.push_front(awaited);
                self.fail(Failure::Protocol(self.phase(), error));
            }
        }
    }

    fn handle_go_ahead(&mut self) {
        if self.running.as_ref().is_some_and(|running| !running.accepted.is_empty()) {
            self.encoder = BodyEncoder::new();
            self.stage = Stage::Body;
        } else if self.options.protocol == Protocol::Smtp {
            // RFC 2920 section 3.1: "the client cannot assume that the DATA command will be
            // rejected just because none of the RCPT TO commands worked"; it then sends the dot.
            self.out.extend_from_slice(b".\r\n");
            self.flight.push_back(Awaited::FinalDot(None));
        } else {
            // RFC 2033 section 4.2 forbids this 354: how many replies would follow the dot?
            self.stage = Stage::Closed;
        }
    }

    /// A reply that nothing asked for.
    fn handle_unasked(&mut self, reply: Reply) {
        let phase = self.phase();
        match self.stage {
            // Before the dot: the message is refused already ("552 too large"), and the next hop
            // will not read the rest as a message. A positive reply here would be one to a message
            // that has not been sent: never a delivery.
            Stage::Body if !reply.is_positive() => {
                self.settle_open(&reply);
                self.stage = Stage::Closed;
            }
            _ if !reply.is_positive() => self.fail(Failure::Refused(phase, reply)),
            _ => self.fail(Failure::Protocol(phase, ReplyError::Unexpected(reply.code))),
        }
    }

    fn handle_hello(&mut self, offers: Capabilities) {
        self.offers = offers;
        if self.offers.starttls && self.options.starttls && !self.tls {
            self.script.push_back((Awaited::StartTls, b"STARTTLS\r\n".to_vec()));
        }
    }

    fn say_hello(&mut self, now: Instant) {
        let verb = match self.options.protocol {
            Protocol::Smtp => "EHLO",
            Protocol::Lmtp => "LHLO",
        };
        self.offers = Capabilities::default();
        self.script.push_back((Awaited::Hello, format!("{verb} {}\r\n", self.helo).into_bytes()));
        self.start(now);
    }

    fn start(&mut self, now: Instant) {
        self.stage = Stage::Dialogue;
        self.advance(now);
    }

    /// Sends what may be sent, and comes to rest when nothing is outstanding.
    fn advance(&mut self, now: Instant) {
        match self.stage {
            Stage::Dialogue => {}
            Stage::Body => return self.deadline = Some(now.after(self.options.deadlines.block)),
            Stage::AwaitTls => return,
            Stage::Idle | Stage::Closed | Stage::Failed(_) => return self.deadline = None,
        }
        let flight_max = if self.offers.pipelining { FLIGHT_COMMANDS_MAX } else { 1 };
        while self.flight.len() < flight_max
            && let Some((awaited, line)) = self.script.pop_front()
        {
            let hopeless = self.running.as_ref().is_some_and(|running| running.accepted.is_empty());
            if awaited == Awaited::Data && self.flight.is_empty() && hopeless {
                continue;
            }
            self.out.extend_from_slice(&line);
            self.flight.push_back(awaited);
        }
        if self.flight.is_empty() {
            self.stage = Stage::Idle;
        }
        self.set_deadline(now);
    }

    fn set_deadline(&mut self, now: Instant) {
        let deadlines = &self.options.deadlines;
        let wait: Option<Duration> = self.flight.front().map(|awaited| match awaited {
            Awaited::Greeting | Awaited::Hello | Awaited::PlainHello | Awaited::StartTls | Awaited::Xclient => {
                deadlines.greeting
            }
            Awaited::Mail => deadlines.mail,
            Awaited::Rcpt(_) => deadlines.rcpt,
            Awaited::Data => deadlines.data,
            Awaited::FinalDot(_) => deadlines.final_dot,
            Awaited::Reset | Awaited::Quit => deadlines.quit,
        });
        self.deadline = wait.map(|wait| now.after(wait));
    }

    fn phase(&self) -> Phase {
        match (&self.stage, self.flight.front()) {
            (Stage::AwaitTls, _) => Phase::StartTls,
            (Stage::Body, _) => Phase::Body,
            (_, None) => Phase::Idle,
            (_, Some(awaited)) => match awaited {
                Awaited::Greeting => Phase::Greeting,
                Awaited::Hello | Awaited::PlainHello => Phase::Hello,
                Awaited::StartTls => Phase::StartTls,
                Awaited::Xclient => Phase::Xclient,
                Awaited::Mail => Phase::Mail,
                Awaited::Rcpt(_) => Phase::Rcpt,
                Awaited::Data => Phase::Data,
                Awaited::FinalDot(_) => Phase::FinalDot,
                Awaited::Reset => Phase::Reset,
                Awaited::Quit => Phase::Quit,
            },
        }
    }

    fn fail(&mut self, failure: Failure) {
        if matches!(self.stage, Stage::Closed | Stage::Failed(_)) {
            return;
        }
        self.deadline = None;
        // Every recipient has its answer: the transaction stands, only the session is lost.
        let decided = self.running.as_ref().is_some_and(|running| running.results.iter().all(Option::is_some));
        self.stage = match self.phase() {
            _ if decided => Stage::Closed,
            Phase::FinalDot => Stage::Failed(Failure::AfterFinalDot(failure.to_string())),
            _ => Stage::Failed(failure),
        };
    }

    fn reset_if_open(&mut self) {
        if mem::take(&mut self.open) {
            self.script.push_back((Awaited::Reset, b"RSET\r\n".to_vec()));
        }
    }

    /// Gives every recipient that is still open the same answer.
    fn settle_open(&mut self, reply: &Reply) {
        if let Some(running) = &mut self.running {
            running.accepted.clear();
            for result in running.results.iter_mut().filter(|result| result.is_none()) {
                *result = Some(of_reply(reply.clone()));
            }
        }
    }

    /// What this next hop cannot take, however often it is tried.
    fn cannot_carry(&self, transaction: &Transaction<'_>) -> Option<Reply> {
        let mut addresses = transaction.sender.into_iter().chain(transaction.recipients.iter().map(|to| &to.address));
        let utf8 =
            transaction.smtputf8 || addresses.any(|address| !address.local.is_ascii() || !address.domain.is_ascii());
        if utf8 && !self.offers.smtputf8 {
            return Some(Reply::new(550, Enhanced(5, 6, 7), "The next hop does not offer SMTPUTF8"));
        }
        // RFC 1870 section 6.1: a client that knows the limit need not try.
        match self.offers.size {
            Some(max) if max > 0 && transaction.size > max => {
                Some(Reply::new(552, Enhanced(5, 3, 4), "The message is larger than the next hop takes"))
            }
            _ => None,
        }
    }
}

impl Running {
    fn accept(&mut self, index: usize) {
        if self.results.get(index).is_some_and(Option::is_none) {
            self.accepted.push(index);
        }
    }

    /// The first answer counts.
    fn settle(&mut self, index: usize, result: RecipientResult) {
        self.accepted.retain(|&accepted| accepted != index);
        if let Some(slot) = self.results.get_mut(index) {
            slot.get_or_insert(result);
        }
    }
}

pub(super) fn of_reply(reply: Reply) -> RecipientResult {
    if reply.is_permanent() {
        RecipientResult::Refused(reply)
    } else if reply.is_transient() {
        RecipientResult::Deferred(reply)
    } else {
        RecipientResult::Delivered(reply)
    }
}

/// RFC 5321 section 4.5.3.1.10: 552 to RCPT means too many recipients, "the client SHOULD treat a 552
/// … as a temporary … failure" and send the rest again.
pub(super) fn rcpt_refusal(reply: Reply) -> RecipientResult {
    if reply.code == 552 { RecipientResult::Deferred(reply) } else { of_reply(reply) }
}

/// Commands under way at once. Their replies, some 100 octets each, must fit into the socket buffers
/// between us and a next hop that writes before it reads (RFC 2920 section 3.1).
const FLIGHT_COMMANDS_MAX: usize = 100;
