//! What is in the spool, small: where each committed item's record stands and when it is due, nothing of its content. The
//! index answers by id in one probe; metadata and body are read from the log when they are asked for. About 150 bytes an
//! item all told, so a million items are no trouble. Recovery fills it, the engine keeps it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::item::ItemId;
use crate::lanes::LaneNo;

/// A record in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The segment's number in the engine's table.
    pub(crate) slot: u32,
    pub(crate) offset: u32,
    /// Header and payload, without padding.
    pub(crate) len: u32,
}

/// One committed item.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: ItemId,
    pub(crate) due_unix_ms: u64,
    pub(crate) body_len: u64,
    /// The body file's id; 0 for a body in the record.
    pub(crate) body_file: u64,
    pub(crate) body_crc: u32,
    /// The put, or the finish whose child this is.
    pub(crate) put: Place,
    /// Where in that record the put stands.
    pub(crate) part: u32,
    /// The record with the present metadata: the put, or a later update.
    pub(crate) meta: Place,
    pub(crate) lane: LaneNo,
    /// The lease that was given last.
    pub(crate) turn: u32,
    /// Records about this item that are not durable yet.
    pub(crate) pending: u16,
    pub(crate) held: bool,
    pub(crate) leased: bool,
    /// Its finish is on the way to the disk.
    pub(crate) closing: bool,
    /// It could not be read: not given out by this process, and never written.
    pub(crate) damaged: bool,
}

impl Entry {
    /// By the operator, or because it cannot be read.
    pub(crate) fn is_held(&self) -> bool {
        self.held || self.damaged
    }
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    by_id: HashMap<u64, u32, BuildHasherDefault<IdHasher>>,
    /// In blocks, so that growing never copies and never needs twice the memory.
    blocks: Vec<Box<[Option<Entry>]>>,
    unused: Vec<u32>,
    used: u32,
}

impl Index {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn contains(&self, id: ItemId) -> bool {
        self.by_id.contains_key(&id.0)
    }

    pub(crate) fn get(&self, id: ItemId) -> Option<&Entry> {
        let at = *self.by_id.get(&id.0)? as usize;
        self.blocks[at / BLOCK][at % BLOCK].as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: ItemId) -> Option<&mut Entry> {
        let at = *self.by_id.get(&id.0)? as usize;
        self.blocks[at / BLOCK][at % BLOCK].as_mut()
    }

    pub(crate) fn insert(&mut self, entry: Entry) {
        let id = entry.id.0;
        let at = self.unused.pop().unwrap_or_else(|| {
            if self.used as usize == self.blocks.len() * BLOCK {
                self.blocks.push((0..BLOCK).map(|_| None).collect());
            }
            self.used += 1;
            self.used - 1
        });
        self.blocks[at as usize / BLOCK][at as usize % BLOCK] = Some(entry);
        let before = self.by_id.insert(id, at);
        debug_assert!(before.is_none(), "an id is given once");
    }

    pub(crate) fn remove(&mut self, id: ItemId) -> Option<Entry> {
        let at = self.by_id.remove(&id.0)?;
        self.unused.push(at);
        self.blocks[at as usize / BLOCK][at as usize % BLOCK].take()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.blocks.iter().flat_map(|block| block.iter().flatten())
    }
}

/// Entries in a block: 352 KiB.
const BLOCK: usize = 4096;

/// Ids are given by the spool itself, so nobody can choose them to collide; one multiplication spreads them.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        let product = u128::from(id ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

#[cfg(test)]
mod tests;
