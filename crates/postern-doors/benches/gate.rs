//! What a datagram costs at the gate, by kind, with everything in the processor's caches and with nothing. No socket: the
//! kernel's part is another µs, and is measured with floods (`postern flood --door`). Prints a table.
//!
//! `cargo bench -p postern-doors --bench gate`

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use postern_doors::gate::{DropReason, Gate, GateOptions, Now, Verdict};
use postern_proto::door::limits::{CHALLENGE_BYTES, HELLO_BYTES_MIN, TICKET_LIFE_S};
use postern_proto::door::{Challenge, Keyring, Kind, Master, PeerClass, Share, TicketBody, hello, mint, token_of};

const NOW: Now = Now { unix_s: 1_800_000_000, ms: 0 };
/// Different datagrams of a kind.
const PACKETS: usize = 2_048;
/// Of other things, read and written before each cold datagram: more than the second cache, and the better part of the last.
const EVICT: usize = 32 << 20;

fn main() {
    // `cargo test` runs it too, to see that it works.
    let quick = !std::env::args().any(|arg| arg == "--bench");
    let (rounds, colds) = if quick { (1, 10) } else { (200, 300) };
    let mut site = Site::new();
    println!("{:<32} {:>8} {:>8} {:>8}   ns a datagram", "", "hot", "cold", "goal");
    for (name, packets, expected, shown_before) in site.kinds() {
        // What is shown a few times only is measured over fewer rounds.
        let rounds = if matches!(shown_before, Times::Few) { rounds.min(4) } else { rounds };
        if !matches!(shown_before, Times::Never) {
            packets.iter().for_each(|packet| assert_eq!(site.show(packet), expected, "{name}"));
        }
        let colds = colds.min(packets.len());
        let hot = if matches!(shown_before, Times::Never) {
            site.hot(&packets[colds..], 1, expected)
        } else {
            site.hot(&packets, rounds, expected)
        };
        let cold = site.cold(&packets[..colds], expected);
        println!("{name:<32} {hot:>8.0} {cold:>8.0} {:>8}", goal(name));
    }
    println!("{} KiB of tables", site.gate.bytes() >> 10);
}

/// Hot, of the design; a slow day of the machine does not fail.
fn goal(name: &str) -> &'static str {
    match name {
        "garbage" => "20",
        "no token" | "bad id" => "25",
        "bad ticket" | "stolen ticket" | "bad cookie" => "80",
        "HELLO and its CHALLENGE" => "250",
        _ => "",
    }
}

#[derive(Clone, Copy)]
enum Times {
    Never,
    Few,
    Often,
}

type Packet = (Vec<u8>, SocketAddr);

struct Site {
    gate: Gate,
    evict: Vec<u64>,
    rng: u64,
}

impl Site {
    fn new() -> Self {
        let keys = Keyring::new(&Master::new([9; 32]), u64::from(NOW.unix_s));
        let options =
            GateOptions { answers_per_second: u32::MAX, strangers_per_second: 1_000_000, ..GateOptions::default() };
        Self { gate: Gate::new(keys, options, [3; 16]), evict: vec![1; EVICT / 8], rng: 0x9e37_79b9_7f4a_7c15 }
    }

    fn random<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| {
            self.rng = self.rng.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (self.rng >> 56) as u8
        })
    }

    fn source(&mut self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::from(self.random::<4>())), 4_000)
    }

    fn show(&mut self, (datagram, source): &Packet) -> Verdict {
        let mut answer = [0; CHALLENGE_BYTES];
        self.gate.handle(datagram, *source, NOW, &mut answer)
    }

    /// The best of some rounds: what others do on the machine only adds.
    fn hot(&mut self, packets: &[Packet], rounds: usize, expected: Verdict) -> f64 {
        let mut answer = [0; CHALLENGE_BYTES];
        let mut wrong = 0;
        let mut best = u128::MAX;
        for _ in 0..rounds {
            let began = Instant::now();
            for (datagram, source) in packets {
                let verdict = black_box(self.gate.handle(black_box(datagram), *source, NOW, &mut answer));
                wrong += usize::from(verdict != expected);
            }
            best = best.min(began.elapsed().as_nanos());
        }
        assert_eq!(wrong, 0, "{expected:?} was expected");
        best as f64 / packets.len() as f64
    }

    /// The median of single datagrams, each after all caches were filled with something else; less what the clock costs.
    fn cold(&mut self, packets: &[Packet], expected: Verdict) -> f64 {
        let mut nothing: Vec<u128> = (0..1_000).map(|_| Instant::now().elapsed().as_nanos()).collect();
        nothing.sort_unstable();
        let mut spent: Vec<u128> = Vec::with_capacity(packets.len());
        for (datagram, source) in packets {
            let sum: u64 = self.evict.iter_mut().step_by(8).fold(0, |sum, word| {
                *word = word.wrapping_add(1);
                sum.wrapping_add(*word)
            });
            black_box(sum);
            let mut answer = [0; CHALLENGE_BYTES];
            let began = Instant::now();
            let verdict = black_box(self.gate.handle(black_box(datagram), *source, NOW, &mut answer));
            spent.push(began.elapsed().as_nanos());
            assert_eq!(verdict, expected);
        }
        spent.sort_unstable();
        spent[spent.len() / 2].saturating_sub(nothing[nothing.len() / 2]) as f64
    }

    fn kinds(&mut self) -> Vec<(&'static str, Vec<Packet>, Verdict, Times)> {
        let mut kinds = Vec::new();
        for (name, reason, times) in [
            ("garbage", DropReason::Garbage, Times::Often),
            ("no token", DropReason::NoToken, Times::Often),
            ("bad id", DropReason::BadId, Times::Often),
            ("bad ticket", DropReason::BadTicket, Times::Often),
            ("bad cookie", DropReason::BadCookie, Times::Often),
        ] {
            let packets = (0..PACKETS).map(|_| self.bad(reason)).collect();
            kinds.push((name, packets, Verdict::Drop(reason), times));
        }
        // Good, but for the connection id that it is shown for.
        let steal = |(mut datagram, source): Packet| {
            datagram[6] ^= 1;
            (datagram, source)
        };
        let packets = (0..PACKETS).map(|_| steal(self.good_ticket())).collect();
        kinds.push(("stolen ticket", packets, Verdict::Drop(DropReason::BadTicket), Times::Often));
        let packets = (0..PACKETS).map(|_| self.good_id()).collect();
        kinds.push(("id", packets, Verdict::Pass, Times::Often));
        let packets = (0..PACKETS).map(|_| self.good_ticket()).collect();
        kinds.push(("ticket, seen", packets, Verdict::Pass, Times::Few));
        let packets = (0..PACKETS).map(|_| self.good_ticket()).collect();
        kinds.push(("ticket, for the first time", packets, Verdict::Pass, Times::Never));
        let packets = (0..PACKETS).map(|_| self.good_cookie()).collect();
        kinds.push(("cookie, seen", packets, Verdict::Pass, Times::Few));
        let packets = (0..PACKETS).map(|_| self.hello()).collect();
        kinds.push(("HELLO and its CHALLENGE", packets, Verdict::Answer, Times::Often));
        kinds
    }

    fn bad(&mut self, reason: DropReason) -> Packet {
        let (id, source) = (self.random(), self.source());
        let datagram = match reason {
            DropReason::BadId => {
                // Of this hour's key: else it falls before the hash.
                let mut id = self.gate.new_cid();
                id[15] ^= 1;
                short(&id)
            }
            DropReason::NoToken => initial(&id, &[0]),
            DropReason::BadTicket => {
                // Of today's key: else it falls before the hash.
                let key_id = self.key_id();
                initial(
                    &id,
                    &[vec![0x40, 0x42, 0x81, key_id], self.random::<52>().to_vec(), time_and(&[1; 8])].concat(),
                )
            }
            DropReason::BadCookie => {
                let (datagram, source) = self.good_cookie();
                let mut datagram = datagram;
                datagram[45] ^= 1;
                return (datagram, source);
            }
            _ => [vec![0x3f], self.random::<1_199>().to_vec()].concat(),
        };
        (datagram, source)
    }

    fn key_id(&mut self) -> u8 {
        self.good_ticket().0[26]
    }

    fn good_id(&mut self) -> Packet {
        (short(&self.gate.new_cid()), self.source())
    }

    fn good_ticket(&mut self) -> Packet {
        let (dcid, nonce, source) = (self.random::<16>(), self.random::<12>(), self.source());
        // Each of a domain of its own: one has a share.
        let domain_tag = u64::from_be_bytes(self.random());
        let keys = self.gate.keys();
        let body = TicketBody {
            domain_tag,
            prefix_tag: keys.prefix_tag(source.ip()),
            expiry_min: (u64::from(NOW.unix_s) + TICKET_LIFE_S) as u32 / 60,
            class: PeerClass::Known,
            share: Share::default(),
        };
        let ticket = mint(keys, Kind::Known, nonce, &body);
        let token = token_of(&ticket.bytes, &ticket.key, &dcid, NOW.unix_s);
        (initial(&dcid, &[vec![0x40, 0x42], token.to_vec()].concat()), source)
    }

    fn good_cookie(&mut self) -> Packet {
        let (datagram, source) = self.hello();
        let mut answer = [0; CHALLENGE_BYTES];
        assert_eq!(self.gate.handle(&datagram, source, NOW, &mut answer), Verdict::Answer);
        let nonce = *datagram[4..].first_chunk().expect("a nonce");
        let token = Challenge::parse(&answer, nonce).expect("a challenge").token();
        (initial(&self.random(), &[vec![0x26], token.to_vec()].concat()), source)
    }

    fn hello(&mut self) -> Packet {
        let mut datagram = vec![0; HELLO_BYTES_MIN];
        hello(self.random(), &mut datagram);
        (datagram, self.source())
    }
}

fn time_and(proof: &[u8; 8]) -> Vec<u8> {
    [&NOW.unix_s.to_be_bytes()[..], proof].concat()
}

fn initial(dcid: &[u8; 16], field: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0xc0, 0, 0, 0, 1, 16];
    datagram.extend(dcid);
    datagram.push(0);
    datagram.extend(field);
    datagram.resize(1_200, 0);
    datagram
}

fn short(cid: &[u8; 16]) -> Vec<u8> {
    let mut datagram = vec![0x40];
    datagram.extend(cid);
    datagram.resize(60, 5);
    datagram
}
