//! What comes into the engine and what goes out of it: the requests of doors, drain and operator, and their replies, as
//! plain values. Ports, the handle and the simulator make and read them.

use crate::event::{Event, FinishError, SpoolError};
use crate::item::{Child, Fate, Item, ItemId, ItemSummary, Lane, LaneStats, Lease, NewItem, When};

/// One input of the engine.
#[derive(Debug)]
pub enum Input {
    /// From a door.
    Port {
        /// Which port: its events carry the same number.
        port: u32,
        /// What it asks.
        request: PortRequest,
    },
    /// From drain or operator.
    Request {
        /// Comes back in the reply.
        token: u64,
        /// What is asked.
        request: Request,
    },
    /// The disk has this many free bytes.
    FreeSpace(u64),
    /// Time has passed.
    Tick,
}

/// What a door asks.
#[derive(Debug)]
pub enum PortRequest {
    /// Put an item in.
    Append(NewItem, When),
    /// Make a tentative item durable.
    Commit(ItemId),
    /// Drop it.
    Abandon(ItemId),
    /// A piece of a body to come.
    WriteBody(ItemId, Vec<u8>),
}

/// What drain and operator ask.
#[derive(Debug)]
pub enum Request {
    /// The state of all lanes.
    Lanes,
    /// Due items of a lane.
    Lease {
        /// Which lane.
        lane: Lane,
        /// How many at most.
        n: usize,
        /// When the leases run out.
        until_unix_ms: u64,
    },
    /// Leases nobody waits for any more.
    Release(Vec<Lease>),
    /// Try again later.
    Postpone {
        /// The right to do so.
        lease: Lease,
        /// New metadata.
        meta: Vec<u8>,
        /// When.
        due_unix_ms: u64,
    },
    /// Done.
    Finish {
        /// The right to do so.
        lease: Lease,
        /// What became of it.
        fate: Fate,
        /// What carries on, each with a new id.
        children: Vec<(ItemId, Child)>,
    },
    /// A page of items.
    List {
        /// Of lanes with this key.
        lane_key: Option<String>,
        /// After this one.
        after: Option<ItemId>,
        /// How many at most.
        n: usize,
    },
    /// One item in full.
    Show(ItemId),
    /// Hold back or let go.
    Hold(ItemId, bool),
    /// Due at another time.
    Retry(ItemId, u64),
    /// Gone for good.
    Delete(ItemId),
}

/// One output of the engine.
#[derive(Debug)]
pub enum Output {
    /// To a door.
    Event {
        /// Which port.
        port: u32,
        /// What.
        event: Event,
    },
    /// To drain or operator.
    Reply {
        /// From the request.
        token: u64,
        /// The answer.
        reply: Reply,
    },
}

/// The answer to a [`Request`].
#[derive(Debug)]
pub enum Reply {
    /// To Lanes.
    Lanes(Vec<LaneStats>),
    /// To Lease.
    Leased(Vec<Lease>),
    /// To Postpone, Hold, Retry, Delete.
    Done(Result<(), SpoolError>),
    /// To Finish.
    Finished(Result<(), FinishError>),
    /// To List.
    Listed(Vec<ItemSummary>),
    /// To Show.
    Shown(Option<Box<Item>>),
}
