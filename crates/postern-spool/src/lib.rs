//! The durable buffer between doors and drain: a segment log with group commit, tentative items, lanes, leases. It knows
//! nothing of mail: metadata and bodies are bytes, a lane is a name.
//!
//! * A door holds a [`Port`]: it appends items, tentative or to be committed, and hears [`Event`]s. A [`Receipt`] exists
//!   only after a successful sync.
//! * The drain holds a [`Spool`]: it leases items of a [`Lane`], and ends each lease with `finish` or `postpone`.
//! * The operator holds a [`Spool`] too: list, show, hold, retry, delete.
//!
//! Start reading at `engine`, the state machine; `record` is the format on disk, `engine::writer` the group commit,
//! `recovery` what comes after a crash. `runtime` and `real_disk` are the only files that touch threads and system calls.
//! Decisions and measurements: `docs/design/spool.md`.

mod disk;
mod engine;
mod event;
mod inbox;
mod index;
mod item;
mod lanes;
mod limits;
mod port;
mod real_disk;
mod record;
mod recovery;
mod request;
mod runtime;
mod scan;
mod spool;

pub use bytes::Bytes;
pub use event::{Event, EventKind, FinishError, OpenError, Receipt, RecoveryReport, Refusal, SpoolError};
pub use item::{
    Body, BodySource, Child, ChildBody, Fate, Item, ItemId, ItemIdError, ItemSummary, Lane, LaneStats, Lease, NewItem,
    When,
};
pub use limits::{GATHER_MESSAGES, SpoolOptions};
pub use port::Port;
#[doc(hidden)]
pub use recovery::fuzzing;
pub use spool::{Spool, SpoolStats};

/// The pure engine and what drives it: for the simulator.
pub mod machine {
    pub use crate::disk::{Completion, Disk, DiskError, DiskOp, DiskOpKind, Done, PartData, Queue, ReadPart};
    pub use crate::engine::Engine;
    pub use crate::recovery::{Recovered, RecoverySource, recover};
    pub use crate::request::{Input, Output, PortRequest, Reply, Request};
}
