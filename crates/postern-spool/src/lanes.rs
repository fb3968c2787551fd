//! Lanes: which items wait where, in the order they become due. Owns the queues, not the items; every change is
//! O(log n). The index and the engine call it.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use crate::item::{ItemId, Lane, LaneStats};

/// A lane, by number; valid while anything is in it.
pub(crate) type LaneNo = u32;

#[derive(Debug, Default)]
pub(crate) struct Lanes {
    by_name: HashMap<Lane, LaneNo>,
    lanes: Vec<LaneQueue>,
    unused: Vec<LaneNo>,
    /// Nothing becomes due before this.
    next_due_unix_ms: Option<u64>,
    /// When all lanes were last looked at.
    promoted_unix_ms: u64,
    stepped: Option<Step>,
}

/// The wall clock has gone back.
#[derive(Clone, Copy, Debug)]
struct Step {
    by_ms: u64,
    /// What was on its way when it did has come by then.
    until_unix_ms: u64,
}

#[derive(Debug)]
struct LaneQueue {
    lane: Lane,
    /// Committed, due when last looked at.
    ready: BTreeSet<(u64, u64)>,
    /// Committed, due later.
    later: BTreeSet<(u64, u64)>,
    /// Tentative and not leased.
    tentative: BTreeSet<(u64, u64)>,
    /// All that have been counted in, held and leased ones too.
    ids: BTreeSet<u64>,
    bytes: u64,
    leased: usize,
    held: usize,
    tentative_items: usize,
}

impl LaneQueue {
    fn new(lane: Lane) -> Self {
        Self {
            lane,
            ready: BTreeSet::new(),
            later: BTreeSet::new(),
            tentative: BTreeSet::new(),
            ids: BTreeSet::new(),
            bytes: 0,
            leased: 0,
            held: 0,
            tentative_items: 0,
        }
    }

    fn promote(&mut self, now_unix_ms: u64) -> bool {
        if self.later.first().is_none_or(|first| first.0 > now_unix_ms) {
            return false;
        }
        let still_later = self.later.split_off(&(now_unix_ms.saturating_add(1), 0));
        let mut due = std::mem::replace(&mut self.later, still_later);
        self.ready.append(&mut due);
        true
    }
}

impl Lanes {
    /// Counts an item in; it is not offered yet. The lane lives until as many have left.
    pub(crate) fn admit(&mut self, lane: &Lane, id: ItemId, bytes: u64) -> LaneNo {
        let no = match self.by_name.get(lane) {
            Some(&no) => no,
            None => self.add(lane),
        };
        let queue = &mut self.lanes[no as usize];
        queue.ids.insert(id.0);
        queue.bytes += bytes;
        no
    }

    fn add(&mut self, lane: &Lane) -> LaneNo {
        let queue = LaneQueue::new(lane.clone());
        let no = if let Some(no) = self.unused.pop() {
            self.lanes[no as usize] = queue;
            no
        } else {
            self.lanes.push(queue);
            (self.lanes.len() - 1) as LaneNo
        };
        self.by_name.insert(lane.clone(), no);
        no
    }

    /// Counts an item out; it must not be offered any more.
    pub(crate) fn leave(&mut self, no: LaneNo, id: ItemId, bytes: u64) {
        let queue = &mut self.lanes[no as usize];
        queue.ids.remove(&id.0);
        queue.bytes -= bytes;
        if queue.ids.is_empty() {
            self.by_name.remove(&queue.lane);
            *queue = LaneQueue::new(Lane::new("", 0));
            self.unused.push(no);
        }
    }

    pub(crate) fn name(&self, no: LaneNo) -> &Lane {
        &self.lanes[no as usize].lane
    }

    pub(crate) fn find(&self, lane: &Lane) -> Option<LaneNo> {
        self.by_name.get(lane).copied()
    }

    /// Makes a committed item leasable once due; true when that is now.
    pub(crate) fn offer(&mut self, no: LaneNo, id: ItemId, due_unix_ms: u64, now_unix_ms: u64) -> bool {
        let now = due_unix_ms <= now_unix_ms || self.is_of_the_old_clock(due_unix_ms, now_unix_ms);
        let queue = &mut self.lanes[no as usize];
        if now {
            queue.ready.insert((due_unix_ms, id.0));
        } else {
            queue.later.insert((due_unix_ms, id.0));
            self.due_at(due_unix_ms);
        }
        now
    }

    /// Takes a committed item out of the queues.
    pub(crate) fn withdraw(&mut self, no: LaneNo, id: ItemId, due_unix_ms: u64) {
        let queue = &mut self.lanes[no as usize];
        if !queue.ready.remove(&(due_unix_ms, id.0)) {
            queue.later.remove(&(due_unix_ms, id.0));
        }
    }

    /// Makes a tentative item leasable once due; true when that is now.
    pub(crate) fn offer_tentative(&mut self, no: LaneNo, id: ItemId, due_unix_ms: u64, now_unix_ms: u64) -> bool {
        let old = self.is_of_the_old_clock(due_unix_ms, now_unix_ms);
        self.lanes[no as usize].tentative.insert((if old { DUE_SINCE_EVER } else { due_unix_ms }, id.0));
        let now = old || due_unix_ms <= now_unix_ms;
        if !now {
            self.due_at(due_unix_ms);
        }
        now
    }

    pub(crate) fn withdraw_tentative(&mut self, no: LaneNo, id: ItemId, due_unix_ms: u64) {
        let tentative = &mut self.lanes[no as usize].tentative;
        if !tentative.remove(&(due_unix_ms, id.0)) {
            tentative.remove(&(DUE_SINCE_EVER, id.0));
        }
    }

    /// The wall clock has gone back: what was to wait a minute by the old one would wait a day by the new one. All that
    /// waits is due now; whoever tries it again in vain gives it a time by the new clock.
    pub(crate) fn clock_went_back(&mut self, by_ms: u64, now_unix_ms: u64) {
        let until_unix_ms = now_unix_ms.saturating_add(ON_ITS_WAY_MS);
        self.stepped = Some(Step { by_ms, until_unix_ms });
        self.promoted_unix_ms = now_unix_ms;
        self.next_due_unix_ms = None;
        for queue in &mut self.lanes {
            queue.ready.append(&mut queue.later);
            let waiting = std::mem::take(&mut queue.tentative);
            queue.tentative = waiting.into_iter().map(|(_, id)| (DUE_SINCE_EVER, id)).collect();
        }
    }

    /// Whether a due time was set before the clock went back: it lies by the whole step ahead, and what is set since then
    /// hardly does. One that is taken for old by mistake is tried once too soon.
    fn is_of_the_old_clock(&self, due_unix_ms: u64, now_unix_ms: u64) -> bool {
        self.stepped.is_some_and(|step| {
            now_unix_ms <= step.until_unix_ms && due_unix_ms.saturating_sub(now_unix_ms) > step.by_ms / 2
        })
    }

    /// Takes up to `n` due items: tentative ones first, because a sender waits for each; true says tentative.
    pub(crate) fn take_due(&mut self, no: LaneNo, n: usize, now_unix_ms: u64) -> Vec<(ItemId, bool)> {
        let queue = &mut self.lanes[no as usize];
        queue.promote(now_unix_ms);
        let mut taken = Vec::new();
        while taken.len() < n && queue.tentative.first().is_some_and(|first| first.0 <= now_unix_ms) {
            taken.extend(queue.tentative.pop_first().map(|(_, id)| (ItemId(id), true)));
        }
        while taken.len() < n {
            let Some((_, id)) = queue.ready.pop_first() else { break };
            taken.push((ItemId(id), false));
        }
        taken
    }

    pub(crate) fn count_leased(&mut self, no: LaneNo, leased: bool) {
        step(&mut self.lanes[no as usize].leased, leased);
    }

    pub(crate) fn count_held(&mut self, no: LaneNo, held: bool) {
        step(&mut self.lanes[no as usize].held, held);
    }

    pub(crate) fn count_tentative(&mut self, no: LaneNo, tentative: bool) {
        step(&mut self.lanes[no as usize].tentative_items, tentative);
    }

    /// When something may become due next.
    pub(crate) fn next_due_unix_ms(&self) -> Option<u64> {
        self.next_due_unix_ms.map(|due| due.max(self.promoted_unix_ms + DUE_STEP_MS))
    }

    /// Moves what has become due; true when anything has. Costs one look at each lane, so it is not done again within
    /// [`DUE_STEP_MS`].
    pub(crate) fn promote(&mut self, now_unix_ms: u64) -> bool {
        if self.next_due_unix_ms().is_none_or(|due| due > now_unix_ms) {
            return false;
        }
        self.promoted_unix_ms = now_unix_ms;
        let mut changed = false;
        let mut next = None;
        for queue in &mut self.lanes {
            changed |= queue.promote(now_unix_ms);
            changed |= queue.tentative.first().is_some_and(|first| first.0 <= now_unix_ms);
            let after = (now_unix_ms.saturating_add(1), 0);
            let firsts = [queue.later.first(), queue.tentative.range(after..).next()];
            for first in firsts.into_iter().flatten() {
                next = Some(next.map_or(first.0, |next: u64| next.min(first.0)));
            }
        }
        self.next_due_unix_ms = next;
        changed
    }

    fn due_at(&mut self, due_unix_ms: u64) {
        self.next_due_unix_ms = Some(self.next_due_unix_ms.map_or(due_unix_ms, |next| next.min(due_unix_ms)));
    }

    /// Up to `n` ids after `after`, in order, of the lanes with this key or of all.
    pub(crate) fn list(&self, key: Option<&str>, after: Option<ItemId>, n: usize) -> Vec<ItemId> {
        let from = (after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.0)), Bound::Unbounded);
        let lanes = self.lanes.iter().filter(|queue| key.is_none_or(|key| &*queue.lane.key == key));
        let mut ids: Vec<u64> = lanes.flat_map(|queue| queue.ids.range(from).take(n).copied()).collect();
        ids.sort_unstable();
        ids.truncate(n);
        ids.into_iter().map(ItemId).collect()
    }

    /// The state of every lane that holds anything.
    pub(crate) fn stats(&mut self, now_unix_ms: u64) -> Vec<LaneStats> {
        let mut all = Vec::with_capacity(self.by_name.len());
        for queue in self.lanes.iter_mut().filter(|queue| !queue.ids.is_empty()) {
            queue.promote(now_unix_ms);
            let tentative_ready = queue.tentative.range(..(now_unix_ms.saturating_add(1), 0)).count();
            let tentative_later = queue.tentative.len() - tentative_ready;
            let later = [queue.later.first(), queue.tentative.range((now_unix_ms.saturating_add(1), 0)..).next()];
            all.push(LaneStats {
                lane: queue.lane.clone(),
                ready: queue.ready.len() + tentative_ready,
                waiting: queue.later.len() + tentative_later,
                leased: queue.leased,
                held: queue.held,
                tentative: queue.tentative_items,
                bytes: queue.bytes,
                oldest_unix_ms: queue.ids.first().map(|&id| ItemId(id).unix_ms()),
                next_due_unix_ms: later.into_iter().flatten().map(|first| first.0).min(),
            });
        }
        all
    }

    /// Items counted in and not out.
    #[cfg(test)]
    pub(crate) fn items(&self) -> usize {
        self.lanes.iter().map(|queue| queue.ids.len()).sum()
    }
}

fn step(count: &mut usize, up: bool) {
    *count = if up { *count + 1 } else { count.saturating_sub(1) };
}

/// The key of a tentative item that waits for no time.
const DUE_SINCE_EVER: u64 = 0;
/// What the engine was asked before the clock went back is written and offered by then.
const ON_ITS_WAY_MS: u64 = 60_000;

/// Precision of waking for items that become due; a retry schedule works in minutes.
const DUE_STEP_MS: u64 = 100;

#[cfg(test)]
mod tests;
