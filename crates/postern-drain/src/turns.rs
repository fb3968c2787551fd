//! Who is looked at now and then, one lane after the other. Pure.
//!
//! While a filter or a destination is away its lanes are looked at for what may leave or fail all the same, so
//! many items in a while. Called by `look`, which goes through the lanes in their order: without turns the first lane
//! would have every one.

use std::collections::HashSet;

use postern_spool::Lane;

/// Whose turn it is.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    again_ms: u64,
    /// Those that had theirs in this round.
    had: HashSet<Lane>,
    /// One that had its turn wanted another.
    wanted: bool,
}

impl Turns {
    /// Whether anybody's turn is due.
    pub(crate) fn is_due_at(&self, now_ms: u64) -> bool {
        now_ms >= self.again_ms
    }

    /// Milliseconds until somebody's turn is due.
    pub(crate) fn wait_at(&self, now_ms: u64) -> u64 {
        self.again_ms.saturating_sub(now_ms)
    }

    /// Whether it is this lane's turn; the next one is due after `pause_ms`.
    pub(crate) fn take_at(&mut self, lane: &Lane, now_ms: u64, pause_ms: u64) -> bool {
        if !self.is_due_at(now_ms) {
            return false;
        }
        if self.had.contains(lane) {
            self.wanted = true;
            return false;
        }
        self.had.insert(lane.clone());
        self.put_off(now_ms + pause_ms);
        true
    }

    /// Nobody's turn before this.
    pub(crate) fn put_off(&mut self, until_ms: u64) {
        self.again_ms = until_ms;
        self.wanted = false;
    }

    /// All lanes were offered a turn. True when a new round begins: then they are to be offered one again.
    pub(crate) fn end_of_look(&mut self) -> bool {
        if !self.wanted {
            return false;
        }
        *self = Self { again_ms: self.again_ms, ..Self::default() };
        true
    }
}

#[cfg(test)]
mod tests;
