use super::*;

fn talker(n: u8) -> Evidence {
    Evidence::EarlyTalker { ip: IpAddr::from([192, 0, 2, n]) }
}

#[test]
fn what_finds_no_room_is_dropped_and_counted() {
    let (sender, mut receiver) = channel(16);
    let taken = (0..40).filter(|n| sender.send(talker(*n))).count();
    assert_eq!((taken, sender.dropped(), receiver.dropped()), (16, 24, 24));
    let mut seen = Vec::new();
    assert_eq!(receiver.drain(&mut seen, 10), 10);
    assert_eq!(receiver.drain(&mut seen, 10), 6);
    assert_eq!(seen.len(), 16);
    assert!(sender.send(talker(1)), "room again after a drain");
}

#[test]
fn a_sender_never_waits_for_a_held_lock() {
    let (sender, mut receiver) = channel(64);
    let shared = Arc::clone(&sender.shared);
    let guards: Vec<_> = shared.queues.iter().map(|queue| queue.lock().expect("free")).collect();
    assert!(!sender.send(talker(1)), "every queue is locked: dropped, not waited for");
    drop(guards);
    let _one = shared.queues[0].lock().expect("free");
    assert!(sender.send(talker(2)), "one locked queue is stepped over");
    assert_eq!(sender.dropped(), 1);
    drop(_one);
    let mut seen = Vec::new();
    assert_eq!(receiver.drain(&mut seen, 10), 1);
}

#[test]
fn one_sender_is_heard_in_its_order() {
    let (sender, mut receiver) = channel(64);
    for n in 0..8 {
        assert!(sender.send(talker(n)));
    }
    let mut seen = Vec::new();
    receiver.drain(&mut seen, 64);
    assert_eq!(seen, (0..8).map(talker).collect::<Vec<_>>());
}
