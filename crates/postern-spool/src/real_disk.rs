//! The disk of production: every operation is the system call it names, no more. Used by the engine thread for the log
//! and by the disk thread for the rest. Also the files as recovery reads them, the lock and the free space.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::disk::{Completion, DiskError, DiskOp, DiskOpKind, Done, PartData, ReadPart};
use crate::event::OpenError;
use crate::item::ItemId;
use crate::recovery::RecoverySource;

mod segment_file;

use segment_file::SegmentFile;

/// Performs operations in the caller's thread; clones share the open segment files.
#[derive(Clone, Debug)]
pub(crate) struct RealDisk {
    dir: Arc<PathBuf>,
    segments: Arc<Mutex<HashMap<u32, Arc<SegmentFile>>>>,
    /// The segment written last.
    active: Arc<AtomicU32>,
    /// Kept open: a sync of a name is fatal when it fails, so it must not need a descriptor.
    log_dir: Arc<File>,
    body_dir: Arc<File>,
    flush_delay: Option<Duration>,
}

impl RealDisk {
    pub(crate) fn new(dir: &Path, flush_delay: Option<Duration>) -> io::Result<Self> {
        Ok(Self {
            dir: Arc::new(dir.into()),
            segments: Arc::default(),
            active: Arc::default(),
            log_dir: Arc::new(File::open(dir.join(LOG_DIR))?),
            body_dir: Arc::new(File::open(dir.join(BODY_DIR))?),
            flush_delay,
        })
    }

    /// Does it, and says how it went.
    pub(crate) fn perform(&self, op: DiskOp) -> Completion {
        Completion { token: op.token, result: self.try_perform(op.kind).map_err(DiskError::from) }
    }

    fn try_perform(&self, kind: DiskOpKind) -> io::Result<Done> {
        match kind {
            DiskOpKind::WriteLog { segment, offset, mut data } => {
                self.active.store(segment, Relaxed);
                self.segment(segment)?.write(offset, &mut data)?;
                return Ok(Done::Buffer(data));
            }
            DiskOpKind::SyncLog { segment } => {
                if let Some(delay) = self.flush_delay {
                    std::thread::sleep(delay);
                }
                self.segment(segment)?.file.sync_data()?;
            }
            DiskOpKind::CreateSegment { segment, bytes } => self.create_segment(segment, bytes)?,
            // Length and all: the log's later syncs then have no metadata to write.
            DiskOpKind::SyncSegment { segment } => self.segment(segment)?.file.sync_all()?,
            DiskOpKind::SyncLogDir => self.log_dir.sync_all()?,
            DiskOpKind::RemoveSegment { segment } => {
                self.segments.lock().unwrap_or_else(PoisonError::into_inner).remove(&segment);
                remove(&segment_path(&self.dir, segment))?;
            }
            DiskOpKind::WriteBody { body, offset, data, create } => {
                let path = body_path(&self.dir, body);
                let file = OpenOptions::new().write(true).create(create).truncate(create).open(path)?;
                file.write_all_at(&data, offset)?;
            }
            DiskOpKind::SyncBody { body } => File::open(body_path(&self.dir, body))?.sync_all()?,
            DiskOpKind::SyncBodyDir => self.body_dir.sync_all()?,
            DiskOpKind::RemoveBody { body } => remove(&body_path(&self.dir, body))?,
            DiskOpKind::Read(parts) => {
                return Ok(Done::Read(parts.into_iter().map(|part| Ok(self.read_part(part)?)).collect()));
            }
        }
        Ok(Done::Plain)
    }

    fn create_segment(&self, segment: u32, bytes: u64) -> io::Result<()> {
        let file = SegmentFile::create(&segment_path(&self.dir, segment), bytes)?;
        // The log grows, so there is a backlog, which is read later if at all. The pages of old
        // segments are worth more as pages of the new one: memory that the cgroup counts stays
        // flat, and the kernel need not find fresh pages for every message.
        let active = self.active.load(Relaxed);
        let old: Vec<Arc<SegmentFile>> = {
            let mut open = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
            open.insert(segment, Arc::new(file));
            open.iter().filter(|(no, _)| **no != active && **no != segment).map(|(_, old)| old.clone()).collect()
        };
        // Not under the lock: giving back a GiB takes its time, and the next batch wants its segment.
        old.iter().for_each(|old| old.leave_the_cache());
        Ok(())
    }

    fn read_part(&self, part: ReadPart) -> io::Result<PartData> {
        match part {
            ReadPart::Log { segment, offset, len } => {
                let mut bytes = vec![0; len as usize];
                self.segment(segment)?.file.read_exact_at(&mut bytes, offset)?;
                Ok(PartData::Bytes(Bytes::from(bytes)))
            }
            ReadPart::Body { body } => {
                let file = File::open(body_path(&self.dir, body))?;
                let len = file.metadata()?.len();
                Ok(PartData::File(Arc::new(file), len))
            }
        }
    }

    fn segment(&self, no: u32) -> io::Result<Arc<SegmentFile>> {
        let mut open = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&no) {
            return Ok(file.clone());
        }
        if open.len() >= OPEN_SEGMENTS_MAX {
            // The file that was written must be the one that is synced: a new descriptor need not be told what went
            // wrong before it was there, and there may be none.
            let active = self.active.load(Relaxed);
            open.retain(|no, _| *no == active);
        }
        let file = Arc::new(SegmentFile::open(&segment_path(&self.dir, no))?);
        open.insert(no, file.clone());
        Ok(file)
    }
}

impl RecoverySource for RealDisk {
    fn segments(&mut self) -> io::Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(self.dir.join(LOG_DIR))? {
            let name = entry?.file_name();
            let number: Option<u32> =
                name.to_str().and_then(|name| name.strip_suffix(".seg")).and_then(|n| n.parse().ok());
            numbers.extend(number);
        }
        Ok(numbers)
    }

    fn segment_head(&mut self, segment: u32, n: usize) -> io::Result<(u64, Vec<u8>)> {
        let file = self.segment(segment)?;
        let mut head = vec![0; n.min(usize::try_from(file.len).unwrap_or(n))];
        file.file.read_exact_at(&mut head, 0)?;
        Ok((file.len, head))
    }

    fn read_segment(&mut self, segment: u32) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // No segment is longer than this; a file that is was not made by us, and must not take all memory.
        File::open(segment_path(&self.dir, segment))?.take(SEGMENT_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn rewrite_segment(&mut self, segment: u32, bytes: &[u8]) -> io::Result<()> {
        self.segment(segment)?.file.write_all_at(bytes, 0)
    }

    fn sync_segment(&mut self, segment: u32) -> io::Result<()> {
        self.segment(segment)?.file.sync_all()
    }

    fn sync_dirs(&mut self) -> io::Result<()> {
        self.log_dir.sync_all()?;
        self.body_dir.sync_all()
    }

    fn bodies(&mut self) -> io::Result<Vec<(ItemId, u64)>> {
        let mut bodies = Vec::new();
        for entry in fs::read_dir(self.dir.join(BODY_DIR))? {
            let entry = entry?;
            if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                bodies.push((id, entry.metadata()?.len()));
            }
        }
        Ok(bodies)
    }

    fn remove_body(&mut self, body: ItemId) -> io::Result<()> {
        remove(&body_path(&self.dir, body))
    }

    fn quarantine(&mut self, generation: u64, offset: u64, bytes: &[u8]) -> io::Result<Option<PathBuf>> {
        let dir = self.dir.join(QUARANTINE_DIR);
        let path = dir.join(format!("{generation:012}-{offset:08x}.torn"));
        if path.exists() || fs::read_dir(&dir)?.count() >= QUARANTINE_FILES_MAX {
            return Ok(None);
        }
        fs::write(&path, bytes)?;
        Ok(Some(path))
    }
}

/// Makes the directories, takes the lock. The lock lives as long as the file is open.
pub(crate) fn open_dir(dir: &Path) -> Result<File, OpenError> {
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| OpenError::Io { path, source }
    };
    for sub in ["", LOG_DIR, BODY_DIR, QUARANTINE_DIR] {
        let path = dir.join(sub);
        fs::create_dir_all(&path).map_err(io(&path))?;
    }
    let path = dir.join("lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io(&path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(dir.into())),
        Err(TryLockError::Error(source)) => return Err(OpenError::Io { path, source }),
    }
    // The directories' own names: without this a fresh spool could vanish whole.
    sync_dir(dir).map_err(io(dir))?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync_dir(parent).map_err(io(parent))?;
    }
    Ok(lock)
}

/// Bytes an unprivileged process may still write.
pub(crate) fn free_bytes(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn segment_path(dir: &Path, no: u32) -> PathBuf {
    dir.join(LOG_DIR).join(format!("{no:08}.seg"))
}

fn body_path(dir: &Path, id: ItemId) -> PathBuf {
    dir.join(BODY_DIR).join(id.to_string())
}

const LOG_DIR: &str = "log";
const BODY_DIR: &str = "bodies";
const QUARANTINE_DIR: &str = "quarantine";
/// Descriptors kept for segments: with 16 MiB each, 1 GiB of log; more are opened again when read.
const OPEN_SEGMENTS_MAX: usize = 64;
/// Torn stretches kept for a look; each is at most a segment long and they are rare.
const QUARANTINE_FILES_MAX: usize = 256;
/// The longest segment that may be configured.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 1 << 30;

#[cfg(test)]
mod tests;
