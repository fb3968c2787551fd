//! Group commit. Records are laid straight into the batch buffer; a batch is one write and one sync, and only after the
//! sync has succeeded are its effects applied and its answers given. Nothing here knows why a record is written.
//!
//! A write that finds the disk full refuses everything queued and leaves the segment behind: the next start names where it
//! ended, so that what the failed write left there is never read. Any other failure ends writing for this process: the
//! kernel may have dropped the pages and call the next sync a success.

use std::collections::VecDeque;

use crate::disk::{Completion, DiskError, DiskOpKind, Done};
use crate::event::{EventKind, Receipt, SpoolError};
use crate::item::ItemId;
use crate::lanes::LaneNo;
use crate::record::{Life, RECORDS_START, SegmentStart, write_start};

use super::{Engine, Waiting};

/// Records that share a write and a sync.
#[derive(Debug)]
pub(super) struct Batch {
    life: Life,
    offset: u64,
    len: u64,
    buffer: Vec<u8>,
    pending: Vec<Pending>,
    messages: u32,
}

/// A record on its way to the disk, and what to do when it is there or cannot get there.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) offset: u32,
    pub(super) len: u32,
    pub(super) what: Effect,
}

#[derive(Debug)]
pub(super) enum Effect {
    Put { port: u32, item: NewEntry },
    Update { token: u64, id: ItemId, meta: bool, postponed: bool },
    Finish { token: u64, id: ItemId, delete: bool, children: Vec<NewEntry> },
    Copy { id: ItemId },
}

/// An entry of the index to be.
#[derive(Debug)]
pub(super) struct NewEntry {
    pub(super) id: ItemId,
    pub(super) lane: LaneNo,
    pub(super) due_unix_ms: u64,
    pub(super) held: bool,
    pub(super) body_len: u64,
    pub(super) body_file: u64,
    pub(super) body_crc: u32,
    /// Where the put stands in its record.
    pub(super) part: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Idle,
    /// The start of this segment is being written, then synced; the batch waits.
    Start(u32),
    StartSync(u32),
    /// The front batch is being written, then synced.
    Write,
    Sync,
}

#[derive(Debug)]
pub(super) struct Writer {
    /// Where the next record will stand.
    life: Life,
    tail: u64,
    seed: u64,
    queue: VecDeque<Batch>,
    queued_bytes: usize,
    phase: Phase,
    buffers: Vec<Vec<u8>>,
}

impl Writer {
    /// `generation` is the last one used.
    pub(super) fn new(generation: u64, seed: u64) -> Self {
        let mut writer = Self {
            life: Life { generation, salt: 0 },
            tail: 0,
            seed,
            queue: VecDeque::new(),
            queued_bytes: 0,
            phase: Phase::Idle,
            buffers: Vec::new(),
        };
        writer.rotate();
        writer
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.phase == Phase::Idle
    }

    fn rotate(&mut self) {
        self.life.generation += 1;
        // splitmix64 over a seed from the system: no writer of mail can guess the next salt.
        let mut salt = self.seed.wrapping_add(self.life.generation.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        salt = (salt ^ (salt >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        salt = (salt ^ (salt >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.life.salt = salt ^ (salt >> 31);
        self.tail = RECORDS_START as u64;
    }

    /// The batch that the next record of this padded length goes into.
    fn batch(&mut self, padded: usize, segment_bytes: u64) -> &mut Batch {
        if self.tail + padded as u64 > segment_bytes {
            self.rotate();
        }
        let first_taken = matches!(self.phase, Phase::Write | Phase::Sync);
        let open = self.queue.back().is_some_and(|batch| {
            let taken = first_taken && self.queue.len() == 1;
            !taken && batch.life == self.life && batch.buffer.len() + padded <= BATCH_BYTES_MAX
        });
        if !open {
            let buffer = self.buffers.pop().unwrap_or_default();
            let batch = Batch { life: self.life, offset: self.tail, len: 0, buffer, pending: Vec::new(), messages: 0 };
            self.queue.push_back(batch);
        }
        self.tail += padded as u64;
        self.queued_bytes += padded;
        self.queue.back_mut().expect("just pushed")
    }
}

impl Engine {
    /// Lays a record of `padded` bytes into the open batch. `write` gets the buffer, the life and the offset, and returns
    /// the record's length and its effect. The caller has checked [`Engine::writable`].
    pub(super) fn encode(
        &mut self,
        padded: usize,
        messages: u32,
        write: impl FnOnce(&mut Vec<u8>, Life, u64) -> (u32, Effect),
    ) {
        let batch = self.writer.batch(padded, self.options.segment_bytes);
        let offset = batch.offset + batch.buffer.len() as u64;
        let (len, what) = write(&mut batch.buffer, batch.life, offset);
        debug_assert_eq!(batch.offset + batch.buffer.len() as u64, offset + padded as u64);
        batch.pending.push(Pending { offset: offset as u32, len, what });
        batch.messages += messages;
    }

    /// Whether a record of this padded length may be queued.
    pub(super) fn writable(&self, padded: usize) -> Result<(), SpoolError> {
        if let Some(reason) = &self.failed {
            return Err(SpoolError::Failed(reason.clone()));
        }
        if padded as u64 > self.options.segment_bytes - RECORDS_START as u64 {
            return Err(SpoolError::TooLarge);
        }
        Ok(())
    }

    /// The next operation of the log queue.
    pub(super) fn poll_log(&mut self) -> Option<DiskOpKind> {
        if self.writer.phase != Phase::Idle || self.failed.is_some() {
            return None;
        }
        let life = self.writer.queue.front()?.life;
        if let Some((slot, _)) = self.segments.active
            && self.segments.get(slot).life == life
        {
            let batch = self.writer.queue.front_mut()?;
            batch.len = batch.buffer.len() as u64;
            let data = std::mem::take(&mut batch.buffer);
            self.writer.phase = Phase::Write;
            return Some(DiskOpKind::WriteLog { segment: self.segments.get(slot).no, offset: batch.offset, data });
        }
        let Some(slot) = self.segments.take_free() else {
            if let Some(error) = self.segments.create_error.take() {
                self.refuse_queued(&error);
            } else {
                self.segments.wanted = true;
                self.prepare_segment();
            }
            return None;
        };
        (self.segments.wanted, self.segments.create_error) = (false, None);
        if let Some((active, tail)) = self.segments.active {
            self.segments.previous = (self.segments.get(active).life.generation, tail);
        }
        let start = SegmentStart {
            life,
            oldest_live: self.segments.oldest_live().unwrap_or(life.generation),
            previous: self.segments.previous.0,
            previous_end: self.segments.previous.1,
            id_high: self.id_high,
        };
        self.start_oldest = start.oldest_live;
        self.writer.phase = Phase::Start(slot);
        Some(DiskOpKind::WriteLog { segment: self.segments.get(slot).no, offset: 0, data: write_start(&start) })
    }

    pub(super) fn handle_log_completion(&mut self, completion: Completion) {
        let phase = std::mem::take(&mut self.writer.phase);
        let done = match completion.result {
            Ok(done) => done,
            Err(error) => return self.log_failed(phase, error),
        };
        if let Done::Buffer(mut buffer) = done
            && self.writer.buffers.len() < BUFFERS_MAX
        {
            buffer.clear();
            self.writer.buffers.push(buffer);
        }
        match phase {
            Phase::Idle => {}
            Phase::Start(slot) => self.sync_log(slot, Phase::StartSync(slot)),
            Phase::StartSync(slot) => self.activate(slot),
            Phase::Write => match self.segments.active {
                Some((slot, _)) => self.sync_log(slot, Phase::Sync),
                None => self.fail("a batch was written to no segment".into()),
            },
            Phase::Sync => self.apply_front(),
        }
    }

    fn sync_log(&mut self, slot: u32, phase: Phase) {
        self.writer.phase = phase;
        let segment = self.segments.get(slot).no;
        self.submit_log(DiskOpKind::SyncLog { segment });
    }

    fn log_failed(&mut self, phase: Phase, error: DiskError) {
        if let Phase::Start(slot) | Phase::StartSync(slot) = phase {
            // Its contents are unknown now; what stood in it was dead. It goes to the front: its generation is the oldest.
            self.segments.free.push_front(slot);
        }
        match (phase, error) {
            (Phase::Start(_) | Phase::Write, DiskError::Full) => self.refuse_queued(&SpoolError::Full),
            (_, error) => self.fail(error.to_string()),
        }
    }

    /// A segment's start is durable: records may go into it.
    fn activate(&mut self, slot: u32) {
        let Some(batch) = self.writer.queue.front() else { return };
        self.segments.get_mut(slot).life = batch.life;
        self.segments.order.push_back(slot);
        self.segments.active = Some((slot, RECORDS_START as u64));
        self.segments.recorded_oldest = self.start_oldest;
        self.release_segments();
    }

    /// The front batch is durable: its effects become visible and its answers go out.
    fn apply_front(&mut self) {
        let Some(batch) = self.writer.queue.pop_front() else { return };
        let Some((slot, tail)) = self.segments.active.as_mut() else { return };
        *tail = batch.offset + batch.len;
        let (slot, used) = (*slot, *tail);
        self.writer.queued_bytes -= batch.len as usize;
        self.stats.commits += 1;
        self.stats.messages_committed += u64::from(batch.messages);
        for pending in batch.pending {
            self.apply(slot, pending, batch.messages);
        }
        // A spare is made ready long before it is needed: filling one with zeros takes as long as many commits.
        if used * 2 > self.options.segment_bytes && !self.segments.has_free() {
            self.prepare_segment();
        }
        self.release_segments();
        self.reclaim();
    }

    /// Everything queued is refused; the next record opens another segment.
    pub(super) fn refuse_queued(&mut self, error: &SpoolError) {
        (self.segments.wanted, self.segments.create_error) = (false, None);
        let queue = std::mem::take(&mut self.writer.queue);
        self.writer.queued_bytes = 0;
        self.writer.rotate();
        for pending in queue.into_iter().flat_map(|batch| batch.pending) {
            self.undo(pending.what, error);
        }
    }

    /// Nothing more is accepted by this process. What was durable can still be read.
    pub(super) fn fail(&mut self, reason: String) {
        tracing::error!(%reason, "the spool's disk failed: nothing more is accepted until a restart");
        self.failed.get_or_insert(reason.clone());
        self.refuse_queued(&SpoolError::Failed(reason));
    }

    /// Begins making a segment file, unless one is being made.
    pub(super) fn prepare_segment(&mut self) {
        if self.segments.creating || self.failed.is_some() {
            return;
        }
        self.segments.creating = true;
        let segment = self.segments.next_no;
        self.segments.next_no += 1;
        let bytes = self.options.segment_bytes;
        self.submit(DiskOpKind::CreateSegment { segment, bytes }, Waiting::Created(segment));
    }

    pub(super) fn segment_step(&mut self, waiting: Waiting, result: Result<(), DiskError>) {
        match (waiting, result) {
            (Waiting::Created(no), Ok(())) => {
                self.submit(DiskOpKind::SyncSegment { segment: no }, Waiting::CreatedSynced(no));
            }
            (Waiting::CreatedSynced(no), Ok(())) => self.submit(DiskOpKind::SyncLogDir, Waiting::CreatedNamed(no)),
            (Waiting::CreatedNamed(no), Ok(())) => {
                let slot = self.segments.add(super::segments::Segment::new(no));
                // Its generation is 0, older than any: it is used before those that still hold dead records.
                self.segments.free.push_front(slot);
                self.segments.creating = false;
            }
            (Waiting::Created(no) | Waiting::CreatedSynced(no), Err(DiskError::Full)) => {
                self.segments.creating = false;
                self.segments.create_error = self.segments.wanted.then_some(SpoolError::Full);
                self.submit(DiskOpKind::RemoveSegment { segment: no }, Waiting::Nothing);
            }
            (_, Err(error)) => {
                self.segments.creating = false;
                self.fail(error.to_string());
            }
            _ => {}
        }
    }

    pub(super) fn committed(&mut self, port: u32, id: ItemId, group: u32) {
        self.event(port, id, EventKind::Committed(Receipt::after_sync(group)));
    }
}

/// The token of log operations; there is one under way at most.
pub(super) const LOG_TOKEN: u64 = 0;
/// A batch this long is written by itself: more does not make a message cheaper, and the receipts of the first would wait
/// for the bytes of the last.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Buffers kept for the next batches, 4 MiB in all.
const BUFFERS_MAX: usize = 4;
