//! Connection ids that were made a moment ago: only under these may a client still send Initials.
//!
//! An id of ours passes for hours, and what it brings goes to a connection that QUIC knows. Not so an Initial under an id that QUIC
//! has forgotten, because its connection is over or the id was retired: that begins a new attempt (keys are derived, memory
//! is taken), without a token and from any source. So an Initial passes by its id only while the handshake of that id may be
//! under way, a few times, and all together so often in a second. Whoever's is refused meanwhile loses a round trip: QUIC
//! repeats what counts of it in a Handshake packet.

use postern_proto::door::PeerClass;

use super::budget::Budget;
use super::sketch::{Entry, Hash, Table};

#[derive(Clone, Copy)]
struct Made {
    tag: u64,
    at_s: u32,
    initials: u8,
}

impl Entry for Made {
    const EMPTY: Self = Self { tag: 0, at_s: 0, initials: 0 };

    fn tag(&self) -> u64 {
        self.tag
    }
}

pub(super) struct Young {
    table: Table<Made>,
    initials: Budget,
}

impl Young {
    pub(super) fn new() -> Self {
        Self { table: Table::new(BITS), initials: Budget::new(INITIALS_PER_SECOND) }
    }

    /// So much time has passed.
    pub(super) fn refill(&mut self, seconds: f64) {
        self.initials.refill(seconds);
    }

    /// This id was made now. Full: the oldest counts as grown up.
    pub(super) fn note(&mut self, hash: &Hash, cid: &[u8; 16], now_s: u32) {
        let key = hash.of(b'y', cid);
        let made = Made { tag: Table::<Made>::tag(key), at_s: now_s, initials: 0 };
        *self.table.place(key, |made| made.at_s) = made;
    }

    /// May an Initial pass by this id, which is ours? It counts.
    pub(super) fn pass(&mut self, hash: &Hash, cid: &[u8; 16], now_s: u32) -> bool {
        let Some(made) = self.table.find_mut(hash.of(b'y', cid)) else { return false };
        let may = now_s.abs_diff(made.at_s) <= YOUNG_S && made.initials < INITIALS_MAX && self.initials.take();
        made.initials += u8::from(may);
        may
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes()
    }
}

/// The longest deadline of a handshake; the server's id is made when it begins.
const YOUNG_S: u32 = PeerClass::Known.limits().handshake_s as u32;
/// Under one id: an acknowledgement, and repetitions of it. After the client's first Handshake packet there are no more
/// (RFC 9001 section 4.9.1).
const INITIALS_MAX: u8 = 8;
/// Of all together: two for each of a thousand handshakes a second, which is more than a thread can do. If QUIC knows
/// none of the ids, 20 µs each: 4 % of the thread.
const INITIALS_PER_SECOND: f64 = 2_000.0;
/// 4,096 of 16 octets: QUIC makes as many ids at the beginning as its client wants to hold, eight at most, so these are the
/// handshakes of ten seconds at fifty a second.
const BITS: u32 = 12;
