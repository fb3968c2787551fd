//! What the spool answers: events to the doors, errors to drain and operator, the receipt. A [`Receipt`] can be made in
//! one place only, after a successful sync.

use std::path::PathBuf;

use crate::item::{Fate, ItemId, Lease};

/// One answer to a door.
#[derive(Clone, Debug)]
pub struct Event {
    /// The item it is about.
    pub id: ItemId,
    /// The answer.
    pub kind: EventKind,
}

/// The kinds of answer. An item appended with `When::Commit` hears exactly one of Committed and Refused; a tentative one
/// hears Fate (terminal or Unsettled), and after `commit` Committed, Refused, or the Fate if that came first.
#[derive(Clone, Debug)]
pub enum EventKind {
    /// The piece given to `write_body` is taken; the next may follow.
    Stored,
    /// Durable: 250 may be said.
    Committed(Receipt),
    /// What became of a tentative item.
    Fate(Fate),
    /// Not taken; the item is gone.
    Refused(Refusal),
}

/// Proof that an item is durable. Only the engine makes one, after the sync that covers the item succeeded.
#[derive(Clone, Debug)]
pub struct Receipt {
    group: u32,
}

impl Receipt {
    /// Messages that shared the sync.
    pub const fn group(&self) -> u32 {
        self.group
    }

    pub(crate) const fn after_sync(group: u32) -> Self {
        Self { group }
    }
}

/// Why the spool does not take an item. All of them mean "try again later" to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too little free space on the disk, or the spool's own bytes are used up.
    #[error("the spool is full ({free_bytes} bytes free on its disk)")]
    Full {
        /// Free bytes on the disk when last looked at.
        free_bytes: u64,
    },
    /// As many items as configured are in the spool.
    #[error("the spool holds as many items as it may")]
    Items,
    /// As many bytes as configured wait in memory for their fate.
    #[error("too many messages wait for their outcome")]
    TentativeFull,
    /// The disk failed, or the item was never complete.
    #[error("the spool's disk failed")]
    Failed,
    /// The item is larger than a segment can hold.
    #[error("the item is too large for the spool's log")]
    TooLarge,
    /// A body file of this id is there, which other items carry or another port is writing. It is left as it is.
    #[error("a body under this id is in the spool already")]
    Taken,
}

/// Why a request of drain or operator was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// No such item, or the lease ran out and another has the item now.
    #[error("no such item in the spool")]
    NotFound,
    /// The drain is working on it.
    #[error("the item is being delivered at this moment")]
    Leased,
    /// Nothing is promised for it yet, so there is nothing to change.
    #[error("the item waits for its outcome and is not in the queue yet")]
    Tentative,
    /// No room for the record.
    #[error("no space left for the spool's log")]
    Full,
    /// The record would be larger than a segment can hold.
    #[error("the record is too large for the spool's log")]
    TooLarge,
    /// The disk failed; nothing more is written by this process.
    #[error("the spool's disk failed: {0}")]
    Failed(String),
    /// The spool is shut down.
    #[error("the spool is shut down")]
    Stopped,
}

/// Why a lease could not be finished.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FinishError {
    /// The fate was Refused or Deferred and the lease tentative, but the door has answered 250 since: decide again
    /// (report, dead letter, postpone). The lease is still good.
    #[error("the item was committed meanwhile")]
    CommittedMeanwhile(Box<Lease>),
    /// The item is gone: the client left before anything was promised, an operator deleted it, or the lease ran out and
    /// another finished it. Children were not stored.
    #[error("the item is gone")]
    Gone,
    /// The finish could not be made durable; the item stays, and becomes leasable again when the lease runs out.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// Why a spool could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the spool in {} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// The options contradict themselves.
    #[error("spool option: {0}")]
    Options(&'static str),
    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Items in the spool.
    pub items: usize,
    /// Their body bytes.
    pub bytes: u64,
    /// Segments that were read.
    pub segments: usize,
    /// Complete records that were read.
    pub records: usize,
    /// Torn stretches: where a record of the segment's generation should be and is not complete.
    pub torn: usize,
    /// Bytes of the torn stretches.
    pub torn_bytes: u64,
    /// Copies of the torn stretches, under `quarantine/`.
    pub quarantined: Vec<PathBuf>,
    /// Items whose body file is missing or has another length; they are left out.
    pub damaged: Vec<ItemId>,
    /// Body files no item refers to; they were removed.
    pub orphans: usize,
}
