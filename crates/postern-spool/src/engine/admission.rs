//! The door's side: taking items in, tentative or for a promise, and what a tentative one can become before the drain has
//! settled it. Every cap has its answer here.

use bytes::Bytes;

use crate::event::{Refusal, SpoolError};
use crate::item::{Body, ItemId, NewItem, When};
use crate::lanes::LaneNo;
use crate::record::{HEADER, PUT_FIXED, Put, PutBody, padded, write_put};

use super::writer::{Effect, NewEntry};
use super::{Engine, State, TENTATIVE_OVERHEAD, Tentative, TentativeBody};

impl Engine {
    pub(super) fn append(&mut self, port: u32, item: NewItem, when: When) {
        let id = item.id;
        self.id_high = self.id_high.max(id.0);
        // An id that comes back: its file may have owners yet, and is not this port's to discard.
        if self.is_taken(port, id) && (matches!(item.body, Body::Streamed) || self.streaming.contains_key(&id.0)) {
            return self.refuse(port, id, Refusal::Taken);
        }
        let held = when == When::CommitHeld;
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
            (Body::Inline(body), When::Commit | When::CommitHeld) => {
                let lane = self.admit(&item.lane, id, len);
                let put = Put {
                    id,
                    due_unix_ms: item.due_unix_ms,
                    held,
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
                self.add_tentative(port, id, lane, item.meta, item.due_unix_ms, body, State::Waiting, false);
            }
            (Body::Streamed, _) => {
                let Some((len, crc)) = self.take_streamed(id) else {
                    self.discard_streaming(id);
                    return self.refuse(port, id, Refusal::Failed);
                };
                let lane = self.admit(&item.lane, id, len);
                self.body_refs.insert(id.0, 1);
                let commit = when != When::Tentative;
                let state = if commit { State::Syncing } else { State::Waiting };
                let body = TentativeBody::File { len, crc };
                self.add_tentative(port, id, lane, item.meta, item.due_unix_ms, body, state, held);
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
        let record = padded(PUT_FIXED + item.lane.key.len() + item.meta.len() + len as usize);
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
        held: bool,
    ) {
        let offered = matches!(state, State::Waiting);
        let (leased, turn, parked) = (false, 0, Vec::new());
        let item = Tentative { port, lane, meta, due_unix_ms, body, state, leased, held, turn, parked };
        self.tentative_bytes += item.in_memory();
        self.tentative.insert(id.0, item);
        self.lanes.count_tentative(lane, true);
        if offered {
            self.changed |= self.lanes.offer_tentative(lane, id, due_unix_ms, self.now_unix_ms);
        }
    }

    /// Takes a tentative item out of memory and its queue; it stays counted in its lane.
    pub(super) fn remove_tentative(&mut self, id: ItemId) -> Option<Tentative> {
        let item = self.tentative.remove(&id.0)?;
        self.tentative_bytes -= item.in_memory();
        self.lanes.count_tentative(item.lane, false);
        self.lanes.withdraw_tentative(item.lane, id, item.due_unix_ms);
        Some(item)
    }

    /// Drops a tentative item for good.
    pub(super) fn drop_tentative(&mut self, id: ItemId) -> Option<Tentative> {
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

    pub(super) fn commit(&mut self, port: u32, id: ItemId) {
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
    pub(super) fn commit_now(&mut self, id: ItemId) {
        let Some(item) = self.tentative.get(&id.0) else { return };
        let port = item.port;
        let len = match &item.body {
            TentativeBody::Inline(bytes) => bytes.len(),
            TentativeBody::File { .. } => 0,
        };
        let lane = self.lanes.name(item.lane).clone();
        let record = padded(PUT_FIXED + lane.key.len() + item.meta.len() + len);
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
            held: item.held,
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

    pub(super) fn abandon(&mut self, id: ItemId) {
        self.discard_streaming(id);
        match self.tentative.get(&id.0).map(|item| &item.state) {
            // On its way to the disk: it stays, the sender may get it delivered twice, which is better than never.
            None | Some(State::Committing | State::Settling(_)) => {}
            Some(_) => {
                self.drop_tentative(id);
            }
        }
    }
}

fn in_memory(item: &NewItem) -> usize {
    let body = if let Body::Inline(bytes) = &item.body { bytes.len() } else { 0 };
    TENTATIVE_OVERHEAD + item.meta.len() + body
}
