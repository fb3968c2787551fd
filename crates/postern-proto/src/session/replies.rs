//! Every reply that a session can give. The words are bland: detail goes to the log.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::{Deferral, Eviction};
use crate::reply::{Enhanced, Reply};

pub(super) static OK: Reply = Reply::new(250, Enhanced(2, 0, 0), "OK");
pub(super) static RESET: Reply = Reply::new(250, Enhanced(2, 0, 0), "Reset");
pub(super) static SENDER_OK: Reply = Reply::new(250, Enhanced(2, 1, 0), "Sender OK");
pub(super) static RECIPIENT_OK: Reply = Reply::new(250, Enhanced(2, 1, 5), "Recipient OK");
pub(super) static CHUNK_OK: Reply = Reply::new(250, Enhanced(2, 0, 0), "Chunk OK");
pub(super) static CANNOT_VERIFY: Reply = Reply::new(252, Enhanced(2, 5, 2), "Send a message and see");
pub(super) static HELP: Reply =
    Reply::new(214, Enhanced(2, 0, 0), "HELO EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY STARTTLS QUIT: RFC 5321");
pub(super) static GOODBYE: Reply = Reply::new(221, Enhanced(2, 0, 0), "Goodbye");
pub(super) static GO_AHEAD: Reply = Reply::plain(354, "End with a dot on a line of its own");
pub(super) static READY_FOR_TLS: Reply = Reply::new(220, Enhanced(2, 0, 0), "Ready for TLS");

pub(super) static TIMED_OUT: Reply = Reply::new(421, Enhanced(4, 4, 2), "Timed out, closing");
pub(super) static SHUTTING_DOWN: Reply = Reply::new(421, Enhanced(4, 3, 2), "Shutting down, come back later");
pub(super) static TOO_MANY_ERRORS: Reply = Reply::new(421, Enhanced(4, 7, 0), "Too many errors, closing");
pub(super) static ENDLESS: Reply = Reply::new(421, Enhanced(4, 3, 4), "Message without end, closing");

pub(super) static UNSURE: Reply =
    Reply::new(450, Enhanced(4, 4, 3), "Cannot check this recipient now, try again later");
pub(super) static DISK_FAILED: Reply =
    Reply::new(451, Enhanced(4, 3, 0), "Could not store the message, try again later");
pub(super) static FULL: Reply = Reply::new(452, Enhanced(4, 3, 1), "Not enough room, try again later");
pub(super) static TOO_MANY_RECIPIENTS: Reply =
    Reply::new(452, Enhanced(4, 5, 3), "Too many recipients, send the others in a message of their own");
pub(super) static OTHER_MODE: Reply =
    Reply::new(452, Enhanced(4, 5, 3), "This recipient needs a transaction of its own, send it again");

pub(super) static UNKNOWN_COMMAND: Reply = Reply::new(500, Enhanced(5, 5, 2), "Command not recognised");
pub(super) static LINE_TOO_LONG: Reply = Reply::new(500, Enhanced(5, 5, 6), "Line too long");
pub(super) static BAD_LINE_END: Reply =
    Reply::new(500, Enhanced(5, 5, 2), "Lines end with CR LF, and hold neither CR nor NUL");
pub(super) static BAD_ARGUMENTS: Reply = Reply::new(501, Enhanced(5, 5, 4), "Syntax error in arguments");
pub(super) static BAD_SENDER: Reply = Reply::new(501, Enhanced(5, 1, 7), "Bad sender address");
pub(super) static BAD_RECIPIENT: Reply = Reply::new(501, Enhanced(5, 1, 3), "Bad recipient address");
pub(super) static NOT_IMPLEMENTED: Reply = Reply::new(502, Enhanced(5, 5, 1), "Not implemented");
pub(super) static NO_AUTH: Reply =
    Reply::new(502, Enhanced(5, 5, 1), "This port takes no AUTH: submission is elsewhere");
pub(super) static NO_STARTTLS: Reply = Reply::new(502, Enhanced(5, 5, 1), "STARTTLS is not offered");
pub(super) static SAY_HELLO: Reply = Reply::new(503, Enhanced(5, 5, 1), "Say EHLO or HELO first");
pub(super) static NEED_MAIL: Reply = Reply::new(503, Enhanced(5, 5, 1), "MAIL comes first");
pub(super) static NESTED_MAIL: Reply = Reply::new(503, Enhanced(5, 5, 1), "A sender was given already");
pub(super) static CHUNKS_BEGUN: Reply = Reply::new(503, Enhanced(5, 5, 1), "BDAT has begun: go on with it, or RSET");
pub(super) static TLS_IS_ON: Reply = Reply::new(503, Enhanced(5, 5, 1), "TLS is on already");
pub(super) static NO_RECIPIENTS: Reply = Reply::new(554, Enhanced(5, 5, 1), "No valid recipients");
pub(super) static NO_BINARY: Reply = Reply::new(501, Enhanced(5, 6, 1), "BINARYMIME is not offered");
pub(super) static XCLIENT_DENIED: Reply = Reply::new(550, Enhanced(5, 7, 0), "Not authorised for XCLIENT");

pub(super) static UNKNOWN_USER: Reply = Reply::new(550, Enhanced(5, 1, 1), "No such recipient here");
pub(super) static NOT_OURS: Reply = Reply::new(550, Enhanced(5, 7, 1), "Relaying denied");
pub(super) static TOO_BIG: Reply = Reply::new(552, Enhanced(5, 3, 4), "Message too big");
pub(super) static UNKNOWN_PARAMETER: Reply = Reply::new(555, Enhanced(5, 5, 4), "Parameter not recognised");

pub(super) static BARE_LINE_END: Reply =
    Reply::new(554, Enhanced(5, 6, 0), "Message holds a bare CR or LF (RFC 5321 section 2.3.8)");
pub(super) static LINE_BOMB: Reply = Reply::new(554, Enhanced(5, 6, 0), "Message holds a line that is too long");
pub(super) static HEADER_BOMB: Reply = Reply::new(554, Enhanced(5, 6, 0), "Message header too large");
pub(super) static LOOP: Reply = Reply::new(554, Enhanced(5, 4, 6), "Too many hops: this message goes in a circle");

static BUSY: Reply = Reply::new(451, Enhanced(4, 3, 2), "Too much mail at the moment, try again later");
static GREYLISTED: Reply = Reply::new(450, Enhanced(4, 7, 1), "Try again in a few minutes");
static HARVESTING: Reply = Reply::new(450, Enhanced(4, 7, 1), "Too many unknown recipients, try again later");
static MAKE_ROOM: Reply = Reply::new(421, Enhanced(4, 3, 2), "Too busy, come back later");

/// Why not now.
pub(super) fn deferral(why: Deferral) -> &'static Reply {
    match why {
        Deferral::Busy => &BUSY,
        Deferral::NoRoom => &FULL,
        Deferral::Greylisted => &GREYLISTED,
        Deferral::Harvesting => &HARVESTING,
    }
}

/// The last word to who must go.
pub(super) fn eviction(why: Eviction) -> &'static Reply {
    match why {
        Eviction::Place => &MAKE_ROOM,
        Eviction::Idle => &TIMED_OUT,
    }
}

/// `220 mx.example.com ESMTP Postern`.
pub(super) fn greeting(hostname: &str, out: &mut Vec<u8>) {
    put(out, &["220 ", hostname, " ESMTP Postern\r\n"]);
}

/// At the receipt.
pub(super) fn queued(id: &str, out: &mut Vec<u8>) {
    put(out, &["250 2.0.0 Queued as ", id, "\r\n"]);
}

/// At the outcome.
pub(super) fn delivered(id: &str, out: &mut Vec<u8>) {
    put(out, &["250 2.0.0 Delivered as ", id, "\r\n"]);
}

/// What a filter or next hop said, made fit for the end of a message: only 4yz and 5yz may stand
/// there, and 421 would announce a close that does not follow.
pub(super) fn refusal(reply: Reply) -> Reply {
    match reply.code {
        421 => Reply { code: 451, ..reply },
        400..=599 => reply,
        _ => Reply { code: 451, enhanced: Some(Enhanced(4, 3, 0)), text: Cow::Borrowed("Try again later") },
    }
}

fn put(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}
