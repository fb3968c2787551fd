//! Why a session cannot go on: facts, and the words for reports. What follows is the drain's.

use alloc::string::{String, ToString};
use core::fmt;

use super::{Phase, ReplyError};
use crate::reply::{Enhanced, Reply};

/// Why a session cannot go on. Facts only; [`Failure::reply`] turns one into a reply for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection: refused, unreachable, name unknown, no socket file. From the pump.
    Connect(String),
    /// The TLS handshake failed, and so did going on without. From the pump.
    Tls(String),
    /// The next hop refused the session: 4yz or 5yz to the greeting, EHLO or XCLIENT, or 421 when
    /// nothing was asked.
    Refused(Phase, Reply),
    /// Nothing came in time.
    Timeout(Phase),
    /// The connection ended; the words are the system's, when it said any.
    Closed(Phase, String),
    /// What came is no SMTP reply, or one that makes no sense here.
    Protocol(Phase, ReplyError),
    /// The route wants the client's address told by XCLIENT, and the next hop does not offer it.
    XclientNotOffered,
    /// The body could not be read. From the pump.
    Body(String),
    /// The final dot was sent and no reply came: the message may have been taken or not
    /// (RFC 1047). Trying again may duplicate, giving up may lose; the caller decides.
    AfterFinalDot(String),
}

impl Failure {
    /// This failure as a reply: the next hop's own when it gave one, else a 451 of ours.
    pub fn reply(&self) -> Reply {
        let enhanced = match self {
            Self::Refused(_, reply) => return reply.clone(),
            Self::Connect(_) => Enhanced(4, 4, 1),
            Self::Timeout(_) | Self::Closed(..) | Self::AfterFinalDot(_) => Enhanced(4, 4, 2),
            Self::Tls(_) => Enhanced(4, 7, 5),
            Self::Protocol(..) => Enhanced(4, 5, 0),
            Self::XclientNotOffered => Enhanced(4, 3, 5),
            Self::Body(_) => Enhanced(4, 3, 0),
        };
        Reply::new(451, enhanced, "").with_text(self.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(why) => write!(f, "no connection to the next hop: {why}"),
            Self::Tls(why) => write!(f, "TLS with the next hop failed: {why}"),
            Self::Refused(phase, reply) => write!(f, "the next hop refused at {phase}: {reply}"),
            Self::Timeout(phase) => write!(f, "the next hop did not answer in time at {phase}"),
            Self::Closed(phase, why) if why.is_empty() => write!(f, "the next hop closed the connection at {phase}"),
            Self::Closed(phase, why) => write!(f, "the connection to the next hop broke at {phase}: {why}"),
            Self::Protocol(phase, error) => write!(f, "the next hop broke the protocol at {phase}: {error}"),
            Self::XclientNotOffered => f.write_str("the next hop does not offer XCLIENT, which its route asks for"),
            Self::Body(why) => write!(f, "the message could not be read: {why}"),
            Self::AfterFinalDot(why) => write!(f, "no answer after the whole message was sent: {why}"),
        }
    }
}

impl core::error::Error for Failure {}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "the connect",
            Self::Greeting => "the greeting",
            Self::Hello => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Xclient => "XCLIENT",
            Self::Idle => "rest",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Body => "the message",
            Self::FinalDot => "the final dot",
            Self::Reset => "RSET",
            Self::Quit => "QUIT",
        })
    }
}
