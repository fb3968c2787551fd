//! Every bound of the spool with its default and its reason. Nothing here decides; the engine does.

use std::path::PathBuf;
use std::time::Duration;

/// How a spool is set up.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// The directory; made when missing.
    pub dir: PathBuf,
    /// Length of a segment. 16 MiB: zeroing one takes tens of milliseconds in the background, and recycling frees disk in
    /// small steps. At least 16 KiB (tests), at most 1 GiB.
    pub segment_bytes: u64,
    /// Larger bodies are streamed to a file of their own. 128 KiB: below that a second file costs more than copying.
    pub inline_body_bytes_max: usize,
    /// Items in the spool; each costs about 150 bytes of memory.
    pub items_max: usize,
    /// Body bytes in the spool, files included.
    pub bytes_max: u64,
    /// Bytes of tentative items (bodies and metadata in memory), and as much again waiting to be written. 64 MiB: in the
    /// calm 500 sessions with full inline bodies.
    pub tentative_bytes_max: usize,
    /// Below this much free disk everything new is refused (452), so that finishing what is there stays possible.
    pub free_low_bytes: u64,
    /// Above this much it is taken again; higher than the low mark, so that the answer does not flutter.
    pub free_high_bytes: u64,
    /// How long a commit of fewer than [`GATHER_MESSAGES`] messages waits for company, while more messages are coming in
    /// ([`Port::expect`](crate::Port::expect)). 0.5 ms: nothing to a sender, and on one busy core it makes three
    /// times fewer commits (docs/design/spool.md). A lone client never waits.
    pub gather: Duration,
    /// Added to each sync: imitates a slow disk in the bench.
    pub flush_delay: Option<Duration>,
}

impl SpoolOptions {
    /// The defaults, in this directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 16 << 20,
            inline_body_bytes_max: 128 << 10,
            items_max: 1_000_000,
            bytes_max: 64 << 30,
            tentative_bytes_max: 64 << 20,
            free_low_bytes: 256 << 20,
            free_high_bytes: 512 << 20,
            gather: Duration::from_micros(500),
            flush_delay: None,
        }
    }
}

/// A group of this many is written without waiting for company.
pub const GATHER_MESSAGES: usize = 8;
