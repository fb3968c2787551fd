//! Tickets whose proof was right and that brought nothing: forged or expired bodies, and those that nothing more can be
//! kept for. To find that out costs the AEAD, so it is found out a few times, and then what shows the same ticket is dropped
//! before. Full: the one whose turn is longest ago is forgotten, and costs its holder's class that again.

use super::sketch::{Entry, Table};

#[derive(Clone, Copy)]
struct Refusal {
    tag: u64,
    at_s: u32,
    times: u8,
}

impl Entry for Refusal {
    const EMPTY: Self = Self { tag: 0, at_s: 0, times: 0 };

    fn tag(&self) -> u64 {
        self.tag
    }
}

pub(super) struct Refusals {
    table: Table<Refusal>,
}

impl Refusals {
    /// With `1 << bits` places.
    pub(super) fn new(bits: u32) -> Self {
        Self { table: Table::new(bits) }
    }

    /// Whether it was refused so often that it is not worth another look.
    pub(super) fn is_settled(&mut self, key: u64) -> bool {
        self.table.find_mut(key).is_some_and(|refusal| refusal.times >= LOOKS_MAX)
    }

    /// It was looked at, and refused.
    pub(super) fn note(&mut self, key: u64, now_s: u32) {
        if let Some(refusal) = self.table.find_mut(key) {
            (refusal.at_s, refusal.times) = (now_s, refusal.times.saturating_add(1));
            return;
        }
        let refusal = Refusal { tag: Table::<Refusal>::tag(key), at_s: now_s, times: 1 };
        *self.table.place(key, |refusal| refusal.at_s) = refusal;
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes()
    }
}

/// More than one, because somebody on the path can show a ticket with a body that he has spoilt before its owner shows it.
const LOOKS_MAX: u8 = 4;
