//! What is promised to a door, on the real disk: receipts, fates, tentative items, refusals.

mod common;

use common::*;
use postern_spool::*;

#[test]
fn a_committed_item_is_there_after_a_drop_without_shutdown() {
    let dir = tempfile::tempdir().unwrap();
    let (mut door, report) = open(dir.path());
    assert_eq!(report, RecoveryReport::default());
    let ids: Vec<_> = (0..100u8).map(|n| door.commit(&[n], &vec![n; 1000])).collect();
    drop(door);
    let (door, report) = open(dir.path());
    assert_eq!((report.items, report.bytes, report.torn), (100, 100_000, 0));
    let leases = door.lease(200);
    assert_eq!(leases.iter().map(|lease| lease.id).collect::<Vec<_>>(), ids);
    for (n, lease) in leases.iter().enumerate() {
        assert_eq!((&lease.meta, bytes(&lease.body)), (&vec![n as u8], vec![n as u8; 1000]));
        assert!(!lease.tentative);
    }
    assert!(door.spool.new_id() > *ids.last().unwrap());
}

#[test]
fn a_second_process_is_told_that_the_directory_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let (door, _) = open(dir.path());
    let second = Spool::open(options(dir.path()));
    assert!(matches!(second, Err(OpenError::Locked(_))));
    drop(door);
    open(dir.path());
}

#[test]
fn a_tentative_item_touches_no_disk_until_it_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut door, _) = open(dir.path());
    let dropped = door.put(b"a", b"body", When::Tentative);
    let kept = door.put(b"b", b"body", When::Tentative);
    door.no_event(kept);
    assert_eq!(door.spool.stats().commits, 0);
    door.port.commit(kept);
    door.port.flush();
    door.expect_committed(kept);
    drop(door);
    let (door, _) = open(dir.path());
    assert_eq!(door.lease(9).iter().map(|lease| lease.id).collect::<Vec<_>>(), [kept]);
    assert!(wait(door.spool.show(dropped)).is_none());
}

#[test]
fn the_fate_of_a_tentative_item_reaches_its_door() {
    for fate in [Fate::Delivered, Fate::Refused(b"5.7.1".as_slice().into()), Fate::Deferred(b"4.2.2".as_slice().into())]
    {
        let dir = tempfile::tempdir().unwrap();
        let (mut door, _) = open(dir.path());
        let id = door.put(b"meta", b"body", When::Tentative);
        let lease = door.lease_one();
        assert!(lease.tentative);
        door.finish(lease, fate.clone(), Vec::new()).unwrap();
        let EventKind::Fate(heard) = door.event(id) else { panic!("no fate") };
        assert_eq!(heard, fate);
        assert_eq!(door.spool.stats().items, 0);
        // The door was too slow with its wish to commit: the fate came first, and nothing else comes.
        door.port.commit(id);
        door.port.flush();
        door.no_event(id);
    }
}

#[test]
fn a_refusal_that_comes_after_the_250_is_given_back_to_be_decided_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut door, _) = open(dir.path());
    let id = door.put(b"meta", b"body", When::Tentative);
    let lease = door.lease_one();
    door.port.commit(id);
    door.port.flush();
    // Sent right behind the commit: at the engine the put may be queued or durable, the answer is the same.
    let result = door.finish(lease, Fate::Refused(b"no".as_slice().into()), Vec::new());
    let Err(FinishError::CommittedMeanwhile(lease)) = result else { panic!("{result:?}") };
    door.expect_committed(id);
    assert!(!lease.tentative);
    let dead = Child { lane: Lane::new("example.org", Lane::DEAD_CLASS), ..child(b"dead", ChildBody::Parent) };
    door.finish(*lease, Fate::Refused(b"no".as_slice().into()), vec![dead]).unwrap();
    door.no_event(id);
    assert_eq!(door.spool.stats().dead, 1);
}

#[test]
fn an_unsettled_item_is_committed_or_abandoned_by_its_door() {
    let dir = tempfile::tempdir().unwrap();
    let (mut door, _) = open(dir.path());
    let id = door.put(b"meta", b"body", When::Tentative);
    wait(door.spool.postpone(door.lease_one(), b"later".to_vec(), FAR)).unwrap();
    assert!(matches!(door.event(id), EventKind::Fate(Fate::Unsettled)));
    assert!(door.lease(1).is_empty());
    door.port.commit(id);
    door.port.flush();
    door.expect_committed(id);
    let item = wait(door.spool.show(id)).unwrap();
    assert_eq!((item.meta.as_slice(), item.summary.due_unix_ms), (b"later".as_slice(), FAR));

    let id = door.put(b"meta", b"body", When::Tentative);
    let lease = door.lease_one();
    door.port.abandon(id);
    door.port.flush();
    door.no_event(id);
    assert!(matches!(door.finish(lease, Fate::Delivered, Vec::new()), Err(FinishError::Gone)));
    assert_eq!(door.spool.stats().items, 1);
}

#[test]
fn delivered_with_children_is_heard_when_the_children_are_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (mut door, _) = open(dir.path());
    let id = door.put(b"meta", b"the body", When::Tentative);
    let lease = door.lease_one();
    let children = vec![child(b"rest", ChildBody::Parent), child(b"report", ChildBody::New(b"sorry".to_vec()))];
    door.finish(lease, Fate::Delivered, children).unwrap();
    assert!(matches!(door.event(id), EventKind::Fate(Fate::Delivered)));
    drop(door);
    let (door, report) = open(dir.path());
    assert_eq!(report.items, 2);
    let mut found: Vec<_> = door.lease(9).iter().map(|lease| (lease.meta.clone(), bytes(&lease.body))).collect();
    found.sort();
    assert_eq!(found, [(b"report".to_vec(), b"sorry".to_vec()), (b"rest".to_vec(), b"the body".to_vec())]);
}

#[test]
fn limits_refuse_and_say_which() {
    let dir = tempfile::tempdir().unwrap();
    let with = |change: fn(&mut SpoolOptions)| {
        let mut options = options(dir.path());
        change(&mut options);
        let (mut door, _) = open_with(options);
        let id = door.put(b"meta", &[0; 2000], When::Tentative);
        let EventKind::Refused(refusal) = door.event(id) else { panic!("not refused") };
        refusal
    };
    assert_eq!(with(|options| options.items_max = 0), Refusal::Items);
    assert!(matches!(with(|options| options.bytes_max = 1999), Refusal::Full { .. }));
    assert_eq!(with(|options| options.tentative_bytes_max = 2000), Refusal::TentativeFull);
    assert!(matches!(
        with(|options| (options.free_low_bytes, options.free_high_bytes) = (u64::MAX - 1, u64::MAX)),
        Refusal::Full { .. }
    ));
    let (mut door, _) = open(dir.path());
    let id = door.put(b"meta", &vec![0; 60 << 10], When::Commit);
    assert!(matches!(door.event(id), EventKind::Refused(Refusal::TooLarge)));
    let id = door.spool.new_id();
    door.append_streamed(id, b"never streamed", When::Commit);
    assert!(matches!(door.event(id), EventKind::Refused(Refusal::Failed)));
}

#[test]
fn shutdown_commits_what_is_queued_and_refuses_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (mut door, _) = open(dir.path());
    let waiting = door.put(b"meta", b"body", When::Tentative);
    let ids: Vec<_> = (0..50).map(|_| door.put(b"meta", b"body", When::Commit)).collect();
    wait(door.spool.shutdown());
    for id in ids {
        door.expect_committed(id);
    }
    assert!(matches!(door.event(waiting), EventKind::Refused(Refusal::Failed)));
    let late = door.put(b"meta", b"body", When::Commit);
    assert!(matches!(door.event(late), EventKind::Refused(Refusal::Failed)));
    assert_eq!(wait(door.spool.delete(late)), Err(SpoolError::Stopped));
    drop(door);
    assert_eq!(open(dir.path()).1.items, 50);
}

#[test]
fn a_tentative_item_that_comes_while_the_spool_stops_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let delay = Some(std::time::Duration::from_millis(300));
    let (mut door, _) = open_with(SpoolOptions { flush_delay: delay, ..options(dir.path()) });
    let committed = door.put(b"meta", b"body", When::Commit);
    std::thread::sleep(std::time::Duration::from_millis(100));
    // While that sync takes its time the spool is told to stop, and only then comes the item.
    let spool = door.spool.clone();
    let mut stopped = std::pin::pin!(spool.shutdown());
    let late = wait(async {
        std::future::poll_fn(|context| {
            assert!(stopped.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        let late = door.put(b"meta", b"body", When::Tentative);
        stopped.await;
        late
    });
    door.expect_committed(committed);
    assert!(matches!(door.event(late), EventKind::Refused(Refusal::Failed)));
}

#[test]
fn the_door_is_woken_once_for_a_group() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(options(dir.path())).unwrap();
    let (wake, wakes) = std::sync::mpsc::channel();
    let port = spool.port(std::sync::Arc::new(move || {
        let _ = wake.send(());
    }));
    for _ in 0..32 {
        let body = Body::Inline(vec![0; 10]);
        let id = spool.new_id();
        port.append(NewItem { id, lane: lane(), meta: Vec::new(), due_unix_ms: 0, body }, When::Commit);
    }
    let mut events = Vec::new();
    wakes.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
    port.drain_events(&mut events);
    assert_eq!(events.len(), 32);
    assert!(wakes.try_recv().is_err());
    for event in events {
        let EventKind::Committed(receipt) = event.kind else { panic!("not committed") };
        assert_eq!(receipt.group(), 32);
    }
}
