//! What the listener needs of the gate before it: sockets, whom it let through, and its keys.
//!
//! The gate sees datagrams and knows no QUIC connection; the listener sees connections and trusts
//! what the gate wrote down about their first packet. This is the seam between the two.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use postern_proto::door::{Keyring, Kind, TicketBody};
use quinn::{AsyncUdpSocket, ConnectionIdGenerator};

/// The gate, as its listener sees it.
pub trait Gatehouse: Debug + Send + Sync + 'static {
    /// The sockets, ready to be used by the runtime that calls. Called once for each life of the
    /// listener; the descriptors below outlive them all, so that nothing queued is lost.
    ///
    /// # Errors
    /// The system's words.
    fn socket(&self) -> io::Result<Arc<dyn AsyncUdpSocket>>;
    /// Connection ids that the gate knows again.
    fn connection_ids(&self) -> Box<dyn ConnectionIdGenerator>;
    /// By what an attempt was let through, by the connection id that its client chose. `None`: the
    /// gate has forgotten it, or never saw it.
    fn admitted(&self, dcid: &[u8]) -> Option<Pass>;
    /// Looks at the keys.
    fn with_keys(&self, look: &mut dyn FnMut(&Keyring));
    /// A second has passed; so many handshakes of strangers were begun in it.
    fn tick(&self, unix_s: u64, strangers: u32);
}

/// What an attempt showed to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// An address that answers.
    Cookie,
    /// A ticket of ours, with proof of possession.
    Ticket {
        /// What it was given for.
        kind: Kind,
        /// What we wrote into it.
        body: TicketBody,
    },
}
