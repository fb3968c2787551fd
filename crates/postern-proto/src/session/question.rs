//! What a session asks of whoever holds policy and spool, and the answers it takes.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::address::Address;
use crate::author::{Author, AuthorFault};
use crate::envelope::Meta;
use crate::mode::Mode;
use crate::reply::Reply;

/// What [`super::Session::handle_bytes`] read, and what the caller does next.
#[derive(Debug)]
#[must_use]
pub struct Step {
    /// Octets of the input that were used up; hand the rest in again.
    pub consumed: usize,
    /// What the session needs now. Replies written to `out` go to the client first, unless the
    /// question can be answered at once.
    pub then: Then,
}

/// What the session needs next.
#[derive(Debug)]
pub enum Then {
    /// More input.
    Read,
    /// An answer; no input is taken until [`super::Session::handle_answer`].
    Ask(Ask),
    /// Write the replies, throw the rest of the input away (RFC 3207 section 4.2), shake hands,
    /// then [`super::Session::handle_tls`].
    StartTls,
    /// Write the replies and close.
    Close,
}

/// A question to whoever holds policy and spool.
#[derive(Debug)]
pub enum Ask {
    /// Is there such a recipient, and in which mode is its domain?
    Recipient(Address),
    /// Store this piece of a large body, behind those before it.
    Store(Vec<u8>),
    /// The message is whole: append it. Tentatively when the mode is `through`, else durably.
    Finish(Box<Finished>),
    /// The outcome is not in sight: make the tentative message durable and answer at the receipt.
    Commit,
    /// Drop what was stored of this message. Needs no answer.
    Abandon,
}

/// A whole message.
#[derive(Debug)]
pub struct Finished {
    /// Envelope and facts; `arrival.at_unix_ms` is zero, the session has no wall clock.
    pub meta: Meta,
    /// When to answer.
    pub mode: Mode,
    /// `None`: every piece went through [`Ask::Store`].
    pub body: Option<Vec<u8>>,
    /// Who wrote it; `None`: the options did not ask for it.
    pub author: Option<Result<Author, AuthorFault>>,
}

/// The answer to an [`Ask`].
#[derive(Debug)]
pub enum Answer {
    /// To [`Ask::Recipient`].
    Recipient(RecipientVerdict),
    /// To [`Ask::Store`]: go on.
    Stored,
    /// To [`Ask::Store`] or [`Ask::Finish`]: no room, or no disk.
    StoreFailed(StoreFault),
    /// To [`Ask::Finish`] or [`Ask::Commit`]: durable; only who holds a receipt may say so.
    Committed {
        /// The name of the item, told to the client.
        id: Box<str>,
    },
    /// The outcome: it has arrived.
    Delivered {
        /// The name of the item, told to the client.
        id: Box<str>,
    },
    /// The outcome: filter or next hop refused it, for good (5yz) or for now (4yz).
    Refused(Reply),
    /// The outcome is not to be had soon: the session will ask to commit.
    Unsettled,
}

/// What is known of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientVerdict {
    /// Accept; this is the mode of its domain.
    Accept(Mode),
    /// No such user: 550 5.1.1, or the next hop's own words.
    Unknown(Option<Reply>),
    /// Not a domain of ours: 550 5.7.1.
    NotOurs,
    /// Nobody could say: 450.
    Unsure,
    /// Not now, whoever the recipient is: 450, 451 or 452.
    Defer(Deferral),
}

/// Why a recipient is not taken at this moment. The door says the same to all who come under it,
/// so that nothing about the recipient can be learned from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferral {
    /// There is more mail than can be worked off in the time promised: 451 4.3.2.
    Busy,
    /// No memory or disk left for mail of this class: 452 4.3.1.
    NoRoom,
    /// The first attempt of a suspect: 450 4.7.1.
    Greylisted,
    /// Too many unknown recipients came from there: 450 4.7.1.
    Harvesting,
}

/// Why a connection is sent away in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// Its place is needed for another: 421 4.3.2.
    Place,
    /// It moved nothing on for longer than the weather allows: 421 4.4.2.
    Idle,
}

/// Why the spool did not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// Below the free-space mark, or at a bound: 452 4.3.1.
    Full,
    /// The disk failed: 451 4.3.0.
    Failed,
}
