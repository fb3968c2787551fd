use super::*;
use crate::item::ItemId;
use crate::record::{Put, PutBody, write_put, write_start};

fn start(generation: u64) -> SegmentStart {
    let life = Life { generation, salt: generation * 77 };
    SegmentStart { life, oldest_live: 0, previous: 0, previous_end: 0, id_high: 0 }
}

/// Writes a life of a segment over `bytes`, one put for each body.
fn live(bytes: &mut [u8], generation: u64, bodies: &[&[u8]]) {
    let start = start(generation);
    bytes[..RECORDS_START].copy_from_slice(&write_start(&start));
    let mut at = RECORDS_START;
    for body in bodies {
        let mut out = Vec::new();
        let put = Put {
            id: ItemId(1),
            due_unix_ms: 0,
            held: false,
            key: "k",
            class: 0,
            meta: &[],
            body: PutBody::Inline(body),
        };
        write_put(&mut out, start.life, at as u64, &put);
        bytes[at..at + out.len()].copy_from_slice(&out);
        at += out.len();
    }
}

#[test]
fn every_complete_record_is_found_and_the_rest_of_the_segment_is_not_torn() {
    let mut bytes = vec![0; 32 << 10];
    live(&mut bytes, 1, &[b"one", &[b'x'; 5000], b"three"]);
    let scan = scan(&bytes).unwrap();
    assert_eq!(scan.records.len(), 3);
    assert_eq!(scan.torn, []);
}

#[test]
fn records_after_a_torn_one_survive() {
    let mut bytes = vec![0; 32 << 10];
    live(&mut bytes, 1, &[b"one", &[b'x'; 5000], b"three"]);
    let whole = scan(&bytes).unwrap();
    let torn = whole.records[1].0 as usize;
    // A lost first sector takes the header with it, a lost later one only the body.
    for lost in [torn, torn + 2048] {
        let mut bytes = bytes.clone();
        bytes[lost..lost + 512].fill(0);
        let scan = scan(&bytes).unwrap();
        assert_eq!(scan.records, [whole.records[0], whole.records[2]]);
        assert_eq!(scan.torn.len(), 1);
        assert_eq!(scan.torn[0], torn..whole.records[2].0 as usize);
    }
}

#[test]
fn a_torn_last_record_is_reported() {
    let mut bytes = vec![0; 32 << 10];
    live(&mut bytes, 1, &[b"one", &[b'x'; 5000]]);
    let at = scan(&bytes).unwrap().records[1].0 as usize;
    bytes[at + 4096..at + 4608].fill(0);
    let scan = scan(&bytes).unwrap();
    assert_eq!(scan.records.len(), 1);
    assert_eq!(scan.torn.len(), 1);
    assert_eq!(scan.torn[0].start, at);
}

#[test]
fn a_recycled_segment_never_gives_back_records_of_an_earlier_life() {
    let mut bytes = vec![0; 32 << 10];
    live(&mut bytes, 1, &[b"one", b"two", b"three"]);
    live(&mut bytes, 2, &[b"new"]);
    let scan = scan(&bytes).unwrap();
    assert_eq!(scan.start.life.generation, 2);
    assert_eq!(scan.records.len(), 1);
    assert_eq!(scan.torn, []);
}

#[test]
fn records_inside_the_body_of_a_torn_record_are_not_taken_for_records() {
    // The body is aligned so that it holds a record of its own at a multiple of 64, right in everything but the salt.
    let mut bytes = vec![0; 64 << 10];
    live(&mut bytes, 1, &[&[b'x'; 20_000]]);
    for at in (RECORDS_START + 64..RECORDS_START + 19_000).step_by(ALIGN * 4) {
        let mut out = Vec::new();
        let put = Put {
            id: ItemId(666),
            due_unix_ms: 0,
            held: false,
            key: "k",
            class: 0,
            meta: &[],
            body: PutBody::Inline(b"forged"),
        };
        write_put(&mut out, Life { generation: 1, salt: 12345 }, at as u64, &put);
        bytes[at..at + out.len()].copy_from_slice(&out);
    }
    assert_eq!(scan(&bytes).unwrap().records, []);
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..20_000), kept in 0usize..8) {
        let _ = scan(&bytes);
        if bytes.len() >= 16 << 10 {
            let len = bytes.len();
            bytes.resize(32 << 10, 0);
            live(&mut bytes[..32 << 10], 1, &[b"one", &[b'x'; 500], b"three"]);
            let junk = kept * 1000;
            let end = (junk + len / 16).min(bytes.len());
            bytes[junk..end].fill(0x5a);
            let _ = scan(&bytes);
        }
    }
}
