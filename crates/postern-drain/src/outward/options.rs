//! What outbound mail is given by the program: DNS, keys, pins, and how a door is opened.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use postern_net::door::courier::{Pending, Road};
use postern_net::door::{PublicKey, Purse};
use postern_net::mx::MxFinder;
use postern_net::published::Roots;
use postern_proto::door::Mode;

use crate::outbound::Closed;

/// How mail reaches domains that are not ours.
#[derive(Clone, Debug)]
pub struct OutboundOptions {
    /// Finds mail servers; its names answer for doors too.
    pub mx: MxFinder,
    /// Authorities whose word counts where only a proven server will do.
    pub roots: Roots,
    /// Posterns; `None`: everything goes by MX.
    pub doors: Option<Doors>,
}

/// How posterns are used.
#[derive(Clone, Debug)]
pub struct Doors {
    /// Opens them.
    pub opener: Arc<dyn Opener>,
    /// What is remembered of them.
    pub purse: Purse,
    /// What the operator said of them, by domain in lower case; may be replaced while the drain runs.
    pub pins: Arc<ArcSwap<HashMap<String, PinnedDoor>>>,
    /// The domain that our key is proven for, lower case.
    pub domain: String,
    /// Its organisational domain; only its authors' mail goes through doors.
    pub org: String,
}

/// A peer as the operator knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedDoor {
    /// A name or an address.
    pub host: String,
    /// Its UDP port.
    pub port: u16,
    /// One at least.
    pub keys: Vec<PublicKey>,
    /// What is done when it is silent.
    pub mode: Mode,
}

/// A door to be opened.
#[derive(Clone, Debug)]
pub struct DoorPlace {
    /// Whose it is; tickets are kept by it.
    pub domain: String,
    /// To be tried in order.
    pub addresses: Vec<SocketAddr>,
    /// One of which it must show.
    pub keys: Vec<PublicKey>,
}

/// Makes links.
pub trait Opener: fmt::Debug + Send + Sync {
    /// Opens a door, within its own deadlines.
    fn open(&self, place: DoorPlace) -> Pending<Result<Arc<dyn Road>, Closed>>;
}
