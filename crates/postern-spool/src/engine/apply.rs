//! What happens when a record is durable, and what is undone when it cannot become so. Called by the writer only: in log
//! order, after the sync. The index changes here and nowhere else.

use crate::event::{EventKind, FinishError, SpoolError};
use crate::index::{Entry, Place};
use crate::item::{Fate, ItemId};
use crate::record::HEADER;
use crate::request::{Reply, Request};

use super::writer::{Effect, NewEntry, Pending};
use super::{Engine, State, Tentative, footprint};

impl Engine {
    pub(super) fn apply(&mut self, slot: u32, pending: Pending, group: u32) {
        let place = Place { slot, offset: pending.offset, len: pending.len };
        match pending.what {
            Effect::Put { port, item } => self.apply_put(port, item, place, group),
            Effect::Update { token, id, meta, postponed } => {
                self.apply_update(id, meta.then_some(place), postponed);
                self.reply(token, Reply::Done(Ok(())));
            }
            Effect::Finish { token, id, delete, children } => {
                for child in children {
                    let id = child.id;
                    self.insert(child, place);
                    self.offer(id);
                }
                let tentative = self.drop_tentative(id);
                if let Some(item) = tentative {
                    self.tell_fate(item.port, id, Fate::Delivered);
                } else if let Some(entry) = self.index.remove(id) {
                    self.forget(&entry);
                }
                self.reply(token, if delete { Reply::Done(Ok(())) } else { Reply::Finished(Ok(())) });
            }
            Effect::Copy { id } => self.apply_copy(id, place),
        }
    }

    fn apply_put(&mut self, port: u32, new: NewEntry, place: Place, group: u32) {
        let id = new.id;
        let tentative = self.remove_tentative(id);
        self.insert(new, place);
        self.committed(port, id, group);
        let Some(Tentative { leased, turn, due_unix_ms, parked, .. }) = tentative else {
            return self.offer(id);
        };
        if let Some(entry) = self.index.get_mut(id) {
            entry.leased = leased;
            entry.turn = turn;
            entry.due_unix_ms = due_unix_ms;
        }
        self.offer(id);
        for (token, request) in parked {
            self.request(token, request);
        }
    }

    fn apply_update(&mut self, id: ItemId, meta: Option<Place>, postponed: bool) {
        let Some(entry) = self.index.get_mut(id) else { return };
        entry.pending -= 1;
        if let Some(place) = meta {
            entry.meta = place;
        }
        if postponed {
            entry.closing = false;
            self.unlease(id);
        }
    }

    fn apply_copy(&mut self, id: ItemId, place: Place) {
        let Some(entry) = self.index.get_mut(id) else { return };
        entry.pending -= 1;
        let before = std::mem::replace(&mut entry.put, place).slot;
        entry.part = HEADER as u32;
        entry.meta = place;
        self.segments.get_mut(before).live -= 1;
        let segment = self.segments.get_mut(place.slot);
        segment.live += 1;
        segment.ids.push(id.0);
    }

    fn insert(&mut self, new: NewEntry, place: Place) {
        let entry = Entry {
            id: new.id,
            due_unix_ms: new.due_unix_ms,
            body_len: new.body_len,
            body_file: new.body_file,
            body_crc: new.body_crc,
            put: place,
            part: new.part,
            meta: place,
            lane: new.lane,
            turn: 0,
            pending: 0,
            held: new.held,
            leased: false,
            closing: false,
            damaged: false,
        };
        if new.held {
            self.held += 1;
            self.lanes.count_held(new.lane, true);
        }
        let segment = self.segments.get_mut(place.slot);
        segment.live += 1;
        segment.ids.push(new.id.0);
        self.segments.live_bytes += footprint(&entry);
        self.index.insert(entry);
    }

    /// Makes a committed item leasable, unless something holds it back.
    pub(super) fn offer(&mut self, id: ItemId) {
        let Some(entry) = self.index.get(id) else { return };
        if !entry.is_held() && !entry.leased && !entry.closing {
            self.changed |= self.lanes.offer(entry.lane, id, entry.due_unix_ms, self.now_unix_ms);
        }
    }

    /// Counts out an item that has left the index.
    fn forget(&mut self, entry: &Entry) {
        if entry.leased {
            self.count_leased(entry.lane, false);
        }
        self.stats.unreadable -= usize::from(entry.damaged);
        if entry.is_held() {
            self.held -= 1;
            self.lanes.count_held(entry.lane, false);
        }
        self.segments.get_mut(entry.put.slot).live -= 1;
        self.segments.live_bytes -= footprint(entry);
        self.lanes.withdraw(entry.lane, entry.id, entry.due_unix_ms);
        self.leave(entry.lane, entry.id, entry.body_len);
        if entry.body_file != 0 {
            self.drop_body(entry.body_file);
        }
    }

    /// A record did not become durable.
    pub(super) fn undo(&mut self, what: Effect, error: &SpoolError) {
        match what {
            Effect::Put { port, item } => {
                if let Some(tentative) = self.tentative.get_mut(&item.id.0) {
                    tentative.state = State::Waiting;
                    self.drop_tentative(item.id);
                } else {
                    self.leave(item.lane, item.id, item.body_len);
                }
                let refusal = self.refusal(error);
                self.refuse(port, item.id, refusal);
            }
            Effect::Update { token, id, postponed, .. } => {
                if let Some(entry) = self.index.get_mut(id) {
                    entry.pending -= 1;
                }
                if postponed {
                    self.ending_failed(id, error, None);
                }
                self.reply(token, Reply::Done(Err(error.clone())));
            }
            Effect::Finish { token, id, delete, children } => {
                for child in children {
                    self.leave(child.lane, child.id, child.body_len);
                    if child.body_file != 0 {
                        self.drop_body(child.body_file);
                    }
                }
                if self.tentative.contains_key(&id.0) {
                    // Some recipients have it, the others would be lost: the sender tries again.
                    self.refuse_tentative(id, error);
                } else if delete {
                    if let Some(entry) = self.index.get_mut(id) {
                        entry.closing = false;
                    }
                    self.offer(id);
                } else {
                    self.ending_failed(id, error, None);
                }
                let error = error.clone();
                let reply =
                    if delete { Reply::Done(Err(error)) } else { Reply::Finished(Err(FinishError::Spool(error))) };
                self.reply(token, reply);
            }
            Effect::Copy { id } => {
                if let Some(entry) = self.index.get_mut(id) {
                    entry.pending -= 1;
                }
                self.reclaim.abort();
            }
        }
    }

    /// Drops a tentative item because it cannot be kept.
    pub(super) fn refuse_tentative(&mut self, id: ItemId, error: &SpoolError) {
        if let Some(item) = self.drop_tentative(id) {
            let refusal = self.refusal(error);
            self.stats.refused += 1;
            self.event(item.port, id, EventKind::Refused(refusal));
        }
    }

    /// Parks a request about an item whose put is on its way to the disk; gives it back when it is not.
    pub(super) fn park(&mut self, token: u64, id: ItemId, request: Request) -> Option<Request> {
        match self.tentative.get_mut(&id.0) {
            Some(item @ Tentative { state: State::Committing, .. }) => {
                item.parked.push((token, request));
                None
            }
            _ => Some(request),
        }
    }
}
