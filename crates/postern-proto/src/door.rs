//! The postern, an authenticated mail door on a port of its own (door/1): wire formats, keys, and the checks of its gate.
//!
//! The specification is `docs/spec/door.md`; these files follow its sections. What a gate does for every datagram
//! ([`shape`], [`check_cid`], [`check_ticket`], [`check_cookie`], [`challenge`]) allocates nothing, cannot panic and
//! compares secrets in constant time. Nothing here keeps state of a peer, opens a socket or reads a clock: the gate in
//! `postern-doors` and the client in `postern-net` call it, and so do the fuzzers and the test vectors.

mod cbor;
pub mod cid;
pub mod class;
pub mod close;
pub mod cookie;
pub mod frame;
pub mod keys;
pub mod limits;
mod name;
pub mod packet;
pub mod record;
pub mod share;
pub mod sip;
pub mod ticket;

pub use cid::{check_cid, make_cid};
pub use class::{PeerClass, PeerLimits};
pub use close::CloseCode;
pub use cookie::{Challenge, Cookie, CookieFault, Terms, challenge, check_cookie, hello};
pub use frame::{Frame, FrameError, FrameReader};
pub use keys::{Former, Keyring, Master};
pub use packet::{Prefix, Shape, Token, prefix_of, shape, wide_prefix_of};
pub use record::{DoorRecord, Mode, RecordFault};
pub use share::Share;
pub use ticket::{Kind, Ticket, TicketBody, TicketFault, check_ticket, mint, open_ticket, token_of};
