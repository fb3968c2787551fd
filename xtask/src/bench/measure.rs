//! What a round cost: wall time, CPU of a server with all its children, busy time of its core.
//!
//! Reads /proc only. Ticks are 10 ms, which is why a round takes seconds.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

/// USER_HZ: what /proc counts in, on every architecture we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Counters at one moment.
pub(crate) struct Figures {
    at: Instant,
    /// Of all processes in the server's group, and of those of their children that have ended.
    cpu_ticks: u64,
    core_busy_ticks: u64,
    core_ticks: u64,
}

impl Figures {
    /// Counters of the server whose process group is `group`, and of `core`.
    pub(crate) fn now(group: u32, core: usize) -> Result<Self> {
        let (core_busy_ticks, core_ticks) = core_time(core).context("/proc/stat has an unknown form")?;
        Ok(Self { at: Instant::now(), cpu_ticks: group_time(group)?, core_busy_ticks, core_ticks })
    }
}

/// One round of one server.
pub(crate) struct Sample {
    pub(crate) per_second: f64,
    pub(crate) cpu_micros: f64,
    /// Of the server's core, 0 to 1.
    pub(crate) busy: f64,
    pub(crate) per_commit: Option<f64>,
}

impl Sample {
    pub(crate) fn between(before: &Figures, after: &Figures, messages: usize, per_commit: Option<f64>) -> Self {
        let messages = messages as f64;
        let cpu = (after.cpu_ticks - before.cpu_ticks) as f64 / TICKS_PER_SECOND;
        let busy = (after.core_busy_ticks - before.core_busy_ticks) as f64;
        Self {
            per_second: messages / after.at.duration_since(before.at).as_secs_f64(),
            cpu_micros: cpu * 1e6 / messages,
            busy: busy / ((after.core_ticks - before.core_ticks) as f64).max(1.0),
            per_commit,
        }
    }
}

/// The middle value; 0 of none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// `(commits, messages committed)` from `postern status --json`.
pub(crate) fn commits(binary: &Path, data: &Path) -> Option<(u64, u64)> {
    let output = Command::new(binary).args(["status", "--json", "--data"]).arg(data).output().ok()?;
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    Some((find(&status, "commits")?, find(&status, "messages_committed")?))
}

/// The first number of that name, at any depth: where the status keeps it is the status' own affair.
fn find(value: &serde_json::Value, name: &str) -> Option<u64> {
    let map = value.as_object()?;
    map.get(name).and_then(serde_json::Value::as_u64).or_else(|| map.values().find_map(|inner| find(inner, name)))
}

fn group_time(group: u32) -> Result<u64> {
    let mut ticks = 0;
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path().join("stat");
        // A process may end while we look.
        let Ok(stat) = fs::read_to_string(&path) else { continue };
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = rest.split(' ').collect();
        // proc(5): pgrp is field 5, utime to cstime are 14 to 17; `rest` starts with field 3.
        if fields.get(2).and_then(|pgrp| pgrp.parse().ok()) == Some(group) {
            ticks += fields[11..15].iter().filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        }
    }
    Ok(ticks)
}

fn core_time(core: usize) -> Option<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix(&format!("cpu{core} ")))?;
    // user, nice, system, idle, iowait, irq, softirq, steal; guest time is part of user.
    let ticks: Vec<u64> = line.split(' ').filter_map(|field| field.parse().ok()).take(8).collect();
    let all: u64 = ticks.iter().sum();
    Some((all - ticks.get(3)? - ticks.get(4)?, all))
}
