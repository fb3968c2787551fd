//! The log on the real disk: reopening, recycling, copying forward, torn records, body files, leases, the operator.

mod common;

use std::fs;
use std::path::Path;

use common::*;
use postern_spool::*;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn hold_retry_delete_and_postpone_survive_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (mut door, _) = open(dir.path());
    let [held, later, deleted, postponed, released] = [(); 5].map(|()| door.commit(b"meta", b"body"));
    wait(async {
        door.spool.hold(held, true).await.unwrap();
        door.spool.retry(later, FAR).await.unwrap();
        door.spool.delete(deleted).await.unwrap();
        door.spool.hold(released, true).await.unwrap();
        door.spool.hold(released, false).await.unwrap();
        assert_eq!(door.spool.delete(deleted).await, Err(SpoolError::NotFound));
        let lease = door.spool.lease(&lane(), 1, FAR).await.remove(0);
        assert_eq!(lease.id, postponed);
        assert_eq!(door.spool.delete(postponed).await, Err(SpoolError::Leased));
        door.spool.postpone(lease, b"second try".to_vec(), 77).await.unwrap();
    });
    for _ in 0..2 {
        let (lanes, list) = wait(async { (door.spool.lanes().await, door.spool.list(None, None, 99).await) });
        let due: Vec<_> = list.iter().map(|item| (item.id, item.due_unix_ms, item.held)).collect();
        assert_eq!(due, [(held, 0, true), (later, FAR, false), (postponed, 77, false), (released, 0, false)]);
        assert_eq!((lanes[0].ready, lanes[0].waiting, lanes[0].held), (2, 1, 1));
        assert_eq!(lanes[0].next_due_unix_ms, Some(FAR));
        let shown = wait(door.spool.show(postponed)).unwrap();
        assert_eq!((shown.meta.as_slice(), bytes(&shown.body)), (b"second try".as_slice(), b"body".to_vec()));
        drop(door);
        door = open(dir.path()).0;
    }
}

#[test]
fn segments_are_recycled_and_old_records_do_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut door, _) = open(dir.path());
    // 400 items of 5 KiB are 30 segments' worth; at most a few live at a time.
    for n in 0..400u32 {
        door.commit(&n.to_le_bytes(), &vec![n as u8; 5000]);
        if n % 8 == 7 {
            for lease in door.lease(99) {
                door.finish(lease, Fate::Delivered, Vec::new()).unwrap();
            }
        }
    }
    let last = door.commit(b"last", b"one");
    assert!(door.spool.stats().segments <= 6, "{:?}", door.spool.stats());
    drop(door);
    let (door, report) = open(dir.path());
    assert_eq!((report.items, report.torn), (1, 0));
    assert_eq!(door.lease_one().id, last);
}

#[test]
fn what_lives_long_is_copied_forward_with_its_latest_state() {
    let dir = tempfile::tempdir().unwrap();
    let (mut door, _) = open(dir.path());
    let old: Vec<_> = (0..5u8).map(|n| door.commit(&[n], &[n; 3000])).collect();
    wait(async {
        let lease = door.spool.lease(&lane(), 1, FAR).await.remove(0);
        door.spool.postpone(lease, b"changed".to_vec(), 5).await.unwrap();
        for &id in &old {
            door.spool.hold(id, true).await.unwrap();
        }
    });
    for n in 0..400u32 {
        door.commit(&n.to_le_bytes(), &vec![n as u8; 5000]);
        let lease = door.lease_one();
        door.finish(lease, Fate::Delivered, Vec::new()).unwrap();
    }
    let stats = door.spool.stats();
    assert!(stats.segments <= 10, "{stats:?}");
    drop(door);
    let (door, report) = open(dir.path());
    assert_eq!((report.items, report.torn), (5, 0));
    for (n, &id) in old.iter().enumerate() {
        let item = wait(door.spool.show(id)).unwrap();
        assert!(item.summary.held);
        assert_eq!(bytes(&item.body), vec![n as u8; 3000]);
        assert_eq!(item.meta, if n == 0 { b"changed".to_vec() } else { vec![n as u8] });
        assert_eq!(item.summary.due_unix_ms, if n == 0 { 5 } else { 0 });
    }
}

#[test]
fn a_torn_record_is_quarantined_and_later_records_survive() {
    let dir = tempfile::tempdir().unwrap();
    let (mut door, _) = open(dir.path());
    let [first, torn, last] = [1u8, 2, 3].map(|n| door.commit(b"meta", &[n; 3000]));
    drop(door);
    let segment = dir.path().join("log/00000000.seg");
    let mut content = fs::read(&segment).unwrap();
    let at = content.windows(8).position(|bytes| bytes == [2; 8]).unwrap();
    content[at + 1000..at + 1512].fill(0);
    fs::write(&segment, content).unwrap();
    let (door, report) = open(dir.path());
    assert_eq!((report.items, report.torn, report.quarantined.len()), (2, 1, 1));
    assert!(fs::read(&report.quarantined[0]).unwrap().windows(500).any(|bytes| bytes == [2; 500]));
    assert_eq!(door.lease(9).iter().map(|lease| lease.id).collect::<Vec<_>>(), [first, last]);
    assert!(wait(door.spool.show(torn)).is_none());
}

#[test]
fn a_record_that_rots_under_a_running_spool_is_held_and_never_given_out() {
    let dir = tempfile::tempdir().unwrap();
    let (mut door, _) = open(dir.path());
    let id = door.commit(b"meta", &[7; 3000]);
    let segment = dir.path().join("log/00000000.seg");
    let mut content = fs::read(&segment).unwrap();
    let at = content.windows(8).position(|bytes| bytes == [7; 8]).unwrap();
    content[at] ^= 1;
    fs::write(&segment, content).unwrap();
    assert!(door.lease(9).is_empty());
    assert_eq!((door.spool.stats().damaged, door.spool.stats().held), (1, 1));
    assert_eq!(wait(door.spool.list(None, None, 9))[0].id, id);
}

#[test]
fn an_item_that_rotted_keeps_the_log_until_it_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut door, _) = open(dir.path());
    let id = door.commit(b"meta", &[7; 3000]);
    let segment = dir.path().join("log/00000000.seg");
    let mut content = fs::read(&segment).unwrap();
    let at = content.windows(8).position(|bytes| bytes == [7; 8]).unwrap();
    content[at] ^= 1;
    fs::write(&segment, content).unwrap();
    let churn = |door: &mut Door| {
        for n in 0..200u32 {
            door.commit(&n.to_le_bytes(), &vec![n as u8; 5000]);
            for lease in door.lease(9) {
                door.finish(lease, Fate::Delivered, Vec::new()).unwrap();
            }
        }
    };
    churn(&mut door);
    let stats = door.spool.stats();
    // Read once and not by every round of copying.
    assert_eq!((stats.items, stats.damaged, stats.unreadable, stats.held), (1, 1, 1, 1));
    assert!(stats.segments > 10, "{stats:?}");
    wait(door.spool.hold(id, false)).unwrap();
    assert_eq!((door.spool.stats().unreadable, door.spool.stats().held), (0, 0));
    assert!(door.lease(9).is_empty());
    assert_eq!((door.spool.stats().damaged, door.spool.stats().unreadable), (2, 1));
    wait(door.spool.delete(id)).unwrap();
    let before = door.spool.stats().segments;
    churn(&mut door);
    let stats = door.spool.stats();
    assert_eq!((stats.items, stats.unreadable, stats.held), (0, 0, 0));
    assert!(stats.segments <= before && stats.segments_free > 10, "{stats:?}");
}

#[test]
fn a_body_file_cut_short_under_a_running_spool_is_held_and_can_be_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut door, _) = open(dir.path());
    let id = door.stream(&[5; 200_000], 100_000);
    door.append_streamed(id, b"meta", When::Commit);
    door.expect_committed(id);
    fs::OpenOptions::new()
        .write(true)
        .open(dir.path().join("bodies").join(id.to_string()))
        .unwrap()
        .set_len(9)
        .unwrap();
    assert!(door.lease(9).is_empty());
    let stats = door.spool.stats();
    assert_eq!((stats.damaged, stats.held, stats.leased), (1, 1, 0));
    assert!(wait(door.spool.list(None, None, 9))[0].held);
    wait(door.spool.delete(id)).unwrap();
    let stats = door.spool.stats();
    assert_eq!((stats.items, stats.held), (0, 0));
}

#[test]
fn garbage_in_the_directory_does_not_stop_recovery() {
    let dir = tempfile::tempdir().unwrap();
    let (mut door, _) = open(dir.path());
    let id = door.commit(b"meta", b"body");
    drop(door);
    fs::write(dir.path().join("log/00000077.seg"), vec![0x5a; 100_000]).unwrap();
    fs::write(dir.path().join("log/00000078.seg"), b"").unwrap();
    fs::write(dir.path().join("log/readme.txt"), b"hello").unwrap();
    fs::write(dir.path().join("bodies/what"), b"hello").unwrap();
    let (mut door, report) = open(dir.path());
    assert_eq!(report.items, 1);
    assert_eq!(door.lease_one().id, id);
    door.commit(b"meta", b"another");
}

#[test]
fn a_streamed_body_survives_is_shared_by_children_and_removed_with_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let (mut door, _) = open(dir.path());
    let body: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    let id = door.stream(&body, 64 << 10);
    door.append_streamed(id, b"meta", When::Commit);
    door.expect_committed(id);
    drop(door);
    let (door, report) = open(dir.path());
    assert_eq!((report.items, report.bytes, report.orphans), (1, 300_000, 0));
    let lease = door.lease_one();
    assert_eq!(bytes(&lease.body), body);
    let children = vec![child(b"one", ChildBody::Parent), child(b"two", ChildBody::Parent)];
    door.finish(lease, Fate::Delivered, children).unwrap();
    drop(door);
    let (door, _) = open(dir.path());
    for left in [1, 0] {
        let lease = door.lease_one();
        assert_eq!(bytes(&lease.body), body);
        door.finish(lease, Fate::Delivered, Vec::new()).unwrap();
        if left == 1 {
            assert_eq!(names(&dir.path().join("bodies")).len(), 1);
        }
    }
    wait(door.spool.shutdown());
    assert_eq!(names(&dir.path().join("bodies")), [""; 0]);
}

#[test]
fn a_streamed_tentative_body_goes_with_its_fate_or_its_client() {
    let dir = tempfile::tempdir().unwrap();
    let (mut door, _) = open(dir.path());
    let delivered = door.stream(&[1; 200_000], 50_000);
    door.append_streamed(delivered, b"meta", When::Tentative);
    let lease = door.lease_one();
    assert_eq!(bytes(&lease.body), vec![1; 200_000]);
    let children = vec![child(b"rest", ChildBody::Parent)];
    door.finish(lease, Fate::Delivered, children).unwrap();
    assert!(matches!(door.event(delivered), EventKind::Fate(Fate::Delivered)));
    let pieces_only = door.stream(&[2; 10], 10);
    let tentative = door.stream(&[3; 10], 10);
    door.append_streamed(tentative, b"meta", When::Tentative);
    door.port.abandon(pieces_only);
    door.port.abandon(tentative);
    door.port.flush();
    let orphan = door.stream(&[4; 10], 10);
    wait(door.spool.shutdown());
    assert_eq!(names(&dir.path().join("bodies")), [delivered.to_string(), orphan.to_string()]);
    drop(door);
    let (door, report) = open(dir.path());
    assert_eq!((report.items, report.orphans), (1, 1));
    assert_eq!(bytes(&door.lease_one().body), vec![1; 200_000]);
}

#[test]
fn a_lease_runs_out_and_its_late_holder_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (mut door, _) = open(dir.path());
    let id = door.commit(b"meta", b"body");
    // A lease until a moment ago runs out at once. (One until long ago means that the clock jumped, and gets its time.)
    let a_moment_ago = now_unix_ms() - 1_000;
    let first = wait(door.spool.lease(&lane(), 1, a_moment_ago)).remove(0);
    let second = door.lease_one();
    assert_eq!((first.id, second.id), (id, id));
    assert!(door.lease(1).is_empty());
    assert!(matches!(door.finish(first, Fate::Delivered, Vec::new()), Err(FinishError::Gone)));
    door.finish(second, Fate::Delivered, Vec::new()).unwrap();
    assert_eq!(door.spool.stats().items, 0);
}

#[test]
fn a_lease_that_ran_out_still_counts_while_nobody_else_has_the_item() {
    let dir = tempfile::tempdir().unwrap();
    let (mut door, _) = open(dir.path());
    door.commit(b"meta", b"body");
    let lease = wait(door.spool.lease(&lane(), 1, 1)).remove(0);
    wait(door.spool.lanes());
    door.finish(lease, Fate::Delivered, Vec::new()).unwrap();
    assert!(door.lease(1).is_empty());
}

#[test]
fn changed_is_told_when_something_can_be_leased() {
    let dir = tempfile::tempdir().unwrap();
    let (mut door, _) = open(dir.path());
    let mut changed = door.spool.changed();
    wait(door.spool.lanes());
    changed.mark_unchanged();
    door.commit(b"meta", b"body");
    // It may be told a little late, so that a storm does not wake the drain for every commit; it is told.
    wait(changed.changed()).unwrap();
    assert_eq!(door.lease(1).len(), 1);
}

fn now_unix_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}
