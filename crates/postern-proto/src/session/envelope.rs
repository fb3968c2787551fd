//! MAIL and RCPT: the envelope grows, one mode per transaction.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{Ask, RecipientVerdict, Session, State, Then, Transaction, replies};
use crate::author::AuthorScanner;
use crate::command::{BodyType, Mail, Rcpt};
use crate::envelope::Recipient;
use crate::limits;
use crate::mode::Mode;
use crate::time::Instant;

impl Session {
    pub(super) fn handle_mail(&mut self, mail: Mail, out: &mut Vec<u8>) -> Option<Then> {
        if self.helo.is_none() {
            return self.error(&replies::SAY_HELLO, out);
        }
        if self.transaction.is_some() {
            return self.error(&replies::NESTED_MAIL, out);
        }
        let offers = self.options.offers;
        let asks_dsn = mail.ret_full.is_some() || mail.envelope_id.is_some();
        let asks_extension = mail.size.is_some() || mail.body.is_some() || mail.smtputf8 || asks_dsn;
        let not_offered = (asks_extension && !self.esmtp)
            || (asks_dsn && !offers.dsn)
            || (mail.smtputf8 && !offers.smtputf8)
            || (mail.body == Some(BodyType::EightBitMime) && !offers.eight_bit);
        if not_offered {
            return self.error(&replies::UNKNOWN_PARAMETER, out);
        }
        if mail.body == Some(BodyType::BinaryMime) {
            return self.error(&replies::NO_BINARY, out);
        }
        // An announcement reserves nothing (5,000 clients may announce 100 MB and fall silent);
        // it only saves the sender the trouble when it cannot succeed (RFC 1870 section 6.1).
        if mail.size.is_some_and(|size| size > self.options.size_max) {
            return self.futile(&replies::TOO_BIG, out);
        }
        let author = self.options.author.then(|| Box::new(AuthorScanner::new(mail.smtputf8)));
        self.transaction = Some(Box::new(Transaction {
            mail,
            author,
            recipients: Vec::new(),
            asked: 0,
            pending: None,
            mode: None,
            reader: None,
            body: Vec::new(),
            streamed: false,
            store_failed: None,
            chunked: false,
        }));
        self.steps += 1;
        replies::SENDER_OK.write_to(out);
        None
    }

    pub(super) fn handle_rcpt(&mut self, now: Instant, rcpt: Rcpt, out: &mut Vec<u8>) -> Option<Then> {
        if self.helo.is_none() {
            return self.error(&replies::SAY_HELLO, out);
        }
        let (dsn, recipients_max) = (self.options.offers.dsn, self.options.recipients_max);
        let Some(transaction) = self.transaction.as_mut() else {
            return self.error(&replies::NEED_MAIL, out);
        };
        if transaction.chunked {
            return self.error(&replies::CHUNKS_BEGUN, out);
        }
        if !dsn && (rcpt.notify.is_some() || rcpt.original.is_some()) {
            return self.error(&replies::UNKNOWN_PARAMETER, out);
        }
        if transaction.recipients.iter().any(|recipient| recipient.address == rcpt.address) {
            return self.futile(&replies::RECIPIENT_OK, out);
        }
        if transaction.recipients.len() >= recipients_max {
            return self.futile(&replies::TOO_MANY_RECIPIENTS, out);
        }
        let address = rcpt.address.clone();
        transaction.asked += 1;
        transaction.pending =
            Some(Recipient { address: rcpt.address, original: rcpt.original, notify: rcpt.notify.unwrap_or_default() });
        self.state = State::AwaitRecipient;
        self.timer.wait(now, limits::RECIPIENT_TIMEOUT);
        Some(Then::Ask(Ask::Recipient(address)))
    }

    /// The answer about the recipient that was asked for.
    pub(super) fn settle_recipient(&mut self, verdict: RecipientVerdict, out: &mut Vec<u8>) {
        let Some(transaction) = self.transaction.as_mut() else { return };
        let Some(recipient) = transaction.pending.take() else { return };
        match verdict {
            // A transaction has one answer, so its recipients must share when that is given.
            // A buffered one also lies in one domain's lane: `drain` and `mode` are by domain.
            RecipientVerdict::Accept(mode)
                if transaction.mode.is_some_and(|first| first != mode)
                    || (mode == Mode::Hold && transaction.is_of_another_domain(&recipient)) =>
            {
                self.futile += 1;
                replies::OTHER_MODE.write_to(out);
            }
            RecipientVerdict::Accept(mode) => {
                transaction.mode = Some(mode);
                transaction.recipients.push(recipient);
                self.steps += 1;
                replies::RECIPIENT_OK.write_to(out);
            }
            RecipientVerdict::Unknown(reply) => {
                self.refused_recipients += 1;
                reply
                    .filter(crate::reply::Reply::is_permanent)
                    .as_ref()
                    .unwrap_or(&replies::UNKNOWN_USER)
                    .write_to(out);
            }
            RecipientVerdict::NotOurs => {
                self.refused_recipients += 1;
                replies::NOT_OURS.write_to(out);
            }
            RecipientVerdict::Unsure => {
                self.futile += 1;
                replies::UNSURE.write_to(out);
            }
            RecipientVerdict::Defer(why) => {
                self.futile += 1;
                replies::deferral(why).write_to(out);
            }
        }
    }
}

impl Transaction {
    fn is_of_another_domain(&self, recipient: &Recipient) -> bool {
        self.recipients.first().is_some_and(|first| first.address.domain != recipient.address.domain)
    }
}
