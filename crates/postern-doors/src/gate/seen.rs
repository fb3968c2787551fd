//! Who has used up a ticket or a cookie: the first connection id wins, from one address, for a few datagrams.

use super::sketch::{Entry, Table};

#[derive(Clone, Copy)]
struct Use {
    tag: u64,
    /// Of connection id and source, mixed.
    by: u32,
    datagrams: u8,
    /// Others that showed it.
    others: u8,
}

impl Entry for Use {
    const EMPTY: Self = Self { tag: 0, by: 0, datagrams: 0, others: 0 };

    fn tag(&self) -> u64 {
        self.tag
    }
}

/// What is known of a ticket or cookie that somebody shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// For the first time.
    First,
    /// By the one who was first, and he has datagrams left.
    Again,
    /// By him, and they are used up.
    Spent,
    /// By another, who is the n-th.
    Other(u8),
}

/// Two generations; what is in neither was not shown for [`Self`]'s span at least.
pub(super) struct Seen {
    tables: [Table<Use>; 2],
    began_s: u32,
    span_s: u32,
}

impl Seen {
    /// Remembers for `span_s` at least.
    pub(super) fn new(bits: u32, span_s: u32) -> Self {
        Self { tables: [Table::new(bits), Table::new(bits)], began_s: 0, span_s }
    }

    pub(super) fn age(&mut self, now_s: u32) {
        if now_s.abs_diff(self.began_s) >= self.span_s {
            self.began_s = now_s;
            self.tables.swap(0, 1);
            self.tables[0].clear();
        }
    }

    /// Looks, and counts the datagram.
    pub(super) fn show(&mut self, key: u64, by: u32) -> Shown {
        for table in &mut self.tables {
            let Some(entry) = table.find_mut(key) else { continue };
            if entry.by != by {
                entry.others = entry.others.saturating_add(1);
                return Shown::Other(entry.others);
            }
            if entry.datagrams >= DATAGRAMS_MAX {
                return Shown::Spent;
            }
            entry.datagrams += 1;
            return Shown::Again;
        }
        Shown::First
    }

    /// Takes it for used. False: there is no room, and who cannot be remembered is not let in.
    pub(super) fn take(&mut self, key: u64, by: u32) -> bool {
        let entry = Use { tag: Table::<Use>::tag(key), by, datagrams: 1, others: 0 };
        self.tables[0].free(key).map(|place| *place = entry).is_some()
    }

    pub(super) fn bytes(&self) -> usize {
        self.tables.iter().map(Table::bytes).sum()
    }
}

/// A ClientHello with a post-quantum share needs two datagrams; two repetitions of both, and some.
const DATAGRAMS_MAX: u8 = 8;
