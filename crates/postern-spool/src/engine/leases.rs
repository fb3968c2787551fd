//! The drain's side: leasing, and the two ways a lease ends. A lease is known by item and turn; one that ran out may
//! still be used as long as nobody else got the item.

use crate::event::{FinishError, SpoolError};
use crate::item::{BodySource, Child, ChildBody, Fate, ItemId, Lane, Lease};
use crate::record::{Put, PutBody, finish_len, padded, update_len, write_finish, write_update};
use crate::request::{Reply, Request};

use super::read::{Purpose, ReadItem, Reading, Source};
use super::writer::{Effect, NewEntry};
use super::{Engine, Settlement, State, TentativeBody};

impl Engine {
    pub(super) fn lease(&mut self, token: u64, lane: &Lane, n: usize, until_unix_ms: u64) {
        let Some(no) = self.lanes.find(lane) else { return self.reply(token, Reply::Leased(Vec::new())) };
        let mut items = Vec::new();
        for (id, tentative) in self.lanes.take_due(no, n.min(LEASES_MAX), self.now_unix_ms) {
            self.turn = self.turn.wrapping_add(1);
            let turn = self.turn;
            let source = if tentative {
                let Some(item) = self.tentative.get_mut(&id.0) else { continue };
                (item.leased, item.turn) = (true, turn);
                Source::of_tentative(item)
            } else {
                let Some(entry) = self.index.get_mut(id) else { continue };
                (entry.leased, entry.turn) = (true, turn);
                Source::of_entry(entry)
            };
            self.leases.insert((until_unix_ms, id.0));
            self.count_leased(no, true);
            items.push(ReadItem { id, turn, source });
        }
        self.read(Reading { purpose: Purpose::Lease { token, until_unix_ms }, items });
    }

    /// Leases whose asker has gone.
    pub(super) fn release(&mut self, leases: &[Lease]) {
        for lease in leases {
            let tentative = self.tentative.get(&lease.id.0).map(|item| item.turn);
            if tentative.or_else(|| self.index.get(lease.id).map(|entry| entry.turn)) == Some(lease.turn) {
                self.end_lease(lease.until_unix_ms, lease.id);
                self.unlease(lease.id);
            }
        }
    }

    /// Makes a leased item leasable again; its place in `leases` is gone already.
    pub(super) fn unlease(&mut self, id: ItemId) {
        if let Some(item) = self.tentative.get_mut(&id.0) {
            if !std::mem::take(&mut item.leased) {
                return;
            }
            let (lane, due) = (item.lane, item.due_unix_ms);
            let offered = matches!(item.state, State::Waiting | State::Syncing);
            self.count_leased(lane, false);
            if offered {
                self.changed |= self.lanes.offer_tentative(lane, id, due, self.now_unix_ms);
            }
        } else if let Some(entry) = self.index.get_mut(id) {
            if !std::mem::take(&mut entry.leased) {
                return;
            }
            let lane = entry.lane;
            self.count_leased(lane, false);
            self.offer(id);
        }
    }

    pub(super) fn postpone(&mut self, token: u64, lease: Lease, meta: Vec<u8>, due_unix_ms: u64) {
        let id = lease.id;
        let request = Request::Postpone { lease, meta, due_unix_ms };
        let Some(Request::Postpone { lease, meta, .. }) = self.park(token, id, request) else { return };
        if self.tentative.contains_key(&id.0) {
            let done = self.postpone_tentative(&lease, meta, due_unix_ms);
            return self.reply(token, Reply::Done(done));
        }
        let Some(entry) = self.index.get(id).filter(|entry| entry.turn == lease.turn && !entry.closing) else {
            return self.reply(token, Reply::Done(Err(SpoolError::NotFound)));
        };
        let held = entry.held;
        let record = padded(update_len(Some(&meta)));
        if let Err(error) = self.writable(record) {
            self.ending_failed(id, &error, Some(&lease));
            return self.reply(token, Reply::Done(Err(error)));
        }
        self.close(&lease);
        if let Some(entry) = self.index.get_mut(id) {
            entry.due_unix_ms = due_unix_ms;
            entry.pending += 1;
        }
        self.encode(record, 0, |buffer, life, offset| {
            let len = write_update(buffer, life, offset, id, due_unix_ms, held, Some(&meta));
            (len, Effect::Update { token, id, meta: true, postponed: true })
        });
    }

    fn postpone_tentative(&mut self, lease: &Lease, meta: Vec<u8>, due_unix_ms: u64) -> Result<(), SpoolError> {
        let Some(item) = self.tentative.get_mut(&lease.id.0) else { return Err(SpoolError::NotFound) };
        if item.turn != lease.turn || matches!(item.state, State::Settling(_)) {
            return Err(SpoolError::NotFound);
        }
        let (lane, due_before, port) = (item.lane, item.due_unix_ms, item.port);
        let waits = matches!(item.state, State::Waiting);
        self.tentative_bytes += meta.len();
        self.tentative_bytes -= item.meta.len();
        item.meta = meta;
        item.due_unix_ms = due_unix_ms;
        let leased = item.leased;
        self.lanes.withdraw_tentative(lane, lease.id, due_before);
        if leased {
            self.end_lease(lease.until_unix_ms, lease.id);
            self.unlease(lease.id);
        } else {
            self.changed |= self.lanes.offer_tentative(lane, lease.id, due_unix_ms, self.now_unix_ms);
        }
        if waits {
            self.tell_fate(port, lease.id, Fate::Unsettled);
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, token: u64, lease: Lease, fate: Fate, children: Vec<(ItemId, Child)>) {
        let id = lease.id;
        let request = Request::Finish { lease, fate, children };
        let Some(Request::Finish { lease, fate, children }) = self.park(token, id, request) else { return };
        for (id, _) in &children {
            self.id_high = self.id_high.max(id.0);
        }
        if self.tentative.contains_key(&id.0) {
            return self.finish_tentative(token, lease, fate, children);
        }
        let Some(entry) = self.index.get(id).filter(|entry| entry.turn == lease.turn && !entry.closing) else {
            return self.reply(token, Reply::Finished(Err(FinishError::Gone)));
        };
        let body = match (entry.body_file, &lease.body) {
            (0, BodySource::Inline(bytes)) => PutBody::Shared(bytes),
            (file, _) => PutBody::File { file, len: entry.body_len, crc: entry.body_crc },
        };
        match fate {
            Fate::Refused(_) | Fate::Deferred(_) if lease.tentative => {
                let lease = Lease { tentative: false, ..lease };
                self.reply(token, Reply::Finished(Err(FinishError::CommittedMeanwhile(Box::new(lease)))));
            }
            Fate::Unsettled => {
                self.release(&[lease]);
                self.reply(token, Reply::Finished(Ok(())));
            }
            _ => match self.encode_finish(token, id, body, &children) {
                Ok(()) => self.close(&lease),
                Err(error) => {
                    self.ending_failed(id, &error, Some(&lease));
                    self.reply(token, Reply::Finished(Err(error.into())));
                }
            },
        }
    }

    fn finish_tentative(&mut self, token: u64, lease: Lease, fate: Fate, children: Vec<(ItemId, Child)>) {
        let id = lease.id;
        let Some(item) = self.tentative.get(&id.0) else { return };
        if item.turn != lease.turn || matches!(item.state, State::Settling(_)) {
            return self.reply(token, Reply::Finished(Err(FinishError::Gone)));
        }
        self.end_lease(lease.until_unix_ms, id);
        let Some(item) = self.tentative.get_mut(&id.0) else { return };
        let port = item.port;
        let waits = matches!(item.state, State::Waiting);
        match fate {
            Fate::Unsettled => {
                self.unlease(id);
                if waits {
                    self.tell_fate(port, id, fate);
                }
                self.reply(token, Reply::Finished(Ok(())));
            }
            Fate::Delivered if !children.is_empty() => {
                // The door must not hear Delivered before the children are durable, nor they before their body.
                let file = matches!(item.body, TentativeBody::File { .. });
                let (lane, due) = (item.lane, item.due_unix_ms);
                item.state = State::Settling(Some(Box::new(Settlement { token, children })));
                self.lanes.withdraw_tentative(lane, id, due);
                if !file {
                    self.settle_now(id);
                } else if waits {
                    self.sync_body(id);
                }
            }
            // Nobody has been promised anything: with Refused and Deferred children have no reason to be.
            fate => {
                self.drop_tentative(id);
                self.tell_fate(port, id, fate);
                self.reply(token, Reply::Finished(Ok(())));
            }
        }
    }

    /// Queues the finish of a settled tentative item whose body needs no more syncs.
    pub(super) fn settle_now(&mut self, id: ItemId) {
        let Some(item) = self.tentative.get_mut(&id.0) else { return };
        let State::Settling(settlement) = &mut item.state else { return };
        let Some(Settlement { token, children }) = settlement.take().map(|boxed| *boxed) else { return };
        let inline;
        let body = match &item.body {
            TentativeBody::Inline(bytes) => {
                inline = bytes.clone();
                PutBody::Shared(&inline)
            }
            &TentativeBody::File { len, crc } => PutBody::File { file: id.0, len, crc },
        };
        if let Err(error) = self.encode_finish(token, id, body, &children) {
            self.refuse_tentative(id, &error);
            self.reply(token, Reply::Finished(Err(error.into())));
        }
    }

    /// Queues a finish with its children in one record; `parent` is the body they may share.
    pub(super) fn encode_finish(
        &mut self,
        token: u64,
        id: ItemId,
        parent: PutBody<'_>,
        children: &[(ItemId, Child)],
    ) -> Result<(), SpoolError> {
        let shares = children.iter().any(|(_, child)| matches!(child.body, ChildBody::Parent));
        let shared = if let (true, PutBody::Shared(bytes)) = (shares, parent) { bytes } else { &[] };
        if children.iter().any(|(_, child)| child.lane.key.len() > usize::from(u16::MAX)) {
            return Err(SpoolError::TooLarge);
        }
        let puts: Vec<Put<'_>> = children
            .iter()
            .map(|(id, child)| Put {
                id: *id,
                due_unix_ms: child.due_unix_ms,
                held: false,
                key: &child.lane.key,
                class: child.lane.class,
                meta: &child.meta,
                body: match &child.body {
                    ChildBody::Parent => parent,
                    ChildBody::New(bytes) => PutBody::Inline(bytes),
                },
            })
            .collect();
        let record = padded(finish_len(shared, &puts));
        self.writable(record)?;
        let mut entries = Vec::with_capacity(puts.len());
        for (put, (_, child)) in puts.iter().zip(children) {
            let lane = self.admit(&child.lane, put.id, put.body.len());
            let entry = NewEntry::of(put, lane, 0);
            if entry.body_file != 0 {
                *self.body_refs.entry(entry.body_file).or_default() += 1;
            }
            entries.push(entry);
        }
        self.encode(record, puts.len() as u32, |buffer, life, offset| {
            let (len, parts) = write_finish(buffer, life, offset, id, shared, &puts);
            for (entry, part) in entries.iter_mut().zip(parts) {
                entry.part = part;
            }
            (len, Effect::Finish { token, id, delete: false, children: entries })
        });
        Ok(())
    }

    /// Nobody else may work on the item: a record about it is on its way to the disk.
    fn close(&mut self, lease: &Lease) {
        self.end_lease(lease.until_unix_ms, lease.id);
        let Some(entry) = self.index.get_mut(lease.id) else { return };
        entry.closing = true;
        if !entry.leased {
            self.lanes.withdraw(entry.lane, lease.id, entry.due_unix_ms);
        }
    }

    /// A finish or postpone that did not become durable. The mail has left already, to some at least, so the item must not
    /// be leased again at once: it would leave again and again while the disk is full, and for ever when it is broken.
    pub(super) fn ending_failed(&mut self, id: ItemId, error: &SpoolError, lease: Option<&Lease>) {
        if let Some(lease) = lease {
            self.close(lease);
        }
        let Some(entry) = self.index.get_mut(id) else { return };
        if matches!(error, SpoolError::Failed(_)) {
            return;
        }
        entry.closing = false;
        entry.due_unix_ms = self.now_unix_ms + ENDING_RETRY_MS;
        if entry.leased {
            self.unlease(id);
        } else {
            self.offer(id);
        }
    }
}

/// Leases given for one request: at 128 KiB a body 32 MiB are read for it.
const LEASES_MAX: usize = 256;
/// When an item whose finish or postpone found the disk full is leasable again.
const ENDING_RETRY_MS: u64 = 60_000;
