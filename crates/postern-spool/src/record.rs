//! The records of the segment log: how they are laid out, written and read back. Pure bytes; the writer fills its batch
//! through this file, recovery and reads come back through it. Nothing here trusts a length it reads, and no input panics.
//!
//! ```text
//!  0  magic       u32   "PSRC"
//!  4  version     u8    1
//!  5  kind        u8    1 start, 2 put, 3 update, 4 finish
//!  6  reserved    u16   0
//!  8  length      u32   bytes of payload
//! 12  crc32c      u32   over the header (this field as zero) and the payload
//! 16  generation  u64   which life of the segment file
//! 24  offset      u64   where in the file this record begins
//! 32  salt        u64   random for each generation
//! 40  payload, then zeros up to the next multiple of 64
//! ```
//! Generation and offset are in the header so that a recycled segment never gives back old records. The salt is there
//! because recovery scans on after a torn record, at times in the middle of what was a mail body: whoever wrote that mail
//! may have put well-formed records into it, but cannot know 64 random bits.

use crate::item::{ItemId, Lane};

/// Records begin at multiples of this, so that recovery finds its step again after a torn one.
pub(crate) const ALIGN: usize = 64;
/// The longest body file a record may speak of: 1 TiB, so that a million of them add up without overflow.
const FILE_BYTES_MAX: u64 = 1 << 40;
/// Bytes before the payload.
pub(crate) const HEADER: usize = 40;
/// The second copy of a segment's start, one page on: a torn page loses one of them at most.
pub(crate) const START_COPY: usize = 4096;
/// Where the records of a segment begin.
pub(crate) const RECORDS_START: usize = 8192;

const MAGIC: u32 = u32::from_le_bytes(*b"PSRC");
const VERSION: u8 = 1;
const CRC_AT: usize = 12;
/// Fixed part of a put: id, due, body length, body file, body crc, meta length, key length, class, flags.
pub(crate) const PUT_FIXED: usize = 44;
const UPDATE_FIXED: usize = 24;
const FINISH_FIXED: usize = 16;

const FLAG_HELD: u8 = 1;
const FLAG_SHARED_BODY: u8 = 2;
const FLAG_META: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Start = 1,
    Put = 2,
    Update = 3,
    Finish = 4,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Start,
            2 => Self::Put,
            3 => Self::Update,
            4 => Self::Finish,
            _ => return None,
        })
    }
}

/// The life of a segment that a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) generation: u64,
    pub(crate) salt: u64,
}

/// The first record of each life of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentStart {
    pub(crate) life: Life,
    /// Older generations hold nothing that lives; recovery does not read them.
    pub(crate) oldest_live: u64,
    /// The generation written before this one, and where it ended: what a failed write left beyond that was refused.
    pub(crate) previous: u64,
    pub(crate) previous_end: u64,
    /// No id given so far is higher.
    pub(crate) id_high: u64,
}

/// A put, as it stands in a record of its own or as a child in a finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Put<'a> {
    pub(crate) id: ItemId,
    pub(crate) due_unix_ms: u64,
    pub(crate) held: bool,
    pub(crate) key: &'a str,
    pub(crate) class: u8,
    pub(crate) meta: &'a [u8],
    pub(crate) body: PutBody<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutBody<'a> {
    Inline(&'a [u8]),
    /// The bytes that stand once in the finish record for all children.
    Shared(&'a [u8]),
    File {
        file: u64,
        len: u64,
        crc: u32,
    },
}

impl PutBody<'_> {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) | Self::Shared(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }
}

impl Put<'_> {
    pub(crate) fn lane(&self) -> Lane {
        Lane::new(self.key, self.class)
    }

    /// Bytes of payload this takes.
    pub(crate) fn encoded_len(&self) -> usize {
        let body = if let PutBody::Inline(bytes) = self.body { bytes.len() } else { 0 };
        PUT_FIXED + self.key.len() + self.meta.len() + body
    }

    fn write(&self, out: &mut Vec<u8>) {
        let (len, file, crc, shared) = match self.body {
            PutBody::Inline(bytes) => (bytes.len() as u64, 0, 0, 0),
            PutBody::Shared(bytes) => (bytes.len() as u64, 0, 0, FLAG_SHARED_BODY),
            PutBody::File { file, len, crc } => (len, file, crc, 0),
        };
        let mut fixed = [0u8; PUT_FIXED];
        fixed[0..8].copy_from_slice(&self.id.0.to_le_bytes());
        fixed[8..16].copy_from_slice(&self.due_unix_ms.to_le_bytes());
        fixed[16..24].copy_from_slice(&len.to_le_bytes());
        fixed[24..32].copy_from_slice(&file.to_le_bytes());
        fixed[32..36].copy_from_slice(&crc.to_le_bytes());
        fixed[36..40].copy_from_slice(&(self.meta.len() as u32).to_le_bytes());
        fixed[40..42].copy_from_slice(&(self.key.len() as u16).to_le_bytes());
        fixed[42] = self.class;
        fixed[43] = (u8::from(self.held) * FLAG_HELD) | shared;
        out.extend_from_slice(&fixed);
        out.extend_from_slice(self.key.as_bytes());
        out.extend_from_slice(self.meta);
        if let PutBody::Inline(bytes) = self.body {
            out.extend_from_slice(bytes);
        }
    }
}

/// The payload of a record, borrowed from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload<'a> {
    Put(Put<'a>),
    Update { id: ItemId, due_unix_ms: u64, held: bool, meta: Option<&'a [u8]> },
    Finish { id: ItemId, children: Vec<(usize, Put<'a>)> },
}

/// Bytes a record of this payload takes in the log.
pub(crate) const fn padded(payload: usize) -> usize {
    (HEADER + payload).next_multiple_of(ALIGN)
}

pub(crate) const fn update_len(meta: Option<&[u8]>) -> usize {
    UPDATE_FIXED + if let Some(meta) = meta { meta.len() } else { 0 }
}

pub(crate) fn finish_len(shared: &[u8], children: &[Put<'_>]) -> usize {
    FINISH_FIXED + shared.len() + children.iter().map(Put::encoded_len).sum::<usize>()
}

/// Appends a record to `out`; it will stand at `offset` of a segment in this life. Returns its length without padding.
pub(crate) fn write_put(out: &mut Vec<u8>, life: Life, offset: u64, put: &Put<'_>) -> u32 {
    let at = begin(out);
    put.write(out);
    seal(out, at, Kind::Put, life, offset)
}

pub(crate) fn write_update(
    out: &mut Vec<u8>,
    life: Life,
    offset: u64,
    id: ItemId,
    due_unix_ms: u64,
    held: bool,
    meta: Option<&[u8]>,
) -> u32 {
    let at = begin(out);
    out.extend_from_slice(&id.0.to_le_bytes());
    out.extend_from_slice(&due_unix_ms.to_le_bytes());
    let flags = (u8::from(held) * FLAG_HELD) | (u8::from(meta.is_some()) * FLAG_META);
    out.extend_from_slice(&[flags, 0, 0, 0]);
    out.extend_from_slice(&(meta.map_or(0, <[u8]>::len) as u32).to_le_bytes());
    out.extend_from_slice(meta.unwrap_or_default());
    seal(out, at, Kind::Update, life, offset)
}

/// Appends a finish and its children in one record; returns its length and where in it each child stands.
pub(crate) fn write_finish(
    out: &mut Vec<u8>,
    life: Life,
    offset: u64,
    id: ItemId,
    shared: &[u8],
    children: &[Put<'_>],
) -> (u32, Vec<u32>) {
    let at = begin(out);
    out.extend_from_slice(&id.0.to_le_bytes());
    out.extend_from_slice(&(children.len() as u32).to_le_bytes());
    out.extend_from_slice(&(shared.len() as u32).to_le_bytes());
    out.extend_from_slice(shared);
    let mut parts = Vec::with_capacity(children.len());
    for child in children {
        parts.push((out.len() - at) as u32);
        child.write(out);
    }
    (seal(out, at, Kind::Finish, life, offset), parts)
}

/// The first [`RECORDS_START`] bytes of a segment: the start, twice.
pub(crate) fn write_start(start: &SegmentStart) -> Vec<u8> {
    let mut out = Vec::with_capacity(RECORDS_START);
    for offset in [0, START_COPY] {
        out.resize(offset, 0);
        let at = begin(&mut out);
        for field in [start.oldest_live, start.previous, start.previous_end, start.id_high] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        seal(&mut out, at, Kind::Start, start.life, offset as u64);
    }
    out.resize(RECORDS_START, 0);
    out
}

fn begin(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; HEADER]);
    at
}

fn seal(out: &mut Vec<u8>, at: usize, kind: Kind, life: Life, offset: u64) -> u32 {
    let len = out.len() - at;
    let record = &mut out[at..];
    record[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    record[4] = VERSION;
    record[5] = kind as u8;
    record[8..12].copy_from_slice(&((len - HEADER) as u32).to_le_bytes());
    record[16..24].copy_from_slice(&life.generation.to_le_bytes());
    record[24..32].copy_from_slice(&offset.to_le_bytes());
    record[32..40].copy_from_slice(&life.salt.to_le_bytes());
    let crc = crc32c::crc32c(record);
    record[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    out.resize(at + len.next_multiple_of(ALIGN), 0);
    len as u32
}

/// A header that has been looked at, not yet believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) kind: u8,
    pub(crate) length: u32,
    pub(crate) crc: u32,
    pub(crate) life: Life,
    pub(crate) offset: u64,
}

impl Header {
    /// Reads a header that claims to be one; `None` when the magic is not there.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..HEADER)?;
        if u32_at(header, 0)? != MAGIC || header[4] != VERSION {
            return None;
        }
        Some(Self {
            kind: header[5],
            length: u32_at(header, 8)?,
            crc: u32_at(header, CRC_AT)?,
            life: Life { generation: u64_at(header, 16)?, salt: u64_at(header, 32)? },
            offset: u64_at(header, 24)?,
        })
    }

    /// Header and payload, without padding.
    pub(crate) const fn record_len(&self) -> usize {
        HEADER + self.length as usize
    }

    /// Written in this life of the segment, to this place: without the comparison of lives a recycled segment would give
    /// back what was finished long ago.
    pub(crate) fn belongs(&self, life: Life, offset: u64) -> bool {
        self.life == life && self.offset == offset
    }

    /// The payload, if it is all there and the checksum holds.
    pub(crate) fn payload<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let record = bytes.get(..self.record_len())?;
        let crc = crc32c::crc32c(&record[..CRC_AT]);
        let crc = crc32c::crc32c_append(crc, &[0; 4]);
        let crc = crc32c::crc32c_append(crc, &record[CRC_AT + 4..]);
        (crc == self.crc).then(|| &record[HEADER..])
    }
}

/// Checks that `bytes` is the record of this life at this offset, and reads it.
pub(crate) fn read_record(bytes: &[u8], life: Life, offset: u64) -> Option<Payload<'_>> {
    let header = Header::read(bytes)?;
    if !header.belongs(life, offset) {
        return None;
    }
    read_payload(Kind::of(header.kind)?, header.payload(bytes)?)
}

pub(crate) fn read_payload(kind: Kind, payload: &[u8]) -> Option<Payload<'_>> {
    match kind {
        Kind::Start => None,
        Kind::Put => Some(Payload::Put(read_put(payload, &[])?.0)),
        Kind::Update => {
            let flags = *payload.get(16)?;
            let len = u32_at(payload, 20)? as usize;
            let meta = payload.get(UPDATE_FIXED..)?.get(..len)?;
            Some(Payload::Update {
                id: ItemId(u64_at(payload, 0)?),
                due_unix_ms: u64_at(payload, 8)?,
                held: flags & FLAG_HELD != 0,
                meta: (flags & FLAG_META != 0).then_some(meta),
            })
        }
        Kind::Finish => {
            let count = u32_at(payload, 8)? as usize;
            let shared_len = u32_at(payload, 12)? as usize;
            let rest = payload.get(FINISH_FIXED..)?;
            let shared = rest.get(..shared_len)?;
            let mut rest = &rest[shared_len..];
            // A child takes at least its fixed part: a count beyond that is a lie and must not reserve memory.
            if count > rest.len() / PUT_FIXED {
                return None;
            }
            let mut children = Vec::with_capacity(count);
            for _ in 0..count {
                let part = HEADER + payload.len() - rest.len();
                let (put, taken) = read_put(rest, shared)?;
                children.push((part, put));
                rest = &rest[taken..];
            }
            Some(Payload::Finish { id: ItemId(u64_at(payload, 0)?), children })
        }
    }
}

/// Reads a segment's start from its first bytes, from either copy.
pub(crate) fn read_start(bytes: &[u8]) -> Option<SegmentStart> {
    [0, START_COPY].into_iter().find_map(|offset| {
        let bytes = bytes.get(offset..)?;
        let header = Header::read(bytes)?;
        if header.kind != Kind::Start as u8 || header.offset != offset as u64 {
            return None;
        }
        let payload = header.payload(bytes)?;
        Some(SegmentStart {
            life: header.life,
            oldest_live: u64_at(payload, 0)?,
            previous: u64_at(payload, 8)?,
            previous_end: u64_at(payload, 16)?,
            id_high: u64_at(payload, 24)?,
        })
    })
}

fn read_put<'a>(bytes: &'a [u8], shared: &'a [u8]) -> Option<(Put<'a>, usize)> {
    let len = u64_at(bytes, 16)?;
    let file = u64_at(bytes, 24)?;
    let meta_len = u32_at(bytes, 36)? as usize;
    let key_len = usize::from(u16::from_le_bytes(bytes.get(40..42)?.try_into().ok()?));
    let class = *bytes.get(42)?;
    let flags = *bytes.get(43)?;
    let key = bytes.get(PUT_FIXED..)?.get(..key_len)?;
    let meta = bytes.get(PUT_FIXED + key_len..)?.get(..meta_len)?;
    let mut taken = PUT_FIXED + key_len + meta_len;
    let body = if file != 0 {
        // Lengths are added up: one that no file can have must not overflow the sums.
        if len > FILE_BYTES_MAX {
            return None;
        }
        PutBody::File { file, len, crc: u32_at(bytes, 32)? }
    } else if flags & FLAG_SHARED_BODY != 0 {
        if len != shared.len() as u64 {
            return None;
        }
        PutBody::Shared(shared)
    } else {
        let inline = bytes.get(taken..)?.get(..usize::try_from(len).ok()?)?;
        taken += inline.len();
        PutBody::Inline(inline)
    };
    let put = Put {
        id: ItemId(u64_at(bytes, 0)?),
        due_unix_ms: u64_at(bytes, 8)?,
        held: flags & FLAG_HELD != 0,
        key: std::str::from_utf8(key).ok()?,
        class,
        meta,
        body,
    };
    Some((put, taken))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
