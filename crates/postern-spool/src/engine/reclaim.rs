//! Copy-forward: when the log is much longer than what lives in it, the items of the oldest segment are written again at
//! its end, as they are now, so that the segment can be freed. A few at a time, between commits.

use crate::index::Place;
use crate::item::{BodySource, ItemId};
use crate::record::{Put, PutBody, padded, write_put};

use super::Engine;
use super::read::{Purpose, ReadItem, Reading, Source};
use super::writer::Effect;

#[derive(Debug, Default)]
pub(super) struct Reclaim {
    job: Option<Job>,
    /// Commits at which the next job may begin: items that were busy when their segment was gone through are met then.
    not_before: u64,
    /// The generation whose unreadable items have been complained about.
    complained: u64,
}

#[derive(Debug)]
struct Job {
    slot: u32,
    generation: u64,
    /// How far into the segment's ids.
    at: usize,
    reading: bool,
}

impl Reclaim {
    pub(super) fn abort(&mut self) {
        self.job = None;
    }
}

impl Engine {
    /// One step, if there is anything to do. Called after each commit.
    pub(super) fn reclaim(&mut self) {
        if self.failed.is_some() || self.reclaim.job.as_ref().is_some_and(|job| job.reading) {
            return;
        }
        if self.reclaim.job.is_none() {
            let log = self.segments.order.len() as u64 * self.options.segment_bytes;
            let enough = 2 * self.segments.live_bytes + SLACK_SEGMENTS * self.options.segment_bytes;
            if log <= enough || self.stats.commits < self.reclaim.not_before {
                return;
            }
            let Some(&slot) = self.segments.order.front() else { return };
            let generation = self.segments.get(slot).life.generation;
            self.reclaim.job = Some(Job { slot, generation, at: 0, reading: false });
        }
        self.copy_some();
    }

    fn copy_some(&mut self) {
        let Some(job) = &mut self.reclaim.job else { return };
        let current = self.segments.order.front() == Some(&job.slot)
            && self.segments.get(job.slot).life.generation == job.generation
            && self.segments.active.is_none_or(|active| active.0 != job.slot);
        let mut items = Vec::new();
        let mut bytes = 0;
        let mut unreadable = None;
        let ids = if current { self.segments.get(job.slot).ids.as_slice() } else { &[] };
        while job.at < ids.len() && items.len() < STEP_ITEMS && bytes < STEP_BYTES {
            let id = ItemId(ids[job.at]);
            job.at += 1;
            let Some(entry) = self.index.get(id) else { continue };
            if entry.put.slot == job.slot && entry.damaged {
                unreadable = Some(id);
            } else if entry.put.slot == job.slot && !entry.closing && entry.pending == 0 {
                bytes += entry.put.len as usize;
                items.push(ReadItem { id, turn: 0, source: Source::of_entry(entry) });
            }
        }
        // It is not read again and again: only a person can say that it may go.
        if let Some(id) = unreadable
            && self.reclaim.complained < job.generation
        {
            self.reclaim.complained = job.generation;
            tracing::error!(%id, "the log grows until this item, which cannot be read, is deleted");
        }
        if items.is_empty() {
            self.reclaim.job = None;
            self.reclaim.not_before = self.stats.commits + REST_COMMITS;
        } else {
            job.reading = true;
            self.read(Reading { purpose: Purpose::Copy, items });
        }
    }

    /// The items of a step have been read; when none of them was copied no commit will call for the next step.
    pub(super) fn copy_read(&mut self, copied: bool) {
        if let Some(job) = &mut self.reclaim.job {
            job.reading = false;
        }
        if !copied {
            self.copy_some();
        }
    }

    /// Writes an item again, unless it has changed since it was read: a copy behind its finish would bring it back, one
    /// behind a newer update would undo that.
    pub(super) fn copy(&mut self, id: ItemId, from: (Place, Place), meta: &[u8], body: &BodySource) -> bool {
        let Some(entry) = self.index.get(id).filter(|e| (e.put, e.meta) == from && !e.closing && e.pending == 0) else {
            return false;
        };
        let lane = self.lanes.name(entry.lane).clone();
        let body = match (entry.body_file, body) {
            (0, BodySource::Inline(bytes)) => PutBody::Inline(bytes),
            (file, _) => PutBody::File { file, len: entry.body_len, crc: entry.body_crc },
        };
        let put =
            Put { id, due_unix_ms: entry.due_unix_ms, held: entry.held, key: &lane.key, class: lane.class, meta, body };
        let record = padded(put.encoded_len());
        if self.writable(record).is_err() {
            return false;
        }
        if let Some(entry) = self.index.get_mut(id) {
            entry.pending += 1;
        }
        self.encode(record, 0, |buffer, life, offset| (write_put(buffer, life, offset, &put), Effect::Copy { id }));
        true
    }
}

/// Segments the log may have beyond twice what lives, so that small spools are left alone.
const SLACK_SEGMENTS: u64 = 4;
const STEP_ITEMS: usize = 64;
const STEP_BYTES: usize = 256 << 10;
const REST_COMMITS: u64 = 64;
