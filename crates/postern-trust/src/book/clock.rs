//! The book's own clock: seconds that only go forward, fed by the wall clock of whoever writes. All decay is counted on it, so
//! that no jump of the wall clock erases the book (a jump forward counts at most six hours, a restart at most 60 days) and
//! none freezes it (after a jump back it goes on from there).

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::limits::{CLOCK_AWAY_MAX_S, CLOCK_STEP_MAX_S};

/// A new book begins here and not at zero, so that no empty entry seems to be of its first day.
const START_S: u32 = 100 * 86_400;
pub(crate) const DAY_S: u64 = 86_400;

/// Both times in one word, so that a reader never sees the one without the other; zero wall time: not told yet.
#[derive(Debug)]
pub(crate) struct Clock {
    /// Book seconds, then wall seconds (until 2106).
    both: AtomicU64,
    /// How much one step may count: more after a restart, until the first.
    step_max: AtomicU32,
}

impl Clock {
    pub(crate) const fn new() -> Self {
        Self { both: AtomicU64::new((START_S as u64) << 32), step_max: AtomicU32::new(CLOCK_STEP_MAX_S) }
    }

    /// Goes on from a snapshot.
    pub(crate) const fn resumed(both: u64) -> Self {
        Self { both: AtomicU64::new(both), step_max: AtomicU32::new(CLOCK_AWAY_MAX_S) }
    }

    pub(crate) fn both(&self) -> u64 {
        self.both.load(Ordering::Acquire)
    }

    /// Book seconds for a reader whose wall clock says `now_s`.
    pub(crate) fn at(&self, now_s: u64) -> u64 {
        let both = self.both();
        let (book, wall) = (both >> 32, both & 0xffff_ffff);
        let passed = if wall == 0 { 0 } else { now_s.saturating_sub(wall) };
        book + passed.min(u64::from(self.step_max.load(Ordering::Relaxed)))
    }

    /// Moves on; the writer only. Gives the book seconds.
    pub(crate) fn advance(&self, now_s: u64) -> u64 {
        let book = self.at(now_s);
        let wall = now_s.clamp(1, u64::from(u32::MAX));
        self.both.store(book.min(u64::from(u32::MAX)) << 32 | wall, Ordering::Release);
        self.step_max.store(CLOCK_STEP_MAX_S, Ordering::Relaxed);
        book
    }
}

/// The day of book seconds.
pub(crate) const fn day(clock_s: u64) -> u16 {
    (clock_s / DAY_S) as u16
}
