//! Attacks and friends against small servers of the tests' own: what arrives is what the plan says, and it ends.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use postern_proto::door::limits::CHALLENGE_BYTES;
use postern_proto::door::{
    Keyring, Master, Shape, Terms, Token, challenge, check_cid, check_cookie, check_ticket, prefix_of, shape,
};

use super::*;
use crate::plan::FloodError;

/// More than a loaded machine needs. The attacks run with the lowest priority: beside other work they get a hundredth of a
/// core.
const PATIENCE: Duration = Duration::from_secs(60);

fn run(plan: &DoorPlan) -> DoorReport {
    DoorFlood::run(plan, |_| ControlFlow::Continue(())).unwrap()
}

fn plan(target: SocketAddr, attack: Attack) -> DoorPlan {
    let mut plan = DoorPlan::new(target);
    plan.friends_after_ms = 0;
    plan.offer_ms = 2 * PATIENCE.as_millis() as u64;
    plan.attacks.push(Assault::new(attack));
    plan
}

/// What came, and from where.
type Captured = Vec<(IpAddr, Vec<u8>)>;

/// A socket that keeps what comes, until all that was sent has come.
struct Capture {
    target: SocketAddr,
    all_sent: mpsc::Sender<()>,
    reader: thread::JoinHandle<Captured>,
}

impl Capture {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 16 << 20);
        let target = socket.local_addr().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (all_sent, told) = mpsc::channel();
        let reader = thread::spawn(move || {
            let (mut kept, mut over) = (Vec::new(), false);
            let mut buffer = [0; 2_048];
            loop {
                match socket.recv_from(&mut buffer) {
                    Ok((length, from)) => kept.push((from.ip(), buffer[..length].to_vec())),
                    // On the loopback what is sent has come.
                    Err(_) if over => return kept,
                    Err(_) => over = told.try_recv().is_ok(),
                }
            }
        });
        Self { target, all_sent, reader }
    }

    fn end(self) -> Captured {
        self.all_sent.send(()).unwrap();
        self.reader.join().unwrap()
    }
}

#[test]
fn a_spoofed_flood_arrives_as_it_was_planned_and_ends_by_count() {
    let capture = Capture::start();
    let mut plan = plan(capture.target, Attack::Naive);
    plan.attacks[0].packets_max = Some(3_000);
    plan.attacks[0].rate = 20_000;
    (plan.attacks[0].sources, plan.attacks[0].prefixes) = (200, 50);
    let report = run(&plan);
    let arrived = capture.end();
    let attack = &report.attacks[0];
    assert_eq!(attack.packets, 3_000);
    assert_eq!(arrived.len() as u64, 3_000 - report.kernel.door_drops);
    let mut kinds: HashMap<&str, usize> = HashMap::new();
    for (_, packet) in &arrived {
        let kind = match shape(packet) {
            Shape::Garbage => "garbage",
            Shape::Hello { .. } => "hello",
            Shape::Initial { token: Token::None, .. } => "initial",
            other => panic!("{other:?} in a naive flood"),
        };
        *kinds.entry(kind).or_default() += 1;
    }
    assert!(kinds.values().all(|n| *n >= 900), "{kinds:?}");
    let sources: HashSet<IpAddr> = arrived.iter().map(|(from, _)| *from).collect();
    let prefixes: HashSet<_> = sources.iter().map(|from| prefix_of(*from)).collect();
    assert_eq!((sources.len(), prefixes.len()), (200, 50));
    assert_eq!(arrived.iter().map(|(_, packet)| packet.len() as u64).sum::<u64>(), attack.octets);
    assert!(report.seconds * 1_000.0 < plan.offer_ms as f64, "the count ended it, not the time");
}

#[test]
fn a_flood_keeps_its_rate_and_ends_by_time() {
    let capture = Capture::start();
    let mut plan = plan(capture.target, Attack::ForgedId);
    plan.offer_ms = 500;
    plan.attacks[0].rate = 4_000;
    // It has no count: only the time can end it.
    let report = run(&plan);
    let packets = report.attacks[0].packets;
    // A machine with other work may be slower, never faster.
    assert!(packets <= 2_100, "{packets} at 4,000 a second in half a second");
    assert_eq!(capture.end().len() as u64, packets);
}

#[test]
fn nothing_claims_to_come_from_where_an_answer_would_leave_the_machine() {
    let mut plan = plan("127.0.0.1:9".parse().unwrap(), Attack::Hello);
    plan.attacks[0].from = "192.0.2.0/24".parse().unwrap();
    (plan.attacks[0].sources, plan.attacks[0].prefixes) = (10, 1);
    assert!(matches!(plan.check(), Err(FloodError::Plan(_))));
    plan.attacks[0].from = "127.64.0.0/16".parse().unwrap();
    plan.check().unwrap();
    plan.target = "192.0.2.1:9".parse().unwrap();
    assert!(plan.check().is_err(), "a target of somebody else");
}

#[test]
fn a_flood_against_nobody_is_no_perfect_defence() {
    // No test listens at that address, and the kernel gives no such port away.
    let mut plan = plan("127.93.0.1:9".parse().unwrap(), Attack::Garbage);
    plan.attacks[0].packets_max = Some(10);
    let refused = DoorFlood::run(&plan, |_| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(FloodError::Unreachable(..))));
}

/// A gate of a few lines: answers HELLOs with an appointment, keeps what comes with a cookie.
fn cookie_server(wait_s: u32) -> (SocketAddr, mpsc::Receiver<(IpAddr, bool)>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = socket.local_addr().unwrap();
    socket.set_read_timeout(Some(2 * PATIENCE)).unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let keys = Keyring::new(&Master::new([3; 32]), u64::from(unix_s()));
        let mut buffer = [0; 2_048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let now = unix_s();
            match shape(&buffer[..length]) {
                Shape::Hello { nonce } => {
                    let mut answer = [0; CHALLENGE_BYTES];
                    let not_before = now + wait_s;
                    let terms = Terms { server_time: now, not_before, not_after: not_before + 120, level: 2 };
                    challenge(&keys, from.ip(), nonce, &terms, &mut answer);
                    socket.send_to(&answer, from).unwrap();
                }
                Shape::Initial { token: Token::Cookie(token), .. } => {
                    let good = check_cookie(&keys, from.ip(), token, now).is_ok();
                    if tell.send((from.ip(), good)).is_err() {
                        return;
                    }
                }
                other => panic!("{other:?} of a bot that honours cookies"),
            }
        }
    });
    (target, told)
}

#[test]
fn a_bot_that_honours_cookies_comes_at_its_appointment_with_a_good_one() {
    let (target, told) = cookie_server(1);
    let mut plan = plan(target, Attack::Abandon);
    plan.attacks[0].packets_max = Some(60);
    plan.attacks[0].rate = 2_000;
    (plan.attacks[0].sources, plan.attacks[0].prefixes) = (30, 30);
    let report = run(&plan);
    let attack = &report.attacks[0];
    assert_eq!(attack.initials, 60);
    assert!(attack.hellos >= 30 && attack.cookies >= 1, "{attack:?}");
    assert!(attack.appointments >= 1);
    let came: Vec<(IpAddr, bool)> = (0..50).map(|_| told.recv_timeout(PATIENCE).expect("50 of 60 arrive")).collect();
    assert!(came.iter().all(|(_, good)| *good), "before its time, or forged");
    let sources: HashSet<IpAddr> = came.into_iter().map(|(from, _)| from).collect();
    assert!(sources.len() > 10);
}

/// Stock quinn on a thread of its own, for as long as the test process lives.
fn stock(kind: StockKind) -> SocketAddr {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ready = |address, _: &postern_net::door::PublicKey| tell.send(address).unwrap();
        runtime.block_on(stock::serve(
            "127.0.0.1:0".parse().unwrap(),
            StockOptions { kind, work: Duration::ZERO },
            ready,
        ))
    });
    told.recv_timeout(PATIENCE).unwrap()
}

fn friends() -> DoorFriends {
    DoorFriends {
        links: 2,
        rate: 20.0,
        fresh_rate: 10.0,
        patience_ms: PATIENCE.as_millis() as u32,
        entry: Entry::Plain,
        ..DoorFriends::new()
    }
}

#[test]
fn stock_quinn_serves_friends_that_bring_no_token() {
    for kind in [StockKind::Accept, StockKind::Retry] {
        let mut plan = DoorPlan::new(stock(kind));
        (plan.friends_after_ms, plan.offer_ms) = (0, 1_000);
        plan.friends = Some(DoorFriends { strangers_rate: 5.0, ..friends() });
        let report = run(&plan);
        assert_eq!(report.friends.len(), 3, "{report}");
        for friends in &report.friends {
            assert!(friends.offered >= 4, "{report}");
            assert_eq!(friends.failed, 0, "{kind:?}: {report}");
        }
        for friends in &report.friends[..2] {
            assert_eq!(friends.accepted, friends.offered, "{kind:?}: {report}");
            assert_eq!(friends.final_reply.samples, friends.accepted);
        }
        assert_eq!(report.kernel.door_sockets, 1);
    }
}

#[test]
fn prepared_initials_are_real_to_stock_quinn_with_and_without_retry() {
    for kind in [StockKind::Accept, StockKind::Retry] {
        let mut plan = plan(stock(kind), Attack::Abandon);
        plan.attacks[0].packets_max = Some(60);
        plan.attacks[0].rate = 60;
        (plan.attacks[0].sources, plan.attacks[0].prefixes) = (10, 10);
        // They are sent in a second, and nobody waits for the answers of a server that is slower.
        let mut runs = (0..10).map(|_| run(&plan));
        assert!(runs.any(|report| report.attacks[0].initials_answered > 0), "{kind:?}");
    }
}

#[test]
fn bots_finish_their_handshakes_and_stop_at_the_count() {
    let mut plan = plan(stock(StockKind::Accept), Attack::Complete);
    plan.attacks[0].packets_max = Some(6);
    (plan.attacks[0].sources, plan.attacks[0].prefixes) = (3, 3);
    let report = run(&plan);
    let attack = &report.attacks[0];
    assert_eq!((attack.handshakes, attack.accepted), (6, 6), "{attack:?}");
}

#[test]
fn insiders_open_what_they_may_and_a_greedy_one_sends_without_pause() {
    let target = stock(StockKind::Accept);
    for (attack, streams) in
        [(Attack::SlowStreams, 100), (Attack::Hoard, 20), (Attack::Greedy, 20), (Attack::ResetStreams, 100)]
    {
        let mut plan = plan(target, attack);
        plan.friends = Some(DoorFriends { links: 0, rate: 0.0, fresh_rate: 0.0, ..friends() });
        (plan.attacks[0].sources, plan.attacks[0].prefixes) = (2, 2);
        // As long as a quiet machine needs; as long as a busy one does, when that was too short.
        let found = [1_500, 15_000, 110_000].into_iter().find_map(|for_ms| {
            let report = DoorFlood::run(&plan, |progress| {
                if progress.elapsed_ms > for_ms { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            let found = report.unwrap().attacks.remove(0);
            assert!(found.accepted <= 2 && (found.messages == 0 || attack == Attack::Greedy), "{found:?}");
            let done = found.accepted == 2 && found.streams >= streams;
            (done && (found.messages > 0) == (attack == Attack::Greedy)).then_some(found)
        });
        assert!(found.is_some(), "{attack:?} does not get {streams} streams");
    }
}

/// Nothing of what was forged is ever taken for true.
#[test]
fn no_forged_packet_passes_a_keyed_check() {
    let capture = Capture::start();
    let mut plan = plan(capture.target, Attack::Aware);
    plan.attacks[0].packets_max = Some(1_500);
    plan.attacks[0].rate = 20_000;
    run(&plan);
    let (keys, now) = (Keyring::new(&Master::new([9; 32]), u64::from(unix_s())), unix_s());
    for (from, packet) in capture.end() {
        let passed = match shape(&packet) {
            Shape::Established { cid } => check_cid(&keys, cid),
            Shape::Initial { dcid, token: Token::Ticket(token) } => check_ticket(&keys, token, dcid, now).is_ok(),
            Shape::Initial { token: Token::Cookie(token), .. } => check_cookie(&keys, from, token, now).is_ok(),
            other => panic!("{other:?} in a flood that has read the specification"),
        };
        assert!(!passed);
    }
}
