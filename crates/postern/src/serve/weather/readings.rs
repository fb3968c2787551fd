//! What is scarce, as numbers: from the doors' and the spool's counters and from the kernel.

use std::collections::VecDeque;

use postern_doors::CrowdSnapshot;
use postern_spool::SpoolStats;
use postern_trust::pressure::Readings;

use crate::config::Config;

/// What each reading may reach.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    connections_max: u64,
    held_bytes_max: u64,
    socket_bytes_max: u64,
    free_low: u64,
    bytes_max: u64,
    items_max: u64,
}

impl Limits {
    pub(super) fn new(config: &Config) -> Self {
        let spool = &config.settings.spool;
        Self {
            connections_max: config.settings.smtp.connections_max as u64,
            held_bytes_max: config.settings.smtp.held_bytes_max.0,
            socket_bytes_max: kernel("/proc/sys/net/ipv4/tcp_mem", pressure_pages).unwrap_or(0) * PAGE_BYTES,
            free_low: spool.free_low.0,
            bytes_max: spool.bytes_max.0,
            items_max: spool.items_max as u64,
        }
    }

    /// Of the fullest door: each has slots of its own.
    pub(super) fn readings(
        &self,
        crowds: impl Iterator<Item = CrowdSnapshot>,
        spool: &SpoolStats,
        loop_lag_ms: u64,
    ) -> Readings {
        let crowds: Vec<_> = crowds.collect();
        let open = crowds.iter().map(|crowd| crowd.open.iter().map(|count| u64::from(*count)).sum()).max();
        let held = crowds.iter().map(|crowd| crowd.held_bytes.iter().sum()).max();
        Readings {
            connections: open.unwrap_or(0),
            connections_max: self.connections_max,
            bytes_in_flight: held.unwrap_or(0),
            bytes_in_flight_max: self.held_bytes_max,
            socket_bytes: kernel("/proc/net/sockstat", socket_pages).unwrap_or(0) * PAGE_BYTES,
            socket_bytes_max: self.socket_bytes_max,
            spool_free: spool.free_bytes,
            // Before the first look the spool knows of no free space, and none is short.
            spool_free_low: if spool.free_bytes == 0 && !spool.refusing { 0 } else { self.free_low },
            spool_bytes: spool.bytes,
            spool_bytes_max: self.bytes_max,
            spool_items: spool.items as u64,
            spool_items_max: self.items_max,
            loop_lag_ms,
            ..Readings::default()
        }
    }
}

/// How late the worst thread is: this one, or a door, where work waits for a core long before it does here.
pub(super) fn worst_lag_ms(own_ms: u64, crowds: impl Iterator<Item = CrowdSnapshot>) -> u64 {
    crowds.map(|crowd| crowd.lag_ms).fold(own_ms, u64::max)
}

/// How late timers fire. One late timer is a moment of the scheduler's; the pressure is what is
/// usual over two seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Lag(VecDeque<u64>);

impl Lag {
    pub(super) fn note(&mut self, late_ms: u64) {
        if self.0.len() == LAGS {
            self.0.pop_front();
        }
        self.0.push_back(late_ms);
    }

    /// The median; nothing until there are enough.
    pub(super) fn usual_ms(&self) -> u64 {
        let mut sorted: Vec<u64> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        if sorted.len() < LAGS { 0 } else { sorted[LAGS / 2] }
    }
}

/// Two seconds of them.
const LAGS: usize = 8;

fn kernel(path: &str, parse: fn(&str) -> Option<u64>) -> Option<u64> {
    std::fs::read_to_string(path).ok().and_then(|text| parse(&text))
}

/// The middle one of `tcp_mem`: there the kernel begins to press.
fn pressure_pages(tcp_mem: &str) -> Option<u64> {
    tcp_mem.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The pages of TCP in `sockstat`: `TCP: inuse 4 orphan 0 tw 0 alloc 9 mem 3`.
fn socket_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

/// The kernel counts both in pages; only their ratio is used, so that their real size does not matter.
const PAGE_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_words_are_understood_and_nonsense_presses_nobody() {
        let sockstat = "sockets: used 294\nTCP: inuse 44 orphan 0 tw 21 alloc 49 mem 17\nUDP: inuse 1 mem 5\n";
        assert_eq!(socket_pages(sockstat), Some(17));
        assert_eq!(socket_pages("TCP: inuse 44\n"), None);
        assert_eq!(socket_pages(""), None);
        assert_eq!(pressure_pages("189012\t252016\t378024\n"), Some(252_016));
        assert_eq!(pressure_pages("189012"), None);
    }

    #[test]
    fn one_late_timer_is_no_lag_and_five_of_eight_are() {
        let mut lag = Lag::default();
        (0..LAGS).for_each(|_| lag.note(1));
        for (late, expected) in [(300, 1), (300, 1), (300, 1), (300, 300), (1, 300)] {
            lag.note(late);
            assert_eq!(lag.usual_ms(), expected);
        }
    }

    #[test]
    fn a_door_that_is_late_is_seen_from_a_thread_that_is_not() {
        let crowd = |lag_ms| CrowdSnapshot { lag_ms, ..CrowdSnapshot::default() };
        assert_eq!(worst_lag_ms(1, [crowd(3), crowd(400)].into_iter()), 400);
        assert_eq!(worst_lag_ms(50, [crowd(3)].into_iter()), 50);
        assert_eq!(worst_lag_ms(2, std::iter::empty()), 2);
    }

    #[test]
    fn a_server_that_has_just_started_has_no_lag() {
        let mut lag = Lag::default();
        lag.note(5000);
        assert_eq!(lag.usual_ms(), 0);
    }
}
