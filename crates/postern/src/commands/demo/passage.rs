//! How long the peers' mail is under way: from the 250 of their own site to the server behind Postern.
//!
//! When a message was answered is known from the ledger, which is looked at ten times a second: it was after the look
//! before. So each time is at most 100 ms too long, and never too short.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use postern_flood::Percentiles;

/// Shared by the thread that writes and the one that reckons.
#[derive(Clone)]
pub(super) struct Passage(Arc<Mutex<Inner>>);

struct Inner {
    ledger: PathBuf,
    looked: Instant,
    /// By id: when it was not answered yet.
    answered: BTreeMap<String, Instant>,
}

impl Passage {
    /// Of what is written into this ledger from now on.
    pub(super) fn new(ledger: PathBuf, now: Instant) -> Self {
        Self(Arc::new(Mutex::new(Inner { ledger, looked: now, answered: BTreeMap::new() })))
    }

    /// Takes note of what was answered since the last look.
    pub(super) fn look(&self, now: Instant) {
        let mut inner = self.lock();
        // No ledger, nothing answered yet.
        let ids = fs::read_to_string(&inner.ledger).unwrap_or_default();
        let looked = std::mem::replace(&mut inner.looked, now);
        // Whole lines only: the buffer of the ledger may have been emptied in the middle of one.
        let whole = ids.rfind('\n').map_or("", |end| &ids[..end]);
        for id in whole.lines() {
            if !inner.answered.contains_key(id) {
                inner.answered.insert(id.to_owned(), looked);
            }
        }
    }

    /// From the answer to the arrival, of all that has arrived.
    pub(super) fn times(&self, arrived: &BTreeMap<String, Instant>) -> Percentiles {
        let inner = self.lock();
        let time = |(id, answered): (&String, &Instant)| {
            let time = arrived.get(id)?.saturating_duration_since(*answered);
            Some(u32::try_from(time.as_micros()).unwrap_or(u32::MAX))
        };
        Percentiles::of(&mut inner.answered.iter().filter_map(time).collect::<Vec<_>>())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // An id is noted or it is not.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_message_is_under_way_since_the_look_before_the_one_that_found_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let ledger = dir.path().join("ledger");
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let passage = Passage::new(ledger.clone(), start);
        passage.look(at(100));
        fs::write(&ledger, "a\nb\nhal").expect("written");
        passage.look(at(200));
        fs::write(&ledger, "a\nb\nhalf\nnever\n").expect("written");
        passage.look(at(300));
        passage.look(at(400));
        let arrived = [("a", 130), ("b", 150), ("half", 900), ("spam", 1)];
        let times = passage.times(&arrived.map(|(id, ms)| (id.to_owned(), at(ms))).into());
        // a and b since 100, half since 200; what did not arrive, or was not theirs, has no time.
        assert_eq!((times.samples, times.p50_ms, times.max_ms), (3, 50.0, 700.0));
    }
}
