//! What a spool is after a crash: reads every segment that may hold something living, in the order they were written, and
//! builds the index. Keeps every complete record, sets torn ones aside, removes body files nobody carries. Garbage in the
//! files never makes it fail; only a disk that cannot be read or synced does.
//!
//! It syncs what it has read before anything is built on it: after a mere kill the records may still be in the page cache
//! only, and a later power cut must not take away what has been acted on. The newest segment is written again first: if
//! the process ended because a sync failed, the kernel holds pages it believes to be on the disk.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use crate::engine::footprint;
use crate::engine::segments::{Segment, Segments};
use crate::event::RecoveryReport;
use crate::index::{Entry, Index, Place};
use crate::item::ItemId;
use crate::lanes::Lanes;
use crate::limits::SpoolOptions;
use crate::record::{HEADER, Payload, Put, PutBody, RECORDS_START, SegmentStart, read_record, read_start};
use crate::scan::scan;

/// The files of a spool, as recovery needs them. Unlike the engine's disk it may block.
pub trait RecoverySource {
    /// The file numbers of the segments.
    fn segments(&mut self) -> io::Result<Vec<u32>>;
    /// The length of a segment file and its first bytes, up to `n`.
    fn segment_head(&mut self, segment: u32, n: usize) -> io::Result<(u64, Vec<u8>)>;
    /// All bytes of a segment.
    fn read_segment(&mut self, segment: u32) -> io::Result<Vec<u8>>;
    /// Writes a segment's bytes again as they were read, so that the next sync has something to write.
    fn rewrite_segment(&mut self, segment: u32, bytes: &[u8]) -> io::Result<()>;
    /// Makes a segment durable as it was read.
    fn sync_segment(&mut self, segment: u32) -> io::Result<()>;
    /// Makes the names of segments and bodies durable.
    fn sync_dirs(&mut self) -> io::Result<()>;
    /// The body files and their lengths.
    fn bodies(&mut self) -> io::Result<Vec<(ItemId, u64)>>;
    /// Removes a body file.
    fn remove_body(&mut self, body: ItemId) -> io::Result<()>;
    /// Keeps a copy of a torn stretch; the path, when it was not kept before.
    fn quarantine(&mut self, generation: u64, offset: u64, bytes: &[u8]) -> io::Result<Option<PathBuf>>;
}

/// What recovery hands to the engine.
#[derive(Debug, Default)]
pub struct Recovered {
    /// For people.
    pub report: RecoveryReport,
    pub(crate) index: Index,
    pub(crate) lanes: Lanes,
    pub(crate) segments: Segments,
    pub(crate) body_refs: HashMap<u64, u32>,
    /// The last generation used.
    pub(crate) generation: u64,
    pub(crate) id_high: u64,
    pub(crate) bytes: u64,
}

impl Recovered {
    /// No id seen in the log is higher.
    pub fn id_high(&self) -> ItemId {
        ItemId(self.id_high)
    }
}

/// Reads everything and builds the index.
pub fn recover(source: &mut impl RecoverySource, options: &SpoolOptions) -> io::Result<Recovered> {
    let mut heads: Vec<(u32, u64, Option<SegmentStart>)> = Vec::new();
    let mut numbers = source.segments()?;
    numbers.sort_unstable();
    for no in numbers {
        let (len, head) = source.segment_head(no, RECORDS_START)?;
        heads.push((no, len, read_start(&head)));
    }
    // Segments without a start come first: they are the first to be used again.
    heads.sort_by_key(|head| (head.2.map_or(0, |start| start.life.generation), head.0));
    let starts = || heads.iter().filter_map(|head| head.2);
    let oldest_live = starts().map(|start| start.oldest_live).max().unwrap_or(0);
    let newest = starts().map(|start| start.life.generation).max().unwrap_or(0);
    // What a refused write left behind the end of its segment is not read, even if it is complete.
    let ends: HashMap<u64, u64> = starts().map(|start| (start.previous, start.previous_end)).collect();

    let mut recovered = Recovered::default();
    for (no, len, start) in heads {
        let mut segment = Segment::new(no);
        segment.odd = len != options.segment_bytes;
        let generation = start.map_or(0, |start| start.life.generation);
        if let Some(start) = start {
            segment.life = start.life;
            recovered.generation = recovered.generation.max(generation);
            recovered.id_high = recovered.id_high.max(start.id_high);
        }
        let slot = recovered.segments.add(segment);
        // A dead segment is not read: the finishes of its items may be overwritten already, and they would come back.
        if start.is_none() || generation < oldest_live {
            recovered.segments.free.push_back(slot);
            continue;
        }
        recovered.segments.order.push_back(slot);
        let bytes = source.read_segment(no)?;
        if generation == newest {
            source.rewrite_segment(no, &bytes)?;
        }
        source.sync_segment(no)?;
        let end = ends.get(&generation).copied();
        recovered.replay(source, slot, &bytes, end)?;
    }
    source.sync_dirs()?;
    recovered.segments.recorded_oldest = oldest_live;
    recovered.settle_bodies(source)?;
    recovered.offer_all();
    Ok(recovered)
}

impl Recovered {
    /// Plays one segment's records into the index.
    fn replay(
        &mut self,
        source: &mut impl RecoverySource,
        slot: u32,
        bytes: &[u8],
        end: Option<u64>,
    ) -> io::Result<()> {
        self.report.segments += 1;
        let Some(scan) = scan(bytes) else { return Ok(()) };
        let life = scan.start.life;
        let end = end.unwrap_or(u64::MAX);
        for torn in scan.torn.iter().filter(|torn| (torn.start as u64) < end) {
            self.report.torn += 1;
            self.report.torn_bytes += torn.len() as u64;
            let kept = source.quarantine(life.generation, torn.start as u64, &bytes[torn.clone()])?;
            self.report.quarantined.extend(kept);
        }
        for &(offset, len) in scan.records.iter().filter(|record| u64::from(record.0) < end) {
            self.report.records += 1;
            let place = Place { slot, offset, len };
            match read_record(&bytes[offset as usize..], life, offset.into()) {
                Some(Payload::Put(put)) => self.put(&put, place, HEADER as u32),
                Some(Payload::Update { id, due_unix_ms, held, meta }) => {
                    if let Some(entry) = self.index.get_mut(id) {
                        entry.due_unix_ms = due_unix_ms;
                        entry.held = held;
                        if meta.is_some() {
                            entry.meta = place;
                        }
                    }
                }
                Some(Payload::Finish { id, children }) => {
                    self.id_high = self.id_high.max(id.0);
                    for (part, child) in children {
                        self.put(&child, place, part as u32);
                    }
                    self.remove(id);
                }
                None => {}
            }
        }
        let end = (scan.end as u64).min(end);
        self.segments.previous = (life.generation, end);
        Ok(())
    }

    fn put(&mut self, put: &Put<'_>, place: Place, part: u32) {
        self.id_high = self.id_high.max(put.id.0);
        let (body_file, body_crc) = match put.body {
            PutBody::File { file, crc, .. } => (file, crc),
            PutBody::Inline(_) | PutBody::Shared(_) => (0, 0),
        };
        // A copy carried forward takes the place of the one before, counts and lane included: what a record says is
        // not taken for what an earlier one said.
        self.remove(put.id);
        let lane = self.lanes.admit(&put.lane(), put.id, put.body.len());
        let entry = Entry {
            id: put.id,
            due_unix_ms: put.due_unix_ms,
            body_len: put.body.len(),
            body_file,
            body_crc,
            put: place,
            part,
            meta: place,
            lane,
            turn: 0,
            pending: 0,
            held: put.held,
            leased: false,
            closing: false,
            damaged: false,
        };
        self.bytes += entry.body_len;
        self.segments.live_bytes += footprint(&entry);
        let segment = self.segments.get_mut(place.slot);
        segment.live += 1;
        segment.ids.push(put.id.0);
        if body_file != 0 {
            *self.body_refs.entry(body_file).or_default() += 1;
        }
        self.index.insert(entry);
    }

    /// Takes an entry out with its counts; it stays in its lane.
    fn take(&mut self, id: ItemId) -> Option<Entry> {
        let entry = self.index.remove(id)?;
        self.segments.get_mut(entry.put.slot).live -= 1;
        self.segments.live_bytes -= footprint(&entry);
        self.bytes -= entry.body_len;
        if let Some(refs) = self.body_refs.get_mut(&entry.body_file) {
            *refs -= 1;
        }
        Some(entry)
    }

    fn remove(&mut self, id: ItemId) {
        if let Some(entry) = self.take(id) {
            self.lanes.leave(entry.lane, id, entry.body_len);
        }
    }

    /// Leaves out items without their body, removes bodies without items.
    fn settle_bodies(&mut self, source: &mut impl RecoverySource) -> io::Result<()> {
        let files: HashMap<u64, u64> = source.bodies()?.into_iter().map(|(id, len)| (id.0, len)).collect();
        let damaged: Vec<ItemId> = self
            .index
            .iter()
            .filter(|entry| entry.body_file != 0 && files.get(&entry.body_file) != Some(&entry.body_len))
            .map(|entry| entry.id)
            .collect();
        for &id in &damaged {
            self.remove(id);
        }
        self.report.damaged = damaged;
        self.body_refs.retain(|_, refs| *refs > 0);
        let orphans = files.into_keys().filter(|id| !self.body_refs.contains_key(id));
        for id in orphans {
            source.remove_body(ItemId(id))?;
            self.report.orphans += 1;
        }
        Ok(())
    }

    fn offer_all(&mut self) {
        for entry in self.index.iter() {
            if entry.held {
                self.lanes.count_held(entry.lane, true);
            } else {
                self.lanes.offer(entry.lane, entry.id, entry.due_unix_ms, 0);
            }
        }
        self.report.items = self.index.len();
        self.report.bytes = self.bytes;
    }
}

/// What fuzz targets call. Not an interface.
#[doc(hidden)]
pub mod fuzzing {
    use super::{Recovered, RecoverySource, SpoolOptions, recover};
    use crate::item::ItemId;
    use crate::record::{ALIGN, HEADER, Header, Kind, read_payload, read_start};
    use std::io;
    use std::path::PathBuf;

    /// Segment files in memory, numbered from 0.
    pub(super) struct Files<'a>(pub(super) &'a [&'a [u8]]);

    impl RecoverySource for Files<'_> {
        fn segments(&mut self) -> io::Result<Vec<u32>> {
            Ok((0..self.0.len() as u32).collect())
        }
        fn segment_head(&mut self, no: u32, n: usize) -> io::Result<(u64, Vec<u8>)> {
            let bytes = self.0[no as usize];
            Ok((bytes.len() as u64, bytes[..n.min(bytes.len())].to_vec()))
        }
        fn read_segment(&mut self, no: u32) -> io::Result<Vec<u8>> {
            Ok(self.0[no as usize].to_vec())
        }
        fn rewrite_segment(&mut self, _: u32, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
        fn sync_segment(&mut self, _: u32) -> io::Result<()> {
            Ok(())
        }
        fn sync_dirs(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn bodies(&mut self) -> io::Result<Vec<(ItemId, u64)>> {
            Ok(Vec::new())
        }
        fn remove_body(&mut self, _: ItemId) -> io::Result<()> {
            Ok(())
        }
        fn quarantine(&mut self, _: u64, _: u64, _: &[u8]) -> io::Result<Option<PathBuf>> {
            Ok(None)
        }
    }

    /// Recovers a spool of one segment with these bytes; the number of items found. Must not panic.
    pub fn recover_segment(bytes: &[u8]) -> usize {
        let Recovered { report, .. } = recover(&mut Files(&[bytes]), &SpoolOptions::new("")).unwrap_or_default();
        report.items
    }

    /// The same after every header that stands at its place got the right life, offset and checksum, so that the
    /// fuzzer reaches what lies behind the checksum.
    pub fn recover_resealed(bytes: &[u8]) -> usize {
        let mut bytes = bytes.to_vec();
        let life = read_start(&bytes).map(|start| start.life);
        let mut at = 0;
        while at + HEADER <= bytes.len() {
            let Some(header) = Header::read(&bytes[at..]) else {
                at += ALIGN;
                continue;
            };
            let end = (at + header.record_len()).min(bytes.len());
            let record = &mut bytes[at..end];
            let length = record.len().saturating_sub(HEADER) as u32;
            record[8..12].copy_from_slice(&length.to_le_bytes());
            record[24..32].copy_from_slice(&(at as u64).to_le_bytes());
            if let Some(life) = life {
                record[16..24].copy_from_slice(&life.generation.to_le_bytes());
                record[32..40].copy_from_slice(&life.salt.to_le_bytes());
            }
            record[12..16].fill(0);
            let crc = crc32c::crc32c(record);
            record[12..16].copy_from_slice(&crc.to_le_bytes());
            at = end.next_multiple_of(ALIGN);
        }
        recover_segment(&bytes)
    }

    /// Reads any bytes as the payload of each kind of record. Must not panic.
    pub fn read_payloads(bytes: &[u8]) {
        for kind in [Kind::Start, Kind::Put, Kind::Update, Kind::Finish] {
            let _ = read_payload(kind, bytes);
        }
    }
}

#[cfg(test)]
mod tests;
