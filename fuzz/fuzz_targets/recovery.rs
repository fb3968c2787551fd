//! Recovery of a segment whose records are anything: no panic, no more items than there is room for.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_spool::fuzzing::{read_payloads, recover_resealed, recover_segment};

/// Where the records of a segment begin, and what they are aligned to.
const RECORDS_START: usize = 8_192;
const ALIGN: usize = 64;
/// The first octets of a segment as the spool wrote it: the start record, whose life the seeds share. Without it there is
/// nothing to recover, and no fuzzer guesses a checksum.
const START: [u8; 72] = [
    0x50, 0x53, 0x52, 0x43, 0x01, 0x01, 0x00, 0x00, 0x20, 0x00, 0x00, 0x00, 0xdc, 0x60, 0x44, 0xcb, 0x01, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x99, 0x32, 0xab, 0x27, 0x46, 0x99,
    0xfb, 0x59, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80, 0x54, 0x5d, 0xdb, 0x7f, 0x68,
];

// The first octet chooses: records as they are, records whose headers are sealed anew (to reach what lies behind the
// checksum), or the payload of a record.
fuzz_target!(|input: &[u8]| {
    let Some((&kind, records)) = input.split_first() else { return };
    if kind % 3 == 2 {
        return read_payloads(records);
    }
    let mut segment = START.to_vec();
    segment.resize(RECORDS_START, 0);
    segment.extend_from_slice(records);
    let items = if kind % 3 == 0 { recover_segment(&segment) } else { recover_resealed(&segment) };
    assert!(items <= records.len() / ALIGN + 1, "{items} items in {} octets", records.len());
});
