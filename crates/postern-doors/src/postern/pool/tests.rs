//! Shares, places and turns.

use PeerClass::{Known, Proven, Stranger, Vouched};

use super::*;

/// Fills a class with attempts of one flow, up to its room.
fn fill(pool: &mut Pool<u64>, class: PeerClass, key: u64) {
    while pool.offer(class, key, key).is_none() {}
}

#[test]
fn classes_that_all_want_more_get_their_shares() {
    let mut pool = Pool::new();
    let mut served = [0; CLASSES];
    for _ in 0..1_000 {
        PeerClass::ALL.into_iter().for_each(|class| fill(&mut pool, class, 1));
        let (class, _) = pool.next().unwrap();
        served[class as usize] += 1;
        pool.end(class);
    }
    for class in PeerClass::ALL {
        let expected = i64::from(limits::HANDSHAKE_SHARES[class as usize]) * 10;
        assert!((i64::from(served[class as usize]) - expected).abs() <= 2, "{class:?}: {served:?}");
    }
}

#[test]
fn what_nobody_wants_goes_to_whoever_does() {
    let mut pool = Pool::new();
    let mut started = 0;
    loop {
        fill(&mut pool, Stranger, 1);
        if pool.next().is_none() {
            break;
        }
        started += 1;
    }
    assert_eq!(started, places_of(Stranger as usize) + common_places());
    // And the others' own places are there all the same, at once.
    for class in [Known, Proven, Vouched] {
        assert!(pool.offer(class, 2, 2).is_none());
        assert_eq!(pool.next(), Some((class, 2)));
    }
    // A place that comes back is used again.
    pool.end(Stranger);
    assert_eq!(pool.next(), Some((Stranger, 1)));
    assert_eq!(pool.next(), None);
}

#[test]
fn a_known_peer_is_called_next_however_long_the_strangers_have_waited() {
    let mut pool = Pool::new();
    for key in 0..20 {
        assert!(pool.offer(Stranger, key, key).is_none());
    }
    for _ in 0..10 {
        pool.next().unwrap();
    }
    assert!(pool.offer(Known, 99, 99).is_none());
    assert_eq!(pool.next(), Some((Known, 99)));
}

#[test]
fn idleness_earns_nothing() {
    let mut pool = Pool::new();
    for _ in 0..1_000 {
        fill(&mut pool, Stranger, 1);
        let (class, _) = pool.next().unwrap();
        pool.end(class);
    }
    // The known come back after a long time: their share from now on, and not the arrears.
    let mut strangers = 0;
    for _ in 0..65 {
        fill(&mut pool, Known, 2);
        fill(&mut pool, Stranger, 1);
        let (class, _) = pool.next().unwrap();
        pool.end(class);
        strangers += u32::from(class == Stranger);
    }
    assert!((14..=16).contains(&strangers), "{strangers} of 65");
}

#[test]
fn inside_a_class_each_domain_takes_its_turn() {
    let mut pool = Pool::new();
    for _ in 0..10 {
        assert!(pool.offer(Known, 1, 1).is_none());
    }
    assert!(pool.offer(Known, 2, 2).is_none());
    assert!(pool.offer(Known, 3, 3).is_none());
    let order: Vec<u64> = (0..4).map(|_| pool.next().unwrap().1).collect();
    assert_eq!(order, [1, 2, 3, 1]);
}

#[test]
fn a_full_class_gives_up_the_last_of_whoever_has_most() {
    let mut pool = Pool::new();
    fill(&mut pool, Proven, 1);
    assert_eq!(pool.waiting()[Proven as usize], limits::HANDSHAKES_WAITING[Proven as usize]);
    assert_eq!(pool.offer(Proven, 1, 11), Some(11), "who has most gets no more");
    assert_eq!(pool.offer(Proven, 2, 22), Some(1), "a newcomer displaces who has several");
    assert_eq!(pool.offer(Proven, 2, 23), Some(1));
    assert_eq!(pool.waiting()[Proven as usize], limits::HANDSHAKES_WAITING[Proven as usize]);
    // All alike: then nobody gives way.
    let mut pool = Pool::new();
    for key in 0..limits::HANDSHAKES_WAITING[Proven as usize] as u64 {
        assert!(pool.offer(Proven, key, key).is_none());
    }
    assert_eq!(pool.offer(Proven, 999, 999), Some(999));
}

#[test]
fn every_place_comes_back() {
    let mut pool = Pool::new();
    for class in PeerClass::ALL {
        fill(&mut pool, class, 1);
    }
    let mut called = Vec::new();
    while let Some((class, _)) = pool.next() {
        called.push(class);
    }
    called.into_iter().for_each(|class| pool.end(class));
    assert_eq!(pool.under_way(), [0; CLASSES]);
    assert_eq!(pool.waiting(), [0; CLASSES]);
}
