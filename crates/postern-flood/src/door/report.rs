//! What a flood at the door found: plain figures for programs (serde), and a page for people (`Display`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::report::{FriendsReport, GeneratorReport};

/// What one run found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DoorReport {
    /// The door.
    pub target: Option<SocketAddr>,
    /// Of the plan.
    pub seed: u64,
    /// How long it took in all.
    pub seconds: f64,
    /// Somebody stopped it: the figures cover what there was.
    pub stopped_early: bool,
    /// The hostile, in the order of the plan.
    pub attacks: Vec<AttackReport>,
    /// The friendly, in the order: on links that stand, on links made for one message, honest strangers.
    pub friends: Vec<FriendsReport>,
    /// For each kind of friends, when each of its messages was taken, in microseconds since 1970, if the plan wants it.
    #[serde(default)]
    pub moments: Vec<Vec<u64>>,
    /// What the kernel threw away meanwhile.
    pub kernel: KernelReport,
    /// The friends' part of the generator; the attackers have threads of their own, behind it in the scheduler.
    pub generator: GeneratorReport,
}

/// What became of an attack.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AttackReport {
    /// Its name.
    pub name: String,
    /// Packets a second that the plan asked for; 0: as many as can be.
    pub rate: u32,
    /// Addresses.
    pub sources: u32,
    /// Prefixes (/24, /48) that they lie in.
    pub prefixes: u32,
    /// From its first packet to its last.
    pub seconds: f64,
    /// Packets sent; of those with a handshake, its datagrams that we made ourselves.
    pub packets: u64,
    /// Octets of these.
    pub octets: u64,
    /// Datagrams that came back.
    pub answers: u64,
    /// Octets of these.
    pub answer_octets: u64,
    /// HELLOs, of those who want a cookie.
    pub hellos: u64,
    /// Cookies that came, also for later.
    pub cookies: u64,
    /// Of these, with an appointment later than at once.
    pub appointments: u64,
    /// Initials with a real ClientHello.
    pub initials: u64,
    /// Of these, answered by the door's own handshake.
    pub initials_answered: u64,
    /// Whole handshakes.
    pub handshakes: u64,
    /// Let in, class and all.
    pub accepted: u64,
    /// Connections that the door closed, or never made, by cause.
    pub refused: BTreeMap<String, u64>,
    /// Streams opened, of insiders.
    pub streams: u64,
    /// Messages that were taken from insiders.
    pub messages: u64,
}

/// Counters of the kernel, what they grew by in the run. All that listens at the target's port counts as the door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelReport {
    /// Sockets bound to the target's port.
    pub door_sockets: u32,
    /// Datagrams that found the queue of the door's sockets full.
    pub door_drops: u64,
    /// Packets that found the kernel's own queue full (`softnet_stat`, all processors).
    pub softnet_dropped: u64,
    /// Times that the kernel left work for later (`softnet_stat`, time squeeze).
    pub softnet_squeezed: u64,
}

impl AttackReport {
    /// Packets a second that were sent.
    pub fn packets_per_second(&self) -> f64 {
        self.packets as f64 / self.seconds.max(1e-9)
    }

    /// Octets that came back for each that was sent: below 0.1 before anybody has proved anything.
    pub fn amplification(&self) -> f64 {
        self.answer_octets as f64 / self.octets.max(1) as f64
    }
}

impl fmt::Display for DoorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let early = if self.stopped_early { ", stopped early" } else { "" };
        let target = self.target.map(|target| target.to_string()).unwrap_or_default();
        writeln!(f, "{:.1} s against the door {target}, seed {}{early}", self.seconds, self.seed)?;
        if !self.friends.is_empty() {
            writeln!(
                f,
                "\n{:<16} {:>8} {:>9} {:>9}  {:<32} connect ms",
                "friends", "offered", "success", "in time", "message ms, p50/p90/p99/max"
            )?;
        }
        for friends in &self.friends {
            writeln!(
                f,
                "{:<16} {:>8} {:>7.1} % {:>7.1} %  {:<32} {}",
                friends.name,
                friends.offered,
                friends.success_percent,
                friends.in_time_percent,
                friends.final_reply.to_string(),
                friends.connect
            )?;
            let causes = list(&friends.connect_errors);
            if !causes.is_empty() {
                writeln!(f, "{:<16} {causes}", "")?;
            }
        }
        if !self.attacks.is_empty() {
            writeln!(
                f,
                "\n{:<16} {:>10} {:>11} {:>9} {:>8}  what else",
                "attack", "packets/s", "packets", "answers", "octets x"
            )?;
        }
        for attack in &self.attacks {
            writeln!(
                f,
                "{:<16} {:>10.0} {:>11} {:>9} {:>8.3}  {}",
                attack.name,
                attack.packets_per_second(),
                attack.packets,
                attack.answers,
                attack.amplification(),
                attack.others()
            )?;
        }
        let kernel = self.kernel;
        write!(
            f,
            "\nkernel: {} dropped before the door's {} sockets were read, {} before any socket, {} squeezes\n{}",
            kernel.door_drops, kernel.door_sockets, kernel.softnet_dropped, kernel.softnet_squeezed, self.generator
        )
    }
}

impl AttackReport {
    fn others(&self) -> String {
        let counted = [
            ("HELLOs", self.hellos),
            ("cookies", self.cookies),
            ("of them for later", self.appointments),
            ("Initials", self.initials),
            ("of them answered", self.initials_answered),
            ("handshakes", self.handshakes),
            ("let in", self.accepted),
            ("streams", self.streams),
            ("messages taken", self.messages),
        ];
        let parts = counted.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{n} {what}"));
        let mut parts: Vec<String> = parts.collect();
        let refused = list(&self.refused);
        if !refused.is_empty() {
            parts.push(refused);
        }
        parts.join(", ")
    }
}

fn list(causes: &BTreeMap<String, u64>) -> String {
    let parts: Vec<String> = causes.iter().map(|(cause, n)| format!("{cause}: {n}")).collect();
    parts.join(", ")
}
