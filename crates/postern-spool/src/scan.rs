//! Finds the records in the bytes of a segment, whatever those bytes are. Pure and total: garbage, torn records and
//! records of earlier lives are stepped over, every complete record of the segment's present life is found. Recovery calls
//! it for each segment file, the fuzz target with anything.

use std::ops::Range;

use crate::record::{ALIGN, HEADER, Header, Life, Payload, RECORDS_START, SegmentStart, read_record, read_start};

/// What stands in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) start: SegmentStart,
    /// Where each complete record stands: offset, and length without padding.
    pub(crate) records: Vec<(u32, u32)>,
    /// Where records of this life should be and are not complete.
    pub(crate) torn: Vec<Range<usize>>,
    /// The end of the last complete record.
    pub(crate) end: usize,
}

/// Scans a segment; `None` when it has no readable start: it was never used, or was just being taken into use, and a
/// segment's records are written only after its start has been synced.
pub(crate) fn scan(bytes: &[u8]) -> Option<Scan> {
    let start = read_start(bytes)?;
    let mut scan = Scan { start, records: Vec::new(), torn: Vec::new(), end: RECORDS_START };
    let mut gap = Gap::default();
    let mut at = RECORDS_START;
    while at + HEADER <= bytes.len() {
        let rest = &bytes[at..];
        match complete_record(rest, start.life, at as u64) {
            Found::Complete(len) => {
                // Records are written without gaps, so whatever lies between two of them is a torn one.
                if let Some(begin) = gap.begin.take() {
                    scan.torn.push(begin..at);
                }
                gap = Gap::default();
                scan.records.push((at as u32, len as u32));
                at += len.next_multiple_of(ALIGN);
                scan.end = at.min(bytes.len());
                continue;
            }
            Found::Torn(len) => gap.claimed_end = gap.claimed_end.max((at + len).min(bytes.len())),
            Found::Nothing => {}
        }
        gap.begin.get_or_insert(at);
        at += ALIGN;
    }
    // After the last complete record stands what earlier lives left, or zeros; it is torn only where a header of this
    // life says that more was meant to be.
    if let (Some(begin), true) = (gap.begin, gap.claimed_end > 0) {
        scan.torn.push(begin..gap.claimed_end);
    }
    Some(scan)
}

#[derive(Default)]
struct Gap {
    begin: Option<usize>,
    claimed_end: usize,
}

enum Found {
    Complete(usize),
    Torn(usize),
    Nothing,
}

fn complete_record(bytes: &[u8], life: Life, offset: u64) -> Found {
    let Some(header) = Header::read(bytes) else { return Found::Nothing };
    // The cheap comparison first: a checksum over a claimed length is only computed for a header that carries the salt,
    // so a body full of invented headers cannot make recovery quadratic.
    if !header.belongs(life, offset) {
        return Found::Nothing;
    }
    match read_record(bytes, life, offset) {
        Some(Payload::Put(_) | Payload::Update { .. } | Payload::Finish { .. }) => Found::Complete(header.record_len()),
        None => Found::Torn(header.record_len()),
    }
}

#[cfg(test)]
mod tests;
