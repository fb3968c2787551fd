//! The gate under hostile and honest packets, with a clock of the test's own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use postern_proto::door::limits::{CHALLENGE_BYTES, HELLO_BYTES_MIN, TICKET_LIFE_S};
use postern_proto::door::{
    Challenge, Keyring, Kind, Master, PeerClass, Share, Ticket, TicketBody, hello, make_cid, mint, token_of,
};

mod crowds;
mod hoards;

use super::{DropReason, Gate, GateOptions, Level, Load, Now, Verdict};
use crate::gate::AdmittedBy;

const START_S: u32 = 1_800_000_000;

/// A gate, its clock, and what it answered last.
struct Site {
    gate: Gate,
    ms: u64,
    answer: [u8; CHALLENGE_BYTES],
    rng: u64,
}

impl Site {
    fn new(options: GateOptions) -> Self {
        let keys = Keyring::new(&Master::new([9; 32]), u64::from(START_S));
        let mut site = Self { gate: Gate::new(keys, options, [3; 16]), ms: 0, answer: [0; CHALLENGE_BYTES], rng: 88 };
        site.tick(0.0);
        site
    }

    fn now(&self) -> Now {
        Now { unix_s: START_S + (self.ms / 1_000) as u32, ms: self.ms }
    }

    fn tick(&mut self, cpu: f64) {
        self.gate.tick(self.now(), Load { cpu, ..Load::default() });
    }

    /// Lets time pass, a tick each second.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.ms += 1_000;
            self.tick(0.0);
        }
    }

    fn show(&mut self, datagram: &[u8], source: SocketAddr) -> Verdict {
        let now = self.now();
        self.gate.handle(datagram, source, now, &mut self.answer)
    }

    fn random(&mut self) -> u64 {
        self.rng = self.rng.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        self.rng ^ (self.rng >> 29)
    }

    fn dcid(&mut self) -> [u8; 16] {
        let (a, b) = (self.random(), self.random());
        let mut id = [0; 16];
        id[..8].copy_from_slice(&a.to_be_bytes());
        id[8..].copy_from_slice(&b.to_be_bytes());
        id
    }

    /// HELLO and its answer.
    fn hello(&mut self, source: SocketAddr) -> Option<Challenge> {
        let nonce = self.random().to_be_bytes();
        let mut datagram = [0; HELLO_BYTES_MIN];
        hello(nonce, &mut datagram);
        match self.show(&datagram, source) {
            Verdict::Answer => Challenge::parse(&self.answer, nonce),
            _ => None,
        }
    }

    /// A ticket of a friend for this address.
    fn ticket(&mut self, home: SocketAddr) -> Ticket {
        let expiry_min = (u64::from(START_S) + TICKET_LIFE_S) as u32 / 60;
        self.ticket_of("friend.example", Kind::Known, home, expiry_min)
    }

    fn ticket_of(&mut self, domain: &str, kind: Kind, home: SocketAddr, expiry_min: u32) -> Ticket {
        let keys = self.gate.keys();
        let body = TicketBody {
            domain_tag: keys.domain_tag(domain),
            prefix_tag: keys.prefix_tag(home.ip()),
            expiry_min,
            class: if kind == Kind::Known { PeerClass::Known } else { PeerClass::Proven },
            share: Share::new(keys, 1, "example", domain),
        };
        let nonce = self.dcid();
        mint(self.gate.keys(), kind, *nonce.first_chunk().expect("12 of 16"), &body)
    }

    fn ticket_initial(&mut self, ticket: &Ticket) -> ([u8; 16], Vec<u8>) {
        let dcid = self.dcid();
        let token = token_of(&ticket.bytes, &ticket.key, &dcid, self.now().unix_s);
        (dcid, initial(&dcid, &token))
    }

    /// A whole attempt of a stranger: HELLO, then Initial at once. When it is told to come later: how long it waits.
    fn stranger(&mut self, source: SocketAddr) -> Result<(), u32> {
        let challenge = self.hello(source).ok_or(u32::MAX)?;
        if challenge.wait_s() > 0 {
            return Err(challenge.wait_s());
        }
        self.come(source, &challenge)
    }

    fn come(&mut self, source: SocketAddr, challenge: &Challenge) -> Result<(), u32> {
        let dcid = self.dcid();
        let datagram = initial(&dcid, &challenge.token());
        let nonce = *challenge.token()[2..].first_chunk().expect("a nonce");
        match self.show(&datagram, source) {
            Verdict::Pass => Ok(()),
            Verdict::Answer => Err(Challenge::parse(&self.answer, nonce).map_or(u32::MAX, |later| later.wait_s())),
            // No place to remember it: it asks anew.
            Verdict::Drop(DropReason::Full) => Err(1),
            Verdict::Drop(why) => panic!("a cookie of ours is not dropped: {why:?}"),
        }
    }
}

fn initial(dcid: &[u8; 16], token: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0xc0, 0, 0, 0, 1, 16];
    datagram.extend(dcid);
    datagram.extend([4, 1, 2, 3, 4]);
    match token.len() {
        66 => datagram.extend([0x40, 0x42]),
        n => datagram.push(n as u8),
    }
    datagram.extend(token);
    datagram.resize(1_200, 0);
    datagram
}

fn short(cid: &[u8; 16]) -> Vec<u8> {
    let mut datagram = vec![0x40];
    datagram.extend(cid);
    datagram.resize(60, 5);
    datagram
}

fn v4(n: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(n)), 4_000)
}

fn home() -> SocketAddr {
    "192.0.2.7:4000".parse().expect("an address")
}

#[test]
fn the_gate_is_of_fixed_size_and_keeps_nothing_of_who_has_proven_nothing() {
    let mut site = Site::new(GateOptions::default());
    let before = site.gate.bytes();
    println!("{} KiB", before >> 10);
    assert!(before <= 8 << 20, "{before}");
    let (mut hello_datagram, dcid) = ([0; HELLO_BYTES_MIN], [7; 16]);
    hello([1; 8], &mut hello_datagram);
    let forged =
        [initial(&dcid, &[0x81; 66]), initial(&dcid, &[1; 38]), initial(&dcid, &[]), short(&dcid), vec![0; 900]];
    let quiet = site.gate.stats();
    for n in 0..200_000_u32 {
        let source = v4(0x0b00_0000 + n * 256);
        for datagram in &forged {
            assert!(matches!(site.show(datagram, source), Verdict::Drop(_)));
        }
        let _answered = site.show(&hello_datagram, source);
    }
    site.pass(3);
    let after = site.gate.stats();
    assert_eq!(site.gate.bytes(), before);
    assert_eq!((after.passed, after.prefixes, after.waiting, after.level), (0, 0, 0, quiet.level));
    assert_eq!(after.bad_ticket + after.bad_cookie + after.no_token + after.bad_id + after.garbage, 1_000_000);
    let answered = after.answered * CHALLENGE_BYTES as u64;
    assert!(answered * 10 <= after.received_bytes, "{answered} of {}", after.received_bytes);
    assert_eq!(after.answered, 20_000, "beyond what may be answered in a second: silence");
}

#[test]
fn a_stranger_proves_an_address_and_one_cookie_admits_one_connection_of_eight_datagrams() {
    let mut site = Site::new(GateOptions::default());
    let challenge = site.hello(home()).expect("answered");
    let dcid = [5; 16];
    let datagram = initial(&dcid, &challenge.token());
    assert_eq!(site.show(&datagram, v4(77)), Verdict::Drop(DropReason::BadCookie), "from another address");
    for _ in 0..8 {
        assert_eq!(site.show(&datagram, home()), Verdict::Pass);
    }
    assert_eq!(site.show(&datagram, home()), Verdict::Drop(DropReason::Used));
    let other = initial(&[6; 16], &challenge.token());
    assert_eq!(site.show(&other, home()), Verdict::Drop(DropReason::Used));
    assert_eq!(site.gate.admission(&dcid).map(|admission| admission.by), Some(AdmittedBy::Cookie));
    assert_eq!(site.gate.admission(&[6; 16]), None);
    site.pass(130);
    let late = initial(&[8; 16], &challenge.token());
    assert_eq!(site.show(&late, home()), Verdict::Drop(DropReason::BadCookie));
}

#[test]
fn a_million_replays_of_a_ticket_create_nothing_and_its_owner_is_served_at_level_two() {
    let mut site = Site::new(GateOptions::default());
    let ticket = site.ticket(home());
    let (dcid, datagram) = site.ticket_initial(&ticket);
    assert_eq!(site.show(&datagram, home()), Verdict::Pass);
    // Same connection id from the same address: a few repetitions, as QUIC sends them, then no more.
    let again = (0..20).filter(|_| site.show(&datagram, home()) == Verdict::Pass).count();
    assert_eq!(again, 7);
    let admitted = site.gate.stats().admitted_ticket;
    for n in 0..500_000_u32 {
        // The same datagram from elsewhere; and the same token for another connection id, without the key.
        assert_ne!(site.show(&datagram, v4(n)), Verdict::Pass);
        let mut stolen = datagram.clone();
        stolen[6..22].copy_from_slice(&site.dcid());
        assert_eq!(site.show(&stolen, v4(n)), Verdict::Drop(DropReason::BadTicket));
    }
    assert_eq!(site.gate.stats().admitted_ticket, admitted);
    // Level 2, and more strangers than can be served.
    crowd_out(&mut site);
    assert!(site.gate.level() >= Level::Appointments);
    // The owner, who does not know that the ticket was burnt, shows it again for a new connection, and is asked for a
    // cookie; with that he passes all who wait.
    let moved: SocketAddr = "192.0.2.99:4000".parse().expect("an address");
    let (_, retry) = site.ticket_initial(&ticket);
    assert_eq!(site.show(&retry, moved), Verdict::Answer);
    let challenge = site.hello(moved).expect("answered");
    let passed = site.gate.stats().admitted_both;
    let now =
        Challenge::parse(&site.answer, *challenge.token()[2..].first_chunk().expect("a nonce")).expect("a challenge");
    assert_eq!(site.come(moved, &now), Ok(()), "a round trip, and no appointment");
    assert_eq!(site.gate.stats().admitted_both, passed + 1);
    assert!(site.gate.admission(&dcid).is_some());
}

/// Strangers of 5,000 networks until the level is up and many wait.
fn crowd_out(site: &mut Site) {
    for second in 0..6 {
        for n in 0..1_000_u32 {
            let source = v4(0x0b00_0000 + (second * 1_000 + n) % 5_000 * 256);
            let _later = site.stranger(source);
        }
        site.ms += 1_000;
        site.tick(0.0);
    }
}

#[test]
fn a_ticket_of_another_network_needs_a_cookie_too() {
    let mut site = Site::new(GateOptions::default());
    let ticket = site.ticket(home());
    let away: SocketAddr = "198.51.100.1:4000".parse().expect("an address");
    let (_, datagram) = site.ticket_initial(&ticket);
    assert_eq!(site.show(&datagram, away), Verdict::Answer);
    crowd_out(&mut site);
    let mut nonce = [0; 8];
    nonce.copy_from_slice(&datagram[6..14]);
    site.show(&datagram, away);
    let challenge = Challenge::parse(&site.answer, nonce).expect("answered with the beginning of the connection id");
    assert_eq!(challenge.wait_s(), 0);
    let dcid = [4; 16];
    assert_eq!(site.show(&initial(&dcid, &challenge.token()), away), Verdict::Pass);
    assert!(matches!(site.gate.admission(&dcid).map(|one| one.by), Some(AdmittedBy::Ticket { kind: Kind::Known, .. })));
}

#[test]
fn spoofed_hellos_change_no_turn_of_anybody() {
    let mut site = Site::new(GateOptions::default());
    crowd_out(&mut site);
    assert_eq!(site.gate.level(), Level::Appointments);
    let before = site.gate.stats();
    assert!(before.fair_wait_ms > 1_000, "{before:?}");
    let served: Vec<u32> =
        (0..200).map(|n| site.hello(v4(0x0b00_0000 + n * 256)).expect("answered").wait_s()).collect();
    assert!(served.iter().any(|&wait_s| wait_s > 0), "some were served and wait for their next turn");
    for n in 0..10_000_u32 {
        let _answer = site.hello(v4(0xc000_0000 + n * 256));
    }
    // In the same second, so that time does not move the turns.
    site.tick(0.0);
    let again: Vec<u32> = (0..200).map(|n| site.hello(v4(0x0b00_0000 + n * 256)).expect("answered").wait_s()).collect();
    assert_eq!(again, served);
    let after = site.gate.stats();
    assert_eq!(
        (after.fair_wait_ms, after.prefixes, after.waiting, after.level),
        (before.fair_wait_ms, before.prefixes, before.waiting, before.level)
    );
}

#[test]
fn a_flood_of_hellos_silences_no_holder_of_a_cookie_and_a_flood_of_cookies_no_holder_of_a_ticket() {
    let mut site = Site::new(GateOptions::default());
    let tickets: Vec<_> = (0..2).map(|_| site.ticket(home())).collect();
    let crowd: Vec<_> = (0..100).map(|n| (v4(0x0b00_0000 + n * 256), site.hello(v4(0x0b00_0000 + n * 256)))).collect();
    let hellos = (0..30_000).filter(|n| site.hello(v4(0xc000_0000 + n * 256)).is_some()).count();
    assert_eq!(hellos, 19_900);
    // More than the half second's worth that may come in at once: the others are told when to come.
    let mut put_off = Vec::new();
    for (source, challenge) in crowd {
        let challenge = challenge.expect("answered");
        let datagram = initial(&site.dcid(), &challenge.token());
        match site.show(&datagram, source) {
            Verdict::Pass => {}
            Verdict::Answer => put_off.push((source, datagram)),
            Verdict::Drop(why) => panic!("{why:?}"),
        }
    }
    assert_eq!(put_off.len(), 75);
    let (_, far) = site.ticket_initial(&tickets[0]);
    assert_eq!(site.show(&far, v4(77)), Verdict::Answer);
    let mut silence = 0;
    for _ in 0..300 {
        silence += put_off
            .iter()
            .filter(|(source, again)| site.show(again, *source) == Verdict::Drop(DropReason::Unanswered))
            .count();
    }
    assert_eq!(
        silence,
        75 + 22_500 - 20_000,
        "an early cookie can be shown any number of times, and is not answered so"
    );
    let (_, far) = site.ticket_initial(&tickets[1]);
    assert_eq!(site.show(&far, v4(78)), Verdict::Answer);
}

#[test]
fn a_captured_connection_id_is_of_no_use_from_anywhere_else() {
    let mut site = Site::new(GateOptions::default());
    let id = site.gate.new_cid();
    assert_eq!(site.show(&short(&id), home()), Verdict::Pass);
    for n in 0..10_000_u32 {
        assert_eq!(site.show(&short(&id), v4(n)), Verdict::Drop(DropReason::IdElsewhere));
    }
    assert_eq!(site.show(&short(&id), SocketAddr::new(home().ip(), 1)), Verdict::Drop(DropReason::IdElsewhere));
    assert_eq!(site.show(&short(&id), home()), Verdict::Pass, "its owner goes on");
    let neighbour = make_cid(site.gate.keys(), 1, [1; 6]);
    assert_eq!(site.show(&short(&neighbour), home()), Verdict::Drop(DropReason::BadId), "of another worker");
    let mut forged = id;
    forged[15] ^= 1;
    assert_eq!(site.show(&short(&forged), home()), Verdict::Drop(DropReason::BadId));
}

#[test]
fn under_an_id_of_ours_an_initial_passes_a_few_times_while_the_handshake_may_last_and_then_no_more() {
    let mut site = Site::new(GateOptions::default());
    site.pass(100);
    let (id, later) = (site.gate.new_cid(), site.gate.new_cid());
    let shake = |id| initial(id, &[]);
    assert_eq!(site.show(&shake(&id), home()), Verdict::Pass);
    assert_eq!(site.show(&shake(&id), v4(9)), Verdict::Drop(DropReason::IdElsewhere));
    let passed = (0..100).filter(|_| site.show(&shake(&id), home()) == Verdict::Pass).count();
    assert_eq!(passed, 7, "eight in all");
    assert_eq!(site.show(&shake(&id), home()), Verdict::Drop(DropReason::OldId));
    assert_eq!(site.show(&short(&id), home()), Verdict::Pass, "its connection goes on");
    site.pass(10);
    assert_eq!(site.show(&shake(&later), home()), Verdict::Pass, "the longest handshake");
    site.pass(1);
    assert_eq!(site.show(&shake(&later), home()), Verdict::Drop(DropReason::OldId));
    assert_eq!(site.show(&short(&later), home()), Verdict::Pass);
}

#[test]
fn who_makes_many_ids_brings_no_more_initials_than_all_handshakes_of_a_second_have() {
    let mut site = Site::new(GateOptions::default());
    let mut passed = 0;
    for n in 0..10_000 {
        let id = site.gate.new_cid();
        passed += u32::from(site.show(&initial(&id, &[]), v4(n)) == Verdict::Pass);
    }
    assert_eq!(passed, 2_000);
    site.pass(1);
    let id = site.gate.new_cid();
    assert_eq!(site.show(&initial(&id, &[]), home()), Verdict::Pass);
}

#[test]
fn what_was_let_in_counts_as_load_before_quic_has_done_it() {
    let options = GateOptions { strangers_per_second: 10_000, ..GateOptions::default() };
    let mut site = Site::new(options);
    for second in 0..2 {
        assert_eq!(site.gate.level(), Level::Cookie);
        for n in 0..3_000 {
            assert_eq!(site.stranger(v4(second << 24 | n << 8)), Ok(()));
        }
        site.pass(1);
    }
    assert_eq!(site.gate.level(), Level::Appointments, "3,000 handshakes of 0.3 ms are nine tenths of a second");
}

#[test]
fn an_id_brings_no_more_packets_in_a_second_than_one_may() {
    let mut site = Site::new(GateOptions::default());
    let id = site.gate.new_cid();
    let passed = (0..30_000).filter(|_| site.show(&short(&id), home()) == Verdict::Pass).count();
    // One in a thousand finds no place to be remembered in.
    assert!((19_900..=20_000).contains(&passed), "{passed}");
    site.pass(1);
    assert_eq!(site.show(&short(&id), home()), Verdict::Pass);
}

#[test]
fn the_aggregate_budget_holds_however_many_networks_come() {
    let mut site = Site::new(GateOptions::default());
    let mut admitted = 0;
    for n in 0..20_000_u32 {
        admitted += u32::from(site.stranger(v4(n * 256)).is_ok());
        if n % 1_000 == 999 {
            site.ms += 1_000;
            site.tick(0.0);
        }
    }
    assert!((100..=1_025).contains(&admitted), "{admitted} in 20 s at 50 a second");
}

#[test]
fn all_keys_roll_and_nothing_is_refused_that_should_pass() {
    let mut site = Site::new(GateOptions::default());
    let ticket = site.ticket(home());
    let id = site.gate.new_cid();
    for hours in 1..=3 {
        site.ms += 3_600_000;
        site.tick(0.0);
        assert_eq!(site.show(&short(&id), home()), Verdict::Pass, "an id of {hours} hours ago");
    }
    let challenge = site.hello(home()).expect("answered");
    site.pass(100);
    assert_eq!(site.come(home(), &challenge), Ok(()));
    site.ms += 29 * 86_400_000;
    site.tick(0.0);
    let (_, datagram) = site.ticket_initial(&ticket);
    assert_eq!(site.show(&datagram, home()), Verdict::Pass, "a ticket of 29 days ago");
    assert_eq!(site.show(&short(&id), home()), Verdict::Drop(DropReason::BadId), "an id of a month ago");
    // Another gate with the same master and clock: a restart.
    let keys = Keyring::new(&Master::new([9; 32]), u64::from(site.now().unix_s));
    site.gate = Gate::new(keys, GateOptions::default(), [4; 16]);
    site.tick(0.0);
    let fresh = site.ticket(home());
    let (_, datagram) = site.ticket_initial(&fresh);
    assert_eq!(site.show(&datagram, home()), Verdict::Pass);
}

#[test]
fn without_a_floor_a_tokenless_initial_is_taken_within_the_budget_and_with_one_it_is_not() {
    let mut site = Site::new(GateOptions { floor: Level::Open, ..GateOptions::default() });
    let passed = (0..1_000_u32)
        .filter(|n| {
            site.show(
                &initial(
                    &{
                        let mut dcid = [0; 16];
                        dcid[..4].copy_from_slice(&n.to_be_bytes());
                        dcid
                    },
                    &[],
                ),
                v4(n * 256),
            ) == Verdict::Pass
        })
        .count();
    assert_eq!(passed, 25, "a burst of half a second");
    let mut site = Site::new(GateOptions::default());
    assert_eq!(site.show(&initial(&[1; 16], &[]), home()), Verdict::Drop(DropReason::NoToken));
    let foreign = make_cid(&Keyring::new(&Master::new([1; 32]), u64::from(START_S)), 0, [1; 6]);
    assert_eq!(site.show(&initial(&foreign, &[]), home()), Verdict::Drop(DropReason::NoToken));
}

/// Long: a release build takes about a minute for 10^8 (`POSTERN_GATE_PACKETS=100000000`).
#[test]
fn memory_does_not_grow_with_hostile_packets_from_ten_million_sources() {
    let packets: u64 = std::env::var("POSTERN_GATE_PACKETS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let mut site = Site::new(GateOptions::default());
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<i64>().ok()).expect("a number") * 4
    };
    let (mut hello_datagram, dcid) = ([0; HELLO_BYTES_MIN], [7; 16]);
    hello([1; 8], &mut hello_datagram);
    // Right in all but one bit, so that no check is spared.
    let forged = |good: &[u8]| {
        let mut bad = good.to_vec();
        *bad.last_mut().expect("some octets") ^= 1;
        bad
    };
    let ticket = site.ticket(home());
    let ticket = token_of(&ticket.bytes, &ticket.key, &dcid, START_S);
    let cookie = site.hello(home()).expect("answered").token();
    let mut id = site.gate.new_cid();
    id[15] ^= 1;
    let kinds = [
        initial(&dcid, &forged(&ticket)),
        initial(&dcid, &forged(&cookie)),
        initial(&dcid, &[]),
        short(&id),
        hello_datagram.to_vec(),
    ];
    let mut before = 0;
    for n in 0..packets {
        if n == packets / 100 {
            before = resident();
        }
        let source = v4((n % 10_000_000) as u32 * 113 + 0x0100_0000);
        let _verdict = site.show(&kinds[(n % 5) as usize], source);
        // The wall stands still, so that the forgeries stay fresh.
        if n % 500_000 == 0 {
            let now = Now { unix_s: START_S, ms: n / 500 };
            site.gate.tick(now, Load { cpu: 0.1, ..Load::default() });
        }
    }
    let grown = resident() - before;
    println!("{packets} packets: {grown} KiB more resident");
    // Other tests of this process run beside it; alone it is 0.
    assert!(packets < 10_000_000 || grown <= 1_024, "{grown} KiB");
    assert_eq!(site.gate.stats().passed, 0);
}
