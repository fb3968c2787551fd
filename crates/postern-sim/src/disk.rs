//! A disk from a seed. It keeps what the page cache shows apart from what is durable, and at a power cut decides sector by
//! sector which unsynced writes got there, name by name which unsynced directory entries did. On request it fails syncs
//! (and then forgets what it should have written, as kernels do), runs full in the middle of a write, and loses nothing
//! that was truly synced.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;

use postern_spool::machine::{
    Completion, Disk, DiskError, DiskOp, DiskOpKind, Done, PartData, Queue, ReadPart, RecoverySource,
};
use postern_spool::{Bytes, ItemId};

use crate::rng::Rng;

/// How often what goes wrong: once in so many times, 0 for never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A sync of a file or directory fails.
    pub sync: u64,
    /// A write or a new file finds the disk full, or opening a file finds no descriptor.
    pub full: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Segment(u32),
    Body(u64),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Writes since the last sync, in order.
    pending: Vec<(usize, Vec<u8>)>,
}

/// The disk. Operations wait in their queue until [`FaultyDisk::step`] does one.
#[derive(Debug)]
pub struct FaultyDisk {
    rng: Rng,
    /// What goes wrong from now on.
    pub faults: Faults,
    inodes: Vec<Inode>,
    cached: BTreeMap<Name, usize>,
    durable: BTreeMap<Name, usize>,
    log: VecDeque<DiskOp>,
    background: VecDeque<DiskOp>,
    completions: VecDeque<Completion>,
}

impl Inode {
    fn write(&mut self, offset: usize, data: &[u8]) {
        apply(&mut self.cached, offset, data);
        self.pending.push((offset, data.to_vec()));
    }

    /// As a kernel does it: what is pending is written; what a failed sync forgot stays forgotten.
    fn sync(&mut self) {
        for (offset, data) in std::mem::take(&mut self.pending) {
            apply(&mut self.durable, offset, &data);
        }
    }

    /// What a failed sync leaves: some sectors written, the rest forgotten, while the cache goes on showing them.
    fn sync_fails(&mut self, rng: &mut Rng) {
        self.durable = self.after_power_cut(rng);
        self.pending.clear();
    }

    /// For each sector some prefix of its unsynced writes has reached the disk.
    fn after_power_cut(&self, rng: &mut Rng) -> Vec<u8> {
        let mut disk = self.durable.clone();
        if self.pending.is_empty() {
            return disk;
        }
        // Often all or nothing, as both ends are where mistakes hide.
        let (luck, writes) = (rng.below(4), self.pending.len() as u64);
        let sectors = self.cached.len().div_ceil(SECTOR);
        let mut arrived: Vec<u64> = Vec::with_capacity(sectors);
        for _ in 0..sectors {
            arrived.push(match luck {
                0 => 0,
                1 => writes,
                _ => rng.below(writes + 1),
            });
        }
        for (number, (offset, data)) in self.pending.iter().enumerate() {
            let mut at = 0;
            while at < data.len() {
                let sector = (offset + at) / SECTOR;
                let n = ((sector + 1) * SECTOR - (offset + at)).min(data.len() - at);
                if arrived[sector] > number as u64 {
                    apply(&mut disk, offset + at, &data[at..at + n]);
                }
                at += n;
            }
        }
        disk
    }
}

fn apply(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

impl FaultyDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            faults: Faults::default(),
            inodes: Vec::new(),
            cached: BTreeMap::new(),
            durable: BTreeMap::new(),
            log: VecDeque::new(),
            background: VecDeque::new(),
            completions: VecDeque::new(),
        }
    }

    /// Whether an operation waits.
    pub fn is_busy(&self) -> bool {
        !self.log.is_empty() || !self.background.is_empty()
    }

    /// Does one waiting operation, of either queue; false when none waits.
    pub fn step(&mut self) -> bool {
        let log_first = self.rng.one_in(2);
        let op = if log_first { self.log.pop_front() } else { self.background.pop_front() };
        let Some(op) = op.or_else(|| self.log.pop_front()).or_else(|| self.background.pop_front()) else {
            return false;
        };
        let result = self.perform(op.kind);
        self.completions.push_back(Completion { token: op.token, result });
        true
    }

    /// The process ends: nothing under way is done any more, the page cache stays.
    pub fn kill(&mut self) {
        self.log.clear();
        self.background.clear();
        self.completions.clear();
    }

    /// The power goes: of what was not synced, anything may be lost.
    pub fn power_cut(&mut self) {
        self.kill();
        let names: Vec<Name> = self.cached.keys().chain(self.durable.keys()).copied().collect();
        for name in names {
            let (cached, durable) = (self.cached.get(&name).copied(), self.durable.get(&name).copied());
            let kept = if cached != durable && self.rng.one_in(2) { cached } else { durable };
            for names in [&mut self.cached, &mut self.durable] {
                match kept {
                    Some(inode) => names.insert(name, inode),
                    None => names.remove(&name),
                };
            }
        }
        // What has no name any more is gone.
        let named: BTreeSet<usize> = self.cached.values().copied().collect();
        for (at, inode) in self.inodes.iter_mut().enumerate() {
            if !named.contains(&at) {
                *inode = Inode::default();
                continue;
            }
            if !inode.pending.is_empty() {
                inode.durable = inode.after_power_cut(&mut self.rng);
                inode.pending.clear();
            }
            // Cut short too, where the end never got there.
            inode.cached.clone_from(&inode.durable);
        }
    }

    fn perform(&mut self, kind: DiskOpKind) -> Result<Done, DiskError> {
        match kind {
            DiskOpKind::WriteLog { segment, offset, mut data } => {
                // As the real disk does it: with zeros up to the end of the page.
                let (bytes, end) = (data.len(), offset as usize + data.len());
                let len = self.inode(Name::Segment(segment))?.cached.len();
                data.resize(bytes + end.next_multiple_of(PAGE).min(len).saturating_sub(end), 0);
                let written = self.write(Name::Segment(segment), offset as usize, &data);
                data.truncate(bytes);
                written?;
                return Ok(Done::Buffer(data));
            }
            DiskOpKind::SyncLog { segment } => self.sync(Name::Segment(segment))?,
            DiskOpKind::SyncSegment { segment } => {
                self.open()?;
                self.sync(Name::Segment(segment))?;
            }
            DiskOpKind::CreateSegment { segment, bytes } => {
                self.create(Name::Segment(segment));
                self.write(Name::Segment(segment), 0, &vec![0; bytes as usize])?;
            }
            DiskOpKind::SyncLogDir => self.sync_names(|name| matches!(name, Name::Segment(_)))?,
            DiskOpKind::SyncBodyDir => self.sync_names(|name| matches!(name, Name::Body(_)))?,
            DiskOpKind::RemoveSegment { segment } => drop(self.cached.remove(&Name::Segment(segment))),
            DiskOpKind::RemoveBody { body } => drop(self.cached.remove(&Name::Body(body.0))),
            DiskOpKind::WriteBody { body, offset, data, create } => {
                if create {
                    self.create(Name::Body(body.0));
                }
                self.write(Name::Body(body.0), offset as usize, &data)?;
            }
            DiskOpKind::SyncBody { body } => {
                self.open()?;
                self.sync(Name::Body(body.0))?;
            }
            DiskOpKind::Read(parts) => return Ok(Done::Read(parts.into_iter().map(|part| self.read(part)).collect())),
        }
        Ok(Done::Plain)
    }

    /// Out of descriptors is answered as a full disk is.
    fn open(&mut self) -> Result<(), DiskError> {
        if self.rng.one_in(self.faults.full) { Err(DiskError::Full) } else { Ok(()) }
    }

    fn create(&mut self, name: Name) {
        self.inodes.push(Inode::default());
        self.cached.insert(name, self.inodes.len() - 1);
    }

    fn inode(&mut self, name: Name) -> Result<&mut Inode, DiskError> {
        let at = *self.cached.get(&name).ok_or_else(|| DiskError::Failed(format!("no such file: {name:?}")))?;
        Ok(&mut self.inodes[at])
    }

    fn write(&mut self, name: Name, offset: usize, data: &[u8]) -> Result<(), DiskError> {
        let full = self.rng.one_in(self.faults.full);
        let n = if full { self.rng.below(data.len() as u64 + 1) as usize } else { data.len() };
        self.inode(name)?.write(offset, &data[..n]);
        if full { Err(DiskError::Full) } else { Ok(()) }
    }

    fn sync(&mut self, name: Name) -> Result<(), DiskError> {
        if self.rng.one_in(self.faults.sync) {
            let mut rng = self.rng.clone();
            self.inode(name)?.sync_fails(&mut rng);
            self.rng = rng;
            return Err(DiskError::Failed("input/output error".into()));
        }
        self.inode(name)?.sync();
        Ok(())
    }

    fn sync_names(&mut self, of: impl Fn(&Name) -> bool) -> Result<(), DiskError> {
        if self.rng.one_in(self.faults.sync) {
            return Err(DiskError::Failed("input/output error".into()));
        }
        self.durable.retain(|name, _| !of(name));
        self.durable.extend(self.cached.iter().filter(|entry| of(entry.0)));
        Ok(())
    }

    fn read(&mut self, part: ReadPart) -> Result<PartData, DiskError> {
        self.open()?;
        let bytes = match part {
            ReadPart::Log { segment, offset, len } => {
                let range = offset as usize..offset as usize + len as usize;
                let inode = self.inode(Name::Segment(segment))?;
                inode.cached.get(range).ok_or_else(|| DiskError::Failed("short read".into()))?
            }
            ReadPart::Body { body } => &self.inode(Name::Body(body.0))?.cached,
        };
        Ok(PartData::Bytes(Bytes::copy_from_slice(bytes)))
    }

    fn segment(&mut self, segment: u32) -> io::Result<&mut Inode> {
        self.inode(Name::Segment(segment)).map_err(io::Error::other)
    }
}

impl Disk for FaultyDisk {
    fn submit(&mut self, op: DiskOp) {
        match op.kind.queue() {
            Queue::Log => self.log.push_back(op),
            Queue::Background => self.background.push_back(op),
        }
    }

    fn poll(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }
}

impl RecoverySource for FaultyDisk {
    fn segments(&mut self) -> io::Result<Vec<u32>> {
        let number = |name: &Name| if let Name::Segment(number) = name { Some(*number) } else { None };
        Ok(self.cached.keys().filter_map(number).collect())
    }

    fn segment_head(&mut self, segment: u32, n: usize) -> io::Result<(u64, Vec<u8>)> {
        let bytes = &self.segment(segment)?.cached;
        Ok((bytes.len() as u64, bytes[..n.min(bytes.len())].to_vec()))
    }

    fn read_segment(&mut self, segment: u32) -> io::Result<Vec<u8>> {
        Ok(self.segment(segment)?.cached.clone())
    }

    fn rewrite_segment(&mut self, segment: u32, bytes: &[u8]) -> io::Result<()> {
        self.segment(segment)?.write(0, bytes);
        Ok(())
    }

    fn sync_segment(&mut self, segment: u32) -> io::Result<()> {
        self.segment(segment)?.sync();
        Ok(())
    }

    fn sync_dirs(&mut self) -> io::Result<()> {
        self.durable.clone_from(&self.cached);
        Ok(())
    }

    fn bodies(&mut self) -> io::Result<Vec<(ItemId, u64)>> {
        let bodies = self.cached.iter().filter_map(|(name, &inode)| match name {
            Name::Body(id) => Some((ItemId(*id), self.inodes[inode].cached.len() as u64)),
            Name::Segment(_) => None,
        });
        Ok(bodies.collect())
    }

    fn remove_body(&mut self, body: ItemId) -> io::Result<()> {
        self.cached.remove(&Name::Body(body.0));
        Ok(())
    }

    fn quarantine(&mut self, _: u64, _: u64, _: &[u8]) -> io::Result<Option<PathBuf>> {
        Ok(None)
    }
}

const PAGE: usize = 4096;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
