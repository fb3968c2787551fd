//! A full door: who gets in, who has to go, and who never does.

mod stage;

use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use postern_proto::mode::Mode;
use postern_spool::Lane;
use postern_trust::Evidence;
use postern_trust::pressure::{Level, Pressure};
use stage::{Client, Door, Judged, PATIENCE};

const BODY: &str = "Subject: x\r\n\r\nHello\r\n";
/// In the network that the tests pin.
const FRIEND: Ipv4Addr = Ipv4Addr::new(127, 200, 0, 1);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);

/// Connections of the doors here; a twentieth of them is not for strangers.
const PLACES: usize = 20;
const FOR_STRANGERS: u8 = 19;

/// Sixty hoarders of 72 KiB want more.
const HELD_MAX: u64 = 4 << 20;

/// As many strangers as get in, greeted, that say nothing; oldest first.
fn silent(door: &Door) -> Vec<Client> {
    let strangers = (0..FOR_STRANGERS).map(|i| {
        let mut client = door.connect_from(Ipv4Addr::new(127, 9, 1, i));
        client.expect("220 ");
        client
    });
    strangers.collect()
}

#[test]
fn a_friend_gets_the_place_of_the_stranger_who_was_idle_longest() {
    let (door, _) = Door::judging(Judged { connections_max: PLACES, ..Judged::default() });
    let mut strangers = silent(&door);
    // The first one moves on: the second has then been idle for longest.
    strangers[0].write(b"EHLO stranger.example\r\n");
    strangers[0].expect("250-");
    let mut first = door.connect_from(FRIEND);
    first.expect("220 ");
    let mut friend = door.connect_from(FRIEND);
    friend.expect("220 ");
    assert!(friend.send_message(BODY).starts_with("250 2.0.0 Queued"));
    strangers[1].expect("421 4.3.2 ");
    assert_eq!(strangers[1].line(), "", "the connection is closed");
    strangers[2].write(b"NOOP\r\n");
    strangers[2].expect("250 ");
}

#[test]
fn among_strangers_places_circulate_and_a_friend_never_seen_before_gets_one() {
    let (door, _) = Door::judging(Judged { connections_max: PLACES, ..Judged::default() });
    let _silent = silent(&door);
    let mut new = door.connect_from(STRANGER);
    new.expect("220 ");
    assert!(new.send_message(BODY).starts_with("250 2.0.0 Queued"));
    assert_eq!(door.crowd().evicted.iter().sum::<u64>(), 1);
}

#[test]
fn nobody_goes_between_the_end_of_a_message_and_the_reply() {
    let (door, _) = Door::judging(Judged { mode: Mode::Through, connections_max: PLACES, ..Judged::default() });
    let mut waiting = silent(&door);
    for client in &mut waiting {
        client.begin_message(BODY);
    }
    let (spool, runtime) = (door.spool.clone(), door.runtime());
    let lane = Lane::new("example.com", 3);
    let leases = runtime.block_on(async {
        let mut changed = spool.changed();
        let mut leases = Vec::new();
        while leases.len() < waiting.len() {
            leases.extend(spool.lease(&lane, 100, u64::MAX).await);
            let _looked = tokio::time::timeout(Duration::from_millis(50), changed.changed()).await;
        }
        leases
    });
    // Everybody is between dot and reply: a stranger is turned away, friends come in all the same.
    door.connect_from(STRANGER).expect("421 ");
    for _ in 0..3 {
        door.connect_from(FRIEND).expect("220 ");
    }
    for lease in leases {
        runtime.block_on(spool.finish(lease, postern_spool::Fate::Delivered, Vec::new())).unwrap();
    }
    for client in &mut waiting {
        client.expect("250 2.0.0 Delivered");
    }
}

#[test]
fn a_bypass_makes_it_first_come_first_served_at_once() {
    let (door, hands) = Door::judging(Judged { connections_max: PLACES, ..Judged::default() });
    let mut strangers = silent(&door);
    hands.bypass.store(true, Ordering::Relaxed);
    let mut last = door.connect_from(STRANGER);
    last.expect("220 ");
    door.connect_from(FRIEND).expect("421 ");
    hands.bypass.store(false, Ordering::Relaxed);
    door.connect_from(FRIEND).expect("220 ");
    strangers[0].expect("421 4.3.2 ");
}

#[test]
fn observing_says_and_does_nothing() {
    let (door, hands) = Door::judging(Judged { connections_max: PLACES, ..Judged::default() });
    hands.observe.store(true, Ordering::Relaxed);
    let mut strangers = silent(&door);
    let mut last = door.connect_from(STRANGER);
    last.expect("220 ");
    door.connect_from(FRIEND).expect("421 ");
    strangers[0].write(b"NOOP\r\n");
    strangers[0].expect("250 ");
}

#[test]
fn under_pressure_an_idle_stranger_goes_and_an_idle_friend_stays() {
    let (door, hands) = Door::judging(Judged::default());
    let mut friend = door.connect_from(FRIEND);
    friend.expect("220 ");
    let mut suspect = door.connect_from(hands.suspect);
    suspect.expect("220 ");
    hands.pressure.publish(Pressure { level: Level::Red, cause: None });
    // Five seconds of patience with a suspect in the red, looked at four times a second.
    suspect.expect("421 4.4.2 ");
    friend.write(b"NOOP\r\n");
    friend.expect("250 ");
}

#[test]
fn who_speaks_before_the_greeting_is_noted_and_served() {
    let (door, mut hands) = Door::judging(Judged::default());
    // The greeting of a suspect waits for 3 s; on a machine that stands still for as long the first words come too late.
    for _ in 0..20 {
        let mut early = door.connect_from(hands.suspect);
        early.write(b"EHLO early.example\r\n");
        early.expect("220 ");
        early.expect("250-");
        if door.stats().early_talkers > 0 {
            break;
        }
    }
    assert_eq!(door.stats().early_talkers, 1);
    assert!(hands.evidence().contains(&Evidence::EarlyTalker { ip: hands.suspect.into() }));
}

#[test]
fn beyond_the_promise_strangers_are_deferred_and_friends_are_not() {
    let (door, hands) = Door::judging(Judged::default());
    hands.intake.publish([9, 9, 0, 0, 0], 0);
    let mut stranger = door.connect_from(STRANGER);
    stranger.expect("220 ");
    stranger.write(b"HELO client.example\r\nMAIL FROM:<bob@client.example>\r\nRCPT TO:<ann@example.com>\r\n");
    stranger.expect("250 ");
    stranger.expect("250 ");
    stranger.expect("451 4.3.2 ");
    let mut friend = door.connect_from(FRIEND);
    friend.expect("220 ");
    assert!(friend.send_message(BODY).starts_with("250 2.0.0 Queued"));
    assert_eq!(door.crowd().deferred.iter().sum::<u64>(), 1);
}

#[test]
fn a_harvester_gets_one_answer_for_known_and_unknown_names() {
    let (door, _) = Door::judging(Judged { names: vec!["ann"], ..Judged::default() });
    let mut harvester = door.connect_from(STRANGER);
    harvester.expect("220 ");
    harvester.write(b"HELO client.example\r\nMAIL FROM:<bob@client.example>\r\n");
    harvester.expect("250 ");
    harvester.expect("250 ");
    let ask = |client: &mut Client, name: &str| {
        client.write(format!("RCPT TO:<{name}@example.com>\r\n").as_bytes());
        client.line()
    };
    let deferred =
        (0..90).map(|i| ask(&mut harvester, &format!("guess{i}"))).find(|reply| reply.starts_with("450 4.7.1"));
    let deferred = deferred.expect("above a rate of unknown names the answer changes");
    assert_eq!(ask(&mut harvester, "ann"), deferred, "a known name gets the same words");
    let mut friend = door.connect_from(FRIEND);
    friend.expect("220 ");
    assert!(friend.send_message(BODY).starts_with("250 2.0.0 Queued"), "friends are not held to it");
}

#[test]
fn a_message_lies_in_the_lane_of_its_class_and_keeps_what_was_known() {
    let (door, _) = Door::judging(Judged::default());
    let mut friend = door.connect_from(FRIEND);
    friend.expect("220 ");
    friend.send_message(BODY);
    let mut stranger = door.connect_from(STRANGER);
    stranger.expect("220 ");
    stranger.send_message(BODY);
    let runtime = door.runtime();
    for (class, ip) in [(0, FRIEND), (3, STRANGER)] {
        let lane = Lane::new("example.com", class);
        let leases = runtime.block_on(door.spool.lease(&lane, 10, u64::MAX));
        assert_eq!(leases.len(), 1, "class {class}");
        let meta = postern_proto::envelope::Meta::from_bytes(&leases[0].meta).unwrap();
        assert_eq!((meta.checks.class, meta.arrival.peer.ip()), (class, ip.into()));
    }
}

#[test]
fn memory_beyond_a_class_share_is_not_read_into() {
    let (door, _) = Door::judging(Judged { held_bytes_max: HELD_MAX, ..Judged::default() });
    let mut hoarders: Vec<Client> = (0..60).map(|i| door.connect_from(Ipv4Addr::new(127, 9, 2, i))).collect();
    for hoarder in &mut hoarders {
        hoarder.expect("220 ");
        hoarder.begin_body();
    }
    for hoarder in &mut hoarders {
        // Never ended, and below the size at which a body goes to the disk.
        hoarder.write_what_fits("x".repeat(70).as_str(), 1_000);
    }
    let held = || {
        let held = door.crowd().held_bytes.iter().sum::<u64>();
        assert!(held <= HELD_MAX, "{held} octets are held");
        held
    };
    let until = Instant::now() + PATIENCE;
    while held() <= HELD_MAX / 2 {
        assert!(Instant::now() < until, "{} octets are held", held());
        std::thread::yield_now();
    }
    // Two ticks: whoever waits for room has looked again.
    door.runtime().block_on(async { tokio::time::sleep(Duration::from_millis(600)).await });
    assert!(held() > HELD_MAX / 2);
    let mut friend = door.connect_from(FRIEND);
    friend.expect("220 ");
    assert!(friend.send_message(BODY).starts_with("250 2.0.0 Queued"));
}
