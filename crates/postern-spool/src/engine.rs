//! The engine: the spool as a pure state machine. Inputs and completions go in with the time, disk operations and outputs
//! come out; no thread, clock, file or randomness in here. One engine thread drives it in production (`runtime`), a seed
//! in the simulator, so that the code which keeps the promise is the code which is tried against torn and lost writes.
//!
//! What a promise rests on, in order: a body file is synced, then its directory; the record that names it is written into
//! a segment whose file, name and start are durable; the segment is synced; the answer goes out. See `writer`.

use std::collections::{BTreeSet, HashMap, VecDeque};

use bytes::Bytes;

use crate::disk::{Completion, DiskOp, DiskOpKind, Done};
use crate::event::{Event, EventKind, Refusal, SpoolError};
use crate::index::{Entry, Index};
use crate::item::{Fate, ItemId, Lane};
use crate::lanes::{LaneNo, Lanes};
use crate::limits::SpoolOptions;
use crate::record::{Put, PutBody};
use crate::recovery::Recovered;
use crate::request::{Input, Output, PortRequest, Reply, Request};
use crate::spool::SpoolStats;

mod admission;
mod apply;
mod bodies;
mod leases;
mod operator;
mod read;
mod reclaim;
pub(crate) mod segments;
mod writer;

use bodies::{BodySyncs, Streaming};
use read::{PARTS_MAX, Reading};
use reclaim::Reclaim;
use segments::Segments;
use writer::{NewEntry, Writer};

/// The state machine. See the module's head.
#[derive(Debug)]
pub struct Engine {
    options: SpoolOptions,
    now_unix_ms: u64,
    index: Index,
    lanes: Lanes,
    segments: Segments,
    writer: Writer,
    start_oldest: u64,
    tentative: HashMap<u64, Tentative>,
    tentative_bytes: usize,
    streaming: HashMap<u64, Streaming>,
    /// How many items each body file carries.
    body_refs: HashMap<u64, u32>,
    body_syncs: BodySyncs,
    /// Leases by the time they run out.
    leases: BTreeSet<(u64, u64)>,
    /// Given by a clock that has jumped since; before each, when it runs out by the present one.
    old_leases: Vec<(u64, (u64, u64))>,
    turn: u32,
    reclaim: Reclaim,
    ops: VecDeque<DiskOp>,
    under_way: HashMap<u64, Waiting>,
    next_token: u64,
    outputs: VecDeque<Output>,
    changed: bool,
    failed: Option<String>,
    refusing: bool,
    items: usize,
    bytes: u64,
    dead: usize,
    held: usize,
    leased: usize,
    id_high: u64,
    stats: SpoolStats,
}

/// An item nobody has been promised.
#[derive(Debug)]
struct Tentative {
    port: u32,
    lane: LaneNo,
    meta: Vec<u8>,
    due_unix_ms: u64,
    body: TentativeBody,
    state: State,
    leased: bool,
    /// It comes in held.
    held: bool,
    turn: u32,
    /// Requests that came while its put was on the way to the disk: answered afterwards.
    parked: Vec<(u64, Request)>,
}

#[derive(Debug)]
enum TentativeBody {
    Inline(Bytes),
    File { len: u64, crc: u32 },
}

impl TentativeBody {
    fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }
}

#[derive(Debug)]
enum State {
    /// For its fate, or for the door's wish to commit.
    Waiting,
    /// To be committed when its body file is durable.
    Syncing,
    /// Its put is queued: it counts as committed.
    Committing,
    /// Finished with children: when its body file is durable, then when the record is.
    Settling(Option<Box<Settlement>>),
}

#[derive(Debug)]
struct Settlement {
    token: u64,
    children: Vec<(ItemId, crate::item::Child)>,
}

/// What a background operation was for.
#[derive(Debug)]
enum Waiting {
    Nothing,
    Created(u32),
    CreatedSynced(u32),
    CreatedNamed(u32),
    Removed,
    BodyWritten(ItemId),
    BodySynced(ItemId),
    BodiesNamed,
    Read(Reading),
}

impl Engine {
    /// An engine over what recovery found. `seed` is random: it salts the segments.
    pub fn new(options: SpoolOptions, recovered: Recovered, seed: u64, now_unix_ms: u64) -> Self {
        let Recovered { index, lanes, segments, body_refs, generation, id_high, bytes, .. } = recovered;
        let mut engine = Self {
            writer: Writer::new(generation, seed),
            items: index.len(),
            dead: 0,
            held: 0,
            options,
            now_unix_ms,
            index,
            lanes,
            segments,
            start_oldest: 0,
            tentative: HashMap::new(),
            tentative_bytes: 0,
            streaming: HashMap::new(),
            body_refs,
            body_syncs: BodySyncs::default(),
            leases: BTreeSet::new(),
            old_leases: Vec::new(),
            turn: 0,
            reclaim: Reclaim::default(),
            ops: VecDeque::new(),
            under_way: HashMap::new(),
            next_token: LOG_TOKEN + 1,
            outputs: VecDeque::new(),
            changed: true,
            failed: None,
            refusing: false,
            bytes,
            leased: 0,
            id_high,
            stats: SpoolStats { free_bytes: u64::MAX, ..SpoolStats::default() },
        };
        for entry in engine.index.iter() {
            engine.held += usize::from(entry.held);
            engine.dead += usize::from(engine.lanes.name(entry.lane).class == Lane::DEAD_CLASS);
        }
        // Ids count the milliseconds of the clock that gave them, and never go back.
        engine.heed_clock(ItemId(id_high).unix_ms());
        engine.release_segments();
        if !engine.segments.has_free() {
            engine.prepare_segment();
        }
        engine
    }

    /// One input. Call `poll_disk` and `poll_output` until both are empty afterwards, or after several inputs: what comes
    /// in between shares a sync.
    pub fn handle(&mut self, now_unix_ms: u64, input: Input) {
        self.set_now(now_unix_ms);
        match input {
            Input::Port { port, request } => match request {
                PortRequest::Append(item, when) => self.append(port, item, when),
                PortRequest::Commit(id) => self.commit(port, id),
                PortRequest::Abandon(id) => self.abandon(id),
                PortRequest::WriteBody(id, chunk) => self.write_body(port, id, chunk),
            },
            Input::Request { token, request } => self.request(token, request),
            Input::FreeSpace(bytes) => self.free_space(bytes),
            Input::Tick => self.tick(),
        }
    }

    /// A clock that is corrected by seconds costs nobody much; one that goes back by hours must not make mail wait so long.
    fn set_now(&mut self, now_unix_ms: u64) {
        let before = std::mem::replace(&mut self.now_unix_ms, now_unix_ms);
        self.heed_clock(before);
    }

    fn heed_clock(&mut self, before_unix_ms: u64) {
        let back_ms = before_unix_ms.saturating_sub(self.now_unix_ms);
        if back_ms >= CLOCK_STEP_MS {
            self.lanes.clock_went_back(back_ms, self.now_unix_ms);
            self.old_leases.extend(std::mem::take(&mut self.leases).into_iter().map(|lease| (lease.0, lease)));
            self.old_leases.iter_mut().for_each(|old| old.0 = old.0.saturating_sub(back_ms));
            self.changed = true;
        }
    }

    /// The end of an operation.
    pub fn handle_completion(&mut self, now_unix_ms: u64, completion: Completion) {
        self.set_now(now_unix_ms);
        if completion.token == LOG_TOKEN {
            return self.handle_log_completion(completion);
        }
        let Some(waiting) = self.under_way.remove(&completion.token) else { return };
        let Completion { result, .. } = completion;
        match waiting {
            Waiting::Nothing => {}
            Waiting::Created(_) | Waiting::CreatedSynced(_) | Waiting::CreatedNamed(_) => {
                self.segment_step(waiting, result.map(|_| ()));
            }
            Waiting::Removed => self.submit(DiskOpKind::SyncLogDir, Waiting::Nothing),
            Waiting::BodyWritten(id) => self.body_written(id, result.map(|_| ())),
            Waiting::BodySynced(id) => self.body_synced(id, result.map(|_| ())),
            Waiting::BodiesNamed => self.bodies_named(result.map(|_| ())),
            Waiting::Read(reading) => {
                let parts = match result {
                    Ok(Done::Read(parts)) => parts,
                    Ok(_) => Vec::new(),
                    Err(error) => (0..PARTS_MAX * reading.items.len()).map(|_| Err(error.clone())).collect(),
                };
                self.read_done(reading, parts);
            }
        }
    }

    /// The next disk operation to submit.
    pub fn poll_disk(&mut self) -> Option<DiskOp> {
        if let Some(op) = self.ops.pop_front() {
            return Some(op);
        }
        if let Some(kind) = self.poll_log() {
            return Some(DiskOp { token: LOG_TOKEN, kind });
        }
        // Looking for a segment may have asked for one.
        self.ops.pop_front()
    }

    /// The next answer.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether a sender waits for an outcome.
    pub fn has_tentative(&self) -> bool {
        !self.tentative.is_empty()
    }

    /// Whether something may have become leasable since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// When to send [`Input::Tick`] next.
    pub fn next_tick_unix_ms(&self) -> Option<u64> {
        let lease = self.leases.first().map(|first| first.0);
        let old = self.old_leases.iter().map(|old| old.0).min();
        [lease, old, self.lanes.next_due_unix_ms()].into_iter().flatten().min()
    }

    /// Nothing queued and nothing under way.
    pub fn is_idle(&self) -> bool {
        self.ops.is_empty() && self.under_way.is_empty() && (self.writer.is_idle() || self.failed.is_some())
    }

    /// Whether new items are refused for lack of space.
    pub fn stats_refusing(&self) -> bool {
        self.refusing
    }

    /// Before stopping: refuses what waits for its fate. Nobody was promised anything, and nobody will decide any more.
    pub fn refuse_waiting(&mut self) {
        let waiting = self.tentative.iter().filter(|item| matches!(item.1.state, State::Waiting));
        let waiting: Vec<ItemId> = waiting.map(|item| ItemId(*item.0)).collect();
        for id in waiting {
            self.refuse_tentative(id, &SpoolError::Stopped);
        }
    }

    /// A snapshot.
    pub fn stats(&self) -> SpoolStats {
        SpoolStats {
            items: self.items,
            bytes: self.bytes,
            tentative: self.tentative.len(),
            tentative_bytes: self.tentative_bytes,
            leased: self.leased,
            held: self.held,
            dead: self.dead,
            segments: self.segments.count(),
            segments_free: self.segments.free.len(),
            refusing: self.refusing,
            failed: self.failed.clone(),
            ..self.stats.clone()
        }
    }

    fn request(&mut self, token: u64, request: Request) {
        match request {
            Request::Lanes => {
                let lanes = self.lanes.stats(self.now_unix_ms);
                self.reply(token, Reply::Lanes(lanes));
            }
            Request::Lease { lane, n, until_unix_ms } => self.lease(token, &lane, n, until_unix_ms),
            Request::Release(leases) => self.release(&leases),
            Request::Postpone { lease, meta, due_unix_ms } => self.postpone(token, lease, meta, due_unix_ms),
            Request::Finish { lease, fate, children } => self.finish(token, lease, fate, children),
            Request::List { lane_key, after, n } => self.list(token, lane_key.as_deref(), after, n),
            Request::Show(id) => self.show(token, id),
            Request::Hold(id, held) => self.change(token, id, Some(held), None),
            Request::Retry(id, due_unix_ms) => self.change(token, id, None, Some(due_unix_ms)),
            Request::Delete(id) => self.delete(token, id),
        }
    }

    fn end_lease(&mut self, until_unix_ms: u64, id: ItemId) {
        let lease = (until_unix_ms, id.0);
        if !self.leases.remove(&lease) {
            self.old_leases.retain(|old| old.1 != lease);
        }
    }

    fn tick(&mut self) {
        let now = self.now_unix_ms;
        for (_, lease) in self.old_leases.extract_if(.., |old| old.0 <= now).collect::<Vec<_>>() {
            self.unlease(ItemId(lease.1));
        }
        while let Some(lease) = self.leases.first().copied().filter(|lease| lease.0 <= now) {
            self.leases.pop_first();
            // Nobody looked for so long: the clock went forward, or the machine slept. Whoever delivers goes on where he
            // was; without his lease he could not say so, and the item would be delivered twice.
            if now - lease.0 >= CLOCK_STEP_MS {
                self.old_leases.push((now.saturating_add(LEASE_GRACE_MS), lease));
            } else {
                self.unlease(ItemId(lease.1));
            }
        }
        self.changed |= self.lanes.promote(self.now_unix_ms);
    }

    /// Full below the low mark, free again above the high one.
    fn free_space(&mut self, bytes: u64) {
        self.stats.free_bytes = bytes;
        let refusing = bytes < self.options.free_low_bytes || self.refusing && bytes < self.options.free_high_bytes;
        if refusing != self.refusing {
            tracing::warn!(refusing, free_bytes = bytes, "free space on the spool's disk crossed a mark");
        }
        self.refusing = refusing;
    }

    fn admit(&mut self, lane: &Lane, id: ItemId, bytes: u64) -> LaneNo {
        self.items += 1;
        self.bytes += bytes;
        self.dead += usize::from(lane.class == Lane::DEAD_CLASS);
        self.lanes.admit(lane, id, bytes)
    }

    fn leave(&mut self, lane: LaneNo, id: ItemId, bytes: u64) {
        self.items -= 1;
        self.bytes -= bytes;
        self.dead -= usize::from(self.lanes.name(lane).class == Lane::DEAD_CLASS);
        self.lanes.leave(lane, id, bytes);
    }

    fn count_leased(&mut self, lane: LaneNo, leased: bool) {
        self.leased = if leased { self.leased + 1 } else { self.leased - 1 };
        self.lanes.count_leased(lane, leased);
    }

    fn event(&mut self, port: u32, id: ItemId, kind: EventKind) {
        self.outputs.push_back(Output::Event { port, event: Event { id, kind } });
    }

    fn reply(&mut self, token: u64, reply: Reply) {
        self.outputs.push_back(Output::Reply { token, reply });
    }

    fn refuse(&mut self, port: u32, id: ItemId, refusal: Refusal) {
        self.stats.refused += 1;
        self.event(port, id, EventKind::Refused(refusal));
    }

    fn tell_fate(&mut self, port: u32, id: ItemId, fate: Fate) {
        self.event(port, id, EventKind::Fate(fate));
    }

    fn refusal(&self, error: &SpoolError) -> Refusal {
        match error {
            SpoolError::Full => Refusal::Full { free_bytes: self.stats.free_bytes },
            SpoolError::TooLarge => Refusal::TooLarge,
            _ => Refusal::Failed,
        }
    }

    fn submit(&mut self, kind: DiskOpKind, waiting: Waiting) {
        let token = self.next_token;
        self.next_token += 1;
        self.under_way.insert(token, waiting);
        self.ops.push_back(DiskOp { token, kind });
    }

    fn submit_log(&mut self, kind: DiskOpKind) {
        self.ops.push_back(DiskOp { token: LOG_TOKEN, kind });
    }

    fn release_segments(&mut self) {
        self.segments.release();
        while let Some(segment) = self.segments.poll_surplus() {
            self.submit(DiskOpKind::RemoveSegment { segment }, Waiting::Removed);
        }
    }
}

impl Tentative {
    fn in_memory(&self) -> usize {
        let body = if let TentativeBody::Inline(bytes) = &self.body { bytes.len() } else { 0 };
        TENTATIVE_OVERHEAD + self.meta.len() + body
    }
}

impl NewEntry {
    fn of(put: &Put<'_>, lane: LaneNo, part: u32) -> Self {
        let (body_file, body_crc) = match put.body {
            PutBody::File { file, crc, .. } => (file, crc),
            PutBody::Inline(_) | PutBody::Shared(_) => (0, 0),
        };
        let (due_unix_ms, held, body_len) = (put.due_unix_ms, put.held, put.body.len());
        Self { id: put.id, lane, due_unix_ms, held, body_len, body_file, body_crc, part }
    }
}

/// What a living item takes in the log, roughly: its record, padded, without following its updates.
pub(crate) fn footprint(entry: &Entry) -> u64 {
    let inline = if entry.body_file == 0 { entry.body_len } else { 0 };
    FOOTPRINT + inline
}

use writer::LOG_TOKEN;

/// Metadata, lane key and header of an ordinary message.
const FOOTPRINT: u64 = 512;
/// What a tentative item costs beside its bytes.
const TENTATIVE_OVERHEAD: usize = 256;
/// A wall clock that goes back by less is corrected by small steps, as time daemons do it: retries are a minute apart.
const CLOCK_STEP_MS: u64 = 60_000;
/// What a lease gets after the clock has jumped forward over its end: as long as a drain leases, 20 minutes.
const LEASE_GRACE_MS: u64 = 1_200_000;

#[cfg(test)]
mod tests;
