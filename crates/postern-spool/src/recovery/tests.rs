use super::fuzzing::{self, Files};
use super::*;
use crate::record::{Life, write_finish, write_put, write_start};

/// One life of a segment: its start and the puts (true) and finishes (false) in it.
fn segment(start: SegmentStart, records: &[(bool, u64)]) -> Vec<u8> {
    let mut bytes = write_start(&start);
    for &(put, id) in records {
        let offset = bytes.len() as u64;
        if put {
            let body = PutBody::Inline(b"body");
            let put = Put { id: ItemId(id), due_unix_ms: 0, held: false, key: "k", class: 0, meta: b"meta", body };
            write_put(&mut bytes, start.life, offset, &put);
        } else {
            write_finish(&mut bytes, start.life, offset, ItemId(id), &[], &[]);
        }
    }
    bytes.resize(32 << 10, 0);
    bytes
}

fn start(generation: u64, oldest_live: u64) -> SegmentStart {
    let life = Life { generation, salt: generation * 31 };
    SegmentStart { life, oldest_live, previous: 0, previous_end: 0, id_high: 0 }
}

fn check(segments: &[&[u8]], expected: &[u64]) -> RecoveryReport {
    let recovered = recover(&mut Files(segments), &SpoolOptions::new("")).unwrap();
    let mut found: Vec<u64> = recovered.index.iter().map(|entry| entry.id.0).collect();
    found.sort_unstable();
    assert_eq!(found, expected);
    recovered.report
}

#[test]
fn segments_are_played_in_the_order_of_their_lives_not_of_their_files() {
    let put = segment(start(1, 1), &[(true, 10), (true, 11)]);
    let finish = segment(start(2, 1), &[(false, 10), (true, 12)]);
    check(&[&put, &finish], &[11, 12]);
    check(&[&finish, &put], &[11, 12]);
}

#[test]
fn a_stale_generation_is_not_read_even_if_the_finishes_of_its_items_are_gone() {
    // Generation 3 held the finish of 10 and has been used again as generation 4; the file of 2 is still as it was.
    let dead = segment(start(2, 1), &[(true, 10)]);
    let live = segment(start(4, 4), &[(true, 11)]);
    let report = check(&[&dead, &live], &[11]);
    assert_eq!(report.segments, 1);
}

#[test]
fn what_a_refused_write_left_behind_is_not_read() {
    let mut before = segment(start(1, 1), &[(true, 10), (true, 11)]);
    let end = scan(&before).unwrap().records[1].0;
    let after = segment(SegmentStart { previous: 1, previous_end: end.into(), ..start(2, 1) }, &[(true, 12)]);
    check(&[&before, &after], &[10, 12]);
    // Torn or whole, it is nobody's loss and not reported.
    before[end as usize + 50] ^= 1;
    assert_eq!(check(&[&before, &after], &[10, 12]).torn, 0);
}

#[test]
fn ids_are_never_given_twice() {
    let finished = segment(start(1, 1), &[(true, 10), (false, 99)]);
    let later = segment(SegmentStart { id_high: 50, ..start(2, 1) }, &[]);
    let recovered = recover(&mut Files(&[&finished, &later]), &SpoolOptions::new("")).unwrap();
    assert_eq!(recovered.id_high(), ItemId(99));
}

proptest::proptest! {
    #[test]
    fn changed_bytes_never_panic(changes in proptest::collection::vec((0usize..12_000, 0u8..=255), 1..40)) {
        let mut bytes = segment(start(1, 1), &[(true, 10), (false, 10), (true, 11), (true, 12), (false, 13)]);
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        fuzzing::recover_segment(&bytes);
        fuzzing::recover_resealed(&bytes);
        fuzzing::read_payloads(&bytes[8192..]);
    }
}
