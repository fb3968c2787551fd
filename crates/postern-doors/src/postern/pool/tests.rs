//! Shares, places and turns.

use std::collections::BTreeMap;

use PeerClass::{Known, Proven, Stranger, Vouched};

use super::*;

/// Where an attempt of somebody waits who has nothing to its credit.
fn plain(flow: u64) -> Place {
    Place { suffix: 0, flow, weight: 1 }
}

/// Fills a class with attempts of one flow, up to its room.
fn fill(pool: &mut Pool<u64>, class: PeerClass, key: u64) {
    while pool.offer(class, plain(key), key).is_none() {}
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
        assert!(pool.offer(class, plain(2), 2).is_none());
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
        assert!(pool.offer(Stranger, plain(key), key).is_none());
    }
    for _ in 0..10 {
        pool.next().unwrap();
    }
    assert!(pool.offer(Known, plain(99), 99).is_none());
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
        assert!(pool.offer(Known, plain(1), 1).is_none());
    }
    assert!(pool.offer(Known, plain(2), 2).is_none());
    assert!(pool.offer(Known, plain(3), 3).is_none());
    let order: Vec<u64> = (0..4).map(|_| pool.next().unwrap().1).collect();
    assert_eq!(order, [1, 2, 3, 1]);
}

#[test]
fn a_full_class_gives_up_the_last_of_whoever_has_most() {
    let mut pool = Pool::new();
    fill(&mut pool, Proven, 1);
    assert_eq!(pool.waiting()[Proven as usize], limits::HANDSHAKES_WAITING[Proven as usize]);
    assert_eq!(pool.offer(Proven, plain(1), 11), Some(11), "who has most gets no more");
    assert_eq!(pool.offer(Proven, plain(2), 22), Some(1), "a newcomer displaces who has several");
    assert_eq!(pool.offer(Proven, plain(2), 23), Some(1));
    assert_eq!(pool.waiting()[Proven as usize], limits::HANDSHAKES_WAITING[Proven as usize]);
    // All alike: then nobody gives way.
    let mut pool = Pool::new();
    for key in 0..limits::HANDSHAKES_WAITING[Proven as usize] as u64 {
        assert!(pool.offer(Proven, plain(key), key).is_none());
    }
    assert_eq!(pool.offer(Proven, plain(999), 999), Some(999));
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

/// A door at which the proven knock: as many as are called each moment, times ten, and nobody holds his place for long.
struct Knocking {
    pool: Pool<u64>,
    served: BTreeMap<u64, u32>,
    dice: u64,
}

impl Knocking {
    fn new() -> Self {
        Self { pool: Pool::new(), served: BTreeMap::new(), dice: 7 }
    }

    /// A number below `n`.
    fn roll(&mut self, n: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.dice >> 33) % n
    }

    fn knock(&mut self, suffix: u64, domain: u64, weight: u8) {
        let turned_away = self.pool.offer(Proven, Place { suffix, flow: domain, weight }, domain);
        assert!(self.pool.waiting()[Proven as usize] <= limits::HANDSHAKES_WAITING[Proven as usize]);
        assert!(turned_away.is_none() || self.pool.waiting()[Proven as usize] == limits::HANDSHAKES_WAITING[1]);
    }

    fn call(&mut self) {
        let (class, domain) = self.pool.next().expect("somebody waits, so somebody is called");
        self.pool.end(class);
        *self.served.entry(domain).or_default() += 1;
    }

    fn served(&self, domains: std::ops::Range<u64>) -> u32 {
        self.served.range(domains).map(|(_, times)| times).sum()
    }
}

#[test]
fn ten_thousand_domains_of_one_suffix_leave_half_of_the_turns_to_ten_of_another() {
    let mut door = Knocking::new();
    for _ in 0..20_000 {
        for _ in 0..10 {
            let domain = 1_000 + door.roll(10_000);
            door.knock(1, domain, 1);
        }
        // The ten together knock once for each who is called.
        let own = door.roll(10);
        door.knock(2, own, 1);
        door.call();
    }
    let ten = door.served(0..10);
    assert!((9_500..=10_500).contains(&ten), "{ten} of 20,000");
    for domain in 0..10 {
        let own = door.served(domain..domain + 1);
        assert!((900..=1_100).contains(&own), "{domain}: {own} of {ten}");
    }
}

#[test]
fn the_same_crowd_spread_over_ten_suffixes_gets_ten_parts_of_eleven_and_no_more() {
    let mut door = Knocking::new();
    for _ in 0..20_000 {
        for _ in 0..10 {
            let domain = 1_000 + door.roll(10_000);
            door.knock(10 + domain % 10, domain, 1);
        }
        let own = door.roll(10);
        door.knock(2, own, 1);
        door.call();
    }
    let ten = door.served(0..10);
    assert!((1_700..=1_950).contains(&ten), "{ten} of 20,000");
}

#[test]
fn a_history_is_served_first_among_ten_thousand_newcomers_of_its_own_suffix_and_they_go_on() {
    let mut door = Knocking::new();
    for moment in 0..20_000 {
        for _ in 0..10 {
            let domain = 1_000 + door.roll(10_000);
            door.knock(1, domain, 1);
        }
        // It comes for one in ten, and is served whenever it comes.
        if moment % 10 == 0 {
            door.knock(1, 5, 6);
        }
        door.call();
    }
    let own = door.served(5..6);
    assert!((1_990..=2_000).contains(&own), "{own} of 2,000");
    assert_eq!(door.served(1_000..11_000), 20_000 - own);
}

#[test]
fn a_hundred_with_a_history_do_not_shut_out_those_without() {
    let mut door = Knocking::new();
    for _ in 0..20_000 {
        for _ in 0..5 {
            let (old, new) = (door.roll(100), 1_000 + door.roll(10_000));
            door.knock(1, old, 6);
            door.knock(1, new, 1);
        }
        door.call();
    }
    let new = door.served(1_000..11_000);
    assert!((2_000..=6_000).contains(&new), "{new} of 20,000");
}
