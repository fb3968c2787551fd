//! What a flood found: plain figures for programs (serde), and a page for people (`Display`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What one run found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The server.
    pub target: Option<SocketAddr>,
    /// Of the plan.
    pub seed: u64,
    /// How long it took in all, waiting for the last friend included.
    pub seconds: f64,
    /// Somebody stopped it: the figures cover what there was.
    pub stopped_early: bool,
    /// The hostile, in the order of the plan.
    pub crowds: Vec<CrowdReport>,
    /// The friendly, in the order of the plan.
    pub friends: Vec<FriendsReport>,
    /// Second by second.
    pub series: Vec<Second>,
    /// The generator itself.
    pub generator: GeneratorReport,
}

/// What became of a crowd.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CrowdReport {
    /// Of the plan.
    pub name: String,
    /// Of the plan.
    pub behaviour: String,
    /// Connections at once that the plan asked for.
    pub size: u32,
    /// Connections begun.
    pub attempts: u64,
    /// Connections the kernel made (the server need not have accepted them).
    pub connected: u64,
    /// Connections that saw a 220.
    pub greeted: u64,
    /// Messages answered 250 after their final dot.
    pub accepted: u64,
    /// Recipients answered 2xx, of the harvesters.
    pub recipients_accepted: u64,
    /// Replies of 4xx and 5xx, by code.
    pub refused: BTreeMap<u16, u64>,
    /// Connections the server ended of its own accord.
    pub evicted: u64,
    /// Connections given up for want of a reply.
    pub timeouts: u64,
    /// Connections that failed before they were made, by cause.
    pub connect_errors: BTreeMap<String, u64>,
    /// Most connections at once.
    pub open_max: u64,
    /// Octets written.
    pub bytes_sent: u64,
}

/// What became of the friends.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FriendsReport {
    /// Of the plan.
    pub name: String,
    /// Messages that were due in the run.
    pub offered: u64,
    /// Of these, answered 250, at whichever attempt.
    pub accepted: u64,
    /// Of these, answered 250 within the patience, counted from when the message was due.
    pub in_time: u64,
    /// Given up: refused for good, or no time left to try again.
    pub failed: u64,
    /// Neither when the run was stopped.
    pub unconcluded: u64,
    /// `accepted` of what was concluded.
    pub success_percent: f64,
    /// `in_time` of what was concluded.
    pub in_time_percent: f64,
    /// Connections begun.
    pub attempts: u64,
    /// Replies of 4xx and 5xx, by code.
    pub refused: BTreeMap<u16, u64>,
    /// Attempts in which a phase took longer than the patience.
    pub timeouts: u64,
    /// Attempts ended by the server without a reply.
    pub evicted: u64,
    /// Attempts that failed before the connection was made, by cause.
    pub connect_errors: BTreeMap<String, u64>,
    /// From the start of an attempt to the connection. Under overload it looks instant while thousands wait in the
    /// accept queue: look at the greeting.
    pub connect: Percentiles,
    /// From the start of an attempt to its 220; of all attempts that saw one.
    pub greeting: Percentiles,
    /// From when the message was due to its 250, earlier attempts included; of all that were accepted.
    pub final_reply: Percentiles,
}

/// Of all samples, not estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many.
    pub samples: u64,
    /// Median, milliseconds.
    pub p50_ms: f64,
    /// Milliseconds.
    pub p90_ms: f64,
    /// Milliseconds.
    pub p99_ms: f64,
    /// The worst, milliseconds.
    pub max_ms: f64,
}

/// One second of the run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Second {
    /// Since the start; the second that begins there.
    pub at_s: u32,
    /// In the order of the plan.
    pub crowds: Vec<CrowdSecond>,
    /// In the order of the plan.
    pub friends: Vec<FriendsSecond>,
}

/// A crowd in one second.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct CrowdSecond {
    /// Connections open at its end.
    pub open: u64,
    /// Connections begun.
    pub attempts: u64,
    /// Messages answered 250.
    pub accepted: u64,
    /// Replies of 4xx and 5xx.
    pub refused: u64,
    /// Connections the server ended.
    pub evicted: u64,
}

/// Friends in one second.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct FriendsSecond {
    /// Messages due.
    pub offered: u64,
    /// Messages answered 250.
    pub accepted: u64,
    /// Messages given up.
    pub failed: u64,
    /// Times to greeting seen in it.
    pub greeting: Percentiles,
    /// Times to final reply seen in it.
    pub final_reply: Percentiles,
}

/// How much of a core the generator itself needed: near 100 %, the figures are a lower bound of what the server can.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GeneratorReport {
    /// Share of the time in which its loop was not waiting.
    pub busy_percent: f64,
    /// Its CPU time over wall time.
    pub cpu_percent: f64,
    /// How late the loop came round to a friend's timer or event at most, 99th percentile.
    pub lag_p99_ms: f64,
    /// The worst.
    pub lag_max_ms: f64,
    /// It was the bottleneck, or may have been.
    pub limited: bool,
}

/// What is known in the middle of a run, given ten times a second.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Since the start.
    pub elapsed_ms: u64,
    /// When friends stop offering.
    pub offer_until_ms: u64,
    /// Connections of the crowds.
    pub open: u64,
    /// Connections the crowds began.
    pub attempts: u64,
    /// Hostile messages answered 250.
    pub hostile_accepted: u64,
    /// Friends' messages due so far.
    pub friends_offered: u64,
    /// Friends' messages answered 250.
    pub friends_accepted: u64,
    /// Friends' messages given up.
    pub friends_failed: u64,
    /// The second that ended last.
    pub last_second: Option<Second>,
}

impl Percentiles {
    /// Of samples in microseconds, in any order.
    pub fn of(samples_us: &mut [u32]) -> Self {
        samples_us.sort_unstable();
        let Some(max) = samples_us.last() else { return Self::default() };
        let at = |per_mille: usize| {
            // Nearest rank: the smallest sample that is not below so many per mille of all.
            let rank = (samples_us.len() * per_mille).div_ceil(1_000).max(1);
            f64::from(samples_us[rank - 1]) / 1_000.0
        };
        Self {
            samples: samples_us.len() as u64,
            p50_ms: at(500),
            p90_ms: at(900),
            p99_ms: at(990),
            max_ms: f64::from(*max) / 1_000.0,
        }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.samples == 0 {
            return f.write_str("-");
        }
        write!(f, "{:.1} / {:.1} / {:.1} / {:.1}", self.p50_ms, self.p90_ms, self.p99_ms, self.max_ms)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let early = if self.stopped_early { ", stopped early" } else { "" };
        let target = self.target.map(|target| target.to_string()).unwrap_or_default();
        writeln!(f, "{:.1} s against {target}, seed {}{early}", self.seconds, self.seed)?;
        if !self.friends.is_empty() {
            writeln!(
                f,
                "\n{:<14} {:>8} {:>9} {:>9}  {:<34} final reply ms",
                "friends", "offered", "success", "in time", "greeting ms, p50/p90/p99/max"
            )?;
        }
        for friends in &self.friends {
            writeln!(
                f,
                "{:<14} {:>8} {:>7.1} % {:>7.1} %  {:<34} {}",
                friends.name,
                friends.offered,
                friends.success_percent,
                friends.in_time_percent,
                friends.greeting.to_string(),
                friends.final_reply
            )?;
            let trouble = trouble(&friends.refused, friends.evicted, friends.timeouts, &friends.connect_errors);
            if !trouble.is_empty() {
                writeln!(f, "{:<14} {} attempts; {trouble}", "", friends.attempts)?;
            }
        }
        if !self.crowds.is_empty() {
            writeln!(
                f,
                "\n{:<14} {:>9} {:>11} {:>11} {:>11}  what else",
                "crowd", "at once", "connects", "greeted", "accepted"
            )?;
        }
        for crowd in &self.crowds {
            let trouble = trouble(&crowd.refused, crowd.evicted, crowd.timeouts, &crowd.connect_errors);
            writeln!(
                f,
                "{:<14} {:>9} {:>11} {:>11} {:>11}  {trouble}",
                crowd.name, crowd.open_max, crowd.attempts, crowd.greeted, crowd.accepted
            )?;
        }
        write!(f, "\n{}", self.generator)
    }
}

impl fmt::Display for GeneratorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "generator busy {:.0} % ({:.0} % CPU), late by {:.1} ms at p99, {:.1} ms at worst",
            self.busy_percent, self.cpu_percent, self.lag_p99_ms, self.lag_max_ms
        )?;
        if self.limited { f.write_str(": figures above are a lower bound of what the server can") } else { Ok(()) }
    }
}

fn trouble(refused: &BTreeMap<u16, u64>, evicted: u64, timeouts: u64, errors: &BTreeMap<String, u64>) -> String {
    let mut parts: Vec<String> = refused.iter().map(|(code, n)| format!("{code}: {n}")).collect();
    if evicted > 0 {
        parts.push(format!("closed by server: {evicted}"));
    }
    if timeouts > 0 {
        parts.push(format!("no reply in time: {timeouts}"));
    }
    parts.extend(errors.iter().map(|(cause, n)| format!("{cause}: {n}")));
    parts.join(", ")
}

#[cfg(test)]
mod tests;
