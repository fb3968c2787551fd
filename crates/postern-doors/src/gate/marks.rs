//! Addresses that showed a ticket which opens, and must still show a cookie: it was used before, or given to another
//! network. Whoever then brings both passes without an appointment: a burnt ticket costs its owner a round trip.

use std::net::IpAddr;

use postern_proto::door::TicketBody;
use postern_proto::door::ticket::Kind;

use super::sketch::{Entry, Hash, Table};

/// What a ticket was given for, and what was written into it.
pub(super) type Held = (Kind, TicketBody);

#[derive(Clone, Copy)]
struct Mark {
    tag: u64,
    until_s: u32,
    held: Option<Held>,
}

impl Entry for Mark {
    const EMPTY: Self = Self { tag: 0, until_s: 0, held: None };

    fn tag(&self) -> u64 {
        self.tag
    }
}

pub(super) struct Marks {
    table: Table<Mark>,
}

impl Marks {
    pub(super) fn new(bits: u32) -> Self {
        Self { table: Table::new(bits) }
    }

    pub(super) fn put(&mut self, hash: &Hash, source: IpAddr, held: Held, now_s: u32) {
        let key = key(hash, source);
        let mark = Mark { tag: Table::<Mark>::tag(key), until_s: now_s + MARK_S, held: Some(held) };
        match self.table.find_mut(key) {
            Some(place) => *place = mark,
            None => *self.table.place(key, |mark| mark.until_s) = mark,
        }
    }

    /// Once.
    pub(super) fn take(&mut self, hash: &Hash, source: IpAddr, now_s: u32) -> Option<Held> {
        let place = self.table.find_mut(key(hash, source))?;
        let mark = std::mem::replace(place, Mark::EMPTY);
        mark.held.filter(|_| mark.until_s >= now_s)
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes()
    }
}

fn key(hash: &Hash, source: IpAddr) -> u64 {
    match source {
        IpAddr::V4(v4) => hash.of(b'm', &v4.octets()),
        IpAddr::V6(v6) => hash.of(b'm', &v6.octets()),
    }
}

/// As long as a cookie.
const MARK_S: u32 = 120;
