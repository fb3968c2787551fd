//! What `status` shows of the drain: counters that the worker raises and anybody may read.
//!
//! The counters are atomic; the only lock guards the list of destinations and their last errors,
//! and is never held across an await.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use postern_trust::CLASSES;

use crate::limits::DESTINATIONS_MAX;
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
    /// By name.
    pub destinations: Vec<DestinationStats>,
    /// In the order in which they are asked.
    pub filters: Vec<FilterStats>,
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
    /// What a judgement takes, in milliseconds: a moving average over some sixteen.
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
    destinations: Mutex<BTreeMap<String, DestinationStats>>,
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
    pub(crate) fn note_state(&self, destination: &str, state: DestinationState, running: usize) {
        self.update(destination, |stats| {
            if state == DestinationState::Up && stats.state != DestinationState::Up {
                stats.last_error = None;
            }
            stats.state = state;
            stats.running = running as u64;
        });
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
            destinations,
            ..DrainStats::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, DestinationStats>> {
        self.destinations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
