//! What is bad about a fingerprint, or that a pair is authorised: eight bytes an entry, eight entries a bucket, one bucket a cache
//! line. It owns packing, decay and replacement; it never judges. A reader takes one atomic load an entry, so nothing can be torn.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{decayed, powers, whole_size};
use crate::limits::{BAD_DECAY, SWEEP_BUCKETS};

const WAYS: usize = 8;
/// Steps in a half-life.
const STEPS: usize = 8;
const DECAY: [u64; STEPS] = powers(BAD_DECAY);

// tag 23 | manner 10 | content 10 | listed 7 | slot 14, from the top.
const SLOT_BITS: u32 = 14;
const LISTED_AT: u32 = 14;
const CONTENT_AT: u32 = 21;
const MANNER_AT: u32 = 31;
const TAG_AT: u32 = 41;
const SCORE_MAX: u16 = 0x3ff;
const LISTED_ZERO: u16 = 64;

/// What an entry says, decayed to now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// How it behaves: early talk, protocol abuse, HELO. In the links: how often the pair was seen.
    pub(crate) manner: u16,
    /// What it brings: spam, bad recipients.
    pub(crate) content: u16,
    /// What lists say: above zero bad, below zero good.
    pub(crate) listed: i16,
}

impl Mark {
    pub(crate) fn add_manner(&mut self, points: u16) {
        self.manner = self.manner.saturating_add(points).min(SCORE_MAX);
    }

    pub(crate) fn add_content(&mut self, points: u16) {
        self.content = self.content.saturating_add(points).min(SCORE_MAX);
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.manner == 0 && self.content == 0 && self.listed == 0
    }

    const fn heat(self) -> u32 {
        self.manner as u32 + self.content as u32 + self.listed.unsigned_abs() as u32
    }

    fn pack(self, tag: u64, slot: u16) -> u64 {
        let listed = (self.listed + LISTED_ZERO as i16).clamp(0, 127) as u64;
        tag << TAG_AT
            | u64::from(self.manner) << MANNER_AT
            | u64::from(self.content) << CONTENT_AT
            | listed << LISTED_AT
            | u64::from(slot)
    }

    fn unpack(bits: u64, slot: u16) -> Self {
        let then = (bits & ((1 << SLOT_BITS) - 1)) as u16;
        let steps = u32::from(slot.wrapping_sub(then) & ((1 << SLOT_BITS) - 1));
        let listed = (bits >> LISTED_AT & 0x7f) as i16 - LISTED_ZERO as i16;
        let size = decayed(listed.unsigned_abs(), steps, &DECAY) as i16;
        Self {
            manner: decayed((bits >> MANNER_AT) as u16 & SCORE_MAX, steps, &DECAY),
            content: decayed((bits >> CONTENT_AT) as u16 & SCORE_MAX, steps, &DECAY),
            listed: if listed < 0 { -size } else { size },
        }
    }
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket([AtomicU64; WAYS]);

/// A table of marks. One writes, all read.
#[derive(Debug)]
pub(crate) struct Marks {
    buckets: Box<[Bucket]>,
    step_s: u64,
}

impl Marks {
    pub(crate) fn new(entries: usize, half_life_h: u64) -> Self {
        let buckets = whole_size(entries) / WAYS;
        Self { buckets: (0..buckets).map(|_| Bucket::default()).collect(), step_s: half_life_h * 3_600 / STEPS as u64 }
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    fn slot(&self, clock_s: u64) -> u16 {
        (clock_s / self.step_s) as u16 & ((1 << SLOT_BITS) - 1)
    }

    fn place(&self, hash: u64) -> (&[AtomicU64; WAYS], u64) {
        let index = (hash >> 32) as usize & (self.buckets.len() - 1);
        // Zero means empty, so no tag is zero.
        (&self.buckets[index].0, (hash & 0x7f_ffff).max(1))
    }

    /// Asks memory for a bucket that will be looked at soon.
    pub(crate) fn fetch(&self, hash: u64) {
        let _ = self.place(hash).0[0].load(Relaxed);
    }

    /// What is held of a fingerprint; all zero when nothing.
    pub(crate) fn get(&self, hash: u64, clock_s: u64) -> Mark {
        let (ways, tag) = self.place(hash);
        let found = ways.iter().map(|way| way.load(Relaxed)).find(|bits| bits >> TAG_AT == tag);
        found.map_or_else(Mark::default, |bits| Mark::unpack(bits, self.slot(clock_s)))
    }

    /// Changes what is held, or makes an entry. `dice` decides whether a newcomer replaces the coldest of a full bucket, see
    /// `limits::BAD_ENTRIES`. Says what was held before.
    pub(crate) fn change(&self, hash: u64, clock_s: u64, dice: u32, f: impl FnOnce(&mut Mark)) -> Mark {
        let slot = self.slot(clock_s);
        let (ways, tag) = self.place(hash);
        let mut coldest: Option<(&AtomicU64, u32)> = None;
        for way in ways {
            let bits = way.load(Relaxed);
            let mark = Mark::unpack(bits, slot);
            if bits >> TAG_AT == tag {
                let mut after = mark;
                f(&mut after);
                way.store(if after.is_empty() { 0 } else { after.pack(tag, slot) }, Relaxed);
                return mark;
            }
            let heat = if bits == 0 { 0 } else { mark.heat() };
            if coldest.is_none_or(|(_, least)| heat < least) {
                coldest = Some((way, heat));
            }
        }
        let mut fresh = Mark::default();
        f(&mut fresh);
        if let Some((way, heat)) = coldest
            && !fresh.is_empty()
        {
            let own = fresh.heat();
            // Taken with probability own / (own + heat): always when the coldest has decayed to nothing.
            if u64::from(dice) * u64::from(own + heat) < u64::from(own) << 32 {
                way.store(fresh.pack(tag, slot), Relaxed);
            }
        }
        Mark::default()
    }

    /// Clears what has decayed to nothing, some buckets from `cursor` on; gives the next cursor. Without it an entry would seem
    /// fresh again when its 14 bits of time come round (after 5 years for the bad).
    pub(crate) fn sweep(&self, cursor: usize, clock_s: u64) -> usize {
        let slot = self.slot(clock_s);
        for step in 0..SWEEP_BUCKETS.min(self.buckets.len()) {
            for way in &self.buckets[(cursor + step) % self.buckets.len()].0 {
                let bits = way.load(Relaxed);
                if bits != 0 && Mark::unpack(bits, slot).is_empty() {
                    way.store(0, Relaxed);
                }
            }
        }
        (cursor + SWEEP_BUCKETS) % self.buckets.len()
    }

    /// All buckets as they are, for a snapshot.
    pub(crate) fn dump(&self) -> impl ExactSizeIterator<Item = [u64; WAYS]> + '_ {
        self.buckets.iter().map(|bucket| core::array::from_fn(|way| bucket.0[way].load(Relaxed)))
    }

    /// Puts a bucket of a snapshot back.
    pub(crate) fn load(&self, index: usize, ways: [u64; WAYS]) {
        if let Some(bucket) = self.buckets.get(index) {
            for (way, bits) in bucket.0.iter().zip(ways) {
                // An entry without a tag is nobody's.
                way.store(if bits >> TAG_AT == 0 { 0 } else { bits }, Relaxed);
            }
        }
    }
}
