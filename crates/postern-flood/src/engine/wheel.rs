//! Timers by the hundred thousand: a wheel of one-millisecond slots, constant time to set, nothing to cancel.
//!
//! What was set for something that is gone is recognised by its owner when it fires (connections carry a generation).
//! Timers further away than one turn wait in their slot and are passed over until their turn has come.

/// What fires in order of its millisecond, and within one millisecond in the order it was set.
pub(super) struct Wheel<T> {
    slots: Vec<Vec<(u64, T)>>,
    /// The next millisecond to look at.
    now_ms: u64,
    len: usize,
}

impl<T> Wheel<T> {
    pub(super) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), now_ms: 0, len: 0 }
    }

    /// Fires at `due_ms`, or at the next look when that is past.
    pub(super) fn set(&mut self, due_ms: u64, what: T) {
        let due_ms = due_ms.max(self.now_ms);
        self.slots[(due_ms % SLOTS) as usize].push((due_ms, what));
        self.len += 1;
    }

    /// Moves what is due at `now_ms` or earlier into `fired`.
    pub(super) fn advance(&mut self, now_ms: u64, fired: &mut Vec<T>) {
        while self.now_ms <= now_ms {
            let slot = &mut self.slots[(self.now_ms % SLOTS) as usize];
            if !slot.is_empty() {
                let before = fired.len();
                fired.extend(slot.extract_if(.., |(due_ms, _)| *due_ms <= self.now_ms).map(|(_, what)| what));
                self.len -= fired.len() - before;
            }
            if self.now_ms == now_ms {
                break;
            }
            self.now_ms += 1;
        }
    }

    /// How long nothing can fire, looking at most `horizon_ms` ahead.
    pub(super) fn quiet_ms(&self, horizon_ms: u64) -> u64 {
        if self.len == 0 {
            return horizon_ms;
        }
        let empty = |ahead: &u64| self.slots[((self.now_ms + ahead) % SLOTS) as usize].is_empty();
        (0..horizon_ms).take_while(empty).count() as u64
    }
}

/// Eight seconds a turn: most deadlines are passed over a few times, 1 KiB times 192 of memory when empty.
const SLOTS: u64 = 8_192;

#[cfg(test)]
mod tests;
