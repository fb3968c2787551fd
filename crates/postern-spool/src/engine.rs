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
use crate::item::{Body, Fate, ItemId, Lane, NewItem, When};
use crate::lanes::{LaneNo, Lanes};
use crate::limits::SpoolOptions;
use crate::record::{HEADER, Put, PutBody, padded, write_put};
use crate::recovery::Recovered;
use crate::request::{Input, Output, PortRequest, Reply, Request};
use crate::spool::SpoolStats;

mod apply;
mod bodies;
mod leases;
mod operator;
mod read;
mod reclaim;
pub(crate) mod segments;
mod writer;

use bodies::{BodySyncs, Streaming};
use read::Reading;
use reclaim::Reclaim;
use segments::Segments;
use writer::{Effect, NewEntry, Writer};

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
        engine.release_segments();
        if !engine.segments.has_free() {
            engine.prepare_segment();
        }
        engine
    }

    /// One input. Call `poll_disk` and `poll_output` until both are empty afterwards, or after several inputs: what comes
    /// in between shares a sync.
    pub fn handle(&mut self, now_unix_ms: u64, input: Input) {
        self.now_unix_ms = now_unix_ms;
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

    /// The end of an operation.
    pub fn handle_completion(&mut self, now_unix_ms: u64, completion: Completion) {
        self.now_unix_ms = now_unix_ms;
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
                    Err(error) => vec![Err(error)],
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

    /// Whether something may have become leasable since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// When to send [`Input::Tick`] next.
    pub fn next_tick_unix_ms(&self) -> Option<u64> {
        let lease = self.leases.first().map(|first| first.0);
        [lease, self.lanes.next_due_unix_ms()].into_iter().flatten().min()
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

    fn append(&mut self, port: u32, item: NewItem, when: When) {
        let id = item.id;
        self.id_high = self.id_high.max(id.0);
        let len = match &item.body {
            Body::Inline(bytes) => bytes.len() as u64,
            Body::Streamed => 0,
        };
        let refusal = self.admissible(&item, len).and_then(|()| match when {
            When::Tentative if self.tentative_bytes + in_memory(&item) > self.options.tentative_bytes_max => {
                Err(Refusal::TentativeFull)
            }
            _ => Ok(()),
        });
        if let Err(refusal) = refusal {
            self.discard_streaming(id);
            return self.refuse(port, id, refusal);
        }
        match (item.body, when) {
            (Body::Inline(body), When::Commit) => {
                let lane = self.admit(&item.lane, id, len);
                let put = Put {
                    id,
                    due_unix_ms: item.due_unix_ms,
                    held: false,
                    key: &item.lane.key,
                    class: item.lane.class,
                    meta: &item.meta,
                    body: PutBody::Inline(&body),
                };
                self.encode_put(port, lane, &put);
            }
            (Body::Inline(body), When::Tentative) => {
                let lane = self.admit(&item.lane, id, len);
                let body = TentativeBody::Inline(Bytes::from(body));
                self.add_tentative(port, id, lane, item.meta, item.due_unix_ms, body, State::Waiting);
            }
            (Body::Streamed, _) => {
                let Some((len, crc)) = self.take_streamed(id) else {
                    self.discard_streaming(id);
                    return self.refuse(port, id, Refusal::Failed);
                };
                let lane = self.admit(&item.lane, id, len);
                self.body_refs.insert(id.0, 1);
                let commit = when == When::Commit;
                let state = if commit { State::Syncing } else { State::Waiting };
                let body = TentativeBody::File { len, crc };
                self.add_tentative(port, id, lane, item.meta, item.due_unix_ms, body, state);
                if commit {
                    self.sync_body(id);
                }
            }
        }
    }

    /// The caps, cheapest first; each says what the sender is told.
    fn admissible(&self, item: &NewItem, len: u64) -> Result<(), Refusal> {
        if self.failed.is_some() {
            return Err(Refusal::Failed);
        }
        let full = Refusal::Full { free_bytes: self.stats.free_bytes };
        if self.refusing || self.bytes + len > self.options.bytes_max {
            return Err(full);
        }
        if self.items >= self.options.items_max {
            return Err(Refusal::Items);
        }
        if self.index.contains(item.id) || self.tentative.contains_key(&item.id.0) {
            return Err(Refusal::Failed);
        }
        let record = padded(crate::record::PUT_FIXED + item.lane.key.len() + item.meta.len() + len as usize);
        if item.lane.key.len() > usize::from(u16::MAX) || self.writable(record).is_err() {
            return Err(Refusal::TooLarge);
        }
        if self.writer.queued_bytes() > self.options.tentative_bytes_max {
            return Err(full);
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one struct, given once each")]
    fn add_tentative(
        &mut self,
        port: u32,
        id: ItemId,
        lane: LaneNo,
        meta: Vec<u8>,
        due_unix_ms: u64,
        body: TentativeBody,
        state: State,
    ) {
        let offered = matches!(state, State::Waiting);
        let item = Tentative { port, lane, meta, due_unix_ms, body, state, leased: false, turn: 0, parked: Vec::new() };
        self.tentative_bytes += item.in_memory();
        self.tentative.insert(id.0, item);
        self.lanes.count_tentative(lane, true);
        if offered {
            self.lanes.offer_tentative(lane, id, due_unix_ms);
            self.changed |= due_unix_ms <= self.now_unix_ms;
        }
    }

    /// Takes a tentative item out of memory and its queue; it stays counted in its lane.
    fn remove_tentative(&mut self, id: ItemId) -> Option<Tentative> {
        let item = self.tentative.remove(&id.0)?;
        self.tentative_bytes -= item.in_memory();
        self.lanes.count_tentative(item.lane, false);
        self.lanes.withdraw_tentative(item.lane, id, item.due_unix_ms);
        Some(item)
    }

    /// Drops a tentative item for good.
    fn drop_tentative(&mut self, id: ItemId) -> Option<Tentative> {
        let mut item = self.remove_tentative(id)?;
        if item.leased {
            self.count_leased(item.lane, false);
        }
        for (token, request) in std::mem::take(&mut item.parked) {
            self.request(token, request);
        }
        self.leave(item.lane, id, item.body.len());
        if matches!(item.body, TentativeBody::File { .. }) {
            self.drop_body(id.0);
        }
        Some(item)
    }

    fn commit(&mut self, port: u32, id: ItemId) {
        // Settled, refused or committed before: its event has gone out, or goes out when the record is durable.
        let Some(item) = self.tentative.get_mut(&id.0) else { return };
        if !matches!(item.state, State::Waiting) {
            return;
        }
        item.port = port;
        if let TentativeBody::File { .. } = item.body {
            item.state = State::Syncing;
            return self.sync_body(id);
        }
        self.commit_now(id);
    }

    /// Queues the put of a tentative item whose body needs no more syncs.
    fn commit_now(&mut self, id: ItemId) {
        let Some(item) = self.tentative.get(&id.0) else { return };
        let port = item.port;
        let len = match &item.body {
            TentativeBody::Inline(bytes) => bytes.len(),
            TentativeBody::File { .. } => 0,
        };
        let lane = self.lanes.name(item.lane).clone();
        let record = padded(crate::record::PUT_FIXED + lane.key.len() + item.meta.len() + len);
        if self.refusing || self.writable(record).is_err() {
            let refusal = self.refusal(&self.writable(record).err().unwrap_or(SpoolError::Full));
            self.drop_tentative(id);
            return self.refuse(port, id, refusal);
        }
        // Out of the map while its bytes are borrowed; it comes back as an item that counts as committed.
        let Some(mut item) = self.tentative.remove(&id.0) else { return };
        self.lanes.withdraw_tentative(item.lane, id, item.due_unix_ms);
        item.state = State::Committing;
        let body = match &item.body {
            TentativeBody::Inline(bytes) => PutBody::Inline(bytes),
            TentativeBody::File { len, crc } => PutBody::File { file: id.0, len: *len, crc: *crc },
        };
        let put = Put {
            id,
            due_unix_ms: item.due_unix_ms,
            held: false,
            key: &lane.key,
            class: lane.class,
            meta: &item.meta,
            body,
        };
        self.encode_put(port, item.lane, &put);
        self.tentative.insert(id.0, item);
    }

    fn encode_put(&mut self, port: u32, lane: LaneNo, put: &Put<'_>) {
        let item = NewEntry::of(put, lane, HEADER as u32);
        self.encode(padded(put.encoded_len()), 1, |buffer, life, offset| {
            (write_put(buffer, life, offset, put), Effect::Put { port, item })
        });
    }

    fn abandon(&mut self, id: ItemId) {
        self.discard_streaming(id);
        match self.tentative.get(&id.0).map(|item| &item.state) {
            // On its way to the disk: it stays, the sender may get it delivered twice, which is better than never.
            None | Some(State::Committing | State::Settling(_)) => {}
            Some(_) => {
                self.drop_tentative(id);
            }
        }
    }

    fn tick(&mut self) {
        while let Some(&(until, id)) = self.leases.first() {
            if until > self.now_unix_ms {
                break;
            }
            self.leases.pop_first();
            self.unlease(ItemId(id));
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

fn in_memory(item: &NewItem) -> usize {
    let body = if let Body::Inline(bytes) = &item.body { bytes.len() } else { 0 };
    TENTATIVE_OVERHEAD + item.meta.len() + body
}

impl NewEntry {
    fn of(put: &Put<'_>, lane: LaneNo, part: u32) -> Self {
        let (body_file, body_crc) = match put.body {
            PutBody::File { file, crc, .. } => (file, crc),
            PutBody::Inline(_) | PutBody::Shared(_) => (0, 0),
        };
        Self { id: put.id, lane, due_unix_ms: put.due_unix_ms, body_len: put.body.len(), body_file, body_crc, part }
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
