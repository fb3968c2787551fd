//! What `status` shows of the drain: counters that the worker raises and anybody may read.
//!
//! The counters are atomic; the only lock guards the list of destinations and their last errors,
//! and is never held across an await.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use postern_net::filter::Verdict;
use postern_spool::{Lane, LaneStats};
use postern_trust::CLASSES;

use crate::filters::FilterTable;
use crate::limits::{DESTINATIONS_MAX, QUARANTINE_CLASS};
use crate::order::rank;
use crate::settle::{Outcome, bounded};

/// A snapshot of the drain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainStats {
    /// Deliveries under way.
    pub running: u64,
    /// Recipients delivered since start.
    pub delivered: u64,
    /// Recipients deferred since start (each attempt counts).
    pub deferred: u64,
    /// Recipients refused for good since start.
    pub refused: u64,
    /// Dead letters made since start.
    pub dead_letters: u64,
    /// Dead letters dropped since start because there were too many.
    pub dead_letters_dropped: u64,
    /// Delivery reports made since start.
    pub reports: u64,
    /// Deliveries that panicked; each is a bug, the item was postponed.
    pub panics: u64,
    /// Messages still to be released by `drain` commands.
    pub releasing: u64,
    /// Messages in quarantine.
    pub quarantined: u64,
    /// Messages dropped from the quarantine since start: too old, or too many.
    pub quarantine_dropped: u64,
    /// By class, best first: those of `postern_trust::Class`. What was let go from `hold` counts in the
    /// class it came with.
    pub classes: [ClassStats; CLASSES],
    /// Mail for far domains.
    pub outbound: OutboundStats,
    /// By name.
    pub destinations: Vec<DestinationStats>,
    /// In the order in which they are asked.
    pub filters: Vec<FilterStats>,
}

/// By which way mail for far domains left, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboundStats {
    /// Recipients delivered through a postern.
    pub by_postern: u64,
    /// Recipients delivered by MX, or by the fixed hop that stands behind the doors.
    pub by_mx: u64,
    /// Recipients whose domain's door said USE-MX.
    pub use_mx: u64,
    /// Messages that went by port 25 because a door was silent for too long.
    pub downgrades: u64,
    /// Of those, messages that only a proven server could have got, and there was none: they wait.
    pub unproven: u64,
    /// Messages that met a silent door; each attempt counts.
    pub silent: u64,
    /// Messages that wait because a door is silent, or asked for time; each attempt counts.
    pub waits: u64,
}

/// [`OutboundStats`] as they are counted.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    pub(crate) by_postern: AtomicU64,
    pub(crate) by_mx: AtomicU64,
    pub(crate) use_mx: AtomicU64,
    pub(crate) downgrades: AtomicU64,
    pub(crate) unproven: AtomicU64,
    pub(crate) silent: AtomicU64,
    pub(crate) waits: AtomicU64,
}

impl Outbound {
    fn snapshot(&self) -> OutboundStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        OutboundStats {
            by_postern: read(&self.by_postern),
            by_mx: read(&self.by_mx),
            use_mx: read(&self.use_mx),
            downgrades: read(&self.downgrades),
            unproven: read(&self.unproven),
            silent: read(&self.silent),
            waits: read(&self.waits),
        }
    }
}

/// What waits and what leaves of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassStats {
    /// Messages that may leave or wait for their retry; neither dead letters nor quarantine.
    pub backlog: u64,
    /// Their bytes.
    pub backlog_bytes: u64,
    /// Messages that have left since start.
    pub left: u64,
    /// How fast they left lately, in messages per 1,000 s; not measured anew while there is nothing to leave.
    pub left_per_1000_s: u64,
}

/// One filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterStats {
    /// As configured.
    pub name: String,
    /// Whether it judges.
    pub state: DestinationState,
    /// Milliseconds since 1970 from when on it could not be reached or did not answer.
    pub away_since_unix_ms: Option<u64>,
    /// Judgements under way.
    pub running: u64,
    /// Verdicts since start, those below together.
    pub judged: u64,
    /// Nothing was wrong.
    pub accepted: u64,
    /// To be marked.
    pub marked: u64,
    /// To be kept aside.
    pub quarantined: u64,
    /// Rejected, or to be thrown away (which is not done).
    pub rejected: u64,
    /// Not now.
    pub tempfailed: u64,
    /// Judgements that failed since start: not reached, out of time, nonsense.
    pub failed: u64,
    /// What a judgement takes, in milliseconds: a moving average over some sixteen, that begins at nothing and is
    /// halved with every minute in which nothing is judged.
    pub latency_ms: u64,
    /// What went wrong last; forgotten with the next verdict.
    pub last_error: Option<String>,
}

/// One next hop or Maildir.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationStats {
    /// As in the configuration: `lmtp:127.0.0.1:24`.
    pub name: String,
    /// Whether mail leaves.
    pub state: DestinationState,
    /// Milliseconds since 1970 from when on it could not be reached.
    pub away_since_unix_ms: Option<u64>,
    /// Deliveries under way.
    pub running: u64,
    /// Recipients delivered since start.
    pub delivered: u64,
    /// Recipients deferred since start.
    pub deferred: u64,
    /// Recipients refused for good since start.
    pub refused: u64,
    /// What went wrong last, with the cure where one is known; forgotten when the destination is
    /// reached again after it was not.
    pub last_error: Option<String>,
}

/// Whether mail leaves to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestinationState {
    /// The last attempt reached it, or none was made.
    Up,
    /// It could not be reached; the next attempt may start in this many milliseconds.
    BackingOff {
        /// As of the last look.
        retry_in_ms: u64,
    },
}

/// The counters, shared between worker and handle.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) running: AtomicU64,
    pub(crate) dead_letters: AtomicU64,
    pub(crate) dead_letters_dropped: AtomicU64,
    pub(crate) reports: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) releasing: AtomicU64,
    pub(crate) quarantined: AtomicU64,
    pub(crate) quarantine_dropped: AtomicU64,
    pub(crate) outbound: Outbound,
    destinations: Mutex<BTreeMap<String, DestinationStats>>,
    filters: Mutex<Vec<Filter>>,
    classes: Mutex<Classes>,
}

#[derive(Debug)]
struct Filter {
    stats: FilterStats,
    latency_us: u64,
    /// As of the last look.
    judged_before: u64,
    /// Since when nothing was judged, or when the latency was last halved.
    idle_since_ms: u64,
}

#[derive(Debug, Default)]
struct Classes {
    stats: [ClassStats; CLASSES],
    /// As of the last measurement.
    left_before: [u64; CLASSES],
    measured_ms: u64,
}

impl Counters {
    /// Counts one result of a destination.
    pub(crate) fn note(&self, destination: &str, outcome: &Outcome) {
        self.update(destination, |stats| match outcome {
            Outcome::Delivered(_) => stats.delivered += 1,
            Outcome::Refused(reply) => {
                stats.refused += 1;
                stats.last_error = Some(bounded(&reply.to_string()));
            }
            Outcome::Deferred(reply) => {
                stats.deferred += 1;
                stats.last_error = Some(bounded(&reply.to_string()));
            }
            Outcome::Unreached(why) => {
                stats.deferred += 1;
                stats.last_error = Some(bounded(why));
            }
            Outcome::NotTried { .. } => {}
        });
    }

    /// Remembers a destination's state.
    pub(crate) fn note_state(&self, destination: &str, state: DestinationState, running: usize, now_unix_ms: u64) {
        self.update(destination, |stats| {
            if state == DestinationState::Up && stats.state != DestinationState::Up {
                stats.last_error = None;
            }
            stats.away_since_unix_ms = away_since(state, stats.away_since_unix_ms, now_unix_ms);
            stats.state = state;
            stats.running = running as u64;
        });
    }

    /// Another table of filters: those that are in both keep their counts.
    pub(crate) fn set_filters(&self, table: &FilterTable) {
        let mut filters = self.filters();
        let mut before = std::mem::take(&mut *filters);
        let entry = |name: &String| {
            let known = before.iter().position(|filter| filter.stats.name == *name);
            known.map(|at| before.swap_remove(at)).unwrap_or_else(|| Filter::new(name))
        };
        *filters = table.filters.iter().map(|options| &options.filter.name).map(entry).collect();
    }

    /// Remembers a filter's state.
    pub(crate) fn note_filter_state(&self, name: &str, state: DestinationState, running: usize, now_unix_ms: u64) {
        self.update_filter(name, |filter| {
            let stats = &mut filter.stats;
            stats.away_since_unix_ms = away_since(state, stats.away_since_unix_ms, now_unix_ms);
            stats.state = state;
            stats.running = running as u64;
        });
    }

    /// Counts a verdict.
    pub(crate) fn note_verdict(&self, name: &str, verdict: &Verdict, took_ms: u64) {
        self.update_filter(name, |filter| {
            let stats = &mut filter.stats;
            let count = match verdict {
                Verdict::Accept => &mut stats.accepted,
                Verdict::Mark => &mut stats.marked,
                Verdict::Quarantine => &mut stats.quarantined,
                Verdict::Reject(_) | Verdict::Discard => &mut stats.rejected,
                Verdict::Tempfail(_) => &mut stats.tempfailed,
            };
            *count += 1;
            stats.judged += 1;
            stats.last_error = None;
            let took_us = took_ms.saturating_mul(1000);
            // The first as any other: one message that took a minute after the start is no slow filter.
            filter.latency_us = (filter.latency_us.saturating_mul(15)).saturating_add(took_us) / 16;
        });
    }

    /// Counts a judgement that there is none of.
    pub(crate) fn note_filter_failure(&self, name: &str, error: &str) {
        self.update_filter(name, |filter| {
            filter.stats.failed += 1;
            filter.stats.last_error = Some(bounded(error));
        });
    }

    fn update_filter(&self, name: &str, change: impl FnOnce(&mut Filter)) {
        if let Some(filter) = self.filters().iter_mut().find(|filter| filter.stats.name == name) {
            change(filter);
        }
    }

    /// A message of a lane of this class has left.
    pub(crate) fn note_left(&self, class: u8) {
        self.classes().stats[rank(class)].left += 1;
    }

    /// What waits, as of now; measures how fast it leaves, once a second at most; lets filters that have
    /// nothing to judge be forgotten as slow.
    pub(crate) fn note_lanes(&self, lanes: &[LaneStats], now_ms: u64) {
        self.filters().iter_mut().for_each(|filter| filter.rest_at(now_ms));
        let mut classes = self.classes();
        for stats in &mut classes.stats {
            (stats.backlog, stats.backlog_bytes) = (0, 0);
        }
        let mut quarantined = 0;
        for lane in lanes {
            let items = lane.ready + lane.waiting + lane.leased;
            match lane.lane.class {
                Lane::DEAD_CLASS => {}
                QUARANTINE_CLASS => quarantined += (items + lane.held) as u64,
                class => {
                    let stats = &mut classes.stats[rank(class)];
                    stats.backlog += items as u64;
                    stats.backlog_bytes += lane.bytes;
                }
            }
        }
        self.quarantined.store(quarantined, Ordering::Relaxed);
        classes.measure_at(now_ms);
    }

    fn filters(&self) -> MutexGuard<'_, Vec<Filter>> {
        self.filters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn classes(&self) -> MutexGuard<'_, Classes> {
        self.classes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what is wrong with a destination, or that nothing is any more.
    pub(crate) fn note_error(&self, destination: &str, error: &str) {
        self.update(destination, |stats| stats.last_error = Some(bounded(error)));
    }

    fn update(&self, destination: &str, change: impl FnOnce(&mut DestinationStats)) {
        let mut destinations = self.lock();
        if let Some(stats) = destinations.get_mut(destination) {
            return change(stats);
        }
        if destinations.len() >= DESTINATIONS_MAX {
            let idle = destinations.iter().find(|(_, stats)| stats.running == 0).map(|(name, _)| name.clone());
            idle.and_then(|name| destinations.remove(&name));
        }
        let mut stats = DestinationStats {
            name: destination.to_owned(),
            state: DestinationState::Up,
            away_since_unix_ms: None,
            running: 0,
            delivered: 0,
            deferred: 0,
            refused: 0,
            last_error: None,
        };
        change(&mut stats);
        destinations.insert(destination.to_owned(), stats);
    }

    pub(crate) fn snapshot(&self) -> DrainStats {
        let destinations: Vec<_> = self.lock().values().cloned().collect();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let sum = |field: fn(&DestinationStats) -> u64| destinations.iter().map(field).sum();
        DrainStats {
            running: read(&self.running),
            delivered: sum(|stats| stats.delivered),
            deferred: sum(|stats| stats.deferred),
            refused: sum(|stats| stats.refused),
            dead_letters: read(&self.dead_letters),
            dead_letters_dropped: read(&self.dead_letters_dropped),
            reports: read(&self.reports),
            panics: read(&self.panics),
            releasing: read(&self.releasing),
            quarantined: read(&self.quarantined),
            quarantine_dropped: read(&self.quarantine_dropped),
            classes: self.classes().stats,
            outbound: self.outbound.snapshot(),
            destinations,
            filters: self.filters().iter().map(Filter::snapshot).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, DestinationStats>> {
        self.destinations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filter {
    fn new(name: &str) -> Self {
        let stats = FilterStats {
            name: name.to_owned(),
            state: DestinationState::Up,
            away_since_unix_ms: None,
            running: 0,
            judged: 0,
            accepted: 0,
            marked: 0,
            quarantined: 0,
            rejected: 0,
            tempfailed: 0,
            failed: 0,
            latency_ms: 0,
            last_error: None,
        };
        Self { stats, latency_us: 0, judged_before: 0, idle_since_ms: 0 }
    }

    /// Nobody learns from verdicts that do not come: a filter that was slow in a storm, and gets no mail because its
    /// domains collect, or because it is night, would be slow until the next messages have waited for it.
    fn rest_at(&mut self, now_ms: u64) {
        let busy = self.stats.running > 0 || self.stats.judged != self.judged_before;
        if busy || now_ms < self.idle_since_ms {
            (self.judged_before, self.idle_since_ms) = (self.stats.judged, now_ms);
        }
        let minutes = (now_ms - self.idle_since_ms) / LATENCY_HALVED_MS;
        if minutes > 0 {
            self.latency_us >>= minutes.min(63);
            self.idle_since_ms += minutes * LATENCY_HALVED_MS;
        }
    }

    fn snapshot(&self) -> FilterStats {
        FilterStats { latency_ms: self.latency_us.div_ceil(1000), ..self.stats.clone() }
    }
}

impl Classes {
    /// A moving average that forgets half of the past in some 20 s. While nothing leaves because there is
    /// nothing, the last figure stands: it is to say how fast a backlog would leave.
    fn measure_at(&mut self, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.measured_ms);
        if passed_ms < 1000 {
            return;
        }
        self.measured_ms = now_ms;
        for (stats, before) in self.stats.iter_mut().zip(&mut self.left_before) {
            let left = stats.left - *before;
            *before = stats.left;
            if left == 0 && stats.backlog == 0 {
                continue;
            }
            let now = u128::from(left) * 1_000_000 / u128::from(passed_ms);
            let (old, weight) = (u128::from(stats.left_per_1000_s), u128::from(passed_ms));
            let mixed = if old == 0 { now } else { (old * RATE_MEMORY_MS + now * weight) / (RATE_MEMORY_MS + weight) };
            stats.left_per_1000_s = u64::try_from(mixed).unwrap_or(u64::MAX);
        }
    }
}

/// Shorter than the calm that ends a storm is long, longer than the pauses between messages of a small site.
const LATENCY_HALVED_MS: u64 = 60_000;

/// The time constant of the rates: long against one commit, short against a storm.
const RATE_MEMORY_MS: u128 = 30_000;

fn away_since(state: DestinationState, before: Option<u64>, now_unix_ms: u64) -> Option<u64> {
    (state != DestinationState::Up).then(|| before.unwrap_or(now_unix_ms))
}

#[cfg(test)]
mod tests;
