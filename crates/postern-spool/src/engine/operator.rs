//! The operator's side: list, show, hold, retry, delete.

use crate::event::SpoolError;
use crate::item::{ItemId, ItemSummary};
use crate::record::{padded, update_len, write_finish, write_update};
use crate::request::Reply;

use super::read::{Purpose, ReadItem, Reading, Source};
use super::writer::Effect;
use super::{Engine, State};

impl Engine {
    pub(super) fn list(&mut self, token: u64, key: Option<&str>, after: Option<ItemId>, n: usize) {
        let ids = self.lanes.list(key, after, n.min(LIST_MAX));
        let items = ids.into_iter().filter_map(|id| self.summary(id)).collect();
        self.reply(token, Reply::Listed(items));
    }

    pub(super) fn summary(&self, id: ItemId) -> Option<ItemSummary> {
        let (lane, size, due_unix_ms, held, leased, tentative) = if let Some(item) = self.tentative.get(&id.0) {
            let tentative = !matches!(item.state, State::Committing);
            (item.lane, item.body.len(), item.due_unix_ms, false, item.leased, tentative)
        } else {
            let entry = self.index.get(id)?;
            (entry.lane, entry.body_len, entry.due_unix_ms, entry.is_held(), entry.leased, false)
        };
        let lane = self.lanes.name(lane).clone();
        Some(ItemSummary { id, lane, size, arrived_unix_ms: id.unix_ms(), due_unix_ms, held, leased, tentative })
    }

    pub(super) fn show(&mut self, token: u64, id: ItemId) {
        let source = match (self.tentative.get(&id.0), self.index.get(id)) {
            (Some(item), _) => Source::of_tentative(item),
            (None, Some(entry)) => Source::of_entry(entry),
            (None, None) => return self.reply(token, Reply::Shown(None)),
        };
        self.read(Reading { purpose: Purpose::Show { token }, items: vec![ReadItem { id, turn: 0, source }] });
    }

    /// Hold and retry. What is seen in memory changes at once, the answer comes when it is durable.
    pub(super) fn change(&mut self, token: u64, id: ItemId, held: Option<bool>, due_unix_ms: Option<u64>) {
        let record = padded(update_len(None));
        let allowed = self.changeable(id).and_then(|()| self.writable(record));
        let (Ok(()), Some(entry)) = (&allowed, self.index.get_mut(id)) else {
            return self.reply(token, Reply::Done(allowed));
        };
        let was_held = entry.is_held();
        if !was_held && !entry.leased && !entry.closing {
            self.lanes.withdraw(entry.lane, id, entry.due_unix_ms);
        }
        entry.due_unix_ms = due_unix_ms.unwrap_or(entry.due_unix_ms);
        if let Some(held) = held {
            entry.held = held;
            if !held {
                // Let go by hand, it is read once more.
                self.stats.unreadable -= usize::from(std::mem::take(&mut entry.damaged));
            }
        }
        let is_held = entry.is_held();
        if is_held != was_held {
            self.lanes.count_held(entry.lane, is_held);
            self.held = if is_held { self.held + 1 } else { self.held - 1 };
        }
        entry.pending += 1;
        let (due_unix_ms, held) = (entry.due_unix_ms, entry.held);
        self.offer(id);
        self.encode(record, 0, |buffer, life, offset| {
            let len = write_update(buffer, life, offset, id, due_unix_ms, held, None);
            (len, Effect::Update { token, id, meta: false, postponed: false })
        });
    }

    pub(super) fn delete(&mut self, token: u64, id: ItemId) {
        let record = padded(crate::record::finish_len(&[], &[]));
        let allowed = self.changeable(id).and_then(|()| self.writable(record));
        let (Ok(()), Some(entry)) = (&allowed, self.index.get_mut(id)) else {
            return self.reply(token, Reply::Done(allowed));
        };
        if entry.leased || entry.closing {
            return self.reply(token, Reply::Done(Err(SpoolError::Leased)));
        }
        entry.closing = true;
        self.lanes.withdraw(entry.lane, id, entry.due_unix_ms);
        self.encode(record, 0, |buffer, life, offset| {
            let (len, _) = write_finish(buffer, life, offset, id, &[], &[]);
            (len, Effect::Finish { token, id, delete: true, children: Vec::new() })
        });
    }

    fn changeable(&self, id: ItemId) -> Result<(), SpoolError> {
        if self.tentative.contains_key(&id.0) {
            Err(SpoolError::Tentative)
        } else if self.index.contains(id) {
            Ok(())
        } else {
            Err(SpoolError::NotFound)
        }
    }
}

/// Items of one page: a page is made in the engine's thread, while commits wait.
const LIST_MAX: usize = 1000;
