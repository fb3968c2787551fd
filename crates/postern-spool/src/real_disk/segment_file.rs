//! One file of the log: how it is made, and how a batch is written so that the kernel never has to
//! read.
//!
//! A segment is filled with zeros when it is made: a sync of a pre-written file has no extents to
//! convert, which makes it about 1.7 times as fast (docs/design/spool.md). The zeros go past the
//! page cache, because nobody will read them. So a batch lands on pages that are not in memory,
//! and would make the kernel read the page at its end first; it is therefore written up to the
//! page's end, with zeros, over which the next batch begins.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Advice, OFlags, fadvise};

/// An open segment.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) file: File,
    /// Its length, which never changes.
    pub(super) len: u64,
}

impl SegmentFile {
    /// Opens one that is there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { file, len })
    }

    /// Makes one, or makes it anew.
    pub(super) fn create(path: &Path, len: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        let direct_bytes = len - len % ZEROS.0.len() as u64;
        // Some file systems (tmpfs) know no direct writes; they are written the ordinary way.
        let direct = direct_flag().and_then(|flag| OpenOptions::new().write(true).custom_flags(flag).open(path).ok());
        let done = match direct {
            Some(direct) => match fill(&direct, 0, direct_bytes) {
                Ok(()) => direct_bytes,
                Err(error) if is_full(&error) => return Err(error),
                // Some know them only of another alignment, or fail them in ways of their own: no reason to do without.
                Err(_) => 0,
            },
            None => 0,
        };
        fill(&file, done, len)?;
        Ok(Self { file, len })
    }

    /// Writes a batch; `data` is as it was afterwards.
    pub(super) fn write(&self, offset: u64, data: &mut Vec<u8>) -> io::Result<()> {
        let bytes = data.len();
        let end = offset + bytes as u64;
        let page_end = end.next_multiple_of(PAGE_BYTES).min(self.len);
        data.resize(bytes + page_end.saturating_sub(end) as usize, 0);
        let written = self.file.write_all_at(data, offset);
        data.truncate(bytes);
        written
    }

    /// Its pages are not needed again soon. Those not yet on the disk stay.
    pub(super) fn leave_the_cache(&self) {
        // Advice: should the kernel not take it, nothing is lost but memory.
        let _not_taken = fadvise(&self.file, 0, None, Advice::DontNeed);
    }
}

/// Writes zeros from `from` to `to`, all of them.
fn fill(file: &File, from: u64, to: u64) -> io::Result<()> {
    let mut at = from;
    while at < to {
        let n = (to - at).min(ZEROS.0.len() as u64);
        file.write_all_at(&ZEROS.0[..n as usize], at)?;
        at += n;
    }
    Ok(())
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn direct_flag() -> Option<i32> {
    i32::try_from(OFlags::DIRECT.bits()).ok()
}

/// What a direct write wants of its memory.
#[repr(C, align(4096))]
struct Aligned([u8; 1 << 20]);

static ZEROS: Aligned = Aligned([0; 1 << 20]);

const PAGE_BYTES: u64 = 4096;

#[cfg(test)]
mod tests;
