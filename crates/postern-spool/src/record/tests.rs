use super::*;

const LIFE: Life = Life { generation: 7, salt: 0xfeed };

fn put<'a>(id: u64, meta: &'a [u8], body: PutBody<'a>) -> Put<'a> {
    Put { id: ItemId(id), due_unix_ms: 9, held: id % 2 == 1, key: "example.org", class: 3, meta, body }
}

#[test]
fn a_put_is_read_back() {
    for body in [PutBody::Inline(b""), PutBody::Inline(b"bytes"), PutBody::File { file: 4, len: 1 << 40, crc: 5 }] {
        let put = put(3, b"meta", body);
        let mut out = Vec::new();
        let len = write_put(&mut out, LIFE, 8192, &put);
        assert_eq!(out.len(), padded(put.encoded_len()));
        assert_eq!(len as usize, HEADER + put.encoded_len());
        assert_eq!(read_record(&out, LIFE, 8192), Some(Payload::Put(put)));
    }
}

#[test]
fn an_update_is_read_back() {
    for meta in [None, Some(&b""[..]), Some(&b"more"[..])] {
        let mut out = Vec::new();
        let len = write_update(&mut out, LIFE, 64, ItemId(1), 2, true, meta);
        assert_eq!(len as usize, HEADER + update_len(meta));
        let expected = Payload::Update { id: ItemId(1), due_unix_ms: 2, held: true, meta };
        assert_eq!(read_record(&out, LIFE, 64), Some(expected));
    }
}

#[test]
fn a_finish_carries_its_children_and_the_shared_body_once() {
    let shared = [b'x'; 1000];
    let children = [
        put(1, b"a", PutBody::Shared(&shared)),
        put(2, b"b", PutBody::Inline(b"own")),
        put(3, b"c", PutBody::Shared(&shared)),
    ];
    let mut out = Vec::new();
    let (len, parts) = write_finish(&mut out, LIFE, 0, ItemId(9), &shared, &children);
    assert_eq!(len as usize, HEADER + finish_len(&shared, &children));
    assert!(out.len() < 1400);
    let Some(Payload::Finish { id, children: read }) = read_record(&out, LIFE, 0) else { panic!("not a finish") };
    assert_eq!(id, ItemId(9));
    assert_eq!(read.iter().map(|c| c.0 as u32).collect::<Vec<_>>(), parts);
    assert_eq!(read.into_iter().map(|c| c.1).collect::<Vec<_>>(), children);
}

#[test]
fn a_record_of_another_life_or_place_is_not_read() {
    let mut out = Vec::new();
    write_put(&mut out, LIFE, 8192, &put(3, b"meta", PutBody::Inline(b"bytes")));
    assert!(read_record(&out, LIFE, 8192).is_some());
    assert_eq!(read_record(&out, LIFE, 8256), None);
    assert_eq!(read_record(&out, Life { generation: 8, ..LIFE }, 8192), None);
    assert_eq!(read_record(&out, Life { salt: 1, ..LIFE }, 8192), None);
}

#[test]
fn any_changed_bit_is_noticed() {
    let mut out = Vec::new();
    let len = write_put(&mut out, LIFE, 8192, &put(3, b"meta", PutBody::Inline(b"bytes"))) as usize;
    for bit in 0..len * 8 {
        out[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(read_record(&out, LIFE, 8192), None, "bit {bit}");
        out[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn either_copy_of_the_start_is_enough() {
    let start = SegmentStart { life: LIFE, oldest_live: 1, previous: 2, previous_end: 3, id_high: 4 };
    let bytes = write_start(&start);
    assert_eq!(bytes.len(), RECORDS_START);
    for lost in [0, START_COPY] {
        let mut torn = bytes.clone();
        torn[lost..lost + HEADER].fill(0xaa);
        assert_eq!(read_start(&torn), Some(start));
    }
    assert_eq!(read_start(&[0; RECORDS_START]), None);
    assert_eq!(read_start(b""), None);
}

proptest::proptest! {
    #[test]
    fn no_payload_panics(kind in 1u8..5, bytes: Vec<u8>) {
        if let Some(kind) = Kind::of(kind) {
            let _ = read_payload(kind, &bytes);
        }
    }
}
