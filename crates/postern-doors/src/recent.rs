//! What was found out lately about strangers: so that a client that brings twenty messages, or
//! comes back at once, costs one question to the identity thread and not twenty.
//!
//! A small table that forgets: one place for each hash, the newcomer takes it. Of one thread; an
//! entry is as good as the answer it holds for [`crate::limits::FINDINGS_FRESH`].

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};

use postern_identity::Findings;
use postern_proto::time::Instant;

use crate::conn::Client;
use crate::limits;

/// The table.
pub(crate) struct Recent {
    /// Keyed at random, so that nobody can make two clients share a place on purpose.
    hasher: RandomState,
    places: RefCell<Vec<Option<Entry>>>,
}

struct Entry {
    key: u64,
    at: Instant,
    /// `None`: asked, and not answered yet.
    findings: Option<Findings>,
}

/// What is remembered of a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The answer.
    Known(Findings),
    /// It was asked a moment ago.
    Asked,
    /// Nothing; it is to be asked now.
    Nothing,
}

impl Recent {
    pub(crate) fn new() -> Self {
        let places = std::iter::repeat_with(|| None).take(limits::FINDINGS_KEPT).collect();
        Self { hasher: RandomState::new(), places: RefCell::new(places) }
    }

    /// Names the question about a client and its sender.
    pub(crate) fn key(&self, client: &Client<'_>) -> u64 {
        self.hasher.hash_one((client.ip, client.helo, client.sender.map(|sender| (&*sender.local, &*sender.domain))))
    }

    /// What is known; notes that it is being asked when nothing is.
    pub(crate) fn recall(&self, key: u64, now: Instant) -> Memory {
        let mut places = self.places.borrow_mut();
        let place = &mut places[place_of(key)];
        match place {
            Some(entry) if entry.key == key && now.since(entry.at) < limits::FINDINGS_FRESH => {
                entry.findings.clone().map_or(Memory::Asked, Memory::Known)
            }
            _ => {
                *place = Some(Entry { key, at: now, findings: None });
                Memory::Nothing
            }
        }
    }

    /// The answer has come.
    pub(crate) fn learn(&self, key: u64, findings: &Findings, now: Instant) {
        self.places.borrow_mut()[place_of(key)] = Some(Entry { key, at: now, findings: Some(findings.clone()) });
    }

    /// It could not be asked: the next one may try.
    pub(crate) fn forget(&self, key: u64) {
        let mut places = self.places.borrow_mut();
        let place = &mut places[place_of(key)];
        if place.as_ref().is_some_and(|entry| entry.key == key) {
            *place = None;
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits of a hash are as good as all")]
fn place_of(key: u64) -> usize {
    key as usize % limits::FINDINGS_KEPT
}

#[cfg(test)]
mod tests;
