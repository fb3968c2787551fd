use super::*;

fn entry(id: u64) -> Entry {
    let place = Place { slot: 0, offset: 0, len: 0 };
    Entry {
        id: ItemId(id),
        due_unix_ms: 0,
        body_len: 0,
        body_file: 0,
        body_crc: 0,
        put: place,
        part: 0,
        meta: place,
        lane: 0,
        turn: 0,
        pending: 0,
        held: false,
        leased: false,
        closing: false,
        damaged: false,
    }
}

#[test]
fn an_entry_with_its_place_in_the_tables_stays_below_200_bytes() {
    // Entry, slot in the block; id and number in the hash table at its emptiest (7/16); lane queue and lane ids in
    // B-trees filled by half; the id in its segment's list.
    let bytes = size_of::<Option<Entry>>() + (16 + 1) * 16 / 7 + 16 * 2 + 8 * 2 + 8;
    assert!(bytes < 200, "{bytes}");
}

#[test]
fn entries_are_found_until_removed() {
    let mut index = Index::default();
    for id in 1..10_000 {
        index.insert(entry(id << 22));
    }
    for id in 1..5_000 {
        assert_eq!(index.remove(ItemId(id << 22)).map(|e| e.id.0), Some(id << 22));
    }
    for id in 10_000..20_000 {
        index.insert(entry(id << 22));
    }
    assert_eq!(index.len(), 5_000 + 10_000);
    assert_eq!(index.iter().count(), index.len());
    assert!(index.get(ItemId(1 << 22)).is_none());
    assert_eq!(index.get(ItemId(19_999 << 22)).map(|e| e.id.0), Some(19_999 << 22));
}
