//! What a datagram costs at the gate, in user space: `cargo bench -p postern-doors --bench gate`.
//!
//! Hot: 256 datagrams that stay in the cache. Cold: 65,536 of 1,200 octets each, 80 MB. The kernel's part (0.6 to 1.6 µs a
//! packet) comes on top. Prints nanoseconds; never fails on a slow day.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use postern_doors::gate::{Gate, GateOptions, Load, Now};
use postern_proto::door::limits::{CHALLENGE_BYTES, HELLO_BYTES_MIN, TICKET_LIFE_S};
use postern_proto::door::{Keyring, Kind, Master, PeerClass, TicketBody, hello, mint, token_of};

const NOW_S: u32 = 1_800_000_000;
const ROUNDS: usize = 9;

fn initial(dcid: &[u8; 16], token: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0xc0, 0, 0, 0, 1, 16];
    datagram.extend(dcid);
    datagram.push(0);
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
    datagram.resize(1_200, 5);
    datagram
}

fn source(n: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + n as u32)), 4_000)
}

/// Best of some rounds: what others do on the machine only adds.
fn measure(gate: &mut Gate, datagrams: &[Vec<u8>], ms: &mut u64) -> f64 {
    let mut best = f64::MAX;
    let mut answer = [0; CHALLENGE_BYTES];
    let times = (1_000_000 / datagrams.len()).max(1);
    for _ in 0..ROUNDS {
        // A second later: budgets are full again.
        *ms += 1_000;
        gate.tick(Now { unix_s: NOW_S, ms: *ms }, Load { cpu: 0.0 });
        let began = Instant::now();
        for _ in 0..times {
            for (n, datagram) in datagrams.iter().enumerate() {
                let now = Now { unix_s: NOW_S, ms: *ms };
                black_box(gate.handle(black_box(datagram), source(n), now, &mut answer));
            }
        }
        best = best.min(began.elapsed().as_nanos() as f64 / (times * datagrams.len()) as f64);
    }
    best
}

fn main() {
    let options = GateOptions { answers_per_second: u32::MAX, ..GateOptions::default() };
    let mut gate = Gate::new(Keyring::new(&Master::new([9; 32]), u64::from(NOW_S)), options, [3; 16]);
    let mut ms = 0;
    let ticket = {
        let keys = gate.keys();
        let body = TicketBody {
            domain_tag: keys.domain_tag("friend.example"),
            prefix_tag: keys.prefix_tag(source(0).ip()),
            expiry_min: (u64::from(NOW_S) + TICKET_LIFE_S) as u32 / 60,
            class: PeerClass::Known,
            rate_log: 0,
            serial: 1,
        };
        mint(keys, Kind::Known, [7; 12], &body)
    };
    let own: Vec<[u8; 16]> = (0..1 << 16).map(|_| gate.new_cid()).collect();
    // Of this hour: a wrong hour costs no hash.
    let id = |n: usize| {
        let mut id = [0x5a; 16];
        id[..8].copy_from_slice(&(n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        id[0] = own[0][0];
        id
    };
    let mut greeting = vec![0; HELLO_BYTES_MIN];
    hello([1; 8], &mut greeting);
    type Make<'a> = Box<dyn Fn(usize) -> Vec<u8> + 'a>;
    let kinds: [(&str, &str, Make<'_>); 8] = [
        ("garbage", "20", Box::new(|n| vec![n as u8 & 0x3f | 0x20; 1_200])),
        ("short header, bad id", "25", Box::new(|n| short(&id(n)))),
        ("short header, id of ours", "-", Box::new(|n| short(&own[n % own.len()]))),
        ("Initial without a token", "25", Box::new(|n| initial(&id(n), &[]))),
        (
            "Initial, forged ticket",
            "80",
            Box::new(|n| {
                let mut token = token_of(&ticket.bytes, &ticket.key, &id(n), NOW_S);
                token[65] ^= 1;
                initial(&id(n), &token)
            }),
        ),
        (
            "Initial, stolen ticket",
            "80",
            Box::new(|n| initial(&id(n), &token_of(&ticket.bytes, &ticket.key, &id(n + 1), NOW_S))),
        ),
        (
            "Initial, forged cookie",
            "80",
            Box::new(|n| {
                let mut token = [9; 38];
                token[0] = 1;
                token[1] = (u64::from(NOW_S) / 900) as u8;
                initial(&id(n), &token)
            }),
        ),
        ("HELLO to CHALLENGE", "250", Box::new(|_| greeting.clone())),
    ];
    println!("gate: {} KiB of tables", gate.bytes() >> 10);
    println!("{:<28}{:>8}{:>8}{:>8}", "ns a datagram", "hot", "cold", "goal");
    for (name, goal, make) in &kinds {
        let hot: Vec<Vec<u8>> = (0..256).map(make).collect();
        let cold: Vec<Vec<u8>> = (0..1 << 16).map(make).collect();
        let (hot, cold) = (measure(&mut gate, &hot, &mut ms), measure(&mut gate, &cold, &mut ms));
        println!("{name:<28}{hot:>8.1}{cold:>8.1}{goal:>8}");
    }
}
