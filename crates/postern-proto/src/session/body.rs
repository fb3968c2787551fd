//! DATA and BDAT: the message itself, up to the moment when the spool is asked to take it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{AfterStore, Ask, Finished, Session, State, StoreFault, Then, replies};
use crate::author::AuthorScanner;
use crate::command::BodyType;
use crate::data::{BodyFault, BodyReader};
use crate::envelope::{DsnRequest, Meta};
use crate::limits;
use crate::mode::Mode;
use crate::reply::Reply;
use crate::time::Instant;

impl Session {
    pub(super) fn handle_data(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Then> {
        if self.helo.is_none() {
            return self.error(&replies::SAY_HELLO, out);
        }
        let size_max = self.options.size_max;
        let Some(transaction) = self.transaction.as_mut() else {
            return self.error(&replies::NEED_MAIL, out);
        };
        if transaction.chunked {
            return self.error(&replies::CHUNKS_BEGUN, out);
        }
        if transaction.recipients.is_empty() {
            // With pipelining DATA is sent before the answers to RCPT are read (RFC 2920 section
            // 3.1): who asked for recipients and got none has broken no rule.
            let asked = transaction.asked > 0;
            return if asked {
                self.futile(&replies::NO_RECIPIENTS, out)
            } else {
                self.error(&replies::NO_RECIPIENTS, out)
            };
        }
        transaction.reader = Some(BodyReader::new(size_max));
        self.state = State::ExpectData;
        self.steps += 1;
        self.timer.body(now);
        replies::GO_AHEAD.write_to(out);
        None
    }

    /// The octets of a chunk follow the command at once, so they are read even where the command
    /// is refused: otherwise they would be taken for commands (RFC 3030 section 4.2).
    pub(super) fn handle_bdat(&mut self, now: Instant, size: u64, last: bool, out: &mut Vec<u8>) -> Option<Then> {
        let size_max = self.options.size_max;
        let goes_on = self.is_amid_chunks();
        let refusal: Option<&Reply> = match self.transaction.as_mut() {
            _ if self.helo.is_none() => Some(&replies::SAY_HELLO),
            None => Some(&replies::NEED_MAIL),
            Some(transaction) if transaction.recipients.is_empty() => Some(&replies::NO_RECIPIENTS),
            Some(transaction) => {
                transaction.chunked = true;
                transaction.reader.get_or_insert_with(|| BodyReader::new(size_max));
                None
            }
        };
        // A chunk beyond anything we would take cannot be read to its end in good time.
        if size > size_max.saturating_mul(2) {
            return Some(self.hang_up(&replies::TOO_BIG, out));
        }
        let asked = self.recipients_asked() > 0;
        let close = match refusal {
            Some(reply) if asked => self.futile(reply, out),
            Some(reply) => self.error(reply, out),
            None => None,
        };
        if close.is_some() {
            return close;
        }
        self.state = State::ExpectChunk { remaining: size, last, refused: refusal.is_some() };
        if !goes_on {
            self.timer.body(now);
        }
        self.futile += u32::from(size == 0 && !last);
        self.close_if(self.futile > limits::FUTILE_MAX, out)
    }

    pub(super) fn read_data(&mut self, now: Instant, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Then>) {
        let size_max = self.options.size_max;
        let Some((reader, body, author)) = self.reader() else { return (0, Some(Then::Close)) };
        // A piece at a time: what a session holds stays bounded however much came in one read.
        let input = &input[..input.len().min(limits::BODY_PIECE_BYTES)];
        let before = body.len();
        let progress = reader.read_data(input, body);
        show_author(author, body, before);
        let endless = reader.size() > size_max.saturating_mul(2).max(size_max.saturating_add(1 << 20));
        self.timer.body_progress(now, progress.consumed);
        if progress.ended {
            return (progress.consumed, Some(self.end_body(now, out)));
        }
        if endless {
            return (progress.consumed, Some(self.hang_up(&replies::ENDLESS, out)));
        }
        let then = self.store_piece(now, AfterStore::Data);
        let more = (input.is_empty()).then_some(Then::Read);
        (progress.consumed, then.or(more))
    }

    pub(super) fn read_chunk(
        &mut self,
        now: Instant,
        input: &[u8],
        (remaining, last, refused): (u64, bool, bool),
        out: &mut Vec<u8>,
    ) -> (usize, Option<Then>) {
        let take = usize::try_from(remaining).unwrap_or(usize::MAX).min(input.len()).min(limits::BODY_PIECE_BYTES);
        if take == 0 && remaining > 0 {
            return (0, Some(Then::Read));
        }
        let remaining = remaining - take as u64;
        self.timer.body_progress(now, take);
        if refused {
            self.state = State::ExpectChunk { remaining, last, refused };
            if remaining == 0 {
                self.state = State::ExpectCommand;
                self.timer.command(now);
            }
            return (take, None);
        }
        let Some((reader, body, author)) = self.reader() else { return (0, Some(Then::Close)) };
        let before = body.len();
        reader.read_chunk(&input[..take], body);
        show_author(author, body, before);
        if remaining > 0 {
            self.state = State::ExpectChunk { remaining, last, refused };
            return (take, self.store_piece(now, AfterStore::Chunk { remaining, last }));
        }
        if last {
            if let Some((reader, body, _)) = self.reader() {
                reader.end_chunks(body);
            }
            return (take, Some(self.end_body(now, out)));
        }
        let close = self.end_chunk(now, out);
        (take, close.or_else(|| self.store_piece(now, AfterStore::Chunk { remaining: 0, last: false })))
    }

    /// A chunk that is not the last: a fault is told here and now, and the transaction is over.
    fn end_chunk(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<Then> {
        let fault = self.transaction.as_ref().and_then(|transaction| transaction.reader.as_ref()?.fault());
        self.state = State::ExpectCommand;
        self.expect_command(now);
        match fault {
            Some(fault) => self.error(fault_reply(fault), out),
            None => {
                replies::CHUNK_OK.write_to(out);
                None
            }
        }
    }

    /// The last octet is here.
    fn end_body(&mut self, now: Instant, out: &mut Vec<u8>) -> Then {
        let Some(transaction) = self.transaction.as_mut() else { return Then::Close };
        let fault = transaction.reader.as_ref().and_then(BodyReader::fault);
        if let Some(fault) = fault {
            fault_reply(fault).write_to(out);
            return self.drop_transaction(now);
        }
        if transaction.streamed && transaction.store_failed.is_none() && !transaction.body.is_empty() {
            self.state = State::AwaitStored { next: AfterStore::Finish };
            self.timer.wait(now, limits::RECEIPT_TIMEOUT);
            return Then::Ask(Ask::Store(core::mem::take(&mut transaction.body)));
        }
        self.finish(now, out)
    }

    /// Hands the whole message over.
    pub(super) fn finish(&mut self, now: Instant, out: &mut Vec<u8>) -> Then {
        let arrival = self.arrival();
        let Some(transaction) = self.transaction.as_mut() else { return Then::Close };
        match transaction.store_failed {
            Some(StoreFault::Full) => {
                replies::FULL.write_to(out);
                return self.drop_transaction(now);
            }
            Some(StoreFault::Failed) => {
                replies::DISK_FAILED.write_to(out);
                return self.drop_transaction(now);
            }
            None => {}
        }
        let mode = transaction.mode.unwrap_or(Mode::Collect);
        let body = core::mem::take(&mut transaction.body);
        let meta = Meta {
            arrival,
            sender: transaction.mail.sender.take(),
            recipients: core::mem::take(&mut transaction.recipients),
            eight_bit: transaction.mail.body == Some(BodyType::EightBitMime),
            smtputf8: transaction.mail.smtputf8,
            dsn: DsnRequest { full: transaction.mail.ret_full, envelope_id: transaction.mail.envelope_id.take() },
            size: transaction.reader.as_ref().map_or(0, BodyReader::size),
            judged: false,
            attempts: 0,
            tried_since_unix_ms: None,
            last_error: None,
            note: None,
            checks: crate::checks::Checks::default(),
            judgement: None,
        };
        let body = if transaction.streamed { None } else { Some(body) };
        let author = transaction.author.take().map(|scanner| scanner.finish());
        if mode == Mode::Through {
            self.state = State::AwaitOutcome;
            self.timer.outcome(now);
        } else {
            self.state = State::AwaitReceipt;
            self.timer.wait(now, limits::RECEIPT_TIMEOUT);
        }
        Then::Ask(Ask::Finish(Box::new(Finished { meta, mode, body, author })))
    }

    /// The message is refused; stored pieces of it are given back.
    fn drop_transaction(&mut self, now: Instant) -> Then {
        let streamed = self.transaction.as_ref().is_some_and(|transaction| transaction.streamed);
        self.end_transaction(now);
        if streamed { Then::Ask(Ask::Abandon) } else { Then::Read }
    }

    /// Sends a piece of a large body off once enough has gathered.
    fn store_piece(&mut self, now: Instant, next: AfterStore) -> Option<Then> {
        let transaction = self.transaction.as_mut()?;
        let enough = if transaction.streamed { limits::BODY_PIECE_BYTES } else { limits::INLINE_BODY_BYTES_MAX };
        if transaction.body.len() < enough {
            return None;
        }
        let piece = core::mem::take(&mut transaction.body);
        if transaction.store_failed.is_some() {
            return None;
        }
        transaction.streamed = true;
        self.state = State::AwaitStored { next };
        self.timer.storing(now);
        Some(Then::Ask(Ask::Store(piece)))
    }

    pub(super) fn resume_body(&mut self, now: Instant, next: AfterStore) {
        // The client must not pay for our disk. A piece of 64 KiB has earned the whole allowance in any case.
        self.timer.body(now);
        self.state = match next {
            AfterStore::Data => State::ExpectData,
            AfterStore::Chunk { remaining: 0, .. } => {
                self.expect_command(now);
                State::ExpectCommand
            }
            AfterStore::Chunk { remaining, last } => State::ExpectChunk { remaining, last, refused: false },
            AfterStore::Finish => State::ReadyToFinish,
        };
    }

    /// Whether a message is under way that has begun to come in chunks, all of which have one allowance.
    pub(super) fn is_amid_chunks(&self) -> bool {
        self.timer.is_per_message() && self.transaction.as_ref().is_some_and(|transaction| transaction.chunked)
    }

    /// The time for a command begins, unless the message's own is running.
    pub(super) fn expect_command(&mut self, now: Instant) {
        if !self.is_amid_chunks() {
            self.timer.command(now);
        }
    }

    fn reader(&mut self) -> Option<(&mut BodyReader, &mut Vec<u8>, Option<&mut AuthorScanner>)> {
        let transaction = self.transaction.as_mut()?;
        Some((transaction.reader.as_mut()?, &mut transaction.body, transaction.author.as_deref_mut()))
    }
}

/// Shows the scanner what was kept of the message since `before`. After a fault nothing is kept, and
/// nobody asks for the author.
fn show_author(author: Option<&mut AuthorScanner>, body: &[u8], before: usize) {
    if let Some(author) = author
        && !author.is_over()
        && let Some(more) = body.get(before..)
    {
        author.feed(more);
    }
}

fn fault_reply(fault: BodyFault) -> &'static Reply {
    match fault {
        BodyFault::BareLineFeed | BodyFault::BareCarriageReturn => &replies::BARE_LINE_END,
        BodyFault::LineTooLong => &replies::LINE_BOMB,
        BodyFault::HeaderTooLarge => &replies::HEADER_BOMB,
        BodyFault::TooManyHops => &replies::LOOP,
        BodyFault::TooBig => &replies::TOO_BIG,
    }
}

#[cfg(test)]
mod tests;
