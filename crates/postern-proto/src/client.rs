//! SMTP and LMTP towards a next hop, as a machine without I/O.
//!
//! Owns the dialogue: greeting, EHLO, STARTTLS, XCLIENT, the transaction, RSET and QUIT, with the
//! deadlines of RFC 5321 section 4.5.3.2. It never connects, retries or decides what a failure
//! means for a message: it reports facts. The pump in `postern-net` drives it:
//!
//! ```text
//! loop { match client.poll(now, &mut out) { … write `out`, then do what the step says … } }
//! ```

use alloc::string::String;
use alloc::vec::Vec;

use crate::address::Address;
use crate::envelope::{DsnRequest, Recipient};
use crate::reply::Reply;
use crate::time::Duration;

/// What is spoken to the next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RFC 5321.
    Smtp,
    /// RFC 2033: one reply per recipient after the message.
    Lmtp,
}

/// How long each wait may last (RFC 5321 section 4.5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// The 220, 5 minutes (4.5.3.2.1); also EHLO, STARTTLS and XCLIENT.
    pub greeting: Duration,
    /// The reply to MAIL, 5 minutes (4.5.3.2.2).
    pub mail: Duration,
    /// The reply to RCPT, 5 minutes (4.5.3.2.3).
    pub rcpt: Duration,
    /// The 354, 2 minutes (4.5.3.2.4).
    pub data: Duration,
    /// Each piece of the body, 3 minutes (4.5.3.2.5).
    pub block: Duration,
    /// The reply to the final dot, 10 minutes (4.5.3.2.6): "it must be long, duplicates otherwise".
    pub final_dot: Duration,
    /// The reply to RSET and QUIT: nothing depends on them, 10 seconds.
    pub quit: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Self {
            greeting: minutes(5),
            mail: minutes(5),
            rcpt: minutes(5),
            data: minutes(2),
            block: minutes(3),
            final_dot: minutes(10),
            quit: Duration::from_secs(10),
        }
    }
}

/// What the next hop said to EHLO or LHLO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// EHLO (or LHLO) was understood.
    pub esmtp: bool,
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 1870: `Some(0)` is "offered, no limit told".
    pub size: Option<u64>,
    /// RFC 6152.
    pub eight_bit: bool,
    /// RFC 6531.
    pub smtputf8: bool,
    /// RFC 3030; seen, not used: DATA serves.
    pub chunking: bool,
    /// RFC 3207.
    pub starttls: bool,
    /// RFC 2034.
    pub enhanced: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// Names of the XCLIENT attributes on offer, upper case; `None` when XCLIENT is not.
    pub xclient: Option<Vec<String>>,
}

/// A message to hand over, without its bytes.
#[derive(Clone, Debug)]
pub struct Transaction<'a> {
    /// The reverse-path; `None` is `<>`.
    pub sender: Option<&'a Address>,
    /// At least one.
    pub recipients: &'a [Recipient],
    /// Declare `BODY=8BITMIME` when offered. Where it is not, the bytes go as they are.
    pub eight_bit: bool,
    /// The message needs RFC 6531; refused with 5.6.7 where it is not offered.
    pub smtputf8: bool,
    /// `RET=` and `ENVID=`, passed on where DSN is offered.
    pub dsn: &'a DsnRequest,
    /// Octets that [`Client::encode_body`] will be given, for `SIZE=`.
    pub size: u64,
    /// Ask about the recipients only: RSET instead of DATA.
    pub probe: bool,
}

/// How one recipient fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientResult {
    /// The next hop has taken responsibility (of a probe: it would take it).
    Delivered(Reply),
    /// 5yz.
    Refused(Reply),
    /// 4yz.
    Deferred(Reply),
}

/// What was being waited for when something went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connecting.
    Connect,
    /// The 220.
    Greeting,
    /// The reply to EHLO, LHLO or HELO.
    Hello,
    /// The reply to STARTTLS, and the handshake.
    StartTls,
    /// The reply to XCLIENT.
    Xclient,
    /// No command outstanding.
    Idle,
    /// The reply to MAIL.
    Mail,
    /// The reply to RCPT.
    Rcpt,
    /// The 354.
    Data,
    /// Sending the message.
    Body,
    /// The reply to the final dot.
    FinalDot,
    /// The reply to RSET.
    Reset,
    /// The reply to QUIT.
    Quit,
}

mod body;
mod command;
mod failure;
mod flight;
mod machine;
mod reply;

pub use failure::Failure;
pub use flight::{FLIGHT_MESSAGES_MAX, Flight, FlightEvent, FlightOptions, Readiness};
pub use machine::{Client, ClientOptions, Step};
pub use reply::{REPLY_LINE_BYTES_MAX, REPLY_LINES_MAX, ReplyError};

#[cfg(test)]
mod tests;
