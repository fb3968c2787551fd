//! The milter protocol, version 6, from the side of the mail server, as a machine without I/O.
//!
//! Owns packets and the conversation: negotiation, macros, the replay of a stored message from what
//! was kept at its arrival, and what the filter answers. It never opens a socket, waits or decides
//! what becomes of mail. The pump in `postern-net` drives it; the simulator and a fuzzer may too:
//!
//! ```text
//! loop { match conversation.poll(&mut out) { … write `out`, then do what the step says … } }
//! ```
//!
//! A filter sees what it would see from Sendmail and Postfix: the header as the client sent it,
//! without the Received field of the server that asks. Folded fields have their lines parted by LF.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::address::Address;
use crate::envelope::Meta;
use crate::judgement::HeaderChange;
use crate::reply::Reply;

mod conversation;
mod fields;
mod macros;
mod outcome;
mod packet;
mod response;

pub use conversation::{Conversation, Step};
pub use fields::{Field, split_message};
pub use outcome::clean_field;
pub use packet::{Command, Packet, take_packet};
pub use response::{Negotiated, Response};

/// The version that is spoken; older filters answer with theirs.
pub const VERSION: u32 = 6;
/// The oldest version whose packets are the ones known here.
const VERSION_MIN: u32 = 2;

/// A packet from the filter. libmilter sends 64 KiB at most; others send a whole new body in one packet. 1 MiB is
/// what the protocol's largest negotiated size (`SMFIP_MDS_1M`) allows. Longer: [`Fault::PacketTooLong`].
pub const PACKET_BYTES_MAX: usize = 1024 * 1024;
/// A packet to the filter: what libmilter reads (`MILTER_MAX_DATA_SIZE`). A longer field is cut, the filter sees its
/// beginning.
pub const DATA_BYTES_MAX: usize = 65_535;
/// Changes to the header of one message. Filters make a dozen; rspamd with every module on makes 40. More:
/// [`Fault::TooManyChanges`].
pub const HEADER_CHANGES_MAX: usize = 500;
/// Octets of all changes to one header together: as much as the header itself may have
/// ([`crate::limits::HEADER_BYTES_MAX`]).
pub const HEADER_CHANGE_BYTES_MAX: usize = crate::limits::HEADER_BYTES_MAX;
/// Recipients added and taken away, together: ten times what a transaction may have.
pub const RECIPIENT_CHANGES_MAX: usize = 1_000;
/// "I am still at it", in a row: at one a second more than the longest time that a judgement gets.
pub const PROGRESS_MAX: u32 = 10_000;
/// Lines of a reply that a filter words itself (libmilter: 32), and octets of each; the rest is left out.
const REPLY_LINES_MAX: usize = 32;
const REPLY_LINE_BYTES_MAX: usize = 980;

/// What a filter may do (`SMFIF_*`); all of it is offered.
pub mod actions {
    /// Add and insert header fields.
    pub const ADD_HEADERS: u32 = 0x01;
    /// Replace the body.
    pub const CHANGE_BODY: u32 = 0x02;
    /// Add recipients.
    pub const ADD_RECIPIENTS: u32 = 0x04;
    /// Take recipients away.
    pub const DELETE_RECIPIENTS: u32 = 0x08;
    /// Change and delete header fields.
    pub const CHANGE_HEADERS: u32 = 0x10;
    /// Quarantine.
    pub const QUARANTINE: u32 = 0x20;
    /// Change the reverse-path.
    pub const CHANGE_FROM: u32 = 0x40;
    /// Add recipients with parameters.
    pub const ADD_RECIPIENTS_WITH: u32 = 0x80;
    /// Say which macros it wants.
    pub const SET_SYMBOLS: u32 = 0x100;
    /// All of them.
    pub const ALL: u32 = 0x1ff;
}

/// What a filter does not want to be told, or not to have to answer (`SMFIP_*`); all of it is offered.
pub mod steps {
    /// No CONNECT.
    pub const NO_CONNECT: u32 = 0x01;
    /// No HELO.
    pub const NO_HELO: u32 = 0x02;
    /// No MAIL.
    pub const NO_MAIL: u32 = 0x04;
    /// No RCPT.
    pub const NO_RCPT: u32 = 0x08;
    /// No body.
    pub const NO_BODY: u32 = 0x10;
    /// No header fields.
    pub const NO_HEADERS: u32 = 0x20;
    /// No end of the header.
    pub const NO_END_OF_HEADER: u32 = 0x40;
    /// No answer to header fields.
    pub const NO_REPLY_HEADER: u32 = 0x80;
    /// No unknown commands; none are kept, so none are ever sent.
    pub const NO_UNKNOWN: u32 = 0x100;
    /// No DATA.
    pub const NO_DATA: u32 = 0x200;
    /// It may answer "no more body" ([`super::Response::Skip`]).
    pub const SKIP: u32 = 0x400;
    /// It wants refused recipients too; none are kept, so none are ever sent.
    pub const REFUSED_RECIPIENTS: u32 = 0x800;
    /// No answer to CONNECT.
    pub const NO_REPLY_CONNECT: u32 = 0x1000;
    /// No answer to HELO.
    pub const NO_REPLY_HELO: u32 = 0x2000;
    /// No answer to MAIL.
    pub const NO_REPLY_MAIL: u32 = 0x4000;
    /// No answer to RCPT.
    pub const NO_REPLY_RCPT: u32 = 0x8000;
    /// No answer to DATA.
    pub const NO_REPLY_DATA: u32 = 0x1_0000;
    /// No answer to unknown commands.
    pub const NO_REPLY_UNKNOWN: u32 = 0x2_0000;
    /// No answer to the end of the header.
    pub const NO_REPLY_END_OF_HEADER: u32 = 0x4_0000;
    /// No answer to pieces of the body.
    pub const NO_REPLY_BODY: u32 = 0x8_0000;
    /// The blank behind a field's colon belongs to its value, both ways.
    pub const LEADING_SPACE: u32 = 0x10_0000;
    /// All of them.
    pub const ALL: u32 = 0x1f_ffff;
}

/// A stored message, without its body.
#[derive(Clone, Copy, Debug)]
pub struct Letter<'a> {
    /// The envelope and the facts of arrival.
    pub meta: &'a Meta,
    /// Our name, as in the greeting: macro `j`.
    pub hostname: &'a str,
    /// The name of the item: macro `i`.
    pub id: &'a str,
    /// The header as stored, as far as [`split_message`] says it goes.
    pub header: &'a [u8],
    /// A new body may be this long; more is [`Fault::BodyTooLong`].
    pub body_bytes_max: u64,
}

/// How a filter ended a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It may go on.
    Accept,
    /// It is to be kept aside; the words are the filter's.
    Quarantine(String),
    /// 5yz.
    Reject(Reply),
    /// 4yz.
    Tempfail(Reply),
    /// Answered 250 and thrown away.
    Discard,
}

/// What a filter wants done with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended. It speaks for the recipients that are not in `refused`.
    pub ending: Ending,
    /// Changes to the header, in order. Positions count in the header as stored.
    pub headers: Vec<HeaderChange>,
    /// A new body.
    pub body: Option<Vec<u8>>,
    /// Recipients refused by themselves: index in [`Meta::recipients`], and the reply.
    pub refused: Vec<(usize, Reply)>,
    /// Further recipients. Parameters that came with them are left out.
    pub added: Vec<Address>,
    /// Recipients to leave out.
    pub deleted: Vec<Address>,
    /// A new reverse-path; `Some(None)` is `<>`.
    pub sender: Option<Option<Address>>,
}

impl Outcome {
    fn new() -> Self {
        Self {
            ending: Ending::Accept,
            headers: Vec::new(),
            body: None,
            refused: Vec::new(),
            added: Vec::new(),
            deleted: Vec::new(),
            sender: None,
        }
    }
}

/// Why a conversation cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A packet without a code.
    EmptyPacket,
    /// Longer than [`PACKET_BYTES_MAX`]; most likely this is no milter.
    PacketTooLong(u32),
    /// No such code.
    UnknownCode(u8),
    /// The data of this code is not what it should be.
    Malformed(u8),
    /// This code is no answer to what was asked.
    Unexpected(u8),
    /// It speaks a version that is not known here.
    Version(u32),
    /// It asks for actions or steps that were not offered.
    NotOffered,
    /// It did with this code what it had not negotiated.
    NotNegotiated(u8),
    /// More than [`HEADER_CHANGES_MAX`], [`HEADER_CHANGE_BYTES_MAX`] or [`RECIPIENT_CHANGES_MAX`].
    TooManyChanges,
    /// The new body is longer than [`Letter::body_bytes_max`].
    BodyTooLong,
    /// More than [`PROGRESS_MAX`] in a row.
    NoEnd,
    /// It spoke before it was asked.
    Hasty,
    /// It hung up before it had judged.
    Closed,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = |code: &u8| char::from(*code).escape_default();
        match self {
            Self::EmptyPacket => f.write_str("a packet without a code"),
            Self::PacketTooLong(len) => write!(f, "a packet of {len} octets; is this a milter?"),
            Self::UnknownCode(c) => write!(f, "unknown code '{}'", code(c)),
            Self::Malformed(c) => write!(f, "malformed data behind code '{}'", code(c)),
            Self::Unexpected(c) => write!(f, "code '{}' is no answer to what was asked", code(c)),
            Self::Version(version) => write!(f, "it speaks version {version}"),
            Self::NotOffered => f.write_str("it asks for what was not offered"),
            Self::NotNegotiated(c) => write!(f, "code '{}' was not negotiated", code(c)),
            Self::TooManyChanges => f.write_str("it wants too many changes"),
            Self::BodyTooLong => f.write_str("its new body is longer than a message may be"),
            Self::NoEnd => f.write_str("it is still at it, and still at it"),
            Self::Hasty => f.write_str("it spoke before it was asked"),
            Self::Closed => f.write_str("it hung up"),
        }
    }
}

impl core::error::Error for Fault {}

#[cfg(test)]
mod tests;
