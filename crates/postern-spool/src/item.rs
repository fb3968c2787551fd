//! The nouns of the spool: ids, lanes, items on their way in, leases on their way out, fates. Plain data without
//! behaviour beyond formatting; the engine moves them, doors and drain make and read them.

use std::fmt;
use std::fs::File;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

/// Names one item for ever. 42 bits of milliseconds since 1970 (until 2109) and 22 bits of sequence, so ids sort roughly
/// by arrival and are never given twice, not even after a restart or with a clock that stepped back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemId(pub u64);

/// Bits of an [`ItemId`] below the milliseconds.
pub(crate) const ID_SEQUENCE_BITS: u32 = 22;

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl ItemId {
    /// When the id was given, in milliseconds since 1970.
    pub const fn unix_ms(self) -> u64 {
        self.0 >> ID_SEQUENCE_BITS
    }
}

impl fmt::Display for ItemId {
    /// 13 characters of Crockford's base 32: no I, L, O or U, so an id survives being read aloud.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 13];
        for (i, slot) in text.iter_mut().enumerate() {
            *slot = CROCKFORD[(self.0 >> (60 - 5 * i as u32) & 31) as usize];
        }
        f.pad(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// The text is not 13 characters of Crockford's base 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an item id is 13 characters of 0-9 and A-Z without I, L, O and U")]
pub struct ItemIdError;

impl FromStr for ItemId {
    type Err = ItemIdError;

    /// Case does not matter; I and L read as 1, O as 0, as Crockford asks.
    fn from_str(text: &str) -> Result<Self, ItemIdError> {
        if text.len() != 13 {
            return Err(ItemIdError);
        }
        let mut id = 0u64;
        for (i, byte) in text.bytes().enumerate() {
            let byte = match byte.to_ascii_uppercase() {
                b'I' | b'L' => b'1',
                b'O' => b'0',
                other => other,
            };
            let digit = CROCKFORD.iter().position(|&c| c == byte).ok_or(ItemIdError)? as u64;
            // 13 digits are 65 bits: the first one has only four to give.
            if i == 0 && digit > 15 {
                return Err(ItemIdError);
            }
            id = id << 5 | digit;
        }
        Ok(Self(id))
    }
}

/// Where an item waits: one queue for each recipient domain and class.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// The recipient domain, in the writer's canonical form; at most 65,535 bytes, opaque to the spool.
    pub key: Arc<str>,
    /// The class within the domain; [`Lane::DEAD_CLASS`] is the dead-letter class.
    pub class: u8,
}

impl Lane {
    /// Items that failed for good after their 250: kept until an operator decides.
    pub const DEAD_CLASS: u8 = 255;

    /// A lane of this key and class.
    pub fn new(key: impl Into<Arc<str>>, class: u8) -> Self {
        Self { key: key.into(), class }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.key, self.class)
    }
}

/// An item as the door hands it in.
#[derive(Clone, Debug)]
pub struct NewItem {
    /// From [`Spool::new_id`](crate::Spool::new_id).
    pub id: ItemId,
    /// Where it waits for the drain.
    pub lane: Lane,
    /// Opaque, versioned by its writer.
    pub meta: Vec<u8>,
    /// Not leased before this instant.
    pub due_unix_ms: u64,
    /// The bytes as received.
    pub body: Body,
}

/// Where the bytes of a [`NewItem`] are.
#[derive(Clone, Debug)]
pub enum Body {
    /// Here; for bodies up to [`SpoolOptions::inline_body_bytes_max`](crate::SpoolOptions::inline_body_bytes_max).
    Inline(Vec<u8>),
    /// Everything given to [`Port::write_body`](crate::Port::write_body) for this id.
    Streamed,
}

/// Whether an appended item is promised at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Make it durable with the next group: answered by Committed or Refused.
    Commit,
    /// As Commit, and held back by an operator from the first moment: it was held when it left the spool.
    CommitHeld,
    /// Keep it in memory until its fate is known or [`Port::commit`](crate::Port::commit) asks for a promise.
    Tentative,
}

/// What became of an item, told by the drain. The bytes are opaque to the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Every recipient has it, or a durable child carries it on.
    Delivered,
    /// Refused for good.
    Refused(Box<[u8]>),
    /// Refused for now.
    Deferred(Box<[u8]>),
    /// Not decided yet: the drain will try again later, so the door should commit it or give up.
    Unsettled,
}

/// An item that becomes durable together with the finish of its parent.
#[derive(Clone, Debug)]
pub struct Child {
    /// Where it waits.
    pub lane: Lane,
    /// Opaque.
    pub meta: Vec<u8>,
    /// Not leased before this instant.
    pub due_unix_ms: u64,
    /// Its bytes.
    pub body: ChildBody,
}

/// The bytes of a [`Child`].
#[derive(Clone, Debug)]
pub enum ChildBody {
    /// The bytes of the parent; a body file is shared by count, inline bytes are written once for all children.
    Parent,
    /// Bytes of its own (a report).
    New(Vec<u8>),
}

/// A right to work on an item until a deadline. Give it back with `finish` or `postpone`; a lease that is dropped simply
/// runs out.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The item.
    pub id: ItemId,
    /// Its lane.
    pub lane: Lane,
    /// Its metadata as of now.
    pub meta: Vec<u8>,
    /// Its bytes.
    pub body: BodySource,
    /// Nobody has been told 250 yet, as far as was known when the lease was given.
    pub tentative: bool,
    /// Milliseconds since 1970 at which the lease runs out.
    pub until_unix_ms: u64,
    /// Tells this lease from an earlier one of the same item.
    pub(crate) turn: u32,
}

/// Where the bytes of a stored item are read.
#[derive(Clone, Debug)]
pub enum BodySource {
    /// In memory, checksum verified.
    Inline(Bytes),
    /// In a file of their own: read with `read_at`, the descriptor is shared.
    File {
        /// Open for reading.
        file: Arc<File>,
        /// Length in bytes, as recorded when it was committed.
        len: u64,
    },
}

impl BodySource {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }

    /// No bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One item in full, for the operator.
#[derive(Clone, Debug)]
pub struct Item {
    /// What `list` says of it.
    pub summary: ItemSummary,
    /// Its metadata as of now.
    pub meta: Vec<u8>,
    /// Its bytes.
    pub body: BodySource,
}

/// One line of the operator's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemSummary {
    /// The item.
    pub id: ItemId,
    /// Its lane.
    pub lane: Lane,
    /// Length of the body in bytes.
    pub size: u64,
    /// When its id was given.
    pub arrived_unix_ms: u64,
    /// Not leased before this instant.
    pub due_unix_ms: u64,
    /// An operator holds it back.
    pub held: bool,
    /// The drain is working on it.
    pub leased: bool,
    /// In memory only, nothing promised.
    pub tentative: bool,
}

/// The state of one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStats {
    /// Which.
    pub lane: Lane,
    /// Due and leasable now (tentative ones included).
    pub ready: usize,
    /// Due later.
    pub waiting: usize,
    /// Being worked on.
    pub leased: usize,
    /// Held back by an operator.
    pub held: usize,
    /// In memory only; these are counted in `ready`, `waiting` or `leased` too.
    pub tentative: usize,
    /// Body bytes.
    pub bytes: u64,
    /// Arrival of the oldest item; `None` when the lane holds none.
    pub oldest_unix_ms: Option<u64>,
    /// When the first waiting item becomes due.
    pub next_due_unix_ms: Option<u64>,
}

#[cfg(test)]
mod tests;
