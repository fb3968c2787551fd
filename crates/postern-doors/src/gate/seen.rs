//! Who has used up a ticket or a cookie: the first connection id wins, from one address, for a few datagrams.

use super::sketch::{Entry, Table};

#[derive(Clone, Copy)]
struct Use {
    tag: u64,
    /// A hash of the connection id that it was first shown for.
    id: u32,
    /// A hash of the source that showed it first.
    source: u16,
    /// [`FAR`]: it let nobody in.
    datagrams: u8,
    /// How often it was shown for other connection ids, or, [`FAR`], at all.
    others: u8,
}

/// For which connection, and from where, as a table keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct By {
    pub(super) id: u32,
    pub(super) source: u16,
}

impl Entry for Use {
    const EMPTY: Self = Self { tag: 0, id: 0, source: 0, datagrams: 0, others: 0 };

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
    /// By him, and it let nobody in: it was given to another network.
    Far,
    /// The very same, from another source: a copy.
    Copied,
    /// For another connection id, the n-th. Of a ticket: by somebody who has its key, or a copy of what such a one sent.
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

    /// Forgets what is old. True: a generation begins.
    pub(super) fn age(&mut self, now_s: u32) -> bool {
        let over = now_s.abs_diff(self.began_s) >= self.span_s;
        if over {
            self.began_s = now_s;
            self.tables.swap(0, 1);
            self.tables[0].clear();
        }
        over
    }

    /// Looks, and counts the datagram.
    pub(super) fn show(&mut self, key: u64, by: By) -> Shown {
        for table in &mut self.tables {
            let Some(entry) = table.find_mut(key) else { continue };
            if entry.id != by.id {
                entry.others = entry.others.saturating_add(1);
                return Shown::Other(entry.others);
            }
            if entry.source != by.source {
                return Shown::Copied;
            }
            if entry.datagrams == FAR {
                entry.others = entry.others.saturating_add(1);
                return if entry.others <= DATAGRAMS_MAX { Shown::Far } else { Shown::Spent };
            }
            if entry.datagrams >= DATAGRAMS_MAX {
                return Shown::Spent;
            }
            entry.datagrams += 1;
            return Shown::Again;
        }
        Shown::First
    }

    /// Could it be remembered?
    pub(super) fn has_room(&mut self, key: u64) -> bool {
        self.tables[0].free(key).is_some()
    }

    /// Takes it for used. False: there is no room, and who cannot be remembered is not let in.
    pub(super) fn take(&mut self, key: u64, by: By) -> bool {
        self.put(key, by, 1)
    }

    /// Remembers that it was shown, and let nobody in.
    pub(super) fn take_far(&mut self, key: u64, by: By) -> bool {
        self.put(key, by, FAR)
    }

    fn put(&mut self, key: u64, by: By, datagrams: u8) -> bool {
        let entry = Use { tag: Table::<Use>::tag(key), id: by.id, source: by.source, datagrams, others: 0 };
        self.tables[0].free(key).map(|place| *place = entry).is_some()
    }

    pub(super) fn bytes(&self) -> usize {
        self.tables.iter().map(Table::bytes).sum()
    }
}

/// A ClientHello with a post-quantum share needs two datagrams; two repetitions of both, and some.
const DATAGRAMS_MAX: u8 = 8;
/// In the place of a count.
const FAR: u8 = u8::MAX;
