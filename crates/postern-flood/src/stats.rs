//! Counting while it runs: totals, the second under way, and the time the loop itself needs.

use std::collections::BTreeMap;

use crate::report::{CrowdReport, CrowdSecond, FriendsReport, FriendsSecond, Percentiles};

/// A crowd's counters.
#[derive(Default)]
pub(crate) struct CrowdTally {
    pub(crate) total: CrowdReport,
    pub(crate) second: CrowdSecond,
    pub(crate) open: u64,
}

impl CrowdTally {
    pub(crate) fn opened(&mut self) {
        self.open += 1;
        self.total.attempts += 1;
        self.second.attempts += 1;
        self.total.open_max = self.total.open_max.max(self.open);
    }

    pub(crate) fn accepted(&mut self) {
        self.total.accepted += 1;
        self.second.accepted += 1;
    }

    pub(crate) fn refused(&mut self, code: u16) {
        *self.total.refused.entry(code).or_default() += 1;
        self.second.refused += 1;
    }

    pub(crate) fn evicted(&mut self) {
        self.total.evicted += 1;
        self.second.evicted += 1;
    }

    pub(crate) fn close_second(&mut self) -> CrowdSecond {
        let mut second = std::mem::take(&mut self.second);
        second.open = self.open;
        second
    }
}

/// A group of friends' counters. Samples are microseconds.
#[derive(Default)]
pub(crate) struct FriendsTally {
    pub(crate) total: FriendsReport,
    pub(crate) second: FriendsSecond,
    pub(crate) connect: Vec<u32>,
    greeting: Vec<u32>,
    final_reply: Vec<u32>,
    second_greeting: usize,
    second_final: usize,
}

impl FriendsTally {
    pub(crate) fn new(name: &str) -> Self {
        let total = FriendsReport { name: name.to_owned(), ..FriendsReport::default() };
        Self { total, ..Self::default() }
    }

    pub(crate) fn offered(&mut self) {
        self.total.offered += 1;
        self.second.offered += 1;
    }

    pub(crate) fn greeted(&mut self, after_us: u64) {
        self.greeting.push(sample(after_us));
    }

    pub(crate) fn accepted(&mut self, after_us: u64, patience_ms: u32) {
        self.total.accepted += 1;
        self.second.accepted += 1;
        if after_us <= u64::from(patience_ms) * 1_000 {
            self.total.in_time += 1;
        }
        self.final_reply.push(sample(after_us));
    }

    pub(crate) fn failed(&mut self) {
        self.total.failed += 1;
        self.second.failed += 1;
    }

    pub(crate) fn concluded(&self) -> u64 {
        self.total.accepted + self.total.failed
    }

    pub(crate) fn close_second(&mut self) -> FriendsSecond {
        let mut second = std::mem::take(&mut self.second);
        second.greeting = Percentiles::of(&mut self.greeting[self.second_greeting..].to_vec());
        second.final_reply = Percentiles::of(&mut self.final_reply[self.second_final..].to_vec());
        self.second_greeting = self.greeting.len();
        self.second_final = self.final_reply.len();
        second
    }

    pub(crate) fn report(&mut self) -> FriendsReport {
        let mut report = std::mem::take(&mut self.total);
        let concluded = report.accepted + report.failed;
        report.unconcluded = report.offered - concluded;
        let percent = |part: u64| if concluded == 0 { 0.0 } else { part as f64 * 100.0 / concluded as f64 };
        report.success_percent = percent(report.accepted);
        report.in_time_percent = percent(report.in_time);
        report.connect = Percentiles::of(&mut self.connect);
        report.greeting = Percentiles::of(&mut self.greeting);
        report.final_reply = Percentiles::of(&mut self.final_reply);
        report
    }
}

pub(crate) fn sample(us: u64) -> u32 {
    u32::try_from(us).unwrap_or(u32::MAX)
}

/// One more of `cause`.
pub(crate) fn count(causes: &mut BTreeMap<String, u64>, cause: &str) {
    match causes.get_mut(cause) {
        Some(n) => *n += 1,
        None => {
            causes.insert(cause.to_owned(), 1);
        }
    }
}

/// How long the loop was away from the friends, weighed by that time: an event that comes at any moment finds a long
/// round more often than a short one.
pub(crate) struct Lag {
    /// Microseconds spent in rounds of 2^(n/8) µs.
    weight: [u64; 256],
    total: u64,
    max_us: u64,
}

impl Lag {
    pub(crate) fn new() -> Self {
        Self { weight: [0; 256], total: 0, max_us: 0 }
    }

    pub(crate) fn add(&mut self, us: u64) {
        let bucket = ((us.max(1) as f64).log2() * 8.0) as usize;
        self.weight[bucket.min(255)] += us;
        self.total += us;
        self.max_us = self.max_us.max(us);
    }

    pub(crate) fn p99_ms(&self) -> f64 {
        let mut left = self.total / 100;
        for (bucket, weight) in self.weight.iter().enumerate().rev() {
            if *weight > left {
                return (2_f64.powf((bucket + 1) as f64 / 8.0) / 1_000.0).min(self.max_ms());
            }
            left -= weight;
        }
        0.0
    }

    pub(crate) fn max_ms(&self) -> f64 {
        self.max_us as f64 / 1_000.0
    }
}
