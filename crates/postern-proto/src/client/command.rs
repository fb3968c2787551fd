//! The words of the dialogue: MAIL and RCPT lines written, the answer to EHLO read.
//!
//! Called by the client machine only. Nothing is written that was not offered.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Capabilities, Transaction};
use crate::envelope::{Notify, Recipient};
use crate::reply::Reply;
use crate::xclient::xtext_encode;

/// Reads what stands behind the first line of the answer to EHLO. Unknown words are skipped.
pub(super) fn read_capabilities(reply: &Reply) -> Capabilities {
    let mut offers = Capabilities { esmtp: true, ..Capabilities::default() };
    for line in reply.text.split('\n').skip(1) {
        let mut words = line.split_ascii_whitespace();
        let Some(keyword) = words.next() else { continue };
        match keyword.to_ascii_uppercase().as_str() {
            "PIPELINING" => offers.pipelining = true,
            "SIZE" => offers.size = Some(words.next().and_then(|size| size.parse().ok()).unwrap_or(0)),
            "8BITMIME" => offers.eight_bit = true,
            "SMTPUTF8" => offers.smtputf8 = true,
            "CHUNKING" => offers.chunking = true,
            "STARTTLS" => offers.starttls = true,
            "ENHANCEDSTATUSCODES" => offers.enhanced = true,
            "DSN" => offers.dsn = true,
            "XCLIENT" => offers.xclient = Some(words.map(str::to_ascii_uppercase).collect()),
            _ => {}
        }
    }
    offers
}

pub(super) fn mail_line(transaction: &Transaction<'_>, offers: &Capabilities) -> Vec<u8> {
    let sender = transaction.sender.map(ToString::to_string).unwrap_or_default();
    let mut line = format!("MAIL FROM:<{sender}>");
    if offers.size.is_some() && !transaction.probe {
        line.push_str(&format!(" SIZE={}", transaction.size));
    }
    if offers.eight_bit && transaction.eight_bit {
        line.push_str(" BODY=8BITMIME");
    }
    if offers.smtputf8 && transaction.smtputf8 {
        line.push_str(" SMTPUTF8");
    }
    if offers.dsn {
        if let Some(full) = transaction.dsn.full {
            line.push_str(if full { " RET=FULL" } else { " RET=HDRS" });
        }
        if let Some(id) = &transaction.dsn.envelope_id {
            line.push_str(&format!(" ENVID={}", xtext_encode(id)));
        }
    }
    ended(line)
}

pub(super) fn rcpt_line(recipient: &Recipient, offers: &Capabilities) -> Vec<u8> {
    let mut line = format!("RCPT TO:<{}>", recipient.address);
    if offers.dsn {
        if recipient.notify.given {
            line.push_str(&format!(" NOTIFY={}", notify_words(recipient.notify)));
        }
        // As received: still xtext. Anything else is not passed on, a space would be a parameter.
        let xtext = |original: &&String| !original.is_empty() && original.bytes().all(|byte| byte.is_ascii_graphic());
        if let Some(original) = recipient.original.as_ref().filter(xtext) {
            line.push_str(&format!(" ORCPT={original}"));
        }
    }
    ended(line)
}

fn notify_words(notify: Notify) -> String {
    let words = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
    let asked: Vec<&str> = words.iter().filter(|(asked, _)| *asked).map(|(_, word)| *word).collect();
    if asked.is_empty() { String::from("NEVER") } else { asked.join(",") }
}

fn ended(mut line: String) -> Vec<u8> {
    line.push_str("\r\n");
    line.into_bytes()
}
