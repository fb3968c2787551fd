use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use postern_proto::door::{Shape, Token, shape};

use super::{DoorFlood, DoorPlan, source};
use crate::door::packets::Attack;
use crate::plan::FloodError;

/// A socket in the place of a door, that reads what comes. Its queue holds about 90 datagrams of 1,200 octets.
struct Catcher(UdpSocket);

impl Catcher {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Self(socket)
    }

    fn addr(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    fn catch(&self, count: usize) -> Vec<(Vec<u8>, SocketAddr)> {
        let mut buffer = [0; 2_000];
        (0..count)
            .map(|_| self.0.recv_from(&mut buffer).map(|(len, from)| (buffer[..len].to_vec(), from)).unwrap())
            .collect()
    }
}

fn plan(target: SocketAddr, packets: u64) -> DoorPlan {
    DoorPlan { packets_max: Some(packets), duration_ms: 10_000, rate: Some(20_000), ..DoorPlan::new(target) }
}

fn kind(datagram: &[u8]) -> &'static str {
    match shape(datagram) {
        Shape::Garbage => "garbage",
        Shape::Hello { .. } => "hello",
        Shape::Established { .. } => "short",
        Shape::Initial { token: Token::None, .. } => "initial",
        Shape::Initial { token: Token::Cookie(_), .. } => "cookie",
        Shape::Initial { token: Token::Ticket(_), .. } => "ticket",
        Shape::Initial { .. } => "other",
    }
}

#[test]
fn what_arrives_is_what_was_reported_from_as_many_networks_as_were_asked_for() {
    let catcher = Catcher::new();
    let mut plan = plan(catcher.addr(), 60);
    plan.attacks = vec![Attack::Garbage, Attack::Hello, Attack::Short, Attack::Initial, Attack::Cookie, Attack::Ticket];
    plan.sources = 40;
    let report = DoorFlood::run(&plan, &AtomicBool::new(false)).unwrap();
    assert_eq!((report.sent, report.refused), (60, 0));
    let caught = catcher.catch(60);
    for (attack, sent) in &report.by_attack {
        assert_eq!(*sent, 10);
        assert_eq!(caught.iter().filter(|(datagram, _)| kind(datagram) == attack).count(), 10, "{attack}");
    }
    let networks: HashSet<[u8; 3]> = caught
        .iter()
        .map(|(_, from)| match from.ip() {
            IpAddr::V4(v4) => [v4.octets()[0], v4.octets()[1], v4.octets()[2]],
            IpAddr::V6(_) => panic!("{from}"),
        })
        .collect();
    assert_eq!(networks.len(), 40);
}

#[test]
fn the_same_seed_sends_the_same_datagrams_from_the_same_addresses() {
    let catcher = Catcher::new();
    let mut plan = plan(catcher.addr(), 60);
    // A cookie or ticket carries the time.
    plan.attacks = vec![Attack::Garbage, Attack::Initial];
    plan.sources = 60;
    let run = || {
        DoorFlood::run(&plan, &AtomicBool::new(false)).unwrap();
        catcher.catch(60).into_iter().map(|(datagram, from)| (datagram, from.ip())).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_run_ends_when_its_time_is_over_and_keeps_its_rate() {
    let catcher = Catcher::new();
    let mut plan = plan(catcher.addr(), u64::MAX);
    (plan.duration_ms, plan.rate) = (300, Some(2_000));
    let report = DoorFlood::run(&plan, &AtomicBool::new(false)).unwrap();
    assert!((0.3..5.0).contains(&report.seconds), "{}", report.seconds);
    assert!(report.sent <= 602, "{} in 0.3 s at 2,000 a second", report.sent);
    assert!(report.sent >= 64, "{}", report.sent);
}

#[test]
fn a_run_that_is_told_to_stop_sends_nothing_more() {
    let catcher = Catcher::new();
    let report = DoorFlood::run(&plan(catcher.addr(), 1_000), &AtomicBool::new(true)).unwrap();
    assert_eq!(report.sent, 0);
}

#[test]
fn a_full_queue_of_the_target_is_seen_in_the_kernels_counter() {
    let catcher = Catcher::new();
    let mut plan = plan(catcher.addr(), 20_000);
    plan.rate = None;
    let report = DoorFlood::run(&plan, &AtomicBool::new(false)).unwrap();
    assert!(report.dropped.socket > 1_000, "{report}");
}

#[test]
fn somebody_elses_address_a_port_without_a_program_and_odd_numbers_are_refused() {
    let run = |plan: &DoorPlan| DoorFlood::run(plan, &AtomicBool::new(false));
    let foreign = DoorPlan::new("192.0.2.1:2526".parse().unwrap());
    assert!(matches!(run(&foreign), Err(FloodError::Foreign(_))));
    let catcher = Catcher::new();
    let target = catcher.addr();
    for (change, what) in [
        (DoorPlan { sources: 0, ..plan(target, 1) }, "no source"),
        (DoorPlan { sources: 65_537, ..plan(target, 1) }, "more networks than 127/8 has"),
        (DoorPlan { rate: Some(0), ..plan(target, 1) }, "no rate"),
        (DoorPlan { duration_ms: 0, ..plan(target, 1) }, "no time"),
        (DoorPlan { attacks: Vec::new(), ..plan(target, 1) }, "no attack"),
        (DoorPlan { attacks: vec![Attack::Replay], ..plan(target, 1) }, "nothing to replay"),
        (DoorPlan { sources: 2, ..plan("[::1]:9".parse().unwrap(), 1) }, "IPv6 from two networks"),
    ] {
        assert!(matches!(run(&change), Err(FloodError::Plan(_))), "{what}");
    }
    drop(catcher);
    assert!(matches!(run(&plan(target, 1)), Err(FloodError::Unreachable(..))));
}

#[test]
fn every_network_of_127_is_reached() {
    let networks: BTreeSet<u32> = (0..65_536).map(|n| source(n, 65_536, 5).to_bits() >> 8).collect();
    assert_eq!(networks.len(), 65_536);
}
