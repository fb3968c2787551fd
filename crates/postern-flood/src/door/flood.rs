//! A bounded run of hostile datagrams: so many, so long, so fast, from so many networks.
//!
//! One thread, one socket, and no state of the far side: nothing that comes back is read. Ends by count, by time, or
//! when it is told to stop, whichever is first.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::kernel::Drops;
use super::packets::{Attack, Packets};
use super::send::{BATCH, Sender};
use crate::limits::{OFFER_MS_MAX, RATE_MAX, SOURCES_MAX};
use crate::plan::FloodError;
use crate::target;

/// What is sent, how fast and how long.
#[derive(Clone, Debug)]
pub struct DoorPlan {
    /// The door: loopback, or anything from inside a namespace of one's own ([`target::check`]).
    pub target: SocketAddr,
    /// The kinds, in turn.
    pub attacks: Vec<Attack>,
    /// Datagrams that were captured before, for the kinds that repeat them.
    pub captured: Vec<Vec<u8>>,
    /// Datagrams after which it ends; `None`: when the time is over.
    pub packets_max: Option<u64>,
    /// When it ends, in milliseconds; an hour at most.
    pub duration_ms: u64,
    /// Datagrams a second; `None`: as fast as this core can.
    pub rate: Option<u32>,
    /// Networks (/24) that they come from, one address in each; 1: the machine's own address. More only against
    /// 127.0.0.0/8, all of which is ours to send from.
    pub sources: u32,
    /// Same seed, same datagrams from the same addresses.
    pub seed: u64,
}

impl DoorPlan {
    /// Initials without a token, from one address, flat out for ten seconds.
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            attacks: vec![Attack::Initial],
            captured: Vec::new(),
            packets_max: None,
            duration_ms: 10_000,
            rate: None,
            sources: 1,
            seed: 1,
        }
    }

    /// Whether it may run.
    ///
    /// # Errors
    /// The target may be somebody else's; a number is beyond its limit.
    pub fn check(&self) -> Result<(), FloodError> {
        target::check(self.target.ip())?;
        let bad = |what: String| Err(FloodError::Plan(what));
        if self.duration_ms == 0 || self.duration_ms > OFFER_MS_MAX {
            return bad(format!("a flood lasts 1 ms to {} s", OFFER_MS_MAX / 1_000));
        }
        if self.sources == 0 || self.sources > SOURCES_MAX {
            return bad(format!("they come from 1 to {SOURCES_MAX} networks"));
        }
        let spoofs = self.target.is_ipv4() && self.target.ip().is_loopback();
        if self.sources > 1 && !spoofs {
            return bad(format!(
                "only 127.0.0.0/8 can be flooded from many addresses; {} can be from one",
                self.target
            ));
        }
        if self.rate.is_some_and(|rate| rate == 0 || rate > RATE_MAX) {
            return bad(format!("a rate is 1 to {RATE_MAX} a second"));
        }
        Ok(())
    }
}

/// What was sent, and what the kernel dropped meanwhile.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DoorReport {
    /// Datagrams that the kernel took.
    pub sent: u64,
    /// Of these, by kind.
    pub by_attack: BTreeMap<String, u64>,
    /// Datagrams that it refused.
    pub refused: u64,
    /// From the first to the last.
    pub seconds: f64,
    /// `sent` by `seconds`.
    pub packets_per_second: f64,
    /// Networks they came from.
    pub sources: u32,
    /// While it ran: everybody's datagrams to that port, friends' too.
    pub dropped: Drops,
}

/// The run.
#[derive(Debug)]
pub struct DoorFlood;

impl DoorFlood {
    /// Plays the plan until it ends or `stop` is set.
    ///
    /// # Errors
    /// The plan may not run ([`DoorPlan::check`]); nobody has the port; the system refuses a socket.
    pub fn run(plan: &DoorPlan, stop: &AtomicBool) -> Result<DoorReport, FloodError> {
        plan.check()?;
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let unix_s = u32::try_from(unix_s).unwrap_or(u32::MAX);
        let packets = Packets::new(&plan.attacks, &plan.captured, plan.seed, unix_s).ok_or_else(|| {
            FloodError::Plan("no attack, or one that repeats captured datagrams and none that it could use".into())
        })?;
        let (before, sockets) = Drops::read(plan.target.port());
        if sockets == 0 && plan.target.ip().is_loopback() {
            return Err(FloodError::Unreachable(plan.target, "no program has that UDP port".into()));
        }
        let system = |error| FloodError::System("a UDP socket".into(), error);
        let mut run = Run { packets, sender: Sender::new(plan.target).map_err(system)?, report: DoorReport::default() };
        let began = Instant::now();
        run.play(plan, stop, began);
        let seconds = began.elapsed().as_secs_f64();
        let mut report = run.report;
        report.seconds = seconds;
        report.packets_per_second = report.sent as f64 / seconds.max(1e-9);
        report.sources = plan.sources;
        report.dropped = Drops::read(plan.target.port()).0 - before;
        Ok(report)
    }
}

struct Run {
    packets: Packets,
    sender: Sender,
    report: DoorReport,
}

impl Run {
    fn play(&mut self, plan: &DoorPlan, stop: &AtomicBool, began: Instant) {
        let most = plan.packets_max.unwrap_or(u64::MAX);
        let end = Duration::from_millis(plan.duration_ms);
        let mut made = 0;
        while made < most && !stop.load(Ordering::Relaxed) {
            let elapsed = began.elapsed();
            if elapsed >= end {
                return;
            }
            let due = plan.rate.map_or(u64::MAX, |rate| (elapsed.as_secs_f64() * f64::from(rate)) as u64 + 1);
            let count = due.min(most).saturating_sub(made).min(BATCH as u64);
            if count == 0 {
                std::thread::sleep(NAP);
                continue;
            }
            self.batch(plan, made, count as usize);
            made += count;
        }
    }

    fn batch(&mut self, plan: &DoorPlan, first: u64, count: usize) {
        let mut kinds = [Attack::Garbage; BATCH];
        for (n, kind) in kinds[..count].iter_mut().enumerate() {
            let slot = self.sender.slot(n);
            (slot.len, *kind) = self.packets.write(&mut slot.bytes);
            slot.source = (plan.sources > 1).then(|| source(first + n as u64, plan.sources, plan.seed));
        }
        // What the kernel does not take is lost, as on a wire: a flood does not try again.
        let sent = self.sender.send(count).unwrap_or(0);
        self.report.sent += sent as u64;
        self.report.refused += (count - sent) as u64;
        for kind in &kinds[..sent] {
            *self.report.by_attack.entry(kind.as_str().to_owned()).or_default() += 1;
        }
    }
}

/// The address of the n-th datagram: the /24s in a scattered order, and in each always the same host.
fn source(n: u64, sources: u32, seed: u64) -> Ipv4Addr {
    // Odd, hence a permutation of all 65,536.
    let network = ((n % u64::from(sources)) as u32).wrapping_mul(0x9E37).wrapping_add(seed as u32) & 0xFFFF;
    let host = 1 + (network.wrapping_mul(0x85EB) >> 4) % 254;
    Ipv4Addr::from(127 << 24 | network << 8 | host)
}

/// How long to wait when nothing is due: at 100,000 a second less than a batch.
const NAP: Duration = Duration::from_micros(200);

impl fmt::Display for DoorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks = if self.sources == 1 { "one address".to_owned() } else { format!("{} networks", self.sources) };
        writeln!(
            f,
            "{} datagrams in {:.2} s from {networks}: {:.0} a second",
            self.sent, self.seconds, self.packets_per_second
        )?;
        for (attack, sent) in &self.by_attack {
            writeln!(f, "  {attack:<12} {sent:>12}")?;
        }
        if self.refused > 0 {
            writeln!(
                f,
                "  {:<12} {:>12} by this machine's own kernel, before they were sent",
                "refused", self.refused
            )?;
        }
        write!(
            f,
            "dropped by the kernel meanwhile: {} at the door's sockets, {} before (softnet)",
            self.dropped.socket, self.dropped.softnet
        )
    }
}

#[cfg(test)]
mod tests;
