//! Large bodies in files of their own: streamed piece by piece, synced with their directory before a record names them,
//! removed when the last item that carries them is gone. All of it goes through the background queue.

use crate::disk::{DiskError, DiskOpKind};
use crate::event::{EventKind, Refusal, SpoolError};
use crate::item::ItemId;
use crate::request::Reply;

use super::{Engine, State, Waiting};

/// A body that is still coming.
#[derive(Debug)]
pub(super) struct Streaming {
    port: u32,
    len: u64,
    crc: u32,
    /// The last piece is not written yet.
    writing: bool,
}

/// Body files on their way to being durable. One directory sync serves all that were synced before it began.
#[derive(Debug, Default)]
pub(super) struct BodySyncs {
    synced: Vec<ItemId>,
    being_named: Vec<ItemId>,
    naming: bool,
}

impl Engine {
    pub(super) fn write_body(&mut self, port: u32, id: ItemId, data: Vec<u8>) {
        if self.is_taken(port, id) {
            return self.refuse(port, id, Refusal::Taken);
        }
        let len = data.len() as u64;
        let in_streams: u64 = self.streaming.get(&id.0).map_or(0, |stream| stream.len);
        let refusal = if self.failed.is_some() {
            Some(Refusal::Failed)
        } else if self.refusing || self.bytes + in_streams + len > self.options.bytes_max {
            Some(Refusal::Full { free_bytes: self.stats.free_bytes })
        } else if self.items + self.streaming.len() >= self.options.items_max {
            Some(Refusal::Items)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.discard_streaming(id);
            return self.refuse(port, id, refusal);
        }
        self.id_high = self.id_high.max(id.0);
        let create = !self.streaming.contains_key(&id.0);
        let stream = self.streaming.entry(id.0).or_insert(Streaming { port, len: 0, crc: 0, writing: false });
        let offset = stream.len;
        stream.len += len;
        stream.crc = crc32c::crc32c_append(stream.crc, &data);
        stream.writing = true;
        self.submit(DiskOpKind::WriteBody { body: id, offset, data, create }, Waiting::BodyWritten(id));
    }

    pub(super) fn body_written(&mut self, id: ItemId, result: Result<(), DiskError>) {
        let Some(stream) = self.streaming.get_mut(&id.0) else { return };
        stream.writing = false;
        let port = stream.port;
        match result {
            Ok(()) => self.event(port, id, EventKind::Stored),
            Err(error) => {
                let refusal = match error {
                    DiskError::Full => Refusal::Full { free_bytes: self.stats.free_bytes },
                    DiskError::Failed(_) => Refusal::Failed,
                };
                self.discard_streaming(id);
                self.refuse(port, id, refusal);
            }
        }
    }

    /// A body file of this id has owners, or another port is writing it: to create it anew would put other bytes into
    /// their mail, to discard it would take them away.
    pub(super) fn is_taken(&self, port: u32, id: ItemId) -> bool {
        let elsewhere = self.streaming.get(&id.0).is_some_and(|stream| stream.port != port);
        elsewhere || self.body_refs.contains_key(&id.0)
    }

    /// Length and checksum of a body that has come in full.
    pub(super) fn take_streamed(&mut self, id: ItemId) -> Option<(u64, u32)> {
        if self.streaming.get(&id.0)?.writing {
            return None;
        }
        self.streaming.remove(&id.0).map(|stream| (stream.len, stream.crc))
    }

    pub(super) fn discard_streaming(&mut self, id: ItemId) {
        if self.streaming.remove(&id.0).is_some() {
            self.submit(DiskOpKind::RemoveBody { body: id }, Waiting::Nothing);
        }
    }

    /// Begins to make a body file durable; ends in `body_durable`.
    pub(super) fn sync_body(&mut self, id: ItemId) {
        self.submit(DiskOpKind::SyncBody { body: id }, Waiting::BodySynced(id));
    }

    pub(super) fn body_synced(&mut self, id: ItemId, result: Result<(), DiskError>) {
        match result {
            Ok(()) => {
                self.body_syncs.synced.push(id);
                self.name_bodies();
            }
            Err(DiskError::Full) => self.body_not_kept(id),
            Err(error) => {
                self.fail(error.to_string());
                self.body_durable(id);
            }
        }
    }

    /// No room or no descriptor for one body: only its item cannot be kept.
    fn body_not_kept(&mut self, id: ItemId) {
        match self.tentative.get_mut(&id.0).map(|item| &mut item.state) {
            Some(State::Syncing) => self.refuse_tentative(id, &SpoolError::Full),
            Some(State::Settling(settlement)) => {
                let Some(settlement) = settlement.take() else { return };
                self.refuse_tentative(id, &SpoolError::Full);
                self.reply(settlement.token, Reply::Finished(Err(SpoolError::Full.into())));
            }
            _ => {}
        }
    }

    fn name_bodies(&mut self) {
        if self.body_syncs.naming || self.body_syncs.synced.is_empty() {
            return;
        }
        self.body_syncs.naming = true;
        self.body_syncs.being_named = std::mem::take(&mut self.body_syncs.synced);
        self.submit(DiskOpKind::SyncBodyDir, Waiting::BodiesNamed);
    }

    pub(super) fn bodies_named(&mut self, result: Result<(), DiskError>) {
        self.body_syncs.naming = false;
        if let Err(error) = result {
            self.fail(error.to_string());
        }
        for id in std::mem::take(&mut self.body_syncs.being_named) {
            self.body_durable(id);
        }
        self.name_bodies();
    }

    /// The body is durable, or `failed` says why it is not: then the next step refuses by itself.
    fn body_durable(&mut self, id: ItemId) {
        match self.tentative.get(&id.0).map(|item| &item.state) {
            Some(State::Syncing) => self.commit_now(id),
            Some(State::Settling(Some(_))) => self.settle_now(id),
            _ => {}
        }
    }

    /// One item fewer carries the body.
    pub(super) fn drop_body(&mut self, file: u64) {
        let Some(refs) = self.body_refs.get_mut(&file) else { return };
        *refs -= 1;
        if *refs == 0 {
            self.body_refs.remove(&file);
            // On a broken disk nobody knows which record got there; recovery removes what no record names.
            if self.failed.is_some() {
                return;
            }
            self.submit(DiskOpKind::RemoveBody { body: ItemId(file) }, Waiting::Nothing);
        }
    }
}
