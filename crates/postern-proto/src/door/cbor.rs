//! The little of CBOR (RFC 8949) that control frames need, read strictly.
//!
//! Definite lengths and shortest heads only (section 4.2.1), integer keys in ascending order, so that a map with two
//! values for a key cannot be written and needs no memory to find out. Lengths are checked against what is there before
//! anything is done with them, and what is skipped is nested no deeper than [`CBOR_DEPTH_MAX`]. Only `frame` calls it.

use alloc::vec::Vec;

use super::limits::CBOR_DEPTH_MAX;

/// Not CBOR as door/1 writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotCbor;

pub(super) const UINT: u8 = 0;
pub(super) const BYTES: u8 = 2;
pub(super) const TEXT: u8 = 3;
pub(super) const ARRAY: u8 = 4;
pub(super) const MAP: u8 = 5;
const NEGATIVE: u8 = 1;
const SIMPLE: u8 = 7;

/// What has not been read yet of an item.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn uint(&mut self) -> Result<u64, NotCbor> {
        self.expect(UINT)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], NotCbor> {
        let length = self.expect(BYTES)?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, NotCbor> {
        let length = self.expect(TEXT)?;
        core::str::from_utf8(self.take(length)?).map_err(|_| NotCbor)
    }

    /// The number of items that follow.
    pub(super) fn array(&mut self) -> Result<u64, NotCbor> {
        self.expect(ARRAY)
    }

    /// The number of pairs that follow.
    pub(super) fn map(&mut self) -> Result<u64, NotCbor> {
        self.expect(MAP)
    }

    /// Reads over one item of any kind.
    pub(super) fn skip(&mut self) -> Result<(), NotCbor> {
        self.skip_at(CBOR_DEPTH_MAX)
    }

    fn skip_at(&mut self, depth: u32) -> Result<(), NotCbor> {
        let (major, value) = self.head()?;
        let items = match major {
            UINT | NEGATIVE | SIMPLE => return Ok(()),
            BYTES | TEXT => return self.take(value).map(drop),
            ARRAY => value,
            MAP => value.checked_mul(2).ok_or(NotCbor)?,
            // A tag has one item in it.
            _ => 1,
        };
        // Each item has an octet at least: no long loop behind a short announcement.
        if items > self.0.len() as u64 || depth == 0 {
            return Err(NotCbor);
        }
        (0..items).try_for_each(|_| self.skip_at(depth - 1))
    }

    fn expect(&mut self, wanted: u8) -> Result<u64, NotCbor> {
        let (major, value) = self.head()?;
        if major == wanted { Ok(value) } else { Err(NotCbor) }
    }

    /// Major type and argument.
    fn head(&mut self) -> Result<(u8, u64), NotCbor> {
        let first = self.take(1)?[0];
        let (major, short) = (first >> 5, first & 0x1f);
        let size = match short {
            0..24 if major != SIMPLE => return Ok((major, short.into())),
            // False, true, null, undefined; half, single and double floats.
            20..24 => return Ok((major, short.into())),
            25..28 if major == SIMPLE => {
                self.take(1 << (short - 24))?;
                return Ok((major, 0));
            }
            24..28 if major != SIMPLE => 1 << (short - 24),
            _ => return Err(NotCbor),
        };
        let value = self.take(size)?.iter().fold(0, |value, octet| value << 8 | u64::from(*octet));
        // What would have fitted a shorter head has a second spelling.
        let least = match size {
            1 => 24,
            2 => 1 << 8,
            4 => 1 << 16,
            _ => 1 << 32,
        };
        if value < least { Err(NotCbor) } else { Ok((major, value)) }
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], NotCbor> {
        let length = usize::try_from(length).map_err(|_| NotCbor)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(NotCbor)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// Appends the shortest head.
pub(super) fn write_head(out: &mut Vec<u8>, major: u8, value: u64) {
    let octets = value.to_be_bytes();
    let (short, from) = match value {
        0..24 => (value as u8, 8),
        24..0x100 => (24, 7),
        0x100..0x1_0000 => (25, 6),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 0),
    };
    out.push(major << 5 | short);
    out.extend_from_slice(&octets[from..]);
}

pub(super) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_head(out, BYTES, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    write_head(out, TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests;
