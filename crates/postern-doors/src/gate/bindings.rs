//! Which address a connection id of ours belongs to, and how many packets it may bring.
//!
//! Whoever captures an id can send packets that pass the hash. Bound to the address that it was first used from (the
//! peer's own, unless the thief is on the path and faster, and who is on the path can cut the line anyway), it is of no
//! use from anywhere else. Full: the id that was quiet for longest is forgotten and bound anew by its next packet.

use super::sketch::{Entry, Hash, Table};

#[derive(Clone, Copy)]
struct Binding {
    tag: u64,
    address: u32,
    /// The second that is counted, modulo 2^16: also its age.
    second: u16,
    packets: u16,
}

impl Entry for Binding {
    const EMPTY: Self = Self { tag: 0, address: 0, second: 0, packets: 0 };

    fn tag(&self) -> u64 {
        self.tag
    }
}

/// May this packet pass?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Here,
    Elsewhere,
    TooMany,
}

pub(super) struct Bindings {
    table: Table<Binding>,
}

impl Bindings {
    pub(super) fn new(bits: u32) -> Self {
        Self { table: Table::new(bits) }
    }

    /// A packet with this id, whose hash is right, came from this address (port included: without migration a
    /// connection keeps it).
    pub(super) fn pass(&mut self, hash: &Hash, cid: &[u8; 16], address: u32, now_s: u32) -> Bound {
        let key = hash.of(b'i', cid);
        let second = now_s as u16;
        let Some(binding) = self.table.find_mut(key) else {
            let age = |binding: &Binding| u16::MAX - second.wrapping_sub(binding.second);
            *self.table.place(key, age) = Binding { tag: Table::<Binding>::tag(key), address, second, packets: 1 };
            return Bound::Here;
        };
        if binding.address != address {
            return Bound::Elsewhere;
        }
        if binding.second != second {
            (binding.second, binding.packets) = (second, 0);
        }
        if binding.packets >= PACKETS_PER_SECOND_MAX {
            return Bound::TooMany;
        }
        binding.packets += 1;
        Bound::Here
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes()
    }
}

/// 20,000 packets of 1,200 octets are 24 MB/s: more than the spool of one peer needs, and an id of a known peer that a
/// thief on its own address uses costs no more than that.
const PACKETS_PER_SECOND_MAX: u16 = 20_000;
