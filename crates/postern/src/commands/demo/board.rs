//! What is known in the middle of the night: written by the threads that play it, read by those who draw it and by the
//! reckoning.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postern_flood::{Percentiles, Progress, Report, Second};
use serde::Serialize;
use serde_json::Value;

use super::night::{Night, Party, Phase};

/// One server's half of the night.
#[derive(Clone, Debug, Default)]
pub(super) struct Half {
    /// By [`Party`].
    pub(super) parties: [PartyBoard; Party::ALL.len()],
    /// Connections that the server serves just now, of those it can; nothing where it is not ours.
    pub(super) busy: Option<(u64, u64)>,
}

/// One party's part of it.
#[derive(Clone, Debug, Default)]
pub(super) struct PartyBoard {
    pub(super) progress: Progress,
    pub(super) seconds: Vec<Second>,
    pub(super) report: Option<Report>,
    /// Why it could not go on.
    pub(super) failure: Option<String>,
}

/// What Postern says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Inside {
    /// The last answer of `status`.
    pub(super) status: Value,
    /// Modes, and from when on.
    pub(super) modes: Vec<(u64, String)>,
    /// Messages in the buffer, by the second.
    pub(super) buffered: Vec<u64>,
    /// Most of them at once.
    pub(super) buffered_max: u64,
    /// When the buffer was empty after the flood.
    pub(super) drained_ms: Option<u64>,
    /// Messages that the server behind it has taken.
    pub(super) passed_on: u64,
}

/// Which way the peers' mail took, by the counters of both ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Way {
    /// Sent by the peers' site through the postern.
    pub(super) by_postern: u64,
    /// And by port 25.
    pub(super) by_port_25: u64,
    /// Of those by the postern, while the flood was on.
    pub(super) by_postern_in_flood: u64,
    /// Still at the peers' site.
    pub(super) waiting: u64,
    /// Taken at the door of the other side, and answered when the server behind it had it.
    pub(super) answered_at_outcome: u64,
    /// And as soon as it was durable.
    pub(super) answered_at_receipt: u64,
    /// From the 250 of the peers' site to the server behind Postern; known at the end.
    pub(super) under_way: Percentiles,
    /// What had gone by the postern when the flood came.
    #[serde(skip)]
    before_flood: u64,
}

/// The whole, at one moment.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) night: Night,
    pub(super) now_ms: u64,
    /// When both sites were asked that last answered.
    pub(super) asked_ms: u64,
    /// Who stands in the other half.
    pub(super) against: String,
    pub(super) without: Half,
    pub(super) with: Half,
    pub(super) inside: Inside,
    pub(super) way: Way,
}

/// Shared among the threads.
#[derive(Clone)]
pub(super) struct Board(Arc<Mutex<Scene>>);

impl Board {
    pub(super) fn new(night: Night, against: String) -> Self {
        let scene = Scene {
            night,
            now_ms: 0,
            asked_ms: 0,
            against,
            without: Half::default(),
            with: Half::default(),
            inside: Inside::default(),
            way: Way::default(),
        };
        Self(Arc::new(Mutex::new(scene)))
    }

    /// In its hands for a moment.
    pub(super) fn lock(&self) -> MutexGuard<'_, Scene> {
        // Plain figures: a thread that panicked left none of them half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy.
    pub(super) fn scene(&self) -> Scene {
        self.lock().clone()
    }
}

impl Scene {
    pub(super) fn half(&mut self, with_postern: bool) -> &mut Half {
        if with_postern { &mut self.with } else { &mut self.without }
    }
}

impl Half {
    pub(super) fn party(&self, party: Party) -> &PartyBoard {
        &self.parties[party as usize]
    }
}

impl PartyBoard {
    pub(super) fn take(&mut self, progress: &Progress) {
        if let Some(second) = &progress.last_second
            && self.seconds.last().is_none_or(|last| last.at_s < second.at_s)
        {
            self.seconds.push(second.clone());
        }
        self.progress = progress.clone();
    }

    /// Messages that came due in the seconds that were over at this moment.
    pub(super) fn due_before(&self, ms: u64) -> u64 {
        let over = self.seconds.iter().filter(|second| (u64::from(second.at_s) + 1) * 1_000 <= ms);
        over.flat_map(|second| &second.friends).map(|friends| friends.offered).sum()
    }

    /// Taken of what was due a second ago, in tenths of a percent: who waits longer counts against the server.
    pub(super) fn success_per_mille(&self) -> Option<u64> {
        let due = if self.report.is_some() { self.progress.friends_offered } else { self.due_before(u64::MAX) };
        (self.progress.friends_accepted.min(due) * 1_000).checked_div(due)
    }

    /// Connections of a crowd; when it has gone, none.
    pub(super) fn open(&self) -> u64 {
        if self.report.is_some() { 0 } else { self.progress.open }
    }

    /// Over all its crowds or friends in the last second: what `count` finds.
    pub(super) fn last(&self, count: impl Fn(&Second) -> u64) -> u64 {
        if self.report.is_some() { 0 } else { self.seconds.last().map_or(0, count) }
    }

    /// One value a second.
    pub(super) fn course(&self, count: impl Fn(&Second) -> u64) -> Vec<u64> {
        self.seconds.iter().map(count).collect()
    }
}

impl Inside {
    /// A new answer of `status`.
    pub(super) fn take(&mut self, status: Value, night: &Night, now_ms: u64) {
        let buffered = items(&status);
        self.buffered_max = self.buffered_max.max(buffered);
        let second = usize::try_from(now_ms / 1_000).unwrap_or(usize::MAX);
        if self.buffered.len() <= second && self.buffered.len() < SECONDS_MAX {
            self.buffered.push(buffered);
        }
        if let Some(mode) = mode(&status)
            && self.modes.last().is_none_or(|(_, last)| last != mode)
        {
            self.modes.push((now_ms, mode.to_owned()));
        }
        if now_ms < night.flood_until_ms || buffered > 0 {
            self.drained_ms = None;
        } else if self.drained_ms.is_none() {
            self.drained_ms = Some(now_ms);
        }
        self.status = status;
    }

    /// Nothing waits any more: not in the buffer, and not for its outcome.
    pub(super) fn is_empty(&self) -> bool {
        self.status["spool"]["items"] == 0
    }
}

impl Way {
    /// New answers of `status`: of the site that sends, and of the one that has the door.
    pub(super) fn take(&mut self, peers: &Value, home: &Value, night: &Night, asked_ms: u64) {
        let number = |status: &Value, at: &str| status.pointer(at).and_then(Value::as_u64).unwrap_or(0);
        self.by_postern = number(peers, "/drain/outbound/by_postern");
        self.by_port_25 = number(peers, "/drain/outbound/by_mx");
        self.waiting = number(peers, "/spool/items");
        self.answered_at_outcome = number(home, "/door/delivered");
        self.answered_at_receipt = number(home, "/door/queued");
        // By whole seconds, as everything else that is counted while the flood is on.
        match night.phase_at(asked_ms / 1_000 * 1_000) {
            Phase::Calm => self.before_flood = self.by_postern,
            Phase::Flood => self.by_postern_in_flood = self.by_postern - self.before_flood.min(self.by_postern),
            Phase::After | Phase::Reckoning => {}
        }
    }

    /// Through the postern, of so many that were due.
    pub(super) fn per_mille_of(&self, due: u64) -> Option<u64> {
        (self.by_postern.min(due) * 1_000).checked_div(due)
    }
}

/// Durable and not yet gone; what waits for its outcome is not answered.
pub(super) fn items(status: &Value) -> u64 {
    let spool = &status["spool"];
    let number = |name: &str| spool[name].as_u64().unwrap_or(0);
    number("items").saturating_sub(number("tentative"))
}

/// The mode of the demo's domain: its own, or everybody's.
pub(super) fn mode(status: &Value) -> Option<&str> {
    let modes = &status["modes"];
    let own = modes["domains"].as_object().and_then(|domains| domains.values().next());
    own.unwrap_or(modes)["mode"].as_str()
}

/// More than the longest night and its reckoning.
const SECONDS_MAX: usize = 2_000;
