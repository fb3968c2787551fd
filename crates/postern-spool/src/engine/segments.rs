//! The table of segment files: which are in use and in what order, which are free, what lives in each. Decides when a
//! segment is free; never writes. The writer takes segments from here, reclaim watches the oldest.
//!
//! Segments are freed strictly in the order of their generations. That is what lets an update or a finish stand without
//! bookkeeping of its own: the put it is about is always in the same or an older segment, so it goes first.

use std::collections::VecDeque;

use crate::event::SpoolError;
use crate::record::Life;

/// One segment file.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Its file number.
    pub(crate) no: u32,
    pub(crate) life: Life,
    /// Items whose put stands here.
    pub(crate) live: u32,
    /// Reads under way; it must not be used again before they end.
    pub(crate) pins: u32,
    /// Ids put here in this life, gone ones included: what reclaim goes through.
    pub(crate) ids: Vec<u64>,
    /// Of another length than is configured now: removed when free.
    pub(crate) odd: bool,
}

impl Segment {
    pub(crate) const fn new(no: u32) -> Self {
        Self { no, life: Life { generation: 0, salt: 0 }, live: 0, pins: 0, ids: Vec::new(), odd: false }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Segments {
    slots: Vec<Option<Segment>>,
    vacant: Vec<u32>,
    /// In use, oldest first; the last is the active one once `active` says so.
    pub(crate) order: VecDeque<u32>,
    /// To be used again, oldest first.
    pub(crate) free: VecDeque<u32>,
    /// The one being written, and how far it is durable.
    pub(crate) active: Option<(u32, u64)>,
    /// The `oldest_live` of the last durable start: files of older generations may vanish in any order.
    pub(crate) recorded_oldest: u64,
    /// The generation written before the active one, and where it ended.
    pub(crate) previous: (u64, u64),
    pub(crate) creating: bool,
    /// The queue waits for a segment to be made.
    pub(crate) wanted: bool,
    /// An attempt to make one failed while the queue waited for it. A spare that could not be made tells nobody anything:
    /// when it is needed, it is tried again.
    pub(crate) create_error: Option<SpoolError>,
    pub(crate) next_no: u32,
    /// What the living items take in the log, roughly.
    pub(crate) live_bytes: u64,
}

impl Segments {
    pub(crate) fn add(&mut self, segment: Segment) -> u32 {
        self.next_no = self.next_no.max(segment.no + 1);
        if let Some(slot) = self.vacant.pop() {
            self.slots[slot as usize] = Some(segment);
            slot
        } else {
            self.slots.push(Some(segment));
            (self.slots.len() - 1) as u32
        }
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<Segment> {
        let segment = self.slots[slot as usize].take();
        if segment.is_some() {
            self.vacant.push(slot);
        }
        segment
    }

    pub(crate) fn get(&self, slot: u32) -> &Segment {
        self.slots[slot as usize].as_ref().expect("a slot in use names a segment")
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut Segment {
        self.slots[slot as usize].as_mut().expect("a slot in use names a segment")
    }

    pub(crate) fn count(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }

    pub(crate) fn oldest_live(&self) -> Option<u64> {
        self.order.front().map(|&slot| self.get(slot).life.generation)
    }

    /// Frees what can be freed, oldest first; true when anything was.
    pub(crate) fn release(&mut self) -> bool {
        let mut any = false;
        while let Some(&slot) = self.order.front() {
            let active = self.active.is_some_and(|active| active.0 == slot);
            let segment = self.get_mut(slot);
            if active || segment.live > 0 || segment.pins > 0 {
                break;
            }
            segment.ids = Vec::new();
            self.order.pop_front();
            self.free.push_back(slot);
            any = true;
        }
        any
    }

    /// A free segment that is to be removed: of an odd length, or more than are kept ([`FREE_SEGMENTS_MAX`]). Only one
    /// whose generation the last durable start calls dead: if the file of a finish vanished before the file of its put,
    /// the item would come back.
    pub(crate) fn poll_surplus(&mut self) -> Option<u32> {
        let surplus = self.free.len() > FREE_SEGMENTS_MAX;
        let at = self.free.iter().position(|&slot| {
            let segment = self.get(slot);
            (surplus || segment.odd) && segment.life.generation < self.recorded_oldest
        })?;
        let slot = self.free.remove(at)?;
        self.remove(slot).map(|segment| segment.no)
    }

    /// The free segment that was freed first, if one of the right length is there.
    pub(crate) fn take_free(&mut self) -> Option<u32> {
        let at = self.free.iter().position(|&slot| !self.get(slot).odd)?;
        self.free.remove(at)
    }

    pub(crate) fn has_free(&self) -> bool {
        self.free.iter().any(|&slot| !self.get(slot).odd)
    }
}

/// Free segments kept for the next storm: 256 MiB of pre-written log at the default length.
pub(crate) const FREE_SEGMENTS_MAX: usize = 16;
