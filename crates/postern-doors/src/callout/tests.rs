//! What is remembered, and for how long it counts.

use super::*;

const HOUR_MS: u64 = 3_600_000;

#[test]
fn positives_outlive_a_drowning_next_hop_and_negatives_do_not_last() {
    assert_eq!(weigh(true, 23 * HOUR_MS), Memory::Sure { exists: true });
    assert_eq!(weigh(true, 25 * HOUR_MS), Memory::Stale);
    assert_eq!(weigh(true, 32 * 24 * HOUR_MS), Memory::Nothing);
    assert_eq!(weigh(false, HOUR_MS / 2), Memory::Sure { exists: false });
    assert_eq!(weigh(false, 2 * HOUR_MS), Memory::Nothing);
}

#[test]
fn what_was_found_out_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("callouts.redb");
    let cache = CalloutCache::open(&path).unwrap();
    assert_eq!(cache.recall("ann@example.com", 5), Memory::Nothing);
    cache.remember("ann@example.com", true, 5).unwrap();
    cache.remember("bob@example.com", false, 5).unwrap();
    drop(cache);
    let cache = CalloutCache::open(&path).unwrap();
    assert_eq!(cache.recall("ann@example.com", 6), Memory::Sure { exists: true });
    assert_eq!(cache.recall("bob@example.com", 6), Memory::Sure { exists: false });
}

#[test]
fn a_full_memory_drops_the_older_half() {
    let dir = tempfile::tempdir().unwrap();
    let cache = CalloutCache::open(&dir.path().join("callouts.redb")).unwrap();
    let transaction = cache.database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(RECIPIENTS).unwrap();
        for at in 0..100u64 {
            table.insert(format!("u{at}@example.com").as_str(), (true, at)).unwrap();
        }
        make_room(&mut table).unwrap();
        assert_eq!(table.len().unwrap(), 49);
        assert!(table.get("u99@example.com").unwrap().is_some());
        assert!(table.get("u0@example.com").unwrap().is_none());
    }
    transaction.commit().unwrap();
}
