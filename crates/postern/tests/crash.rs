//! `kill -9` in the middle of the load, again and again on one data directory: every message that
//! was answered 250 is there afterwards, to the octet.
//!
//! Rounds: POSTERN_KILL_ROUNDS, or 50 under CI, else 10; never fewer than 10,000 messages in all.
//! The moments come from a seed, POSTERN_SEED or the clock; a failure prints it. (The page cache
//! survives `kill -9`: what a lost or torn write does is tried with the faulty disk, elsewhere.)

#[path = "cli/harness.rs"]
mod harness;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use harness::{PATIENCE, Server, Smtp, delivered, id_in};

/// SplitMix64 (Steele, Lea and Flood 2014): good enough to choose moments and bodies.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Message number `n`: most small, one in fifty large enough for a file of its own.
fn body(n: u64) -> Vec<u8> {
    let mut random = Random(n);
    let octets = if random.below(50) == 0 { 140_000 + random.below(80_000) } else { 200 + random.below(8_000) };
    let mut body = format!("X-Number: {n}\r\nSubject: crash\r\n\r\n").into_bytes();
    while (body.len() as u64) < octets {
        body.extend_from_slice(format!("{:016x}{:016x}\r\n", random.next(), random.next()).as_bytes());
    }
    body
}

/// The number in a stored or delivered message, and the message from its own first line on.
fn number(message: &[u8]) -> Option<(u64, &[u8])> {
    let at = message.windows(10).position(|window| window == b"X-Number: ")?;
    let digits = message[at + 10..].split(|byte| *byte == b'\r').next()?;
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, &message[at..]))
}

fn rounds() -> u64 {
    let given = std::env::var("POSTERN_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    given.unwrap_or(if std::env::var_os("CI").is_some() { 50 } else { 10 })
}

fn seed() -> u64 {
    let given = std::env::var("POSTERN_SEED").ok().and_then(|seed| seed.parse().ok());
    let clock =
        || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(7, |since| since.subsec_nanos().into());
    given.unwrap_or_else(clock)
}

/// What the clients of all rounds were told: the id and number of each message answered 250.
struct Promises {
    by_id: HashMap<String, u64>,
    sent: u64,
}

/// Rounds of load, each ended by `kill -9` once about `messages / rounds` were answered.
fn kill_again_and_again(dir: &Path, flags: impl Fn(u64) -> Vec<&'static str>, messages: u64, seed: u64) -> Promises {
    let rounds = rounds();
    let mut random = Random(seed);
    let mut promises = Promises { by_id: HashMap::new(), sent: 0 };
    let numbers = AtomicU64::new(1);
    for round in 0..rounds {
        let mut server = Server::start(dir, &flags(round));
        let left = messages.saturating_sub(promises.by_id.len() as u64);
        let mean = left / (rounds - round);
        // A random instant: somewhere in the round's load, and some microseconds beside a reply.
        let answers = if round + 1 == rounds { mean } else { mean / 2 + random.below(mean.max(1)) };
        let beside = Duration::from_micros(random.below(3_000));
        let stop = AtomicBool::new(false);
        let addr = server.addr("smtp");
        std::thread::scope(|scope| {
            let (told, answered) = channel();
            for _ in 0..CLIENTS {
                let (told, numbers, stop) = (told.clone(), &numbers, &stop);
                scope.spawn(move || client(addr, numbers, stop, &told));
            }
            drop(told);
            let mut heard = 0;
            while heard < answers {
                match answered.recv_timeout(PATIENCE) {
                    Ok((id, n)) => {
                        heard += 1;
                        keep(&mut promises, id, n, seed);
                    }
                    Err(error) => panic!("seed {seed}, round {round}: {heard} of {answers} answers, then {error}"),
                }
            }
            let until = Instant::now() + beside;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            server.kill();
            stop.store(true, Ordering::Relaxed);
            // Answers that were read before the connections broke are promises too.
            for (id, n) in answered {
                keep(&mut promises, id, n, seed);
            }
        });
    }
    promises.sent = numbers.load(Ordering::Relaxed);
    promises
}

fn keep(promises: &mut Promises, id: String, n: u64, seed: u64) {
    let before = promises.by_id.insert(id.clone(), n);
    assert_eq!(before, None, "seed {seed}: id {id} was given twice");
}

/// Sends until the server is gone.
fn client(addr: SocketAddr, numbers: &AtomicU64, stop: &AtomicBool, told: &Sender<(String, u64)>) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut smtp) = Smtp::connect(addr) else { return };
        for _ in 0..PER_CONNECTION {
            let n = numbers.fetch_add(1, Ordering::Relaxed);
            match smtp.send("ann@localhost", &body(n)) {
                Ok(reply) => match id_in(&reply) {
                    Some(id) => drop(told.send((id, n))),
                    None => assert!(reply.starts_with('4'), "{reply}"),
                },
                Err(_) => break,
            }
        }
    }
}

#[test]
fn kill_9_in_the_middle_of_the_load_loses_nothing_answered_250_and_corrupts_nothing() {
    let (seed, dir) = (seed(), tempfile::tempdir().expect("scratch"));
    let promises = kill_again_and_again(dir.path(), |_| vec!["--deliver", "none"], MESSAGES, seed);
    let server = Server::start(dir.path(), &["--deliver", "none"]);
    let mut control = server.control();
    for (id, n) in &promises.by_id {
        let stored = control.body(id);
        assert!(stored.is_some(), "seed {seed}: message {n} was answered 250 as {id} and is lost");
        assert!(stored.as_deref() == Some(&body(*n)), "seed {seed}: message {n}, {id}, is not what was sent");
    }
    let answered = promises.by_id.len();
    assert!(answered as u64 >= MESSAGES, "seed {seed}: only {answered} answers");
    let status = server.status();
    // Those made durable whose answer was lost with the server may be there as well.
    assert!(status["spool"]["items"].as_u64().is_some_and(|items| items >= answered as u64), "{status}");
    assert_eq!(status["spool"]["damaged"], 0, "seed {seed}: {status}");
    println!("seed {seed}: {} rounds, {answered} of {} messages answered 250, all there", rounds(), promises.sent);
}

#[test]
fn kill_9_while_mail_is_delivered_leaves_every_answered_message_in_the_maildir() {
    let (seed, dir) = (seed(), tempfile::tempdir().expect("scratch"));
    // Both answers are tried: at the outcome and at the receipt.
    let flags = |round: u64| vec!["--mode", if round.is_multiple_of(2) { "through" } else { "collect" }];
    let promises = kill_again_and_again(dir.path(), flags, MESSAGES_DELIVERED, seed);
    let server = Server::start(dir.path(), &["--mode", "collect"]);
    // What was leased when the server died is leasable again at once: leases are not kept on disk.
    server.wait_until_drained();
    let mail = delivered(&dir.path().join("postern-data/mail"));
    let mut there = HashSet::new();
    for message in &mail {
        let (n, own) = number(message).unwrap_or_else(|| panic!("seed {seed}: a file that nobody sent"));
        assert!(own == body(n), "seed {seed}: message {n} is not what was sent");
        there.insert(n);
    }
    for (id, n) in &promises.by_id {
        assert!(there.contains(n), "seed {seed}: message {n} was answered 250 as {id} and is lost");
    }
    // SMTP's own ambiguity: delivered, and killed before that was noted. At most what was under way.
    let twice = mail.len() - there.len();
    assert!(twice as u64 <= rounds() * IN_FLIGHT_MAX, "seed {seed}: {twice} messages were delivered twice");
    let answered = promises.by_id.len();
    println!(
        "seed {seed}: {} rounds, {answered} of {} messages answered 250, all there, {twice} twice",
        rounds(),
        promises.sent
    );
}

/// Answered 250, at least, over all rounds.
const MESSAGES: u64 = 10_000;
/// The same where each costs a file with two syncs.
const MESSAGES_DELIVERED: u64 = 3_000;
/// At once.
const CLIENTS: usize = 8;
const PER_CONNECTION: usize = 20;
/// Deliveries that may be under way when the server dies.
const IN_FLIGHT_MAX: u64 = 256;
