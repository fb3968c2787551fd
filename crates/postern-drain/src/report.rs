//! Delivery status notifications: multipart/report (RFC 6522) with a machine-readable part
//! (RFC 3464), international where an address is (RFC 6533). Pure text; the worker makes an item
//! of it. A report has the null sender and is never answered by another.

use std::fmt::Write as _;

use postern_proto::address::Address;
use postern_proto::envelope::{Meta, Recipient};
use postern_proto::received::rfc5322_date;
use postern_proto::reply::{Enhanced, Reply};

use crate::limits::{REPORT_HEADER_BYTES_MAX, REPORT_RECIPIENTS_MAX};
use crate::settle::{Action, Told};

/// What a report is made of.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    /// The message that is reported on; its sender gets the report.
    pub(crate) meta: &'a Meta,
    /// The name of the item that failed.
    pub(crate) item: &'a str,
    pub(crate) told: &'a [Told],
    /// The beginning of the message as stored, or all of it (`quote_all`).
    pub(crate) original: &'a [u8],
    /// `original` is the whole message and is to be returned (`RET=FULL`).
    pub(crate) quote_all: bool,
    pub(crate) hostname: &'a str,
    /// The address in From.
    pub(crate) from: &'a str,
    pub(crate) now_unix_ms: u64,
    /// Makes the boundary and the Message-ID; a sender who could guess the boundary could forge
    /// parts of the report by quoting it.
    pub(crate) random: u64,
}

/// The text of a report and what its envelope must declare.
#[derive(Debug)]
pub(crate) struct ReportText {
    pub(crate) bytes: Vec<u8>,
    pub(crate) eight_bit: bool,
    /// An address in it is international (RFC 6533).
    pub(crate) smtputf8: bool,
}

impl Report<'_> {
    /// Writes the report; `None` when the message has the null sender.
    pub(crate) fn text(&self) -> Option<ReportText> {
        let to = self.meta.sender.as_ref()?;
        let international =
            !to.to_string().is_ascii() || self.told.iter().any(|told| is_international(&told.recipient));
        let boundary = format!("=_{}_{:016x}", self.item, self.random);
        let mut text = String::with_capacity(4096);
        self.write_header(&mut text, to, &boundary);
        let _ = write!(text, "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n");
        self.write_words(&mut text);
        let kind = if international { "global-delivery-status" } else { "delivery-status" };
        let _ = write!(text, "\r\n--{boundary}\r\nContent-Type: message/{kind}\r\n\r\n");
        self.write_status(&mut text);
        let mut bytes = text.into_bytes();
        self.write_original(&mut bytes, &boundary);
        let eight_bit = !bytes.is_ascii();
        Some(ReportText { bytes, eight_bit, smtputf8: international })
    }

    fn write_header(&self, text: &mut String, to: &Address, boundary: &str) {
        let subject = match self.told.iter().find(|told| matches!(told.what, Action::Failed(_))) {
            Some(_) => "Your message could not be delivered",
            None => "Your message was delivered",
        };
        let _ = write!(
            text,
            "Date: {}\r\nFrom: Mail delivery <{}>\r\nTo: <{to}>\r\nSubject: {subject}\r\n\
             Message-ID: <{}.{:016x}@{}>\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n\
             Content-Transfer-Encoding: 8bit\r\n\r\n",
            rfc5322_date(self.now_unix_ms),
            self.from,
            self.item,
            self.random,
            self.hostname,
        );
    }

    fn write_words(&self, text: &mut String) {
        let arrived = rfc5322_date(self.meta.arrival.at_unix_ms);
        let _ = write!(text, "This is the mail server at {}.\r\n\r\n", self.hostname);
        let _ = write!(text, "About the message that it took from you on {arrived}:\r\n");
        for told in self.told.iter().take(REPORT_RECIPIENTS_MAX) {
            let address = &told.recipient.address;
            let _ = match &told.what {
                Action::Failed(reply) => {
                    write!(text, "\r\n  <{address}> did not get it:\r\n    {}\r\n", one_line(reply))
                }
                Action::Delivered => write!(text, "\r\n  <{address}> has it in the mailbox.\r\n"),
                Action::Relayed => {
                    write!(text, "\r\n  <{address}>: it was handed to the next server, which sends no notices.\r\n")
                }
            };
        }
        let more = self.told.len().saturating_sub(REPORT_RECIPIENTS_MAX);
        if more > 0 {
            let _ = write!(text, "\r\n  and {more} more recipients.\r\n");
        }
    }

    /// RFC 3464 section 2.2 (per message) and 2.3 (per recipient).
    fn write_status(&self, text: &mut String) {
        if let Some(id) = &self.meta.dsn.envelope_id {
            let _ = write!(text, "Original-Envelope-Id: {}\r\n", printable(id));
        }
        let arrived = rfc5322_date(self.meta.arrival.at_unix_ms);
        let _ = write!(text, "Reporting-MTA: dns; {}\r\nArrival-Date: {arrived}\r\n", self.hostname);
        for told in self.told.iter().take(REPORT_RECIPIENTS_MAX) {
            text.push_str("\r\n");
            self.write_recipient(text, told);
        }
    }

    fn write_recipient(&self, text: &mut String, told: &Told) {
        let Recipient { address, original, .. } = &told.recipient;
        if let Some(original) = original.as_deref().and_then(|original| original.split_once(';')) {
            let _ =
                write!(text, "Original-Recipient: {};{}\r\n", printable(original.0), printable(&unxtext(original.1)));
        }
        let kind = if address.to_string().is_ascii() { "rfc822" } else { "utf-8" };
        let (action, status) = match &told.what {
            Action::Failed(reply) => ("failed", status_of(reply)),
            Action::Delivered => ("delivered", Enhanced(2, 0, 0)),
            Action::Relayed => ("relayed", Enhanced(2, 0, 0)),
        };
        let _ = write!(text, "Final-Recipient: {kind}; {address}\r\nAction: {action}\r\nStatus: {status}\r\n");
        if let Action::Failed(reply) = &told.what {
            let _ = write!(text, "Diagnostic-Code: smtp; {}\r\n", one_line(reply));
        }
        let _ = write!(text, "Last-Attempt-Date: {}\r\n", rfc5322_date(self.now_unix_ms));
    }

    fn write_original(&self, out: &mut Vec<u8>, boundary: &str) {
        let header = if self.quote_all { self.original } else { header_of(self.original) };
        let kind = match (self.quote_all, header.is_ascii() || !self.meta.smtputf8) {
            (true, true) => "message/rfc822",
            (true, false) => "message/global",
            (false, true) => "text/rfc822-headers",
            (false, false) => "message/global-headers",
        };
        let encoding = if header.is_ascii() { "7bit" } else { "8bit" };
        let part = format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n");
        out.extend_from_slice(part.as_bytes());
        out.extend_from_slice(header);
        if !out.ends_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    }
}

fn is_international(recipient: &Recipient) -> bool {
    !recipient.address.to_string().is_ascii()
}

/// The header section, without the blank line, whole lines only, bounded.
fn header_of(original: &[u8]) -> &[u8] {
    let end = original.windows(4).position(|four| four == b"\r\n\r\n").map_or(original.len(), |at| at + 2);
    let end = end.min(REPORT_HEADER_BYTES_MAX);
    let whole = original[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    &original[..whole]
}

/// A status that says the same as the code when the next hop gave none, and never "success" for a
/// failure (RFC 3464 section 2.3.4).
fn status_of(reply: &Reply) -> Enhanced {
    match reply.enhanced {
        Some(enhanced @ Enhanced(4 | 5, ..)) => enhanced,
        _ => Enhanced(5, 0, 0),
    }
}

fn one_line(reply: &Reply) -> String {
    printable(&reply.to_string())
}

/// Text from outside within a header field: no line end may survive in it.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// RFC 3461 section 4: `+3D` is `=`.
fn unxtext(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('+') {
        out.push_str(before);
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if byte.is_ascii() => {
                out.push(char::from(byte));
                rest = &after[2..];
            }
            _ => {
                out.push('+');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
