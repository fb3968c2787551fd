//! The disk as the engine sees it: operations are submitted, completions come back. Production answers them with system
//! calls (`real_disk`), the simulator from a seed. Nothing is implied by an operation that it does not say: a written
//! segment is durable only after its sync, a file's name only after the sync of its directory.
//!
//! Operations of one [`Queue`] are done in order. At most one operation of the log queue is under way at a time.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

use crate::item::ItemId;

/// Takes operations and gives back completions.
pub trait Disk {
    /// Begins an operation.
    fn submit(&mut self, op: DiskOp);
    /// A completion, if one is there.
    fn poll(&mut self) -> Option<Completion>;
}

/// One operation.
#[derive(Debug)]
pub struct DiskOp {
    /// Comes back in the completion.
    pub token: u64,
    /// What to do.
    pub kind: DiskOpKind,
}

/// The kinds of operation.
#[derive(Debug)]
pub enum DiskOpKind {
    /// Write into a segment that exists; nothing before `offset` may change. The buffer comes back.
    WriteLog {
        /// File number.
        segment: u32,
        /// Where, a multiple of 64.
        offset: u64,
        /// What.
        data: Vec<u8>,
    },
    /// Make everything written to the segment durable.
    SyncLog {
        /// File number.
        segment: u32,
    },
    /// Make a segment file and fill it with zeros.
    CreateSegment {
        /// File number.
        segment: u32,
        /// Its length.
        bytes: u64,
    },
    /// As `SyncLog`, for a new segment in the background.
    SyncSegment {
        /// File number.
        segment: u32,
    },
    /// Make the names of the segment files durable.
    SyncLogDir,
    /// Remove a segment file.
    RemoveSegment {
        /// File number.
        segment: u32,
    },
    /// Write a piece of a body file.
    WriteBody {
        /// Whose.
        body: ItemId,
        /// Where.
        offset: u64,
        /// What.
        data: Vec<u8>,
        /// The first piece: make the file, empty it if it is there.
        create: bool,
    },
    /// Make a body file durable.
    SyncBody {
        /// Whose.
        body: ItemId,
    },
    /// Make the names of the body files durable.
    SyncBodyDir,
    /// Remove a body file; it need not exist.
    RemoveBody {
        /// Whose.
        body: ItemId,
    },
    /// Read several things; the completion has one answer for each.
    Read(Vec<ReadPart>),
}

/// What orders an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// What commits wait for.
    Log,
    /// Everything that may take its time.
    Background,
}

impl DiskOpKind {
    /// Which queue it belongs to.
    pub const fn queue(&self) -> Queue {
        match self {
            Self::WriteLog { .. } | Self::SyncLog { .. } => Queue::Log,
            _ => Queue::Background,
        }
    }
}

/// One thing to read.
#[derive(Clone, Copy, Debug)]
pub enum ReadPart {
    /// Bytes of a segment.
    Log {
        /// File number.
        segment: u32,
        /// Where.
        offset: u64,
        /// How many.
        len: u32,
    },
    /// A body file, opened.
    Body {
        /// Whose.
        body: ItemId,
    },
}

/// The end of an operation.
#[derive(Debug)]
pub struct Completion {
    /// From the operation.
    pub token: u64,
    /// How it went.
    pub result: Result<Done, DiskError>,
}

/// What an operation gives back.
#[derive(Debug)]
pub enum Done {
    /// It is done.
    Plain,
    /// The buffer of a `WriteLog`, to be used again.
    Buffer(Vec<u8>),
    /// The answers of a `Read`.
    Read(Vec<Result<PartData, DiskError>>),
}

/// One answer of a `Read`.
#[derive(Debug)]
pub enum PartData {
    /// The bytes; the simulator answers so for body files too.
    Bytes(Bytes),
    /// An open body file, and how long it is.
    File(Arc<File>, u64),
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// No space, or no quota.
    #[error("no space left on the disk")]
    Full,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl From<std::io::Error> for DiskError {
    fn from(error: std::io::Error) -> Self {
        // Out of descriptors (a flood holds them all) passes like a full disk does. Only opening a file can say so; what
        // must not fail for it keeps its file open.
        let descriptors = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full,
            _ if descriptors.contains(&error.raw_os_error()) => Self::Full,
            _ => Self::Failed(error.to_string()),
        }
    }
}
