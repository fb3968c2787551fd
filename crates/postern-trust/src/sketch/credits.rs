//! What is good about a fingerprint: 64 bits of fingerprint and 64 of state an entry, eight entries a bucket. It owns packing,
//! decay and who gives way to whom; it never judges. A reader that meets the writer in the middle of a replacement sees either the old
//! entry, the new one, or none: the fingerprint is taken away before the state changes hands and looked at again afterwards.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use super::{decayed, powers, whole_size};
use crate::limits::{CREDIT_EMPTY, CREDIT_MAX, GOOD_DECAY, GOOD_HALF_LIFE_D, SWEEP_BUCKETS};

const WAYS: usize = 8;
const STEPS: usize = GOOD_HALF_LIFE_D as usize;
const DECAY: [u64; STEPS] = powers(GOOD_DECAY);

/// Made known by history, counted in the day's promotions.
pub(crate) const KNOWN: u8 = 1;
/// This site wrote to it.
pub(crate) const WROTE: u8 = 2;
/// And it answered, from an authorised address.
pub(crate) const ANSWERED: u8 = 4;
/// An address that speaks for a proven domain.
pub(crate) const LENT: u8 = 8;
/// Today's good mail is counted.
pub(crate) const GOOD_TODAY: u8 = 16;
/// Today's letter of ours is counted.
pub(crate) const WROTE_TODAY: u8 = 32;
/// An address that speaks for many domains.
pub(crate) const SHARED: u8 = 64;
/// The entry is a domain: its count is of addresses lent to today.
pub(crate) const DOMAIN: u8 = 128;

/// One entry, aged to today.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Credit {
    /// Good days, decayed, in 1/64.
    pub(crate) credit: u16,
    /// The day on which it was written.
    pub(crate) day: u16,
    /// The day on which it began.
    pub(crate) first_day: u16,
    /// Of a domain: addresses lent to today. Of an address: domains it spoke for.
    pub(crate) count: u8,
    /// The constants above.
    pub(crate) flags: u8,
}

impl Credit {
    pub(crate) const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    pub(crate) fn add(&mut self, points: u16) {
        self.credit = self.credit.saturating_add(points).min(CREDIT_MAX);
    }

    const fn pack(self) -> u64 {
        (self.credit as u64) << 48
            | (self.day as u64) << 32
            | (self.first_day as u64) << 16
            | (self.count as u64) << 8
            | self.flags as u64
    }

    fn unpack(bits: u64, today: u16) -> Self {
        let mut entry = Self {
            credit: ((bits >> 48) as u16).min(CREDIT_MAX),
            day: (bits >> 32) as u16,
            first_day: (bits >> 16) as u16,
            count: (bits >> 8) as u8,
            flags: bits as u8,
        };
        let days = today.wrapping_sub(entry.day);
        if days == 0 {
            return entry;
        }
        entry.credit = decayed(entry.credit, u32::from(days), &DECAY);
        entry.day = today;
        entry.flags &= !(GOOD_TODAY | WROTE_TODAY);
        if entry.has(DOMAIN) {
            entry.count = 0;
        }
        if entry.credit < CREDIT_EMPTY {
            entry = Self { day: today, first_day: today, flags: entry.flags & DOMAIN, ..Self::default() };
        }
        entry
    }

    /// Who gives way to whom: strangers never to each other unless colder, and never one who is trusted to one who is not. A
    /// site that writes to a million people who do not answer cannot wash out those who did.
    const fn rank(&self) -> (u8, u16) {
        let level = if self.flags & (KNOWN | LENT) != 0 || self.flags & (WROTE | ANSWERED) == WROTE | ANSWERED {
            2
        } else if self.flags & WROTE != 0 {
            1
        } else {
            0
        };
        (level, self.credit)
    }
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket {
    prints: [AtomicU64; WAYS],
    states: [AtomicU64; WAYS],
}

/// A table of credits. One writes, all read.
#[derive(Debug)]
pub(crate) struct Credits {
    buckets: Box<[Bucket]>,
}

impl Credits {
    pub(crate) fn new(entries: usize) -> Self {
        Self { buckets: (0..whole_size(entries) / WAYS).map(|_| Bucket::default()).collect() }
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    fn bucket(&self, hash: u64) -> &Bucket {
        &self.buckets[(hash >> 32) as usize & (self.buckets.len() - 1)]
    }

    /// Asks memory for a bucket that will be looked at soon.
    pub(crate) fn fetch(&self, hash: u64) {
        let _ = self.bucket(hash).prints[0].load(Ordering::Relaxed);
    }

    /// The entry of a fingerprint.
    pub(crate) fn get(&self, hash: u64, today: u16) -> Option<Credit> {
        let hash = hash.max(1);
        let bucket = self.bucket(hash);
        let way = bucket.prints.iter().position(|print| print.load(Ordering::Acquire) == hash)?;
        let state = bucket.states[way].load(Ordering::Acquire);
        (bucket.prints[way].load(Ordering::Relaxed) == hash).then(|| Credit::unpack(state, today))
    }

    /// Changes an entry, or makes one where there is room by rank. `None` when there was none: nothing is kept then.
    pub(crate) fn change(&self, hash: u64, today: u16, f: impl FnOnce(&mut Credit)) -> Option<Credit> {
        let hash = hash.max(1);
        let bucket = self.bucket(hash);
        let mut lowest: Option<(usize, (u8, u16))> = None;
        for way in 0..WAYS {
            let print = bucket.prints[way].load(Ordering::Relaxed);
            let mut entry = Credit::unpack(bucket.states[way].load(Ordering::Relaxed), today);
            if print == hash {
                f(&mut entry);
                bucket.states[way].store(entry.pack(), Ordering::Release);
                return Some(entry);
            }
            let rank = if print == 0 { (0, 0) } else { entry.rank() };
            if lowest.is_none_or(|(_, least)| rank < least) {
                lowest = Some((way, rank));
            }
        }
        let mut fresh = Credit { day: today, first_day: today, ..Credit::default() };
        f(&mut fresh);
        let (way, rank) = lowest?;
        if rank >= fresh.rank() {
            return None;
        }
        bucket.prints[way].store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        bucket.states[way].store(fresh.pack(), Ordering::Release);
        bucket.prints[way].store(hash, Ordering::Release);
        Some(fresh)
    }

    /// Changes an entry that is there.
    pub(crate) fn change_existing(&self, hash: u64, today: u16, f: impl FnOnce(&mut Credit)) -> Option<Credit> {
        self.get(hash, today)?;
        self.change(hash, today, f)
    }

    /// Clears what has decayed to nothing, some buckets from `cursor` on; gives the next cursor.
    pub(crate) fn sweep(&self, cursor: usize, today: u16) -> usize {
        for step in 0..SWEEP_BUCKETS.min(self.buckets.len()) {
            let bucket = &self.buckets[(cursor + step) % self.buckets.len()];
            for (print, state) in bucket.prints.iter().zip(&bucket.states) {
                let entry = Credit::unpack(state.load(Ordering::Relaxed), today);
                if entry.credit < CREDIT_EMPTY && entry.first_day == today {
                    print.store(0, Ordering::Release);
                }
            }
        }
        (cursor + SWEEP_BUCKETS) % self.buckets.len()
    }

    /// All entries, for a snapshot.
    pub(crate) fn dump(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.buckets.iter().flat_map(|bucket| {
            (0..WAYS).filter_map(|way| {
                let print = bucket.prints[way].load(Ordering::Acquire);
                let state = bucket.states[way].load(Ordering::Acquire);
                let same = bucket.prints[way].load(Ordering::Relaxed) == print;
                (print != 0 && same).then_some((print, state))
            })
        })
    }

    /// Puts an entry of a snapshot back; a smaller table takes what finds room by rank.
    pub(crate) fn load(&self, print: u64, state: u64, today: u16) {
        let entry = Credit::unpack(state, today);
        if print != 0 && entry.credit >= CREDIT_EMPTY {
            self.change(print, today, |fresh| *fresh = entry);
        }
    }
}
